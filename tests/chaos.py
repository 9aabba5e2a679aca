"""A sweep where everything dies: nodes are killed and added, the driver is killed, MLflow comes and goes.

`test_chaos.py` runs a part of `full_small` so; all 624 trials, beside a calm run whose bits they must have:

    uv run python tests/chaos.py full_small --rounds 24
"""

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from nodes import Nodes
from sweeping import command, environment, humansim, kill_all
from tracking_server import TrackingServer

from humansim import plan, results, sweep_file
from humansim.results import Result
from humansim.root import Root

WORKERS = 2  # nodes beside the head, which runs no trial
WORKER = ("--num-cpus=1", "--num-gpus=1")  # a GPU that is only counted


@dataclass
class Told:
    """What was done to a sweep, and what was found finished after each driver."""

    done: Counter[str] = field(default_factory=Counter)
    recomputed: list[str] = field(default_factory=list)
    finished: dict[Path, int] = field(default_factory=dict)
    last: subprocess.CompletedProcess[str] | None = None

    def note(self, root: Root) -> None:
        """Results are committed once: none may change afterwards."""
        now = {path: path.stat().st_mtime_ns for path in root.results.glob(f"*/{results.RESULT}")}
        self.recomputed += [str(path) for path, changed in self.finished.items() if now.get(path) != changed]
        self.finished = now


@contextlib.contextmanager
def _driver(arguments: Sequence[str], secret: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with open(log, "a") as file:
        driver: subprocess.Popen[bytes] = subprocess.Popen(
            command(*arguments), env=environment(**secret), stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield driver
    finally:
        kill_all(driver)


def chaos(
    sweep: str, folder: Path, *, only: Sequence[str] = (), rounds: int, seed: int, pause: tuple[float, float]
) -> tuple[Root, str, Told]:
    """Submits the sweep until it has ended well, with so many disturbances on the way.

    Args:
        pause: seconds between two disturbances, at least and at most.

    Returns:
        The root, the tracking server's store, and what happened.
    """
    root, rng, told = Root.at(folder / "root"), random.Random(seed), Told()
    nodes = Nodes("--include-dashboard=false")  # a cluster that has yet to get its workers
    server = TrackingServer(folder / "mlflow")
    arguments = ["sweep", sweep, "--root", str(root.path), "--address", nodes.address, "--tracking", server.uri]
    arguments += [f"--only={pattern}" for pattern in only]
    log = folder / "driver.log"
    what = ["node", "driver", "mlflow"]
    try:
        server.start()
        server.wait()
        left = [what[i % len(what)] for i in range(rounds)]
        rng.shuffle(left)
        while left:
            with _driver(arguments, nodes.secret, log) as driver:
                before = len(list(root.results.glob(f"*/{results.RESULT}")))
                # Whoever is killed while it starts shows nothing: first a further trial has to finish.
                while driver.poll() is None and len(list(root.results.glob(f"*/{results.RESULT}"))) <= before:
                    while nodes.there() < WORKERS and "waiting for a node" in log.read_text():
                        nodes.add(*WORKER, wait=False)
                    time.sleep(0.2)
                while driver.poll() is None and left:
                    time.sleep(rng.uniform(*pause))
                    if driver.poll() is not None:
                        break
                    now = left.pop()
                    told.done[now] += 1
                    if now == "driver":
                        driver.kill()
                        break
                    if now == "node":
                        if nodes.workers and rng.random() < 0.8:
                            nodes.kill(rng.randrange(len(nodes.workers)))
                        if nodes.there() < WORKERS:
                            nodes.add(*WORKER, wait=False)
                    elif server.process.poll() is None:
                        server.stop()
                    else:
                        server.start()
                if not left:
                    while nodes.there() < WORKERS:
                        nodes.add(*WORKER, wait=False)
                if server.process.poll() is not None:  # a sweep does not start without it
                    server.start()
                    server.wait()
                if driver.poll() is None and not left:
                    driver.wait()
                driver.kill()
                driver.wait()
            told.note(root)
            if len(told.finished) == _size(sweep, only):
                break
        server.wait()
        for _ in range(3):
            told.last = humansim(*arguments, **nodes.secret)
            told.note(root)
            if told.last.returncode == 0:
                break
    finally:
        nodes.stop()
        server.stop()
    return root, server.store, told


def _size(sweep: str, only: Sequence[str]) -> int:
    return len(_cells(sweep, only))


def _cells(sweep: str, only: Sequence[str]) -> list[Any]:
    return plan.cells(plan.only(sweep_file.load_sweep(sweep), plan.patterns(list(only))))


def differences(sweep: str, only: Sequence[str], root: Root, calm: Root, store: str) -> list[str]:
    """What is not as in a calm run: a result that is missing or has other bits, a run that is not in MLflow once."""
    found = []
    trials = [cell.trial for cell in _cells(sweep, only)]
    for trial in trials:
        here, there = results.load(root, trial), results.load(calm, trial)
        if not isinstance(here, Result) or not isinstance(there, Result):
            found.append(f"{trial.id}: not finished: {here}")
            continue
        keys = ("epoch", "loss", "validation")
        histories = [[tuple(row[key] for key in keys) for row in one.history] for one in (here, there)]
        answers = [pd.read_parquet(results.folder(one, trial) / results.ANSWERS) for one in (root, calm)]
        if here.scores != there.scores or histories[0] != histories[1] or not answers[0].equals(answers[1]):
            found.append(f"{trial.id}: other bits")
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name(sweep_file.load_sweep(sweep).name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=5000)
    ended = Counter((run.data.tags["trial_id"], run.info.status) for run in runs)
    if ended != Counter((trial.id, "FINISHED") for trial in trials):
        odd = {key: n for key, n in ended.items() if n != 1 or key[1] != "FINISHED"}
        found.append(f"MLflow has {len(runs)} runs of {len(trials)} trials: {odd}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep")
    parser.add_argument("--only", action="append", default=[], metavar="AXIS=PATTERN")
    parser.add_argument("--rounds", type=int, default=24, help="disturbances (%(default)s)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--pause", type=float, nargs=2, default=(5, 25), metavar=("LEAST", "MOST"), help="seconds")
    parser.add_argument("--calm", type=Path, help="root of a calm run (default: made now, serially)")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    clock = time.monotonic()
    calm = Root.at(given.calm or folder / "calm")
    only = [f"--only={pattern}" for pattern in given.only]
    done = humansim("sweep", given.sweep, "--root", str(calm.path), "--serial", *only)
    print(f"calm: exit {done.returncode}, {time.monotonic() - clock:.0f} s", flush=True)
    clock = time.monotonic()
    root, store, told = chaos(
        given.sweep, folder, only=given.only, rounds=given.rounds, seed=given.seed, pause=tuple(given.pause)
    )
    print(f"chaos: {dict(told.done)}, {time.monotonic() - clock:.0f} s; computed again: {told.recomputed}")
    if told.last is not None:
        print(told.last.stdout[-500:], told.last.stderr[-500:])
    odd = differences(given.sweep, given.only, root, calm, store)
    print("\n".join(odd) or "as in the calm run: every trial once, every bit", f"({folder})")
    return 1 if odd or told.recomputed else 0


if __name__ == "__main__":
    sys.exit(main())
