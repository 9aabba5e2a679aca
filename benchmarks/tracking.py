"""What tracking costs: results of a sweep into MLflow, one writer and several, beside the plain ways.

Ours is `humansim.tracking.Tracker`, given made-up results of the study's shape: 11 sets x 3 measures, validation and
test, a history, `answers.parquet` of 11,000 triplets. `finished` gives it trials that have ended (as a sweep that is
submitted again does, or one that MLflow was lost to); `live` an epoch at a time, of eight trials at once, and waits
until that is written. The plain ways write the same epoch by epoch: `fluent` is MLflow's own API (`start_run`,
`log_params`, `log_metrics` for each epoch, `log_artifact`), `callback` Ray's `MLflowLoggerCallback`, which writes a
metric a request.

Into SQLite, and into a `mlflow server` of two workers on PostgreSQL, which this starts in a temporary folder (it needs
`initdb`, as in Debian's package postgresql, and `uv run --extra aws` for the driver; else it says so and goes without).
Several writers are processes with a root and a sweep each; `same` are as many roots with one and the same sweep. Fails
if anything is lost or there twice: every trial has one finished run, with every point of every metric and its files.

    uv run --extra aws python benchmarks/tracking.py
    uv run python benchmarks/tracking.py --trials 40 --plain 8 --stores sqlite --json tracking.json
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from humansim import results
from humansim.described import final_metrics, final_points
from humansim.results import Result, Score
from humansim.root import Root
from humansim.sources.study import SETS
from humansim.spec import Sweep, Trial, Variant
from humansim.tracking import OF_EPOCHS, Tracker

MEASURES = ("cosine", "l2", "l1")
AT_ONCE = 8  # trials that run at the same time
TRIPLETS = 11_000
SERVER = 2  # workers, as clusters/mlflow.sh starts them
BASE = Trial(source=Variant("study", size=1000), paradigm=Variant("triplet"), precision="bf16")


class Job(NamedTuple):
    """What one writer does."""

    way: str
    uri: str
    place: Path
    sweep: str
    first: int  # seed of the first trial
    trials: int
    epochs: int


class Store(NamedTuple):
    """Where runs go: the tracking URI, the database behind it, a folder for roots, and where files are to be found."""

    uri: str
    database: str
    place: Path
    files: Path
    answers: Path
    served: bool


class Took(NamedTuple):
    """Seconds by the clock and of the writer's processor time, from the first trial given to the end of `close`."""

    clock: float
    processor: float


def result(seed: int, epochs: int) -> Result:
    """A made-up result of the study's shape."""
    trial, rng = BASE.having({"seed": seed, "epochs": epochs}), np.random.default_rng(seed)
    began = 1_700_000_000_000.0 + 60_000 * seed
    history = tuple(
        {"epoch": float(epoch), "loss": 1 / epoch, "validation": 0.6 + epoch / 100, "lr": 1e-4, "seconds": 30.0}
        | {"validation_seconds": 2.0, "images_per_second": float(rng.uniform(90, 110))}
        | {"gradient_norm": float(rng.uniform(1, 2)), "peak_memory": 4e9, "time": began + 32_000 * epoch}
        for epoch in range(1, epochs + 1)
    )
    scores = tuple(
        Score(
            set=name,
            part=part,
            measure=measure,
            n=900,
            score=float(rng.uniform(0.6, 0.8)),
            low=0.6,
            high=0.8,
            accuracy=0.7,
            plug_in=0.8,
            fresh_judge=0.75,
            best=0.85,
        )
        for part in ("validation", "test")
        for name in SETS
        for measure in MEASURES
    )
    provenance = {
        "versions": {"torch": "2.11.0", "humansim": "0.1.0"},
        "device": "cpu",
        "data": "d" * 64,
        "weights": {"origin": "somewhere", "fingerprint": "w" * 64},
        "simulated_judges": True,
        "shared": {"contaminated": False},
        "backbone": {"family": "cnn", "features": 2048, "parameters": 25_000_000, "pretraining": None},
        "fit": 1000,
        "embedded": 2000,
    }
    return Result(
        trial=trial,
        scores=scores,
        history=history,
        provenance=provenance,
        seconds={"read": 1.0, "make": 2.0, "train": 32.0 * epochs, "embed": 20.0, "score": 5.0},
        peak_memory=4 << 30,
        finished=int(began + 32_000 * (epochs + 1)),
    )


