"""The training loop: one for all paradigms, on one device, exactly resumable after each epoch."""

import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from humansim import workers
from humansim.backbones import backbone
from humansim.embedder import Embedder, as_images, distances, in_unit_range
from humansim.errors import BadInput
from humansim.machine import peak_memory, reset_peak_memory
from humansim.material import Material
from humansim.optimizers import optimizer
from humansim.paradigms import Batch, Objective, paradigm
from humansim.pruning import Bar, pruned_at
from humansim.results import CHECKPOINT, EPOCH, now
from humansim.root import written_whole
from humansim.scores import two_afc
from humansim.spec import Trial, digest
from humansim.tunings import Tuning, tuning

Row = dict[str, float]

RESIDENT = 0.25  # of the device's free memory may hold images
EXPLODED = 1e4  # times the first epoch's loss


def fit(
    trial: Trial,
    embedder: Embedder,
    material: Material,
    folder: Path,
    pretrained: str,
    report: Callable[[Row], None] | None,
    bar: Bar | None = None,
) -> tuple[Embedder, list[Row]]:
    """Trains the network, or what its tuning says of it, with a linear block on top; one checkpoint an epoch.

    An epoch's randomness hangs on the trial's seed and the epoch's number alone, so a resumed run has no state of
    generators to restore.

    Args:
        folder: where the checkpoint lies: the network, the optimiser, the paradigm's memory and the history.
        pretrained: fingerprint of the weights that it starts from, and of code from outside; a checkpoint from others
            is not gone on from.
        report: called after each epoch with its row of the history, and with the rows of an earlier run.
        bar: training ends after the first epoch that is below it.

    Raises:
        FloatingPointError: the loss is no longer finite, or has exploded.
    """
    place = embedder.device
    assert material.fit is not None
    under_way = _begin(trial, embedder, material)
    embedder, objective, memory, update, points = (
        under_way.embedder,
        under_way.objective,
        under_way.memory,
        under_way.update,
        under_way.points,
    )

    history: list[Row] = []
    saved = None
    if workers.leads():
        saved = _load_checkpoint(folder / CHECKPOINT, material.fingerprint, pretrained)
    saved = workers.told(saved)
    if saved is not None:
        embedder.load_state_dict(saved["network"])
        memory.load_state_dict(saved.get("memory", {}))  # older checkpoints are of paradigms without one
        update.load_state_dict(saved["optimizer"])
        history = saved["history"][: pruned_at(saved["history"], bar)]
    for row in history:
        if report:
            report(row)
    for epoch in range(len(history) + 1, trial.epochs + 1):
        if pruned_at(history, bar) is not None:
            break
        clock = time.perf_counter()
        if place.type == "cuda":
            reset_peak_memory(place)
        losses, norms = _one_epoch(trial, objective, embedder, update, points, epoch)
        objective.after_epoch()
        _check_converging(losses, history, trial, epoch)
        count = len(losses) * _batch_size(trial, points)
        took = time.perf_counter() - clock
        validation = _validate(embedder, material) if workers.leads() else math.nan
        row = {
            "epoch": float(epoch),
            "loss": float(losses.mean()),
            "gradient_norm": float(norms.mean()),
            "validation": validation,
            "lr": trial.lr,
            "seconds": took,
            "validation_seconds": time.perf_counter() - clock - took,
            "images_per_second": material.fit.images.shape[1] * count / took,
            "peak_memory": float(peak_memory(place)) if place.type == "cuda" else 0.0,
            "time": float(now()),
        }
        row = workers.told(row)
        history.append(row)
        if workers.leads():
            _save_checkpoint(folder / CHECKPOINT, under_way, history, material.fingerprint, pretrained)
            with written_whole(folder / EPOCH) as file:
                file.write_text(json.dumps(row))
        if report:
            report(row)
    under_way.tuned.finish(embedder.backbone)
    return embedder, history


@dataclass(frozen=True)
class Pace:
    """What a few steps took: seconds of all that comes before and with the first one, of a step, of a checkpoint."""

    begin: float
    step: float
    save: float
    checkpoint: int  # bytes


