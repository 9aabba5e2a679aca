"""The ways of training that `training.py` compares: ours, the bare network, a plain loop, and peers'."""

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from humansim import fitting, pretext
from humansim.backbones import backbone
from humansim.embedder import Embedder
from humansim.fit_sets import FitSet
from humansim.images import open_store
from humansim.judgements import Ints, Judgements, Triplets
from humansim.machine import reproducible
from humansim.material import Material
from humansim.optimizers import optimizer
from humansim.paradigms import Objective, paradigm
from humansim.paradigms.moco import info_nce
from humansim.paradigms.simclr import nt_xent
from humansim.root import Root
from humansim.spec import Trial, Variant
from humansim.splits import Split

PASSES = {"triplet": 3, "contrastive": 3, "rotation": 4, "jigsaw": 1, "simclr": 2, "moco": 1}  # with a gradient
KEYS = {"moco": 1}  # and without
PEERS = {
    "pytorch-metric-learning": ("pytorch_metric_learning", ("triplet", "contrastive")),
    "lightly": ("lightly", ("simclr", "moco")),
}

Views = list[Tensor]  # each [b, 3, r, r]
Loss = Callable[[Views, Tensor], Tensor]
Epoch = Callable[[int], None]  # trains the epoch of this number


@dataclass(frozen=True)
class Job:
    """What every way trains."""

    trial: Trial
    material: Material
    place: torch.device
    workers: int

    @property
    def name(self) -> str:
        assert self.trial.paradigm is not None
        return self.trial.paradigm.name

    @property
    def points(self) -> Ints:
        """The images of each data point [n, k]."""
        assert self.material.fit is not None
        return self.material.fit.images

    @property
    def resolution(self) -> int:
        assert self.trial.resolution is not None
        return self.trial.resolution

    def objective(self) -> Objective:
        made: Objective = paradigm.make(Variant(self.name))
        return made


def pictures(folder: Path, count: int, side: int) -> tuple[str, ...]:
    """Image files of coloured clouds with some grain."""
    rng = np.random.default_rng(0)
    names = tuple(f"{i:06d}.jpg" for i in range(count))
    for name in names:
        clouds = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((side, side), 3)
        grain = np.asarray(clouds) + rng.normal(0, 8, (side, side, 3))
        Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(folder / name, quality=90)
    return names


