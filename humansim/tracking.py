"""Results -> MLflow. Only here: mlflow.

One experiment a sweep, one run a trial, found again by its tag `trial_id`. The results on disk are the write-ahead log:
whatever MLflow lacks is logged on the next submit. The driver is the only writer, on a thread of its own. Timestamps
are those of the results, so logging a thing twice changes nothing.
"""

import contextlib
import http.client
import logging
import os
import queue
import re
import shlex
import sqlite3
import threading
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from typing import Any

from humansim import __version__, results
from humansim.errors import BadInput
from humansim.results import Failure, Outcome, Pruned, Result
from humansim.root import Root, locked
from humansim.spec import Sweep, Trial

os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")

Row = dict[str, float]


def tracking_uri(root: Root, given: str | None = None) -> str:
    """The tracking URI given, else `MLFLOW_TRACKING_URI`, else SQLite under the root; always absolute."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or root.tracking_uri


def how_to_open(uri: str) -> str:
    """The command or address that shows the runs."""
    within = "uv run " if "UV" in os.environ else ""  # as this very process was started
    return uri if uri.startswith("http") else f"{within}mlflow ui --backend-store-uri {shlex.quote(uri)}"


class Tracker:
    """Writes the runs of one experiment."""

    def __init__(self, uri: str, root: Root, sweep: Sweep) -> None:
        """Opens the store, makes the experiment, and reads which runs are there.

        Raises:
            BadInput: the store cannot be reached or opened.
        """
        self.uri, self.root, self.base = uri, root, sweep.base
        self.lost: Exception | None = None
        self._described: set[str] = set()
        self._queue: queue.Queue[tuple[Any, ...] | None] = queue.Queue()
        if uri.startswith(("http://", "https://")):
            try:
                urllib.request.urlopen(uri.rstrip("/") + "/health", timeout=10).close()
            except urllib.error.HTTPError:
                pass  # it answers; what it minds, the client will say
            except (OSError, ValueError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                raise BadInput(
                    f"tracking server {uri} does not answer ({reason}); start it, or leave out --tracking and "
                    "MLFLOW_TRACKING_URI to write to SQLite under the root"
                ) from None
        logging.getLogger("alembic").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what mlflow's imports say is not the user's to mend
            from mlflow import MlflowClient

        try:
            with self._alone():  # processes that race to make the database fail
                self.client = MlflowClient(tracking_uri=uri)
                self.experiment = self._experiment(sweep)
            self._runs, self._finished, self._pruned = self._existing()
        except BadInput:
            raise
        except Exception as error:  # SQLAlchemy's, alembic's and the drivers' own among them
            first = str(error).strip().partition("\n")[0]
            raise BadInput(f"tracking store {uri} cannot be used: {first}") from None
        self._thread = threading.Thread(target=self._write_all, name="mlflow", daemon=True)
        self._thread.start()

    def _alone(self) -> contextlib.AbstractContextManager[bool]:
        return locked(self.root.path / "mlflow.lock", wait=True)

    def _experiment(self, sweep: Sweep) -> str:
        found = self.client.get_experiment_by_name(sweep.name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                raise BadInput(
                    f"experiment {sweep.name!r} was deleted in {self.uri}; restore it there "
                    f"(mlflow experiments restore -x {found.experiment_id}) or rename the sweep"
                )
            self._follow_root(found.experiment_id, found.artifact_location, sweep.name)
            return str(found.experiment_id)
        # A server keeps artifacts where it was told to; a local database would put them into the working folder.
        local = None if self.uri.startswith("http") else (self.root.path / "artifacts" / sweep.name).as_uri()
        # The tag makes MLflow's pages those of trained models: runs and charts, not prompts and traces.
        tags = {"mlflow.note.content": sweep.question, "mlflow.experimentKind": "custom_model_development"}
        return str(self.client.create_experiment(sweep.name, artifact_location=local, tags=tags))

    def _follow_root(self, experiment: str, before: str, name: str) -> None:
        """A root that was moved takes its artifacts along; MLflow has no call for it."""
        now = (self.root.path / "artifacts" / name).as_uri()
        if self.uri != self.root.tracking_uri or before == now:
            return
        with contextlib.closing(sqlite3.connect(self.root.path / "mlflow.db", timeout=60)) as store, store:
            store.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (now, experiment))
            store.execute(
                "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE experiment_id = ? "
                "AND substr(artifact_uri, 1, ?) = ?",
                (now, len(before) + 1, experiment, len(before), before),
            )

    def _existing(self) -> tuple[dict[str, str], set[str], dict[str, str]]:
        """trial id -> run id; the ids of trials whose run is complete; trial id -> epoch of those that are pruned."""
        runs, finished, pruned, token = {}, set(), {}, None
        while True:
            page = self.client.search_runs([self.experiment], max_results=1000, page_token=token)
            for run in page:
                trial_id = run.data.tags.get("trial_id")
                if trial_id:
                    runs[trial_id] = run.info.run_id
                    if run.info.status == "FINISHED":
                        finished.add(trial_id)
                    elif run.info.status == "KILLED":
                        pruned[trial_id] = run.data.tags.get("pruned", "")
            token = page.token
            if not token:
                return runs, finished, pruned

    def epoch(self, trial: Trial, row: Row) -> None:
        """A training epoch, shown while the trial runs."""
        self._queue.put(("epoch", trial, row))

    def ended(self, outcome: Outcome) -> None:
        """How a trial ended; a run that is complete already is left alone."""
        self._queue.put(("ended", outcome))

    def close(self) -> Exception | None:
        """Writes what is still to be written; the error that stopped the writing, if one did."""
        self._queue.put(None)
        self._thread.join()
        return self.lost

    def _write_all(self) -> None:
        while (item := self._queue.get()) is not None:
            if self.lost is not None:
                continue  # everything is on disk; the next submit logs what is lacking
            try:
                if item[0] == "epoch":
                    self._write_epochs(item[1], [item[2]])
                else:
                    self._write_outcome(item[1])
            except Exception as error:
                self.lost = error

    def _run(self, trial: Trial, start: int) -> str:
        if trial.id in self._described:
            return self._runs[trial.id]
        if trial.id not in self._runs:
            tags = {
                "trial_id": trial.id,
                "mlflow.runName": run_name(trial, self.base),
                "mlflow.source.name": f"humansim {__version__}",
            }
            with self._alone():  # another process may have run the same trial
                ours = f"tags.trial_id = '{trial.id}'"
                runs = self.client.search_runs([self.experiment], ours, max_results=1)
                run = runs[0] if runs else self.client.create_run(self.experiment, start_time=start, tags=tags)
            self._runs[trial.id] = run.info.run_id
        from mlflow.entities import Param

        # Again for a run that is there: whoever made it may have been killed before this line.
        params = [Param(axis, str(value)) for axis, value in trial.settings().items()]
        self.client.log_batch(self._runs[trial.id], params=params)
        self._described.add(trial.id)
        return self._runs[trial.id]

    def _write_epochs(self, trial: Trial, rows: list[Row]) -> None:
        from mlflow.entities import Metric

        if not rows or trial.id in self._finished:
            return
        run = self._run(trial, int(rows[0]["time"] - 1000 * rows[0]["seconds"]))
        names = {
            "train/loss": "loss",
            "train/lr": "lr",
            "train/images_per_second": "images_per_second",
            "train/gradient_norm": "gradient_norm",
            "train/peak_memory": "peak_memory",
            "2afc/validation": "validation",
        }
        self.client.log_batch(
            run,
            metrics=[
                Metric(name, row[key], int(row["time"]), int(row["epoch"]))
                for row in rows
                for name, key in names.items()
                if key in row
            ],
        )

    def _write_outcome(self, outcome: Outcome) -> None:
        from mlflow.entities import Metric, RunTag

        trial = outcome.trial
        if trial.id in self._finished:
            return
        if isinstance(outcome, Failure):
            run = self._run(trial, outcome.finished)
            tags = {"failure": outcome.kind, "failure.reason": outcome.reason[:500]}
            self.client.log_batch(run, tags=[RunTag(k, v) for k, v in tags.items()])
            self.client.log_text(run, outcome.traceback or outcome.reason, "traceback.txt")
            self.client.set_terminated(run, "FAILED", outcome.finished)
            return
        if isinstance(outcome, Pruned) and self._pruned.get(trial.id) == str(outcome.epoch):
            return
        run = self._run(trial, outcome.finished - int(1000 * sum(outcome.seconds.values())))
        self._write_epochs(trial, list(outcome.history))
        if isinstance(outcome, Pruned):
            self._forget_tags(run, "failure")
            tags = {"pruned": str(outcome.epoch), **_origins_of(outcome)}
            self.client.log_batch(run, tags=[RunTag(k, v) for k, v in tags.items()])
            self.client.set_terminated(run, "KILLED", outcome.finished)
            self._pruned[trial.id] = str(outcome.epoch)
            return
        step = len(outcome.history)
        metrics = final_metrics(outcome)
        if step:
            del metrics["2afc/validation"]  # the last point of its curve
        tags = _origins_of(outcome) | _facts_of(outcome)
        self.client.log_batch(
            run,
            metrics=[Metric(name, value, outcome.finished, step) for name, value in metrics.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        place = results.folder(self.root, trial)
        for name in (results.RESULT, results.ANSWERS):
            self.client.log_artifact(run, str(Path(place) / name))
        self._forget_tags(run, "failure", "pruned")  # it was retried, or went on, and finished
        self.client.set_terminated(run, "FINISHED", outcome.finished)
        self._finished.add(trial.id)

    def _forget_tags(self, run: str, *begin: str) -> None:
        for tag in self.client.get_run(run).data.tags:
            if tag.startswith(begin):
                self.client.delete_tag(run, tag)


def _origins_of(outcome: Result | Pruned) -> dict[str, str]:
    """Whose the judgements are, and which weights and data it came of; nothing of what failed later."""
    made = outcome.provenance
    if not made:
        return {}
    judges = "simulated judges" if made["simulated_judges"] else "people"
    return {"judges": judges, "weights": made["weights"]["origin"], "data": made["data"][:16]}


def _facts_of(result: Result) -> dict[str, str]:
    """What the backbone is and has learnt from, as tags to filter and group by."""
    facts: dict[str, Any] = dict(result.provenance.get("backbone", {}))
    learnt = facts.pop("pretraining", None) or {}
    named = {f"backbone.{key}": value for key, value in facts.items()}
    named |= {f"pretraining.{key}": value for key, value in learnt.items()}
    return {key: str(value) for key, value in named.items() if value is not None}


def run_name(trial: Trial, base: Trial) -> str:
    """A name a person can read: backbone, paradigm, and in what the trial differs from the sweep's base."""
    # Without a paradigm the base would not show what it says of training.
    alike = base if trial.paradigm is None else base.having({"paradigm": trial.paradigm, "protocol": trial.protocol})
    before, settings = alike.identity(), trial.identity()
    parts = [str(trial.backbone), str(trial.paradigm) if trial.paradigm else "pretrained"]
    for field in settings:
        value = getattr(trial, field)
        if field not in ("backbone", "paradigm") and settings[field] != before.get(field):
            parts.append(f"{field}={value:.3g}" if isinstance(value, float) else f"{field}={value}")
    return " ".join(parts)


def final_metrics(result: Result) -> dict[str, float]:
    """What a finished run shows: means over sets, every set and measure on the test part, ceilings.

    MLflow makes a section of charts of what stands before the last slash, in alphabetical order.
    """
    metrics = {"2afc/test": result.mean("test"), "2afc/validation": result.mean("validation")}
    tested = [score for score in result.scores if score.part == "test"]
    for score in tested:
        metrics[_metric_name(f"2afc/{score.measure}/{score.set}")] = score.score
    for name in ("fresh_judge", "best"):
        of_sets = [getattr(s, name) for s in tested if s.measure == result.measure and getattr(s, name) is not None]
        if of_sets:
            metrics[f"ceiling/{name}"] = sum(of_sets) / len(of_sets)
    metrics["cost/seconds"] = sum(result.seconds.values())
    metrics["cost/peak_memory_gib"] = result.peak_memory / 2**30
    return {name: value for name, value in metrics.items() if value == value}


def _metric_name(name: str) -> str:
    return re.sub(r"[^\w\-. /]", "_", name)
