"""run(trial) -> Result: where all parts meet. Plain Python: no Ray, no MLflow, no search."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from humansim import audit, embeddings, own, results, workers
from humansim.backbones import Pretraining, backbone
from humansim.backbones.module import Backbone, Scorer, initialised_by
from humansim.embedder import Embedder, distances, scored
from humansim.errors import BadInput
from humansim.fitting import Row, fit
from humansim.machine import name_of, peak_memory, place_of, reset_peak_memory, set_up, versions
from humansim.material import Material, Progress, prepare, resize_of
from humansim.pruning import Bar, pruned_at
from humansim.results import Pruned, Result, Score
from humansim.root import Root, written_whole
from humansim.scores import ceilings, summary
from humansim.spec import Trial


def run(
    trial: Trial,
    root: Root,
    *,
    device: str | None = None,
    report: Callable[[Row], None] | None = None,
    progress: Progress | None = None,
    bar: Bar | None = None,
) -> Result | Pruned:
    """Runs a trial to its end, going on from its last epoch if it was interrupted; a finished one is read, not run.

    On a CPU the scores are the same bits, interrupted or not.

    Args:
        trial: in its normal form (`plan.checked`).
        device: "cuda" where there is one, else "cpu".
        report: called after each epoch, once its checkpoint is safe, with that row of the history; rows of an
            earlier, interrupted run are reported again.
        progress: called with images done and images in all, in the final evaluation.
        bar: a trial that falls below it is pruned; without one it never is.

    Raises:
        BadInput: the data, or a part that cannot be made (weights that cannot be had).
        FloatingPointError: the loss is no longer finite.
    """
    with results.claimed(root, trial) as folder, set_up(trial.threads):
        ended = results.load(root, trial, bar)
        if workers.told(isinstance(ended, Result | Pruned)):
            assert isinstance(ended, Result | Pruned)
            return ended
        if trial.paradigm is not None and trial.workers != workers.count():
            asked = f"a trial of {trial.workers} was given {workers.count()}"
            raise BadInput(f"workers: {asked}; a sweep through Ray starts as many as it asks for")
        place = place_of(device)
        reset_peak_memory(place)
        seconds, clock = {}, time.perf_counter()
        material = prepare(trial, root)
        seconds["read"] = time.perf_counter() - clock

        clock = time.perf_counter()
        network = make_backbone(trial)
        pretrained = network.fingerprint()
        outside = own.origins(trial)
        started = _with_code(pretrained, outside)
        seconds["make"] = time.perf_counter() - clock

        history: list[Row] = []
        clock = time.perf_counter()
        judge: Embedder | Scorer
        if isinstance(network, Scorer):
            judge = network.to(place)
        else:
            judge = Embedder(network, precision=trial.precision).to(place)
            if trial.paradigm is not None:
                judge, history = fit(trial, judge, material, folder, started, report, bar)
        seconds["train"] = time.perf_counter() - clock
        provenance = {
            "versions": versions(),
            "device": name_of(place),
            "data": material.fingerprint,
            "weights": {"origin": network.weights, "fingerprint": pretrained},
            "simulated_judges": material.judgements.simulated,
            **({"own": {part: where.plain() for part, where in outside.items()}} if outside else {}),
        }
        if pruned_at(history, bar) is not None:
            pruned = Pruned(
                trial=trial, history=tuple(history), provenance=provenance, seconds=seconds, finished=results.now()
            )
            results.save(root, pruned)
            results.forget_checkpoint(root, trial)
            return pruned

        clock = time.perf_counter()
        kept = _kept(trial, root, material, started, place) if trial.paradigm is None else None
        found, passes = judge_all(judge, material, progress, kept)
        seconds["embed"] = time.perf_counter() - clock

        clock = time.perf_counter()
        scores, answers = score(material, found)
        with written_whole(folder / results.ANSWERS) as file:
            answers.to_parquet(file, index=False)
        if trial.paradigm is not None and isinstance(judge, Embedder):
            save_weights(judge, folder / results.WEIGHTS)
        seconds["score"] = time.perf_counter() - clock
        result = Result(
            trial=trial,
            scores=scores,
            history=tuple(history),
            provenance={
                **provenance,
                "shared": {
                    **audit.stamp(material.judgements, material.split, material.fit, material.store, trial.protocol),
                    "pretraining": audit.pretraining(_known_of(trial), material.judgements.sets),
                },
                "fit": 0 if material.fit is None else len(material.fit),
                "embedded": passes,
                "backbone": _described(trial),
            },
            seconds=seconds,
            # On a GPU each epoch begins the high-water mark anew.
            peak_memory=max([peak_memory(place), *(int(row.get("peak_memory", 0)) for row in history)]),
            finished=results.now(),
        )
        results.save(root, result)
        results.forget_checkpoint(root, trial)
        return result


def assist(
    trial: Trial,
    root: Root,
    *,
    device: str | None = None,
    report: Callable[[Row], None] | None = None,
    bar: Bar | None = None,
) -> None:
    """A further worker's part in a trial of several (`humansim.workers`), while their leader does `run`.

    Args:
        report, bar: as those of `run`.
    """
    with set_up(trial.threads):
        if workers.told(False):  # the leader's: it is finished already
            return
        material, network = prepare(trial, root), make_backbone(trial)
        assert isinstance(network, Backbone)
        started = _with_code(network.fingerprint(), own.origins(trial))
        embedder = Embedder(network, precision=trial.precision).to(place_of(device))
        fit(trial, embedder, material, results.folder(root, trial), started, report, bar)


def embed(
    trial: Trial, root: Root, *, device: str | None = None, progress: Progress | None = None
) -> tuple[list[str], NDArray[np.float32]]:
    """Names [n] and embeddings [n, d] of the images that are evaluated on, by the trial's backbone as pre-trained.

    Raises:
        BadInput: the data, or a backbone that cannot be made or gives no embeddings.
    """
    with set_up(trial.threads):
        material, network = prepare(trial, root), make_backbone(trial)
        if isinstance(network, Scorer):
            raise BadInput(f"backbone {trial.backbone} judges pairs of images; it has no embeddings")
        place = place_of(device)
        kept = _kept(trial, root, material, _with_code(network.fingerprint(), own.origins(trial)), place)
        rows = material.images_of("validation", "test")
        judge = Embedder(network, precision=trial.precision).to(place)
        found, _ = embeddings.embed(judge, material.store, rows, kept, progress)
        return [material.judgements.images[row] for row in rows], found.cpu().numpy()


def evaluate(
    judge: Embedder | Scorer,
    material: Material,
    progress: Progress | None = None,
    kept: embeddings.Cache | None = None,
) -> tuple[tuple[Score, ...], pd.DataFrame, int]:
    """Scores of all sets, parts and measures from one embedding of each image; of a metric, from each pair once.

    Args:
        kept: embeddings of earlier evaluations of the same weights, if there are any.

    Returns:
        Scores; the answers that they are made of; how many images were embedded for them.
    """
    found, passes = judge_all(judge, material, progress, kept)
    return *score(material, found), passes


Distances = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


def judge_all(
    judge: Embedder | Scorer,
    material: Material,
    progress: Progress | None = None,
    kept: embeddings.Cache | None = None,
) -> tuple[Distances, int]:
    """Distances to left and right of every triplet that is evaluated, and how many images were embedded for them."""
    shown = material.judgements.triplets[evaluated(material)]
    if isinstance(judge, Scorer):
        return scored(judge, material.store, shown, progress), 0
    images = np.unique(shown.images)
    embedded, passes = embeddings.embed(judge, material.store, images, kept, progress)
    return distances(embedded, images, shown), passes


def evaluated(material: Material) -> NDArray[np.int64]:
    return np.concatenate([material.split.parts[part] for part in ("validation", "test")])


def score(material: Material, found: Distances) -> tuple[tuple[Score, ...], pd.DataFrame]:
    """Scores of all sets, parts and measures, and the answers, from the distances of every triplet."""
    judgements = material.judgements
    parts = {part: rows for part in ("validation", "test") if len(rows := material.split.parts[part])}
    chosen = evaluated(material)
    shown = judgements.triplets[chosen]
    names = np.array(judgements.images, dtype=object)
    answers = pd.DataFrame(
        {
            "triplet": chosen,
            "part": np.repeat(list(parts), [len(rows) for rows in parts.values()]),
            "set": np.array(judgements.sets, dtype=object)[shown.set],
            "query": names[shown.query],
            "left": names[shown.left],
            "right": names[shown.right],
            "choice": shown.choice,
            "judges": shown.judges,
            "cluster": shown.cluster,
        }
    )
    for measure, (to_left, to_right) in found.items():
        answers[f"to_left_{measure}"], answers[f"to_right_{measure}"] = to_left, to_right
    scores = []
    for part in parts:
        for index in np.unique(shown.set):
            here = ((answers["part"] == part) & (shown.set == index)).to_numpy()
            if not here.any():
                continue
            human = ceilings(shown.choice[here], shown.judges[here])
            for measure, (to_left, to_right) in found.items():
                measured = summary(to_left[here], to_right[here], shown.choice[here], shown.cluster[here])
                shares = {key: None if value != value else value for key, value in {**measured, **vars(human)}.items()}
                row = {"set": judgements.sets[index], "part": part, "measure": measure, **shares}
                scores.append(Score.model_validate(row))
    return tuple(scores), answers


def _with_code(weights: str, outside: Mapping[str, own.Origin]) -> str:
    """What a trial starts from: its weights and, of parts from outside, their code, which humansim's version is not."""
    return "-".join([weights, *(where.code for _, where in sorted(outside.items()))])


