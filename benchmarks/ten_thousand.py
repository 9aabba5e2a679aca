"""Reading a sweep of 10,000 finished trials: `status`, `plan`, submitting it again, and what MLflow has of it.

The results are made up, of the study's shape (33 scores on test and as many on validation, ten epochs), in 625 cells of
16 samples each, under a temporary root. `plan.plan`, `status.Reader.read` (the first time, and again: what `--watch`
does), `search.Search` with a look at every outcome (what a submit begins with), `forecast.forecast`; then the two
commands themselves, imports included. MLflow: 500 runs written by `Tracker`, the others copies of them by SQL; how long
a `Tracker` takes until it knows which runs are complete, beside `mlflow.search_runs` and a page after another of
`MlflowClient.search_runs`. Fails if any way does not find all of them.

    uv run python benchmarks/ten_thousand.py
    uv run python benchmarks/ten_thousand.py --trials 1000 --without-mlflow --json ten_thousand.json
"""

import argparse
import contextlib
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tracking import result

from humansim import forecast, plan, results, submitted, sweep_file
from humansim.ledger import Asked, Ledger
from humansim.results import Result
from humansim.root import Root
from humansim.search import Search
from humansim.spec import Trial
from humansim.status import Reader
from humansim.tracking import Tracker

SAMPLES = 16
WRITTEN = 500  # runs that are written to MLflow, the others being copied
SWEEP = """
from humansim.spec import Sweep, Trial, Uniform, Variant

SWEEP = Sweep(
    name="many",
    question="How long does it take to read?",
    base=Trial(source=Variant("sample", queries=24, pairs=2), paradigm=Variant("triplet"), resolution=32),
    grid={{"paradigm.margin": [i / 100 for i in range(1, {margins} + 1)], "batch_size": [4, 8, 16, 32, 64]}},
    search={{"lr": Uniform(low=1e-5, high=1e-3, log=True)}},
    samples={samples},
)
"""


def write_results(root: Root, file: Path) -> int:
    """All trials of the sweep asked for, and finished; how many."""
    sweep, count = sweep_file.load_sweep(str(file)), 0
    submitted.remember(sweep, root)
    ledger = Ledger(root, sweep.name)
    for cell in plan.cells(sweep):
        for index in range(SAMPLES):
            trial = plan.checked(cell.trial.having({"lr": 1e-5 * (1 + index), "epochs": 10}))
            ledger.append(Asked(cell.key, index, trial))
            with results.claimed(root, trial):
                results.save(root, result(count, 10).model_copy(update={"trial": trial}))
            count += 1
    return count


def copy_runs(database: Path, trials: list[Trial]) -> None:
    """Runs for all of these trials, copied from those of the first ones."""
    with contextlib.closing(sqlite3.connect(database)) as store, store:
        written = [row[0] for row in store.execute("SELECT run_uuid FROM tags WHERE key = 'trial_id'")]
        for number, trial in enumerate(trials[len(written) :]):
            model, run = written[number % len(written)], f"{number:032x}"
            for table in ("runs", "metrics", "latest_metrics", "params", "tags"):
                columns = [row[1] for row in store.execute(f"PRAGMA table_info({table})") if row[1] != "run_uuid"]
                names = ", ".join(f'"{column}"' for column in columns)
                store.execute(
                    f"INSERT INTO {table} (run_uuid, {names}) SELECT ?, {names} FROM {table} WHERE run_uuid = ?",
                    (run, model),
                )
            store.execute("UPDATE tags SET value = ? WHERE run_uuid = ? AND key = 'trial_id'", (trial.id, run))


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def reading(root: Root, file: Path, trials: int) -> dict[str, float]:
    """Seconds of everything that reads the files of the sweep."""
    sweep, reader = sweep_file.load_sweep(str(file)), Reader(root)

    def read() -> None:
        if reader.read(sweep).states["finished"] != trials:
            raise SystemExit("not all trials were found")

    def look() -> None:
        search = Search(sweep, Ledger(root, sweep.name), lambda trial: results.load(root, trial))
        if search.anything_to_run() or len(search.outcomes) != trials:
            raise SystemExit("a search would run something")

    found = plan.plan(sweep, root)

    def command(*arguments: str) -> Callable[[], object]:
        line = [sys.executable, "-m", "humansim.cli", *arguments, "--root", str(root.path), "--json"]
        return lambda: subprocess.run(line, check=True, stdout=subprocess.DEVNULL)

    return {
        "plan.cells": seconds(lambda: plan.cells(sweep)),
        "plan.plan": seconds(lambda: plan.plan(sweep, root)),
        "Reader.read, first": seconds(read),
        "Reader.read, again": seconds(read),
        "Search, all outcomes": seconds(look),
        "forecast": seconds(lambda: forecast.forecast(found, root)),
        "humansim status": seconds(command("status", sweep.name)),
        "humansim plan": seconds(command("plan", str(file))),
    }


def of_mlflow(root: Root, file: Path, trials: int) -> dict[str, float]:
    """Seconds of reading which runs are there."""
    import mlflow

    sweep = sweep_file.load_sweep(str(file))
    every = plan.plan(sweep, root).known
    tracker = Tracker(root.tracking_uri, root, sweep)
    for trial in every[:WRITTEN]:
        outcome = results.load(root, trial)
        assert isinstance(outcome, Result)
        (results.folder(root, trial) / results.ANSWERS).touch()
        tracker.ended(outcome)
    if tracker.close() is not None:
        raise SystemExit("the runs were not written")
    copy_runs(root.path / "mlflow.db", every)

    def again() -> None:
        again = Tracker(root.tracking_uri, root, sweep)
        again._look()
        if len(again._finished) != trials:
            raise SystemExit("not all runs were found")
        again.close()

    def frame() -> None:
        mlflow.set_tracking_uri(root.tracking_uri)
        if len(mlflow.search_runs(experiment_names=[sweep.name], max_results=100_000)) != trials:
            raise SystemExit("not all runs were found")

    def pages() -> None:
        client, token, count = mlflow.MlflowClient(root.tracking_uri), None, 0
        while True:
            page = client.search_runs([tracker.experiment], max_results=1000, page_token=token)
            count, token = count + len(page), page.token
            if not token:
                break
        if count != trials:
            raise SystemExit("not all runs were found")

    return {"Tracker": seconds(again), "MlflowClient.search_runs": seconds(pages), "mlflow.search_runs": seconds(frame)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000, help="a multiple of 80 (%(default)s)")
    parser.add_argument("--without-mlflow", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="humansim-benchmark-") as place:
        root, file = Root.at(Path(place) / "root"), Path(place) / "many.py"
        file.write_text(SWEEP.format(margins=given.trials // (5 * SAMPLES), samples=SAMPLES))
        trials = write_results(root, file)
        found: dict[str, Any] = reading(root, file, trials)
        if not given.without_mlflow:
            found |= of_mlflow(root, file, trials)
    print(f"{trials:,} finished trials, seconds")
    for name, took in found.items():
        print(f"  {name:26}{took:8.2f}")
    if given.json:
        given.json.write_text(json.dumps({"trials": trials, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
