"""Results -> MLflow. Only here: mlflow.

One experiment a sweep, one run a trial, found again by its tag `trial_id`. The results on disk are the write-ahead log:
what MLflow does not take now waits until it does, or until the next submit. The driver alone writes, on threads of its
own. Timestamps are those of the results, so logging a thing twice changes nothing.
"""

import contextlib
import getpass
import json
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from humansim import __version__, moved, results
from humansim.backlog import SLIPS, Backlog, Waiting
from humansim.described import NAME, cell_name, facts_of, final_points, note_of, of_experiment, origins_of, run_name
from humansim.errors import BadInput
from humansim.pasted import pasted
from humansim.plan import base_of, spelt_out
from humansim.results import Failure, Outcome, Pruned, Result
from humansim.root import Root, locked
from humansim.spec import Sweep, Trial
from humansim.tracked import client, usable

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run

os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # what goes wrong is said here, once
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# It is tried again here, where a person can stop it, and where one looks first whether a run was made after all.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")

Row = dict[str, float]

WRITERS = 4  # at a time to a server, which has processes of its own; a database takes one after the other

STATUS = {Result: "FINISHED", Failure: "FAILED", Pruned: "KILLED"}  # of a run, in MLflow's words
OF_EPOCHS = {
    "2afc/validation": "validation",  # what comes first is what MLflow's comparison of runs draws
    "train/loss": "loss",
    "train/lr": "lr",
    "train/images_per_second": "images_per_second",
    "train/gradient_norm": "gradient_norm",
    "train/peak_memory": "peak_memory",
}


def tracking_uri(root: Root, given: str | None = None) -> str:
    """The tracking URI given, else `MLFLOW_TRACKING_URI`, else SQLite under the root; always absolute."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or root.tracking_uri


def how_to_open(uri: str) -> str:
    """The command or address that shows the runs."""
    return uri if uri.startswith("http") else pasted("mlflow", "ui", "--backend-store-uri", uri)


@dataclass
class _Run:
    """A trial's run as far as it is known here, not finished."""

    id: str
    artifacts: str  # where they go
    ours: bool  # made from this root. Epochs go into no other's: two trainings would make one curve
    before: set[str] = field(default_factory=set)  # tags of how it had ended before: failed, or pruned
    described: bool = False  # it was given the trial's settings
    epochs: set[float] = field(default_factory=set)  # that it was given, by their time


