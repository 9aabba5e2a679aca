"""Metrics in the MLflow Model Registry, and what lies in MLflow of trials. Here too: mlflow."""

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import humansim
from humansim.errors import BadInput
from humansim.root import Root

if TYPE_CHECKING:
    from mlflow import MlflowClient

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

EXPERIMENT = "humansim-metrics"
UNNEEDED = ("ray", "optuna", "mlflow", "statsmodels", "umap-learn", "requests")  # by a metric that is served


def uri_of(root: str | Path | None, tracking: str | None = None) -> str:
    """The tracking URI given, else `MLFLOW_TRACKING_URI`, else SQLite under the root; as `tracking.tracking_uri`."""
    return tracking or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Root.where(root) / 'mlflow.db'}"


@contextlib.contextmanager
def _usable(uri: str, what: str) -> Iterator["MlflowClient"]:
    """A client; whatever the store minds, as a `BadInput`."""
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():  # the client would make one
        raise BadInput(f"{what}: there is no MLflow store {uri}; name it with --tracking, or the root")
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what mlflow says to its developers
        from mlflow import MlflowClient

        try:
            yield MlflowClient(tracking_uri=uri, registry_uri=uri)
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

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])


def register(folder: Path, name: str, uri: str, tags: dict[str, str]) -> str:
    """Makes an exported folder a new version of a model; the code of humansim goes along.

    Args:
        tags: of the run and of the version.

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
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        known = client.get_experiment_by_name(EXPERIMENT)
        local = (database.parent / "artifacts" / EXPERIMENT).as_uri() if uri.startswith("sqlite:///") else None
        experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT, artifact_location=local)
        signature = ModelSignature(
            Schema([ColSpec("string", "a"), ColSpec("string", "b"), ColSpec("string", "query", required=False)]),
            Schema([ColSpec("double", "distance"), ColSpec("double", "p_closer", required=False)]),
        )
        example = pd.DataFrame({"a": [_square(40)], "b": [_square(200)]})
        with _at(uri), mlflow.start_run(experiment_id=experiment):
            mlflow.set_tags(tags)
            made: Any = mlflow.pyfunc.log_model(
                name="metric",
                python_model=str(Path(humansim.__file__).parent / "served.py"),
                artifacts={"metric": str(folder)},
                code_paths=[str(Path(humansim.__file__).parent)],
                pip_requirements=_requirements(),
                signature=signature,
                input_example=example,
                registered_model_name=name,
            )
        version = made.registered_model_version
        for key, value in tags.items():
            client.set_model_version_tag(name, str(version), key, value)
        return f"models:/{name}/{version}"


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