def write_answers(file: Path) -> None:
    """Distances of every triplet under the three measures, as a trial leaves them behind."""
    rng = np.random.default_rng(0)
    names = np.array([f"hsj/images/ILSVRC2012_val_{i:08d}.JPEG" for i in range(TRIPLETS)], dtype=object)
    frame = pd.DataFrame({"triplet": np.arange(TRIPLETS), "part": "test"})
    frame["set"] = np.array(SETS, dtype=object)[np.arange(TRIPLETS) % len(SETS)]
    for which in ("query", "left", "right"):
        frame[which] = rng.permutation(names)
    frame["choice"], frame["judges"], frame["cluster"] = rng.integers(0, 6, TRIPLETS) / 5, 5, np.arange(TRIPLETS)
    for measure in MEASURES:
        for side in ("left", "right"):
            frame[f"to_{side}_{measure}"] = rng.uniform(size=TRIPLETS).astype(np.float32)
    frame.to_parquet(file, index=False)


def made(job: Job, answers: Path) -> tuple[Root, Sweep, list[Result]]:
    """The root of one writer, with the results of its trials on the disk."""
    root = Root.at(job.place)
    ended = [result(seed, job.epochs) for seed in range(job.first, job.first + job.trials)]
    for one in ended:
        results.save(root, one)
        os.link(answers, results.folder(root, one.trial) / results.ANSWERS)
    return root, Sweep(name=job.sweep, base=BASE), ended


def groups(ended: list[Result]) -> Iterator[list[Result]]:
    """The trials that run at the same time."""
    yield from (ended[i : i + AT_ONCE] for i in range(0, len(ended), AT_ONCE))


def ours(job: Job, root: Root, sweep: Sweep, ended: list[Result]) -> Callable[[], None]:
    tracker = Tracker(job.uri, root, sweep)

    def finished() -> None:
        for one in ended:
            tracker.ended(one)
        problem = tracker.close()
        if problem is not None:
            raise SystemExit(f"not everything was written: {problem}")

    def written() -> None:
        backlog = tracker._backlog
        while backlog._waiting or backlog._busy:
            time.sleep(0.005)

    def live() -> None:
        for group in groups(ended):
            for epoch in range(job.epochs):
                for one in group:
                    tracker.epoch(one.trial, dict(one.history[epoch]))
                written()
            for one in group:
                tracker.ended(one)
            written()
        finished()

    return live if job.way == "live" else finished


def shown(row: dict[str, float]) -> dict[str, float]:
    return {name: row[key] for name, key in OF_EPOCHS.items()}


def fluent(job: Job, root: Root, sweep: Sweep, ended: list[Result]) -> Callable[[], None]:
    import mlflow

    mlflow.set_tracking_uri(job.uri)
    mlflow.set_experiment(sweep.name)

    def work() -> None:
        for one in ended:
            with mlflow.start_run(run_name=one.trial.id, tags={"trial_id": one.trial.id}):
                mlflow.log_params(one.trial.settings())
                for row in one.history:
                    mlflow.log_metrics(shown(row), step=int(row["epoch"]))
                mlflow.log_metrics(final_metrics(one), step=job.epochs)
                for name in (results.RESULT, results.ANSWERS):
                    mlflow.log_artifact(str(results.folder(root, one.trial) / name))

    return work


def callback(job: Job, root: Root, sweep: Sweep, ended: list[Result]) -> Callable[[], None]:
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    class Running:
        """What the callback asks of a Tune trial."""

        def __init__(self, one: Result) -> None:
            self.config, self.local_path = one.trial.settings(), str(results.folder(root, one.trial))

    logger: Any = MLflowLoggerCallback(job.uri, experiment_name=sweep.name, save_artifact=True)
    logger.setup()

    def work() -> None:
        for one in ended:
            trial = Running(one)
            logger.log_trial_start(trial)
            for row in one.history:
                logger.log_trial_result(
                    int(row["epoch"]), trial, shown(row) | {"training_iteration": int(row["epoch"])}
                )
            logger.log_trial_result(job.epochs, trial, final_metrics(one) | {"training_iteration": job.epochs})
            logger.log_trial_end(trial)

    return work


WAYS = {"fluent": fluent, "callback": callback, "live": ours, "finished": ours, "same": ours}