class Tracker:
    """Writes the runs of one experiment."""

    def __init__(self, uri: str, root: Root, sweep: Sweep, tell: Callable[[str], None] = lambda what: None) -> None:
        """Opens the store and makes the experiment.

        Args:
            tell: called with what a person should know: MLflow is lost, or back. From any thread.

        Raises:
            BadInput: the store cannot be reached or opened.
        """
        self.uri, self.root, self.base, self.searched = uri, root, base_of(sweep), list(sweep.search)
        self.axes = sweep.axes
        self._own, self._served = uri == root.tracking_uri, uri.startswith(("http://", "https://"))
        with usable(uri):
            with locked(self._lock, wait=True):  # processes that race to make the database fail
                self.client = client(uri)
            moved.follow(root.path, uri)
            self.experiment = self._experiment(sweep)

        self._looking, self._looked = threading.Lock(), False  # which runs are there
        self._finished: set[str] = set()  # trials whose run is complete
        self._runs: dict[str, _Run] = {}  # trial id -> its run
        self._shared = False  # other roots write to this experiment
        self._backlog = Backlog(self._write, _is_refusal, tell, WRITERS if self._served else 1)

    @property
    def _lock(self) -> Path:
        """Held while a database is made: beside it where it is a file, one for all roots that use it."""
        file = Path(self.uri.removeprefix("sqlite:///"))
        beside = self.uri.startswith("sqlite:///") and file.parent.is_dir()
        return (file.parent if beside else self.root.path) / "mlflow.lock"

    def _experiment(self, sweep: Sweep) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(sweep.name)
        if found is None:
            # A server keeps artifacts where it was told to; a local database would put them into the working folder.
            local = None if self._served else (self.root.path / "artifacts" / sweep.name).as_uri()
            try:
                tags = of_experiment(sweep, results.now())
                return str(self.client.create_experiment(sweep.name, artifact_location=local, tags=tags))
            except MlflowException:
                found = self.client.get_experiment_by_name(sweep.name)
                if found is None:  # so it was not that another process was quicker
                    raise
        if found.lifecycle_stage == "deleted":
            raise BadInput(
                f"experiment {sweep.name!r} was deleted in {self.uri}; restore it there "
                f"(mlflow experiments restore -x {found.experiment_id}) or rename the sweep"
            )
        return str(found.experiment_id)

    def _database(self) -> contextlib.closing[sqlite3.Connection]:
        """The SQLite database under the root."""
        return contextlib.closing(sqlite3.connect(self.root.path / "mlflow.db", timeout=60))

    def epoch(self, trial: Trial, row: Row) -> None:
        """A training epoch, shown while the trial runs."""
        self._backlog.epoch(trial, row)

    def ended(self, outcome: Outcome) -> None:
        """How a trial ended; a run that is complete already is left alone."""
        self._backlog.ended(outcome)

    def close(self, stopped: bool = False) -> str | None:
        """Writes what is still to be written, for as long as MLflow takes it; why that was not all, None if it was.

        Args:
            stopped: a person waits for the end.
        """
        return self._backlog.close(stopped)

    def _write(self, one: Waiting) -> bool:
        """Writes what waits of a trial; whether MLflow was asked for anything."""
        with self._looking:
            if not self._looked:
                self._look()
        if one.trial.id in self._finished:
            return False
        try:
            return self._write_run(one)
        except Exception:
            self._runs.pop(one.trial.id, None)  # it may be gone
            raise

    def _write_run(self, one: Waiting) -> bool:
        run = self._run(one)
        if run is None:
            return True
        if not (run.ours or isinstance(one.outcome, Result)):
            return False
        tags = self._give(run, one)
        if isinstance(one.outcome, Result):
            self._give_files(run, one.outcome)
        elif isinstance(one.outcome, Failure):
            self.client.log_text(run.id, one.outcome.traceback or one.outcome.reason, "traceback.txt")
        if one.outcome is not None:
            for tag in run.before - set(tags):  # it was retried, or went on
                self.client.delete_tag(run.id, tag)
            run.before = set()
            self.client.set_terminated(run.id, STATUS[type(one.outcome)], one.outcome.finished)
        if isinstance(one.outcome, Result):
            self._finished.add(one.trial.id)
        return True

    def _look(self) -> None:
        """Notes which trials have a run, and whose is complete."""
        found = list(self._there())
        for trial, status, run in found:
            if status == "FINISHED":
                self._finished.add(trial)
            self._runs[trial] = run
            self._shared = self._shared or not run.ours
        for trial, count in Counter(trial for trial, _, _ in found).items():
            if count > 1 and (one := self._the_one(trial)) is not None:  # who made the second one was killed
                self._runs[trial] = self._seen(one)
        self._looked = True

    def _there(self) -> Iterator[tuple[str, str, _Run]]:
        """Trial id, status and run of every run of the experiment."""
        if self._own:  # MLflow gives runs with all that they have, a few hundred a second
            with self._database() as store:
                found = store.execute(
                    "SELECT value, status, runs.run_uuid, artifact_uri FROM runs JOIN tags USING (run_uuid) "
                    "WHERE experiment_id = ? AND lifecycle_stage = 'active' AND key = 'trial_id'",
                    (self.experiment,),
                ).fetchall()
            yield from ((trial, status, _Run(run, artifacts, ours=True)) for trial, status, run, artifacts in found)
            return
        token = None
        while True:
            page = self.client.search_runs([self.experiment], max_results=1000, page_token=token)
            for run in page:
                if "trial_id" in run.data.tags:
                    yield run.data.tags["trial_id"], run.info.status, self._seen(run)
            token = page.token
            if not token:
                return

    def _seen(self, run: "Run") -> _Run:
        tags, here = run.data.tags, str(self.root.path)
        return _Run(run.info.run_id, run.info.artifact_uri, ours=self._own or tags.get("root", here) == here)

    def _run(self, one: Waiting) -> _Run | None:
        """A trial's run, made if there is none; None if it is complete."""
        trial, found = one.trial, None
        known = self._runs.get(trial.id)
        if known is not None:
            if one.outcome is None:
                return known
            found = self.client.get_run(known.id)
        if (found is not None and found.info.lifecycle_stage == "deleted") or (
            found is None and (self._shared or one.failed_at is not None)
        ):
            known, found = None, self._the_one(trial.id)
        if found is None:
            tags = {
                "trial_id": trial.id,
                "root": str(self.root.path),
                "mlflow.runName": run_name(trial, self.base, self.searched)[:NAME],
                "cell": cell_name(trial, self.base, self.searched)[:NAME],
                "mlflow.source.name": f"humansim {__version__}",
                "mlflow.user": _user(),
            }
            made = self.client.create_run(self.experiment, start_time=one.start, tags=tags)
            found = self._the_one(trial.id) or made
        if found.info.status == "FINISHED":
            self._finished.add(trial.id)
            return None
        was_pruned = found.data.tags.get("pruned") if found.info.status == STATUS[Pruned] else None
        if isinstance(one.outcome, Pruned) and was_pruned == str(one.outcome.epoch):
            return None
        if known is None:
            known = self._runs[trial.id] = self._seen(found)
            self._shared = self._shared or not known.ours
        known.before = {tag for tag in found.data.tags if tag.startswith(("failure", "pruned"))}
        return known

    def _the_one(self, trial: str) -> "Run | None":
        """The run of a trial, by its id. Of several, made by processes that did not see each other's, one stays.

        It is the same for all who look: what is finished, else the lowest id. Who was writing to another finds it gone.
        """
        found = self.client.search_runs([self.experiment], f"tags.trial_id = '{trial}'")
        runs = sorted(found, key=lambda run: (run.info.status != "FINISHED", run.info.run_id))
        for other in runs[1:]:
            self.client.delete_run(other.info.run_id)
        return runs[0] if runs else None

    def _give(self, run: _Run, one: Waiting) -> dict[str, str]:
        """Settings, epochs, and what is known of a trial that has ended; not what the run has got already.

        Returns:
            The tags.
        """
        from mlflow.entities import Metric, Param, RunTag

        outcome = one.outcome
        rows = outcome.history if isinstance(outcome, Result | Pruned) else one.rows
        metrics = [
            Metric(name, row[key], int(row["time"]), int(row["epoch"]))
            for row in rows
            if row["time"] not in run.epochs
            for name, key in OF_EPOCHS.items()
            if key in row
        ]
        tags: dict[str, str] = {}
        if isinstance(outcome, Result):
            # What has a step is the last point of a curve, which is there.
            metrics += [Metric(*point) for point in final_points(outcome) if point[-1] == 0]
            tags = {"root": str(self.root.path), **origins_of(outcome), **facts_of(outcome)}
            tags["mlflow.note.content"] = note_of(outcome)
        elif isinstance(outcome, Pruned):
            tags = {"pruned": str(outcome.epoch), **origins_of(outcome)}
        elif outcome is not None:
            tags = {"failure": outcome.kind, "failure.reason": outcome.reason[:500]}
        # Also of a run that is there: whoever made it may have been killed before this line.
        params = {} if run.described else spelt_out(one.trial, self.axes)
        self.client.log_batch(
            run.id,
            metrics,
            [Param(axis, str(value)) for axis, value in params.items()],
            [RunTag(key, value) for key, value in tags.items()],
        )
        if isinstance(outcome, Result) and (inputs := _inputs_of(outcome)):
            self.client.log_inputs(run.id, inputs)
        run.described = True
        run.epochs.update(row["time"] for row in rows)
        return tags

    def _give_files(self, run: _Run, result: Result) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        artifacts: Any = get_artifact_repository(run.artifacts, tracking_uri=self.uri)  # as known: the client would ask
        for name in (results.RESULT, results.ANSWERS):
            artifacts.log_artifact(str(results.folder(self.root, result.trial) / name))


