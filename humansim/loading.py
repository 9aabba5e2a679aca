"""`humansim.load(x)`: a trial, an MLflow run or model, a sweep's best, or an exported folder, as a `Metric`."""

import contextlib
import os
import re
from pathlib import Path

import pandas as pd
import torch
from pydantic import ValidationError
from torch import nn

from humansim import own, plan, results, submitted
from humansim.backbones.module import Scorer
from humansim.backbones.weights import given_elsewhere
from humansim.calibration import calibrated
from humansim.download import sha256_of
from humansim.embedder import Embedder
from humansim.errors import BadInput
from humansim.ledger import Ledger
from humansim.machine import place_of, set_up
from humansim.material import resize_of
from humansim.metric import CONFIG, MODEL, Config, Facts, Metric
from humansim.results import Result
from humansim.root import Root
from humansim.spec import Trial, explain, near
from humansim.train import make_backbone

ID = re.compile(r"^[0-9a-f]{16}$")


def load(
    what: str | os.PathLike[str],
    *,
    root: str | Path | None = None,
    device: str | None = None,
    tracking: str | None = None,
) -> Metric:
    """A metric, frozen and ready, on a device.

    Args:
        what: the id of a finished trial; `runs:/ID` or `models:/name/version` of MLflow; the name of a submitted
            sweep, which stands for its best trial by validation; or a folder that `humansim export` wrote.
        root: where trials and sweeps lie: `HUMANSIM_ROOT` or ./humansim-runs, if not given.
        device: "cuda" where there is one, else "cpu".
        tracking: URI of the MLflow store of a run or a model: `MLFLOW_TRACKING_URI` or the root's, if not given.

    Raises:
        BadInput: there is no such thing, it is not finished, damaged, or its weights are gone or others.
    """
    name = os.fspath(what)
    if name.startswith(("runs:/", "models:/")):
        from humansim import registered

        uri = registered.uri_of(root, tracking)
        if name.startswith("models:/"):
            with registered.folder_of(name, uri) as folder:
                return read_folder(folder).to(place_of(device))
        id_, made_in = registered.trial_of(name, uri)
        here = _root(root) if (_root(root).results / id_).is_dir() else _root(made_in)
        return _of_trial(id_, here).to(place_of(device))
    if isinstance(what, os.PathLike) or (Path(name) / CONFIG).is_file() or os.sep in name:
        return read_folder(Path(name)).to(place_of(device))
    here = _root(root)
    id_ = name if ID.match(name) else best_of(name, here)
    return _of_trial(id_, here).to(place_of(device))


def _root(path: str | Path | None) -> Root:
    """The root, which has to be there: a metric is read, nothing is made. Its sweeps know of parts from outside."""
    folder = Root.where(path)
    if not folder.is_dir():
        raise BadInput(f"root {folder}: no such folder; name the one that was swept into (--root, HUMANSIM_ROOT)")
    own.know(folder)
    return Root.at(folder)


def best_of(sweep: str, root: Root) -> str:
    """The id of a sweep's best trial on validation (`results.best`).

    Raises:
        BadInput: no such sweep, nothing of it has finished, or its trials are of several sources.
    """
    known = {one.name: one for one in submitted.remembered(root)}
    if sweep not in known:
        ids = [folder.name for folder in root.results.glob("*") if ID.match(folder.name)]
        raise BadInput(f"{sweep!r} is no trial, sweep or exported folder{near(sweep, [*known, *ids[:20]])}")
    chosen = known[sweep]
    found = plan.known_trials(chosen, plan.cells(chosen), root)
    trials = dict.fromkeys(one.trial for asked in found.values() for one in asked)
    finished = [one for trial in trials if isinstance(one := results.last(root, trial), Result)]
    rated = {one.trial.id: one for one in finished if any(score.part == "validation" for score in one.scores)}
    best, _ = results.best([rated[a.trial.id] for a in asked if a.trial.id in rated] for asked in found.values())
    if best is None:
        raise BadInput(f"sweep {sweep}: no trial with a validation score has finished; name a trial")
    sources = {str(one.trial.source) for one in rated.values()}
    if len(sources) > 1:
        raise BadInput(f"sweep {sweep}: its trials are of several sources ({', '.join(sorted(sources))}); name a trial")
    return best.trial.id


