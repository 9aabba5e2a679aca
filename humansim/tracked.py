"""MLflow -> results: finished trials of a sweep as they were logged. Only here and in `tracking`: mlflow."""

import contextlib
import http.client
import importlib.util
import logging
import os
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from humansim import results
from humansim.backlog import briefly
from humansim.errors import BadInput
from humansim.results import Result
from humansim.spec import explain, near

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@contextlib.contextmanager
def usable(uri: str) -> Iterator[None]:
    """Whatever a tracking store minds, as a `BadInput`."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:  # SQLAlchemy's, alembic's and the drivers' own among them
        raise BadInput(f"tracking store {uri} cannot be used: {briefly(error)}") from None


def client(uri: str) -> "MlflowClient":
    """A client of a tracking store and its registry; a database that does not exist is made.

    Raises:
        BadInput: a server does not answer.
    """
    if uri.startswith(("http://", "https://")):
        try:
            urllib.request.urlopen(uri.rstrip("/") + "/health", timeout=10).close()
        except urllib.error.HTTPError:
            pass  # it answers; what it minds, the client will say
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise BadInput(
                f"tracking server {uri} does not answer ({reason}); start it, or leave out --tracking and "
                "MLFLOW_TRACKING_URI to use SQLite under the root"
            ) from None
    logging.getLogger("alembic").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what mlflow's imports say is not the user's to mend
        from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def schema(uri: str) -> tuple[str | None, str | None]:
    """The version of a database's schema, and that of this mlflow; None of a server, which keeps its own.

    Raises:
        BadInput: it does not answer, or cannot be used.
    """
    if uri.startswith(("http://", "https://")):
        with usable(uri):
            client(uri).search_experiments(max_results=1)
        return None, None
    with usable(uri):
        import sqlalchemy
        from alembic.migration import MigrationContext
        from alembic.script import ScriptDirectory

        engine = sqlalchemy.create_engine(uri)
        try:
            with engine.connect() as connection:
                there = MigrationContext.configure(connection).get_current_revision()
        finally:
            engine.dispose()
        package = importlib.util.find_spec("mlflow")
        assert package is not None
        assert package.origin is not None
        steps = ScriptDirectory(str(Path(package.origin).parent / "store" / "db_migrations"))
        return there, steps.get_current_head()


def _all_runs(client: "MlflowClient", experiment: str, which: str = "") -> "Iterator[Run]":
    token = None
    while True:
        page = client.search_runs([experiment], which, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def read(uri: str, name: str, runs: Sequence[str] | None = None) -> "Iterator[tuple[Result, pd.DataFrame]]":
    """The finished trials of a sweep, latest first: result and answers (`train.score`) of each, as they were logged.

    What lies on this machine is read where it lies: beside the database, as under a root, also one that was moved or
    copied here; else where the store says. What a server keeps is downloaded, trial by trial.

    Args:
        uri: of the tracking store (`tracking_uri`).
        name: of the sweep, which is its experiment's.
        runs: ids of the runs that are wanted; None for all.

    Raises:
        BadInput: the store or the sweep is not there; while reading, a result that is not there or damaged.
    """
    store, experiment = _opened(uri, name)
    database = _database(uri)
    beside = None if database is None else database.parent / "artifacts" / name
    which = "attributes.status = 'FINISHED'"
    if runs is not None:
        named = ", ".join(f"'{run}'" for run in runs)
        which += f" AND attributes.run_id IN ({named})"
    return _finished(uri, store, experiment, beside, which)


def pages(uri: str, name: str, shown: str | None = None) -> tuple[str, dict[str, str]]:
    """Where the MLflow interface shows a sweep, and the id of each finished trial's run, shown at `<page>/runs/<id>`.

    A server shows what it keeps.

    Args:
        shown: the address at which others are; None for that which `mlflow ui` takes by default.

    Raises:
        BadInput: the store or the sweep is not there.
    """
    store, experiment = _opened(uri, name)
    server = uri if uri.startswith(("http://", "https://")) else shown or "http://127.0.0.1:5000"
    with usable(uri):
        runs = _all_runs(store, experiment.experiment_id, "attributes.status = 'FINISHED'")
        found = {run.data.tags["trial_id"]: run.info.run_id for run in runs if "trial_id" in run.data.tags}
    return f"{server.rstrip('/')}/#/experiments/{experiment.experiment_id}", found


def _database(uri: str) -> Path | None:
    """The file of a store that is one."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _opened(uri: str, name: str) -> "tuple[MlflowClient, Experiment]":
    database = _database(uri)
    if database is not None and not database.is_file():  # the client would make one
        raise BadInput(f"tracking store {uri}: there is no such file; name the root or the store that was swept into")
    with usable(uri):
        store = client(uri)
        experiment = store.get_experiment_by_name(name)
        if experiment is None or experiment.lifecycle_stage == "deleted":
            known = [one.name for one in store.search_experiments() if one.name != "Default"]
            raise BadInput(f"no sweep {name!r} in {uri}{near(name, known)}")
    return store, experiment


def _finished(
    uri: str, client: "MlflowClient", experiment: "Experiment", beside: Path | None, which: str
) -> "Iterator[tuple[Result, pd.DataFrame]]":
    with usable(uri):
        for run in _all_runs(client, experiment.experiment_id, which):
            places = _places(run, experiment, beside)
            if places:
                yield _logged(run, next((one for one in places if (one / results.RESULT).is_file()), places[-1]))
                continue
            with tempfile.TemporaryDirectory() as aside:
                for name in (results.RESULT, results.ANSWERS):
                    client.download_artifacts(run.info.run_id, name, aside)
                found = _logged(run, Path(aside))
            yield found


def _logged(run: "Run", place: Path) -> "tuple[Result, pd.DataFrame]":
    import pandas as pd

    try:
        result = Result.model_validate_json((place / results.RESULT).read_bytes())
        return result, pd.read_parquet(place / results.ANSWERS)
    except FileNotFoundError as error:
        raise BadInput(
            f"run {run.info.run_id} ({run.info.run_name}): no {Path(error.filename).name} in {place}; if the root was "
            "moved, take its folder artifacts along, or submit the sweep again under it"
        ) from None
    except ValidationError as error:
        raise BadInput(f"{place / results.RESULT}: damaged ({explain(error)})") from None
    except (OSError, ValueError) as error:  # pyarrow's are ValueErrors
        raise BadInput(f"{place / results.ANSWERS}: damaged ({str(error).partition(chr(10))[0]})") from None


def _places(run: "Run", experiment: "Experiment", beside: Path | None) -> list[Path]:
    """Folders of this machine in which a run's artifacts may lie; none if they have to be downloaded."""
    where, within = run.info.artifact_uri, experiment.artifact_location
    places = []
    if beside is not None and where.startswith(f"{within}/"):
        places.append(beside / urllib.parse.unquote(where.removeprefix(f"{within}/")))
    parts = urllib.parse.urlsplit(where)
    if parts.scheme in ("", "file"):
        places.append(Path(urllib.parse.unquote(parts.path)))
    return places