def pace(trial: Trial, embedder: Embedder, material: Material, folder: Path, seconds: float) -> Pace:
    """Measures `fit`: its own beginning, steps and checkpoint, a few of each.

    Args:
        folder: where a checkpoint can be written; on the disk that trials write to.
        seconds: to spend on steps, about; one after the first is made anyway.
    """
    clock = time.perf_counter()
    under_way = _begin(trial, embedder, material)
    count = len(under_way.points) // _batch_size(trial, under_way.points)

    def steps(most: int) -> float:
        """Seconds a step of the first so many of an epoch."""
        begun = time.perf_counter()
        losses, _ = _one_epoch(
            trial, under_way.objective, under_way.embedder, under_way.update, under_way.points, 1, most
        )
        float(losses.mean())  # waits for the device
        return (time.perf_counter() - begun) / most

    first = steps(1)
    begin, taken = time.perf_counter() - clock, [steps(min(count, 4) if first < seconds / 4 else 1)]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end and len(taken) < 10:
        taken.append(steps(min(count, 4)))
    step = statistics.fmean(taken)  # steps are added up: a median would leave out what is rarely slow
    clock = time.perf_counter()
    _save_checkpoint(folder / CHECKPOINT, under_way, [], material.fingerprint, "")
    save = time.perf_counter() - clock
    return Pace(max(0.0, begin - step), step, save, (folder / CHECKPOINT).stat().st_size)


@dataclass(frozen=True)
class _UnderWay:
    """A training before its first step."""

    embedder: Embedder
    objective: Objective
    memory: nn.Module
    tuned: Tuning
    update: torch.optim.Optimizer
    points: "_Points"


def _begin(trial: Trial, embedder: Embedder, material: Material) -> _UnderWay:
    place = embedder.device
    assert trial.paradigm is not None
    objective: Objective = paradigm.make(trial.paradigm)
    memory = (objective.memory or nn.Module()).to(place)
    torch.manual_seed(seed_of(trial.seed, "head"))
    features = embedder.embed(material.store, np.arange(1)).shape[1]
    head = nn.Linear(features, objective.outputs).to(place)
    embedder = Embedder(embedder.backbone, head, trial.precision, keep_head=trial.head == "kept")
    tuned: Tuning = tuning.make(trial.tuning)
    torch.manual_seed(seed_of(trial.seed, "tuning"))
    blocks = backbone.entry(trial.backbone).facts.get("layers", ())
    tuned.prepare(embedder.backbone, blocks, as_images(material.store, np.arange(1), place))
    update = optimizer.make(trial.optimizer, [p for p in embedder.parameters() if p.requires_grad], trial.lr)
    points = _Points(material, place)
    objective.begin(embedder)
    return _UnderWay(embedder, objective, memory, tuned, update, points)


def _save_checkpoint(file: Path, under_way: _UnderWay, history: list[Row], data: str, weights: str) -> None:
    with written_whole(file) as temporary:
        state = {
            "network": under_way.embedder.state_dict(),
            "memory": under_way.memory.state_dict(),
            "optimizer": under_way.update.state_dict(),
            "history": history,
            "data": data,
            "weights": weights,
        }
        torch.save(state, temporary)