def _known_of(trial: Trial) -> dict[str, Any]:
    """The facts of the trial's backbone; none of its pre-training if its weights are random."""
    facts = backbone.facts(trial.backbone)
    return {} if trial.backbone.kwargs.get("weights") == "random" else facts


def _described(trial: Trial) -> dict[str, Any]:
    """What is known of the backbone, for the tables that the analysis groups by."""
    facts = backbone.facts(trial.backbone)
    learnt: Pretraining | None = _known_of(trial).get("pretraining")
    return {
        **{key: facts.get(key) for key in ("architecture", "family", "features", "parameters")},
        "pretraining": None if learnt is None else {**asdict(learnt), "language": learnt.language},
    }


def make_backbone(trial: Trial) -> Backbone | Scorer:
    try:
        with initialised_by(0):  # whatever a backbone draws without a seed of its own
            made: Backbone | Scorer = backbone.make(trial.backbone)
    except BadInput as error:
        raise BadInput(f"backbone {trial.backbone}: {error}") from None
    except Exception as error:
        first = str(error).strip().partition("\n")[0].rstrip(".")
        raise BadInput(f"backbone {trial.backbone}: it could not be made: {type(error).__name__}: {first}") from error
    if not isinstance(made, Backbone | Scorer):
        raise BadInput(
            f"backbone {trial.backbone}: it gives a {type(made).__name__}; a backbone gives a "
            "humansim.backbones.module.Backbone, as Backbone(network, mean=..., std=..., weights=...)"
        )
    return made if isinstance(made, Scorer) else made.read_at(trial.layer, trial.pool)


def save_weights(embedder: Embedder, file: Path) -> None:
    """The backbone's weights, as it names them itself, "trunk...", and a kept head's, "head.weight" and "head.bias".

    That the file has a head, and its shape, is all that is needed to put it back on.
    """
    from safetensors.torch import save_file

    state = embedder.backbone.state_dict()
    if embedder.keep_head:
        state |= {f"head.{name}": tensor for name, tensor in embedder.head.state_dict().items()}
    with written_whole(file) as temporary:
        save_file(as_saved(state), temporary)


def as_saved(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors as safetensors takes them: whole, and each for itself, which tied weights are not."""
    return {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}


def _kept(trial: Trial, root: Root, material: Material, weights: str, place: torch.device) -> embeddings.Cache | None:
    """The kept embeddings of a pretrained backbone; none where there is no pass to save."""
    if not backbone.entry(trial.backbone).facts.get("trainable", True):
        return None
    rule = resize_of(trial).name
    return embeddings.cache(root, trial, weights, rule, name_of(place), material.store.contents)
