"""The launcher: trials per second for trials that do nothing, against plain Ray Tune.

Ours is `launch.on_ray.launch`, fed by a `Search` with a ledger; a trial saves a minimal result to disk, and the driver
reads it back. The plain way is a bare `Tuner` over a `grid_search` of as many values, whose trials neither report nor
save. Both run in the same Ray, in turn, with `reuse_actors` and the same environment variables (set by
`humansim.launch`).
Serial is `launch.serial.launch` with the same trials: what asking, saving and telling cost without Tune.

A run is a start (until the first trial has ended: Ray starts workers, which import), a steady part, and an end (Tune
waits up to 5 s for workers that are still starting; ours deletes Tune's folders). So beside the whole there is
`steady`, the time per trial after the first quarter of the trials, and the processor time that the driver took for each
of them, which other load on the machine changes less. A long run must not slow down: `late / early` is the time per
trial in the last quarter over that in the second, by the clock and by the driver's processor time; that of the largest
size counts most. Such short trials keep no more than one or two workers busy, so what is measured is mostly the driver.

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
from typing import Any, NamedTuple

from humansim import results
from humansim.launch import Follow, cluster, on_ray, serial
from humansim.ledger import Ledger
from humansim.pruning import Bar
from humansim.results import Outcome, Result
from humansim.root import Root
from humansim.search import Search
from humansim.spec import Sweep, Trial, Variant

WARM_UP = 20  # trials, unmeasured
WAYS = ("ours", "plain", "serial")


class Moment(NamedTuple):
    """Seconds by the clock, and of this process's processor time."""

    clock: float
    processor: float


def now() -> Moment:
    """This moment."""
    return Moment(time.perf_counter(), time.process_time())


def nothing(
    trial: Trial,
    root: Root,
    *,
    report: Callable[[dict[str, float]], None],
    progress: Callable[[int, int], None] | None = None,
    bar: Bar | None = None,
) -> Result:
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


def through_search(size: int, launch: Callable[[Search, Root, Follow], None]) -> list[Moment]:
    """Runs so many trials that do nothing, under a root of their own.

    Returns:
        The moment of the start, those at which each trial had ended, and that of the end.
    """
    with tempfile.TemporaryDirectory(prefix="humansim-benchmark-") as folder:
        root = Root.at(folder)
        times = [now()]

        def ended(outcome: Outcome) -> None:
            times.append(now())

        base = Trial(paradigm=Variant("triplet"))
        sweep = Sweep(name="nothing", base=base, grid=[{"seed": list(range(size))}])
        search = Search(sweep, Ledger(root, sweep.name))
        launch(search, root, Follow(ended=ended))
        times.append(now())
        finished = sum(isinstance(outcome, Result) for outcome in search.outcomes.values())
        if not search.done or finished != size:
            raise SystemExit(f"{finished} of {size} trials finished")
    return times


def ours(size: int) -> list[Moment]:
    """Our launcher: as `through_search`."""
    return through_search(
        size, lambda search, root, follow: on_ray.launch(search, root, nothing, follow, "nothing", cluster.place())
    )


def one_by_one(size: int) -> list[Moment]:
    """The same trials in this process: as `through_search`."""
    return through_search(size, lambda search, root, follow: serial.launch(search, root, nothing, follow))


def plain(size: int) -> list[Moment]:
    """Plain Ray Tune: as `through_search`."""
    from ray import tune  # here, since Ray reads the variables that humansim.launch sets when it is imported

    times = [now()]

    class Clock(tune.Callback):
        def on_trial_complete(self, *_: Any, **__: Any) -> None:
            times.append(now())

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
        times.append(now())
        if found.num_errors or len(found) != size:
            raise SystemExit(f"plain Tune: {len(found)} of {size} trials, {found.num_errors} errors")
    return times


def described(runs: Sequence[Sequence[Moment]]) -> dict[str, float]:
    """Medians over the runs of one way."""

    def per_trial(times: Sequence[Moment], first: float, last: float) -> Moment:
        """What a trial took between two points of a run, which are given as shares of its trials."""
        ends = times[1:-1]
        a, b = round(first * (len(ends) - 1)), round(last * (len(ends) - 1))
        clock, processor = (after - before for after, before in zip(ends[b], ends[a], strict=True))
        return Moment(clock / (b - a), processor / (b - a))

    steady = [per_trial(times, 0.25, 1) for times in runs]
    halves = [(per_trial(times, 0.75, 1), per_trial(times, 0.25, 0.5)) for times in runs]
    whole = median(times[-1].clock - times[0].clock for times in runs)
    return {
        "seconds": whole,
        "trials_per_second": (len(runs[0]) - 2) / whole,
        "start_seconds": median(times[1].clock - times[0].clock for times in runs),
        "end_seconds": median(times[-1].clock - times[-2].clock for times in runs),
        "steady_milliseconds": median(1000 * trial.clock for trial in steady),
        "steady_driver_milliseconds": median(1000 * trial.processor for trial in steady),
        "late_over_early": median(late.clock / early.clock for late, early in halves),
        "driver_late_over_early": median(late.processor / early.processor for late, early in halves),
    }


def measure(size: int, repeats: int) -> dict[str, Any]:
    """Figures of one size: the three ways in turn, so often; the first way of a turn changes from turn to turn."""
    how = {"ours": ours, "plain": plain, "serial": one_by_one}
    runs: dict[str, list[list[Moment]]] = {way: [] for way in WAYS}
    for turn in range(repeats):
        for way in WAYS if turn % 2 == 0 else reversed(WAYS):
            runs[way].append(how[way](size))
    return {"size": size, "repeats": repeats, **{way: described(runs[way]) for way in WAYS}}


def show(figures: dict[str, Any]) -> None:
    """Prints the figures of one size."""
    print(f"{figures['size']} trials, median of {figures['repeats']} run(s) of each way, in turn")
    print("                                             steady, ms/trial      late / early")
    print("               whole trials/s  start    end    clock   driver    clock   driver")
    for way in WAYS:
        row = figures[way]
        print(
            f"  {way:8} {row['seconds']:7.2f} s {row['trials_per_second']:8.1f} {row['start_seconds']:6.2f} "
            f"{row['end_seconds']:6.2f} {row['steady_milliseconds']:8.2f} {row['steady_driver_milliseconds']:8.2f} "
            f"{row['late_over_early']:8.2f} {row['driver_late_over_early']:8.2f}"
        )
    over = {name: figures["ours"][name] / figures["plain"][name] for name in figures["ours"]}
    print(
        f"  ours / plain: whole {over['seconds']:.2f}, steady {over['steady_milliseconds']:.2f}, "
        f"driver {over['steady_driver_milliseconds']:.2f}",
        flush=True,
    )


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
    with cluster.connected():
        ours(WARM_UP), plain(WARM_UP), one_by_one(WARM_UP)
        for size in given.sizes:
            # A long run is steadied by its own length; and all of it is to take a few minutes.
            found.append(measure(size, given.repeats if size == min(given.sizes) else 1))
            show(found[-1])
    first, last = found[0], found[-1]
    if first is not last:
        over = {way: last[way]["steady_driver_milliseconds"] / first[way]["steady_driver_milliseconds"] for way in WAYS}
        ratios = ", ".join(f"{way} {ratio:.2f}" for way, ratio in over.items())
        print(f"driver's time per trial at {last['size']} over that at {first['size']}: {ratios}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
