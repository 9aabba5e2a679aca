"""The launcher: trials per second for trials that do nothing, against plain Ray Tune.

Ours is `launch.on_ray.launch`, fed by a `Search` with a ledger; a trial saves a minimal result to disk, and the driver
reads it back. The plain way is a bare `Tuner` over a `grid_search` of as many values, whose trials neither report nor
save. Both run in the same Ray, in turn, with `reuse_actors` and the same environment variables (`on_ray` sets them).
Serial is `launch.serial.launch` with the same trials: what asking, saving and telling cost without Tune.

A run is a start (until the first trial has ended: Ray starts workers, which import), a steady part, and an end (Tune
waits up to 5 s for workers that are still starting). So beside the whole there is `steady`, the time per trial after
the first quarter of the trials. A long run must not slow down: `late / early` is the time per trial in the last quarter
over that in the second; that of the largest size counts most. Such short trials keep no more than one or two workers
busy: what is measured is the driver, on two or on a hundred devices.

    uv run python benchmarks/launcher.py
    uv run python benchmarks/launcher.py --sizes 200 --repeats 5 --json launcher.json
"""

import argparse
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from humansim import results
from humansim.launch import Follow, on_ray, serial
from humansim.plan import Ledger
from humansim.results import Outcome, Result
from humansim.root import Root
from humansim.search import Search
from humansim.spec import Sweep, Trial, Variant

WARM_UP = 20  # trials, unmeasured
WAYS = ("ours", "plain", "serial")


def nothing(trial: Trial, root: Root, *, report: Callable[[dict[str, float]], None]) -> Result:
    """Stands in for `train.run`: a result without scores, saved as a real one is."""
    result = Result(
        trial=trial,
        scores=(),
        history=(),
        provenance={"versions": {}, "data": "none", "weights": {"origin": "none", "fingerprint": "none"}},
        seconds={},
        peak_memory=0,
        finished=results.now(),
    )
    results.save(root, result)
    return result


def nothing_plain(config: dict[str, Any]) -> None:
    """A trainable that does nothing."""


def through_search(size: int, launch: Callable[[Search, Root, Follow], None]) -> list[float]:
    """Runs so many trials that do nothing, under a root of their own.

    Returns:
        The time of the start, and that at which each trial had ended.
    """
    with tempfile.TemporaryDirectory(prefix="humansim-benchmark-") as folder:
        root = Root.at(folder)
        times = [time.perf_counter()]

        def ended(outcome: Outcome) -> None:
            times.append(time.perf_counter())

        base = Trial(paradigm=Variant("triplet"))
        sweep = Sweep(name="nothing", base=base, grid=[{"seed": list(range(size))}])
        search = Search(sweep, Ledger(root, sweep.name))
        launch(search, root, Follow(ended=ended))
        times.append(time.perf_counter())
        finished = sum(isinstance(outcome, Result) for outcome in search.outcomes.values())
        if not search.done or finished != size:
            raise SystemExit(f"{finished} of {size} trials finished")
    return times


def ours(size: int) -> list[float]:
    """Our launcher: as `through_search`."""
    return through_search(
        size, lambda search, root, follow: on_ray.launch(search, root, nothing, follow, name="nothing")
    )


def one_by_one(size: int) -> list[float]:
    """The same trials in this process: as `through_search`."""
    return through_search(size, lambda search, root, follow: serial.launch(search, root, nothing, follow))


def plain(size: int) -> list[float]:
    """Plain Ray Tune: as `through_search`."""
    from ray import tune  # here, since Ray reads the variables that on_ray sets when it is imported

    times = [time.perf_counter()]

    class Clock(tune.Callback):
        def on_trial_complete(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory(prefix="humansim-benchmark-") as folder:
        tuner = tune.Tuner(
            tune.with_resources(nothing_plain, {"CPU": 1}),
            param_space={"seed": tune.grid_search(list(range(size)))},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(name="plain", storage_path=folder, verbose=0, callbacks=[Clock()]),
        )
        # As in on_ray: Tune prints a line for each trial even when told not to.
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            found = tuner.fit()
        times.append(time.perf_counter())
        if found.num_errors or len(found) != size:
            raise SystemExit(f"plain Tune: {len(found)} of {size} trials, {found.num_errors} errors")
    return times


def described(runs: Sequence[Sequence[float]]) -> dict[str, float]:
    """Medians over the runs of one way."""

    def per_trial(times: Sequence[float], first: float, last: float) -> float:
        """Milliseconds per trial between two points of a run, given as shares of its trials."""
        ends = times[1:-1]
        a, b = round(first * (len(ends) - 1)), round(last * (len(ends) - 1))
        return 1000 * (ends[b] - ends[a]) / (b - a)

    whole = median(times[-1] - times[0] for times in runs)
    return {
        "seconds": whole,
        "trials_per_second": (len(runs[0]) - 2) / whole,
        "start_seconds": median(times[1] - times[0] for times in runs),
        "end_seconds": median(times[-1] - times[-2] for times in runs),
        "steady_milliseconds_per_trial": median(per_trial(times, 0.25, 1) for times in runs),
        "late_over_early": median(per_trial(times, 0.75, 1) / per_trial(times, 0.25, 0.5) for times in runs),
    }


def measure(size: int, repeats: int) -> dict[str, Any]:
    """Figures of one size: the three ways in turn, so often; the first way of a turn changes from turn to turn."""
    how = {"ours": ours, "plain": plain, "serial": one_by_one}
    runs: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for turn in range(repeats):
        for way in WAYS if turn % 2 == 0 else reversed(WAYS):
            runs[way].append(how[way](size))
    return {"size": size, "repeats": repeats, **{way: described(runs[way]) for way in WAYS}}


def show(figures: dict[str, Any]) -> None:
    """Prints the figures of one size."""
    print(f"{figures['size']} trials, median of {figures['repeats']} run(s) of each way, in turn")
    print("               whole   trials/s      start        end         steady   late / early")
    for way in WAYS:
        row = figures[way]
        print(
            f"  {way:8} {row['seconds']:7.2f} s {row['trials_per_second']:10.1f} {row['start_seconds']:8.2f} s "
            f"{row['end_seconds']:8.2f} s {row['steady_milliseconds_per_trial']:8.2f} ms/trial "
            f"{row['late_over_early']:8.2f}"
        )
    ours, plain = figures["ours"], figures["plain"]
    whole = ours["seconds"] / plain["seconds"]
    steady = ours["steady_milliseconds_per_trial"] / plain["steady_milliseconds_per_trial"]
    print(f"  ours / plain, time: whole {whole:.2f}, steady {steady:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 2000], help="numbers of trials (200 2000)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of each way at the smallest size, at others once (%(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()
    if min(given.sizes) < 8:
        parser.error("--sizes start at 8: the quarters of a run are compared")

    found = []
    with on_ray.connected():
        ours(WARM_UP), plain(WARM_UP), one_by_one(WARM_UP)
        for size in given.sizes:
            # A long run is steadied by its own length; and all of it is to take a few minutes.
            found.append(measure(size, given.repeats if size == min(given.sizes) else 1))
            show(found[-1])
    first, last = found[0], found[-1]
    if first is not last:
        print(f"steady time per trial at {last['size']} over that at {first['size']}:", end="")
        for way in WAYS:
            ratio = last[way]["steady_milliseconds_per_trial"] / first[way]["steady_milliseconds_per_trial"]
            print(f"  {way} {ratio:.2f}", end="")
        print()
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