def _of_trial(id_: str, root: Root) -> Metric:
    folder = root.results / id_
    try:
        trial = Trial.model_validate_json((folder / "trial.json").read_bytes())
    except FileNotFoundError:
        ids = sorted(one.name for one in root.results.glob("*") if ID.match(one.name))
        raise BadInput(f"no trial {id_} under {root.path}{near(id_, ids)}") from None
    except ValueError:
        raise BadInput(
            f"{folder / 'trial.json'}: damaged; restore it, or delete the folder and run the trial again"
        ) from None
    result = results.last(root, trial)
    if not isinstance(result, Result):
        how = results.state(root, trial).value
        raise BadInput(f"trial {id_} has not finished ({how}); submit its sweep again, or see humansim status")
    facts = Facts(result=result, calibration=calibrated(_answers(folder)), sweeps=_asked_by(root, trial))
    return made(facts, folder / results.WEIGHTS if trial.paradigm is not None else None)


def read_folder(folder: Path) -> Metric:
    """The metric in a folder that `export.write_folder` wrote, on the CPU; it needs nothing else.

    Raises:
        BadInput: the folder is none of these, or damaged.
    """
    try:
        config = Config.model_validate_json((folder / CONFIG).read_bytes())
    except FileNotFoundError:
        raise BadInput(f"{folder}: no {CONFIG} there; name a folder that humansim export wrote") from None
    except ValidationError as error:
        raise BadInput(f"{folder / CONFIG}: damaged, or of no metric ({explain(error)}); export it again") from None
    if not (folder / MODEL).is_file():
        raise BadInput(f"{folder / MODEL}: it is missing; export it again")
    if sha256_of(folder / MODEL) != config.model_sha256:
        raise BadInput(f"{folder / MODEL}: it is not the file that was exported (SHA-256); export it again")
    return made(config.facts, folder / MODEL, everything=True)


def made(facts: Facts, weights: Path | None, everything: bool = False) -> Metric:
    """The metric of a finished trial, on the CPU.

    Args:
        weights: the file of its weights; None if the trial trained none: they are made or found again.
        everything: the file is all that there is: no published weights are looked for.

    Raises:
        BadInput: weights that are gone, damaged, or others than the trial's.
    """
    trial, origin = facts.result.trial, facts.result.provenance["weights"]
    with set_up(trial.threads), given_elsewhere() if everything else contextlib.nullcontext():
        network = make_backbone(trial)
        judge = network if isinstance(network, Scorer) else Embedder(network, precision=trial.precision)
        if weights is not None:
            judge = _with_weights(judge, weights)
        elif (found := network.fingerprint()) != origin["fingerprint"]:
            raise BadInput(
                f"trial {trial.id}: the weights of {trial.backbone} are others than those it ran with (fingerprint "
                f"{found[:12]}, not {origin['fingerprint'][:12]}); humansim weights verify tells about files"
            )
    return Metric(judge, resize_of(trial), facts)


def _with_weights(judge: Embedder | Scorer, file: Path) -> Embedder | Scorer:
    """The network with the weights of a file, and with the head that is in it, if one is."""
    from safetensors.torch import load_file

    try:
        tensors = load_file(file)
    except FileNotFoundError:
        kept = "a sweep with --keep drops those of all but the best"
        raise BadInput(f"{file}: the trial's weights are gone ({kept}); delete its folder and it runs again") from None
    except Exception as error:  # safetensors has errors of its own
        raise BadInput(f"{file}: damaged ({str(error).partition(chr(10))[0]})") from None
    try:
        if isinstance(judge, Scorer):
            judge.load_state_dict(tensors)
            return judge
        own = {name.removeprefix("head."): tensors.pop(name) for name in list(tensors) if name.startswith("head.")}
        judge.backbone.load_state_dict(tensors)
        if not own:
            return judge
        with torch.random.fork_rng(devices=[]):
            head = nn.Linear(own["weight"].shape[1], own["weight"].shape[0])
        head.load_state_dict(own)
        return Embedder(judge.backbone, head, judge.precision, keep_head=True)
    except (RuntimeError, KeyError) as error:
        first = " ".join(line.strip() for line in str(error).splitlines()[1:3])[:200]
        raise BadInput(f"{file}: these are weights of another network ({first})") from None


def _answers(folder: Path) -> pd.DataFrame:
    file = folder / results.ANSWERS
    try:
        return pd.read_parquet(file)
    except FileNotFoundError:
        raise BadInput(f"{file}: it is gone; delete the trial's folder and it runs again") from None
    except (OSError, ValueError) as error:  # pyarrow's are ValueErrors
        raise BadInput(f"{file}: damaged ({str(error).partition(chr(10))[0]})") from None


def _asked_by(root: Root, trial: Trial) -> tuple[str, ...]:
    """Names of the sweeps that have asked for a trial."""
    names = sorted(file.parent.name for file in root.sweeps.glob("*/asked.jsonl"))
    return tuple(name for name in names if any(one.trial == trial for one in Ledger(root, name).read()))
