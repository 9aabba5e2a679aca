"""Metrics in the MLflow Model Registry, and what lies in MLflow of trials. Here too: mlflow."""

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import humansim
from humansim import tracked
from humansim.described import NAME, final_points, run_name
from humansim.errors import BadInput
from humansim.results import Result
from humansim.root import Root
from humansim.spec import Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # what goes wrong is said here, once
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

EXPERIMENT = "humansim-metrics"  # of trials whose own run is in another store
DESCRIPTION = 5000  # characters that a database takes
UNNEEDED = ("ray", "optuna", "mlflow", "statsmodels", "umap-learn", "requests")  # by a metric that is served


def uri_of(root: str | Path | None, tracking: str | None = None) -> str:
    """The tracking URI given, else `MLFLOW_TRACKING_URI`, else SQLite under the root; as `tracking.tracking_uri`."""
    return tracking or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Root.where(root) / 'mlflow.db'}"


@contextlib.contextmanager
def _usable(uri: str, what: str) -> Iterator["MlflowClient"]:
    """A client; whatever the store minds, as a `BadInput`."""
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():  # the client would make one
        raise BadInput(f"{what}: there is no MLflow store {uri}; name it with --tracking, or the root")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what mlflow says to its developers
        try:
            yield tracked.client(uri)
        except BadInput:
            raise
        except Exception as error:  # SQLAlchemy's and requests' own among them
            raise BadInput(f"{what}: {str(error).strip().partition(chr(10))[0]} (MLflow store {uri})") from None


def trial_of(run: str, uri: str) -> tuple[str, str]:
    """The id of the trial of `runs:/ID`, and the root under which it was run."""
    with _usable(uri, run) as client:
        tags = client.get_run(run.removeprefix("runs:/").strip("/")).data.tags
        if "trial_id" not in tags:
            raise BadInput(f"{run}: it is no run of a trial of humansim")
        return tags["trial_id"], tags.get("root", "")


@contextlib.contextmanager
def folder_of(model: str, uri: str) -> Iterator[Path]:
    """The exported folder inside of `models:/name/version`, for as long as it is needed."""
    with tempfile.TemporaryDirectory() as aside:
        with _usable(uri, model):
            from mlflow.artifacts import download_artifacts

            with _at(uri):
                place = Path(download_artifacts(artifact_uri=model, dst_path=aside))
        folder = next(place.glob("artifacts/*/config.json"), None)
        if folder is None:
            raise BadInput(f"{model}: it holds no metric of humansim")
        yield folder.parent


@contextlib.contextmanager
def _at(uri: str) -> Iterator[None]:
    """MLflow's global addresses set, and as they were afterwards."""
    import mlflow

    tracking, registry = os.environ.get("MLFLOW_TRACKING_URI"), os.environ.get("MLFLOW_REGISTRY_URI")
    mlflow.set_tracking_uri(uri)  # which sets the variable too, in which `uri_of` would find this store ever after
    mlflow.set_registry_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(tracking)  # type: ignore[arg-type]  # None: as if it had never been set
        mlflow.set_registry_uri(registry)  # type: ignore[arg-type]
        if registry is None:
            os.environ.pop("MLFLOW_REGISTRY_URI", None)


def register(folder: Path, name: str, uri: str, result: Result, tags: dict[str, str], told: tuple[str, str]) -> str:
    """Makes an exported folder a new version of a model; the code of humansim goes along.

    The model is logged to the trial's own run, which stays as it is, where the store has it; else to one that is made.

    Args:
        result: of the trial.
        tags: of the version, and of a run that is made.
        told: what people should know of the model, if nothing is said of it yet, and of the version, as Markdown.

    Returns:
        Its address, `models:/name/version`.
    """
    what = f"model {name}"
    database = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and database.parent.is_dir() and not database.exists():
        database.touch()  # a root that was swept into another store
    with _usable(uri, what) as client:
        import mlflow
        import pandas as pd
        from mlflow.entities import LoggedModelOutput, Metric
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        run = _run_of(client, result, tags.get("sweep", "")) or _made_run(client, uri, result, tags)
        tags = {key: run.data.tags[key] for key in ("cell",) if key in run.data.tags} | tags
        signature = ModelSignature(
            Schema([ColSpec("string", "a"), ColSpec("string", "b"), ColSpec("string", "query", required=False)]),
            Schema([ColSpec("double", "distance"), ColSpec("double", "p_closer", required=False)]),
        )
        logged = client.create_logged_model(
            run.info.experiment_id, "metric", run.info.run_id, tags, run.data.params, "perceptual metric"
        )
        with _at(uri):
            mlflow.pyfunc.log_model(
                name="metric",
                model_id=logged.model_id,
                python_model=str(Path(humansim.__file__).parent / "served.py"),
                artifacts={"metric": str(folder)},
                code_paths=[str(Path(humansim.__file__).parent)],
                pip_requirements=_requirements(),
                signature=signature,
                input_example=pd.DataFrame({"a": [_square(40)], "b": [_square(200)]}),
            )
            client.log_outputs(run.info.run_id, [LoggedModelOutput(logged.model_id, step=0)])
            points = final_points(result)  # that the run has already, and the model from now on too
            client.log_batch(run.info.run_id, [Metric(*point, model_id=logged.model_id) for point in points])
            made = mlflow.register_model(f"models:/{logged.model_id}", name, tags=tags)
        client.update_model_version(name, made.version, told[1][:DESCRIPTION])
        if not client.get_registered_model(name).description:
            client.update_registered_model(name, told[0])
        return f"models:/{name}/{made.version}"


def _run_of(client: "MlflowClient", result: Result, sweep: str) -> "Run | None":
    """The finished run of a trial; of several sweeps' that of this one, if it has one."""
    experiments = {one.experiment_id: one.name for one in client.search_experiments()}
    which = f"tags.trial_id = '{result.trial.id}' AND attributes.status = 'FINISHED'"
    runs = client.search_runs([*experiments], which) if experiments else []
    return min(runs, key=lambda run: experiments[run.info.experiment_id] != sweep, default=None)


def _made_run(client: "MlflowClient", uri: str, result: Result, tags: dict[str, str]) -> "Run":
    """A run for a trial that was run into another store."""
    from mlflow.entities import Metric, Param

    known, database = client.get_experiment_by_name(EXPERIMENT), Path(uri.removeprefix("sqlite:///"))
    local = (database.parent / "artifacts" / EXPERIMENT).as_uri() if uri.startswith("sqlite:///") else None
    experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT, artifact_location=local)
    start = result.finished - int(1000 * sum(result.seconds.values()))
    name = run_name(result.trial, Trial())[:NAME]
    run = client.create_run(experiment, start, tags, name).info.run_id
    client.log_batch(
        run,
        [Metric(*point) for point in final_points(result)],
        [Param(axis, str(value)) for axis, value in result.trial.settings().items()],
    )
    client.set_terminated(run, "FINISHED", result.finished)
    return client.get_run(run)


def _square(grey: int) -> str:
    """A little image as base64: what a client sends."""
    import base64
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def _requirements() -> list[str]:
    """What humansim needs, without what a metric does not."""
    every = [one for one in metadata.requires("humansim") or [] if "extra ==" not in one]
    return [one for one in every if not one.startswith(UNNEEDED)]