def _one_epoch(
    trial: Trial,
    objective: Objective,
    embedder: Embedder,
    update: torch.optim.Optimizer,
    points: "_Points",
    epoch: int,
    most: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Losses and norms of the gradient of an epoch's steps; nothing in it waits for the device.

    Args:
        most: steps, if not all of the epoch's.
    """
    torch.manual_seed(seed_of(trial.seed, epoch))
    order = torch.randperm(len(points))
    _train(embedder, trial.batch_norm == "frozen")
    network, size = workers.shared(embedder), _batch_size(trial, points)
    losses, norms = [], []
    # A last batch that is not full is left out (another one each epoch): batch norm needs company.
    for start in range(0, len(points) - size + 1, size)[:most]:
        objective.before_step(embedder)
        loss = objective.loss(network, points.batch(order[start : start + size]))
        update.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        workers.add_gradients(embedder.parameters())
        norms.append(nn.utils.get_total_norm([p.grad for p in embedder.parameters() if p.grad is not None]))
        update.step()
        losses.append(loss.detach())
    workers.average_statistics(embedder)
    return torch.stack(losses), torch.stack(norms)


def _batch_size(trial: Trial, points: "_Points") -> int:
    """Data points of each step: the trial's, or all if there are fewer; as many for each worker.

    Raises:
        BadInput: fewer data points than workers.
    """
    size = min(len(points), trial.batch_size)
    if size < workers.count():
        raise BadInput(f"workers: {size} data points cannot be shared by {workers.count()} workers")
    return size - size % workers.count()


def _train(embedder: Embedder, frozen: bool) -> None:
    """Sets what is trained to training; what is not is as in evaluation: batch norms keep their statistics.

    Args:
        frozen: all batch norms keep theirs.
    """
    embedder.train()
    for module in embedder.modules():
        trained = [parameter.requires_grad for parameter in module.parameters()]
        if (trained and not any(trained)) or (frozen and isinstance(module, nn.modules.batchnorm._BatchNorm)):
            module.eval()


class _Points:
    """Data points, their images on the device as uint8 if there is room, else read from the store."""

    def __init__(self, material: Material, place: torch.device) -> None:
        assert material.fit is not None
        chosen = material.fit
        self.store, self.place = material.store, place
        self.rows, position = np.unique(chosen.images, return_inverse=True)
        self.position = torch.from_numpy(position.reshape(chosen.images.shape).T.copy())  # [k, n]
        self.numbers = torch.from_numpy(chosen.images.T.copy())
        choice = material.judgements.triplets.choice[chosen.rows]
        share = np.maximum(choice, 1 - choice) if len(chosen.rows) else np.ones(len(chosen))
        self.share = torch.from_numpy(share.astype(np.float32))
        self.resident: Tensor | None = None
        first = material.store[self.rows[:1]]
        if first.nbytes * len(self.rows) <= RESIDENT * _free_memory(place):
            self.resident = torch.empty((len(self.rows), *first.shape[1:]), dtype=torch.uint8, device=place)
            for start in range(0, len(self.rows), 256):
                some = torch.from_numpy(material.store[self.rows[start : start + 256]])
                self.resident[start : start + 256] = some.to(place)

    def __len__(self) -> int:
        return self.position.shape[1]

    def batch(self, chosen: Tensor) -> Batch:
        """The data points of these numbers [b]."""
        position = self.position[:, chosen]
        flat = position.flatten()
        if self.resident is None:
            raw = torch.from_numpy(self.store[self.rows[flat.numpy()]]).to(self.place)
        else:
            raw = self.resident[flat.to(self.place, non_blocking=True)]
        images = in_unit_range(raw)
        return Batch(
            images.unflatten(0, position.shape),  # type: ignore[no-untyped-call]
            self.numbers[:, chosen].to(self.place, non_blocking=True),
            self.share[chosen].to(self.place, non_blocking=True),
        )


def _free_memory(place: torch.device) -> int:
    """Bytes; none on a CPU, where the store is in memory already, once for all trials."""
    return torch.cuda.mem_get_info(place)[0] if place.type == "cuda" else 0


def _check_converging(losses: Tensor, history: list[Row], trial: Trial, epoch: int) -> None:
    mean, first = float(losses.mean()), history[0]["loss"] if history else math.inf
    lower = f"try a lower learning rate than {trial.lr}"
    if not bool(losses.isfinite().all()):
        step = int((~losses.isfinite()).nonzero()[0]) + 1
        raise FloatingPointError(f"the loss is {float(losses[step - 1])} in step {step} of epoch {epoch}: {lower}")
    if mean > EXPLODED * max(first, 1.0):
        raise FloatingPointError(f"the loss has exploded from {first:.3g} to {mean:.3g} in epoch {epoch}: {lower}")


def _validate(embedder: Embedder, material: Material) -> float:
    """2AFC on the validation part of the sets that are fitted on, cosine, mean over these sets."""
    triplets = material.judgements.triplets[material.split.parts["validation"]]
    triplets = triplets[np.isin(triplets.set, material.fit_sets)]
    rows = np.unique(triplets.images)
    to_left, to_right = distances(embedder.embed(material.store, rows), rows, triplets)["cosine"]
    members = [triplets.set == index for index in np.unique(triplets.set)]
    return float(np.mean([two_afc(to_left[some], to_right[some], triplets.choice[some]) for some in members]))


def _load_checkpoint(file: Path, data: str, weights: str) -> dict[str, Any] | None:
    """What was saved after the last whole epoch; None if nothing was, or from other data or other weights."""
    if not file.exists():
        return None
    saved: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return saved if (saved["data"], saved["weights"]) == (data, weights) else None


def seed_of(seed: int, use: str | int) -> int:
    """A generator's seed for one use of a trial's seed: an epoch, the head, the tuning."""
    return int(digest([seed, use]), 16) % 2**63