def _is_refusal(error: Exception) -> bool:
    """Whether waiting will not help: MLflow has understood and said no, there is nothing to give it, or it is a slip of
    ours."""
    if isinstance(error, (FileNotFoundError, *SLIPS)):
        return True
    status = getattr(getattr(error, "response", None), "status_code", None)  # of requests
    if hasattr(error, "get_http_status_code"):  # MLflow's own; 500 where it does not know
        status = error.get_http_status_code()
    return status is not None and 400 <= status < 500 and status not in (408, 429)


def _user() -> str:
    with contextlib.suppress(Exception):  # the system knows no name for this number
        return getpass.getuser()
    return "unknown"


def _inputs_of(result: Result) -> "list[DatasetInput]":
    """What it was trained and evaluated on, as MLflow's datasets: one for each data, protocol and use."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    trial, made = result.trial, result.provenance
    if not made:
        return []
    tested = {score.set: score.n for score in result.scores if score.part == "test" and score.measure == result.measure}
    used: dict[str, tuple[str, dict[str, Any]]] = {
        "evaluation": (f"{trial.source} {trial.protocol} test", {"triplets": tested})
    }
    if trial.paradigm is not None:
        name = " ".join(filter(None, (str(trial.source), trial.protocol, "fit", trial.fit_on)))
        used["training"] = (name, {"data points": made.get("fit")})
    source = json.dumps({"source": str(trial.source), "protocol": trial.protocol, "fingerprint": made["data"]})
    return [
        DatasetInput(
            Dataset(name, made["data"][:16], "humansim", source, profile=json.dumps(profile)),
            [InputTag("mlflow.data.context", use)],
        )
        for use, (name, profile) in used.items()
    ]