def _writer(job: Job, answers: Path, barrier: Any, took: Any) -> None:
    """One process that writes."""
    root, sweep, ended = made(job, answers)
    work = WAYS[job.way](job, root, sweep, ended)
    barrier.wait()
    clock, processor = time.perf_counter(), time.process_time()
    work()
    took.put(Took(time.perf_counter() - clock, time.process_time() - processor))


def together(jobs: list[Job], answers: Path) -> Took:
    """All writers at once: the time of the slowest, and their mean processor time."""
    spawn = multiprocessing.get_context("spawn")
    barrier, took = spawn.Barrier(len(jobs)), spawn.Queue()
    writers = [spawn.Process(target=_writer, args=(job, answers, barrier, took)) for job in jobs]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    if any(writer.exitcode for writer in writers):
        raise SystemExit(f"{jobs[0].way}: a writer failed")
    each = [took.get(timeout=60) for _ in jobs]
    return Took(max(one.clock for one in each), sum(one.processor for one in each) / len(each))


def check(store: Store, jobs: list[Job]) -> None:
    """Every trial has one run, finished, with every point of every metric once, its settings and its files.

    Raises:
        SystemExit: naming what is missing, or there twice.
    """
    import sqlalchemy

    runs = sqlalchemy.text(
        "SELECT t.value, r.status, r.run_uuid, r.artifact_uri FROM runs r "
        "JOIN experiments e ON e.experiment_id = r.experiment_id "
        "JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'trial_id' "
        "WHERE r.lifecycle_stage = 'active' AND e.name = :name"
    )
    engine = sqlalchemy.create_engine(store.database)
    with engine.connect() as connection:
        for name, seeds in {(job.sweep, range(job.first, job.first + job.trials)) for job in jobs}:
            expected = {one.trial.id: one for one in (result(seed, jobs[0].epochs) for seed in seeds)}
            found = connection.execute(runs, {"name": name}).fetchall()
            if len(found) != len(expected) or {row[0] for row in found} != set(expected):
                raise SystemExit(f"{name}: {len(found)} runs of {len({row[0] for row in found})} trials")
            for trial, status, run, artifacts in found:
                one = expected[trial]
                points = connection.execute(
                    sqlalchemy.text("SELECT key, step, value FROM metrics WHERE run_uuid = :run"), {"run": run}
                ).fetchall()
                settings = connection.execute(
                    sqlalchemy.text("SELECT count(*) FROM params WHERE run_uuid = :run"), {"run": run}
                ).scalar_one()
                if status != "FINISHED" or settings != len(one.trial.settings()) or sorted(points) != points_of(one):
                    raise SystemExit(f"{name}: {trial}: {status}, {len(points)} of {len(points_of(one))} points")
                place = store.files / artifacts.partition(":")[2].lstrip("/") if store.served else Path(artifacts[7:])
                if (place / results.ANSWERS).stat().st_size != store.answers.stat().st_size:
                    raise SystemExit(f"{name}: {trial}: {results.ANSWERS} is not whole")
                Result.model_validate_json((place / results.RESULT).read_bytes())
    engine.dispose()


def points_of(one: Result) -> list[tuple[str, int, float]]:
    """Every point that a run is to have: metric, step, value."""
    points = [(name, int(row["epoch"]), row[key]) for row in one.history for name, key in OF_EPOCHS.items()]
    return sorted(points + [(name, step, value) for name, value, _, step in final_points(one) if step == 0])