def materials(folder: Path, size: int, resolution: int) -> dict[str, Material]:
    """What is trained on, for each kind of data points: triplets of images of their own, or as many single images."""
    (folder / "images").mkdir()
    count = size + max(1, size // 5)
    names = pictures(folder / "images", 3 * count, resolution)
    query, left, right = np.arange(3 * count).reshape(count, 3).T
    nought, unknown = np.zeros(count, dtype=np.int64), np.full(count, -1)
    triplets = Triplets(query, left, right, np.arange(count) % 2 / 1.0, nought + 5, nought, unknown, unknown)
    judgements = Judgements("benchmark", folder / "images", names, triplets, ("benchmark",), simulated=True)
    store = open_store(Root.at(folder / "root"), judgements, resolution)
    rows = np.arange(count)
    split = Split({"fit": rows[:size], "validation": rows[size:], "test": rows[:0]}, "image", 0)
    fits = {
        "triplet": FitSet(triplets.images[:size], rows[:size]),
        "singleton": FitSet(np.arange(size)[:, None], rows[:0]),
    }
    return {kind: Material(judgements, store, split, fit, [0], "benchmark") for kind, fit in fits.items()}


def made(job: Job) -> tuple[Embedder, torch.optim.Optimizer]:
    """A network to train, and its optimiser."""
    trunk = backbone.make(job.trial.backbone)
    features = Embedder(trunk).embed(job.material.store, np.arange(1)).shape[1]
    network = Embedder(trunk, nn.Linear(features, job.objective().outputs), job.trial.precision).to(job.place)
    return network, optimizer.make(job.trial.optimizer, network.parameters(), job.trial.lr)


def ours(job: Job, network: Embedder, update: torch.optim.Optimizer) -> Epoch:
    """As `fit` trains an epoch, under the same settings of torch."""
    objective, points = job.objective(), fitting._Points(job.material, job.place)
    if objective.memory is not None:
        objective.memory.to(job.place)
    objective.begin(network)

    def epoch(number: int) -> None:
        with reproducible(job.trial.threads):
            losses, _ = fitting._one_epoch(job.trial, objective, network, update, points, number)
            objective.after_epoch()
        assert bool(losses.isfinite().all())

    return epoch


def whole(job: Job, folder: Path) -> Callable[[int], float]:
    """A whole epoch of `fit`, with validation and checkpoint, over its training alone; the first one is a warm-up.

    Each call goes on from the checkpoint of the one before.
    """
    folder.mkdir()
    network, _ = made(job)

    def epoch(number: int) -> float:
        ends: list[tuple[float, float]] = []
        with reproducible(job.trial.threads):
            started = Embedder(network.backbone, precision=job.trial.precision).to(job.place)
            trial = job.trial.having({"epochs": number})
            note = lambda row: ends.append((time.perf_counter(), row["seconds"]))  # noqa: E731
            fitting.fit(trial, started, job.material, folder, "benchmark", note)
        return 1.0 if number == 1 else (ends[-1][0] - ends[-2][0]) / ends[-1][1]

    return epoch


def bare(job: Job, network: Embedder, update: torch.optim.Optimizer) -> Epoch:
    """The limit."""
    shape = (job.trial.batch_size, 3, job.resolution, job.resolution)

    def resident(times: int) -> Tensor:
        images = torch.rand(times * shape[0], *shape[1:], device=job.place)
        return images.contiguous(memory_format=torch.channels_last)

    images, keys = resident(PASSES[job.name]), resident(KEYS.get(job.name, 0))
    labels = torch.arange(len(images), device=job.place) % job.objective().outputs
    encoder = copy.deepcopy(network).requires_grad_(False) if len(keys) else None

    def epoch(number: int) -> None:
        network.train()
        for _ in range(len(job.points) // job.trial.batch_size):
            if encoder is not None:
                encoder(keys)
            loss = nn.functional.cross_entropy(network(images), labels)
            update.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            update.step()

    return epoch


class Files(Dataset[tuple[Views, int]]):
    """Views of a data point's image files, opened whenever it is asked for, and a label."""

    def __init__(self, paths: tuple[Path, ...], points: Ints, transform: Callable[[list[Any]], tuple[Views, int]]):
        self.paths, self.points, self.transform = paths, points, transform

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, point: int) -> tuple[Views, int]:
        pictures: list[Any] = []
        for image in self.points[point]:
            with Image.open(self.paths[image]) as picture:
                pictures.append(picture.convert("RGB"))
        return self.transform(pictures)


def looped(
    job: Job,
    network: Embedder,
    update: torch.optim.Optimizer,
    transform: Callable[[list[Any]], tuple[Views, int]],
    loss_of: Loss,
) -> Epoch:
    """The loop that plain and the peers share."""
    loader: Iterable[tuple[Views, Tensor]] = DataLoader(
        Files(job.material.judgements.paths, job.points, transform),
        batch_size=job.trial.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=job.workers,
        persistent_workers=job.workers > 0,
        pin_memory=job.place.type == "cuda",
    )

    def epoch(number: int) -> None:
        network.train()
        for views, labels in loader:
            views = [view.to(job.place, non_blocking=True) for view in views]
            loss = loss_of(views, labels.to(job.place, non_blocking=True))
            update.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            update.step()

    return epoch


def plain(job: Job, network: Embedder, update: torch.optim.Optimizer) -> Epoch:
    """What one writes first."""
    return looped(job, network, update, plain_transform(job), plain_loss(job, network))


def plain_transform(job: Job) -> Callable[[list[Any]], tuple[Views, int]]:
    """From a data point's pictures to views and a label, with torchvision on PIL images."""
    from torchvision import transforms as t

    side = job.resolution
    if job.name in ("triplet", "contrastive"):
        each = t.Compose([t.Resize((side, side)), t.ToTensor()])
        return lambda pictures: ([each(picture) for picture in pictures], 0)
    if job.name == "rotation":
        crop = t.Compose([t.RandomResizedCrop(side), t.RandomHorizontalFlip(), t.ToTensor()])

        def turned(pictures: list[Any]) -> tuple[Views, int]:
            image = crop(pictures[0])
            return [torch.rot90(image, quarter, (1, 2)) for quarter in range(4)], 0

        return turned
    if job.name == "jigsaw":
        return jigsaw_transform(side)
    if job.name == "simclr":
        jitter = t.RandomApply([t.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8)
        blur = t.RandomApply([t.GaussianBlur(2 * max(1, side // 20) + 1, (0.1, 2.0))], 0.5)
        crops = [t.RandomResizedCrop(side), t.RandomHorizontalFlip()]
        view = t.Compose([*crops, jitter, t.RandomGrayscale(0.2), blur, t.ToTensor()])
    else:
        colours = [t.RandomGrayscale(0.2), t.ColorJitter(0.4, 0.4, 0.4, 0.4)]
        view = t.Compose(
            [t.RandomResizedCrop(side, scale=(0.2, 1.0)), *colours, t.RandomHorizontalFlip(), t.ToTensor()]
        )
    return lambda pictures: ([view(pictures[0]), view(pictures[0])], 0)


def jigsaw_transform(side: int) -> Callable[[list[Any]], tuple[Views, int]]:
    """Tiles cut out of the picture one by one, each brought to the mean and deviation of the whole."""
    from torchvision import transforms as t

    orders = pretext.permutations(36, 9, 0)
    cell, gap, jitter = side // 3, max(1, round(side // 3 * 2 / 85)), round(side // 3 * 17 / 85)
    cut, resize, tensor = cell - 2 * gap - jitter, t.Resize((side, side)), t.ToTensor()

    def puzzle(pictures: list[Any]) -> tuple[Views, int]:
        image = tensor(resize(pictures[0]))
        mean, deviation = image.mean((1, 2), keepdim=True), image.std((1, 2), keepdim=True)
        label = int(torch.randint(len(orders), ()))
        tiles = []
        for place in orders[label]:
            down, along = (int(move) for move in torch.randint(jitter + 1, (2,)))
            top, left = place // 3 * cell + gap + down, place % 3 * cell + gap + along
            tile = image[:, top : top + cut, left : left + cut]
            spread = tile.std((1, 2), keepdim=True).clamp(min=1 / 255)
            tiles.append((tile - tile.mean((1, 2), keepdim=True)) / spread * deviation + mean)
        rows = [torch.cat(tiles[start : start + 3], dim=2) for start in (0, 3, 6)]
        whole = torch.cat(rows, dim=1)[None]
        resized = nn.functional.interpolate(whole, (side, side), mode="bilinear", antialias=True)
        return [resized[0]], label

    return puzzle


def plain_loss(job: Job, network: Embedder) -> Loss:
    """From views and labels to the loss, in one forward pass."""
    if job.name == "triplet":
        margin = nn.TripletMarginLoss(margin=1.0)
        return lambda views, _: margin(*network(torch.cat(views)).chunk(3))
    if job.name == "contrastive":

        def pairs(views: Views, _: Tensor) -> Tensor:
            query, positive, negative = network(torch.cat(views)).chunk(3)
            near = nn.functional.pairwise_distance(query, positive)
            far = nn.functional.pairwise_distance(query, negative)
            return (near.square() + (1 - far).clamp(min=0).square()).mean() / 4

        return pairs
    if job.name == "rotation":

        def quarters(views: Views, _: Tensor) -> Tensor:
            turned = torch.arange(4, device=job.place).repeat_interleave(len(views[0]))
            return nn.functional.cross_entropy(network(torch.cat(views)), turned)

        return quarters
    if job.name == "jigsaw":
        return lambda views, labels: nn.functional.cross_entropy(network(torch.cat(views)), labels)
    if job.name == "simclr":
        return lambda views, _: nt_xent(network(torch.cat(views)), 0.5)
    encoder = copy.deepcopy(network).requires_grad_(False)
    queue = nn.functional.normalize(torch.randn(4096, job.objective().outputs, device=job.place), dim=1)
    at = 0

    def momentum(views: Views, _: Tensor) -> Tensor:
        nonlocal at
        query = nn.functional.normalize(network(views[0]), dim=1)
        with torch.no_grad():
            for own, followed in zip(encoder.parameters(), network.parameters(), strict=True):
                own.data = own.data * 0.999 + followed.data * 0.001
            key = nn.functional.normalize(encoder(views[1]), dim=1)
        loss = info_nce(query, key, queue.clone(), 0.07)
        queue[(torch.arange(at, at + len(key), device=job.place)) % len(queue)] = key
        at = (at + len(key)) % len(queue)
        return loss

    return momentum


def metric_learning(job: Job, network: Embedder, update: torch.optim.Optimizer) -> Epoch:
    """With pytorch-metric-learning: triplets and pairs are given as indices of a batch's rows."""
    losses, distances = (import_module(f"pytorch_metric_learning.{part}") for part in ("losses", "distances"))
    euclidean = distances.LpDistance(normalize_embeddings=False)
    if job.name == "triplet":
        of = losses.TripletMarginLoss(margin=1.0, distance=euclidean)
    else:
        of = losses.ContrastiveLoss(pos_margin=0, neg_margin=1, distance=euclidean)

    def loss(views: Views, _: Tensor) -> Tensor:
        query = torch.arange(len(views[0]), device=job.place)
        positive, negative = query + len(query), query + 2 * len(query)
        which = (query, positive, negative) if job.name == "triplet" else (query, positive, query, negative)
        found: Tensor = of(network(torch.cat(views)), indices_tuple=which)
        return found

    return looped(job, network, update, plain_transform(job), loss)


def with_lightly(job: Job, network: Embedder, update: torch.optim.Optimizer) -> Epoch:
    """With lightly; its views are not normalised, since the network does that itself."""
    transforms, criteria = import_module("lightly.transforms"), import_module("lightly.loss")
    follow = import_module("lightly.models.utils").update_momentum
    loss: Loss
    if job.name == "simclr":
        views_of = transforms.SimCLRTransform(input_size=job.resolution, normalize=None)
        criterion = criteria.NTXentLoss(temperature=0.5)

        def loss(views: Views, _: Tensor) -> Tensor:
            found: Tensor = criterion(network(views[0]), network(views[1]))
            return found
    else:
        views_of = transforms.MoCoV1Transform(input_size=job.resolution, normalize=None)
        criterion = criteria.NTXentLoss(temperature=0.07, memory_bank_size=(4096, job.objective().outputs))
        criterion.to(job.place)
        encoder = copy.deepcopy(network).requires_grad_(False)

        def loss(views: Views, _: Tensor) -> Tensor:
            follow(network, encoder, m=0.999)
            query, key = network(views[0]), encoder(views[1]).detach()
            found: Tensor = criterion(query, key)
            return found

    return looped(job, network, update, lambda pictures: (views_of(pictures[0]), 0), loss)


def ways_of(name: str) -> dict[str, Callable[[Job, Embedder, torch.optim.Optimizer], Epoch]]:
    """The ways there are to train by a paradigm, of peers those that are installed."""
    peers = {"pytorch-metric-learning": metric_learning, "lightly": with_lightly}
    there = {peer: peers[peer] for peer, (module, of) in PEERS.items() if name in of and find_spec(module)}
    return {"ours": ours, "bare": bare, "plain": plain, **there}