@contextlib.contextmanager
def postgresql(place: Path) -> Iterator[str]:
    """A database of our own, reached by its socket alone; gives its URI.

    Raises:
        LookupError: there is no PostgreSQL, or no driver for it.
    """
    import importlib.util

    if importlib.util.find_spec("psycopg") is None:
        raise LookupError("no driver for PostgreSQL: uv run --extra aws")
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which("initdb") or (str(binaries[-1] / "initdb") if binaries else None)
    if found is None:
        raise LookupError("no PostgreSQL: no initdb on the PATH or in /usr/lib/postgresql (apt-get install postgresql)")
    folder = place / "postgresql"
    folder.mkdir()
    user = None
    if os.getuid() == 0:  # PostgreSQL does not run as root
        user = "postgres"
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        for above in (place, *place.parents[:-1]):
            above.chmod(above.stat().st_mode | 0o011)
    name = user or pwd.getpwuid(os.getuid()).pw_name
    bin_, data = Path(found).resolve().parent, folder / "data"
    quiet: dict[str, Any] = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "check": True}
    subprocess.run([bin_ / "initdb", "-D", data, "-A", "trust", "-E", "UTF8"], **quiet)
    options = f"-c listen_addresses='' -c unix_socket_directories={folder}"
    subprocess.run([bin_ / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"], **quiet)
    try:
        subprocess.run([bin_ / "createdb", "-h", folder, "-U", name, "mlflow"], **quiet)
        yield f"postgresql+psycopg://{name}@/mlflow?host={folder}"
    finally:
        subprocess.run([bin_ / "pg_ctl", "-D", data, "-w", "-m", "fast", "stop"], **quiet)


@contextlib.contextmanager
def server(place: Path, database: str, workers: int) -> Iterator[str]:
    """A `mlflow server` on a database, which keeps artifacts in a folder; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    arguments = ["--backend-store-uri", database, "--artifacts-destination", str(place / "files")]
    arguments += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    # On a busy machine a worker may be late to say that it lives: it would be killed for it after 5 s.
    arguments += ["--uvicorn-opts", "--timeout-worker-healthcheck 60"]
    with open(place / "server.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *arguments], stdout=log, stderr=log, start_new_session=True
        )
    try:
        for _ in range(1200):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=5):
                break
            if process.poll() is not None:
                raise SystemExit(f"mlflow server did not start:\n{(place / 'server.log').read_text()}")
            time.sleep(0.1)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def measured(store: Store, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Every way into one store, in turn."""
    rows = [("fluent", 1, given.plain), ("callback", 1, given.plain), ("live", 1, given.plain * 2)]
    rows += [("finished", writers, given.trials) for writers in given.writers]
    rows += [("live", writers, given.plain * 2) for writers in given.writers if writers > 1]
    rows += [("same", writers, given.plain * writers) for writers in given.writers if writers > 1]
    found = {}
    for way, writers, trials in rows:
        each, name = trials // writers, f"{way}-{writers}"
        same = way == "same"
        jobs = [
            Job(
                way=way,
                uri=store.uri,
                place=store.place / name / str(number),
                sweep=name if same else f"{name}-{number}",
                first=0 if same else number * each,
                trials=each,
                epochs=given.epochs,
            )
            for number in range(writers)
        ]
        took = together(jobs, store.answers)
        if WAYS[way] is ours:
            check(store, jobs)
        runs = each if same else each * writers
        found[f"{way}, {writers} writer{'s' * (writers > 1)}"] = {
            "runs": runs,
            "seconds": took.clock,
            "ms_per_run": 1000 * took.clock / runs,
            "processor_ms_per_run": 1000 * took.processor / each,
        }
        shutil.rmtree(store.place / name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=616, help="of `finished` (%(default)s)")
    parser.add_argument(
        "--plain", type=int, default=32, help="of the plain ways; `live` takes twice as many (%(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=10, help="(%(default)s)")
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 4], help="processes (1 and 4)")
    parser.add_argument("--stores", nargs="+", choices=("sqlite", "postgresql"), default=["sqlite", "postgresql"])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()

    found: dict[str, dict[str, dict[str, float]]] = {}
    for which in given.stores:
        with tempfile.TemporaryDirectory(prefix="humansim-benchmark-") as name, contextlib.ExitStack() as stack:
            place = Path(name)
            answers = place / results.ANSWERS
            write_answers(answers)
            database, uri = f"sqlite:///{place}/mlflow.db", None
            try:
                if which == "postgresql":
                    database = stack.enter_context(postgresql(place))
                    uri = stack.enter_context(server(place, database, SERVER))
            except LookupError as lacking:
                print(f"{which}: left out: {lacking}")
                continue
            store = Store(uri or database, database, place, place / "files", answers, uri is not None)
            found[which] = measured(store, given)
        title = f"a server of {SERVER} workers on PostgreSQL" if which == "postgresql" else "SQLite"
        print(f"{title}: {given.epochs} epochs a run; ours is checked run by run")
        plain = found[which]["fluent, 1 writer"]["ms_per_run"]
        print(f"  {'':22}{'runs':>6}{'seconds':>9}{'ms a run':>10}{'its processor':>15}   fluent / this")
        for row, one in found[which].items():
            print(
                f"  {row:22}{one['runs']:6.0f}{one['seconds']:9.1f}{one['ms_per_run']:10.1f}"
                f"{one['processor_ms_per_run']:12.1f} ms   {plain / one['ms_per_run']:6.2f}"
            )
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
