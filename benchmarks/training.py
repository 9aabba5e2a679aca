"""Training: our epoch beside the bare network, a plain PyTorch loop, and the same paradigm written with peers.

All ways train the same network (its weights random) with the same optimiser, precision and threads on the same images,
in batches of as many; every one has a network of its own, and in each round each trains one epoch, in turn. The images
are made up and lie in JPEG files of the resolution that is trained at, so that peers decode as little as can be and
need not resize; ours reads them from its store.

- ours: `humansim.fitting`'s epoch, torch set as in a trial: batches, views, loss, steps, norms of the gradient. Beside
  it, what `fit` takes for a whole epoch, with validation (a fifth as many triplets) and checkpoint.
- bare, the limit: forward, cross-entropy with fixed labels, backward and step on random images that lie on the device
  in the network's layout: as many as the paradigm puts through the network in a step.
- plain: a DataLoader whose workers open the files and transform them with PIL and torchvision, and the loop that one
  writes first. Workers persist, memory is pinned for a GPU, a batch is one forward pass, in the layout of ours.
- pytorch-metric-learning (triplet, contrastive): plain, with its losses told which rows belong together.
- lightly (simclr, moco): plain, with its transforms, loss, queue and momentum, as its documentation has them: a forward
  pass for each view. MoCo's views are v1's.

A peer that is not installed is left out. On a CPU the workers of the others have processors of their own: beside the
clock stands the processor time of all processes, which other load on the machine changes less. All ways keep freed
memory as a trial does. On a GPU there are peak memory above what the epoch began with and, counting the arithmetic of
forward and backward, the share of the chip's peak. The script fails if a way puts another number of images through the
network than ours. In an epoch of few steps the first batch, which a loader's workers are waited for, weighs much.

    uv run python benchmarks/training.py
    uv run python benchmarks/training.py --paradigms simclr moco --resolution 224 --size 96 --json training.json
    uv run python benchmarks/training.py --backbones resnet50 vit_b_16 --resolution 224 --size 1000 --batch 64
"""

import argparse
import copy
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from humansim import fitting, pretext
from humansim.backbones import backbone
from humansim.embedder import Embedder
from humansim.fit_sets import FitSet
from humansim.images import open_store
from humansim.judgements import Ints, Judgements, Triplets
from humansim.machine import keeping_memory, reproducible
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
# Dense TFLOP/s by the makers' data sheets. At fp32 convolutions use TensorFloat-32 unless told not to.
PEAKS = {
    "H100": {"bf16": 989, "fp32": 495},
    "H200": {"bf16": 989, "fp32": 495},
    "A100": {"bf16": 312, "fp32": 156},
    "L40S": {"bf16": 362, "fp32": 183},
    "L4": {"bf16": 121, "fp32": 60},
    "A10": {"bf16": 125, "fp32": 62},
    "RTX 4090": {"bf16": 165, "fp32": 83},
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


@dataclass(frozen=True)
class Taken:
    """Of an epoch: seconds by the clock and of all processes' processor time; bytes above those before; images."""

    clock: float
    processor: float
    peak: int
    images: int


@dataclass
class Count:
    """Images that went through a network and its copies."""

    images: int = 0

    def watch(self, network: Embedder) -> None:
        def note(_: object, given: tuple[Tensor, ...]) -> None:
            self.images += len(given[0])

        network.backbone.register_forward_pre_hook(note)


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


def measured(epoch: Epoch, number: int, network: Embedder, count: Count, place: torch.device) -> Taken:
    """Trains an epoch."""
    network.zero_grad(set_to_none=True)
    count.images, before = 0, 0
    if place.type == "cuda":
        torch.cuda.synchronize(place)
        torch.cuda.reset_peak_memory_stats(place)
        before = torch.cuda.memory_allocated(place)
    clock, processor = time.perf_counter(), _processor_time()
    epoch(number)
    if place.type == "cuda":
        torch.cuda.synchronize(place)
    clock, processor = time.perf_counter() - clock, _processor_time() - processor
    peak = torch.cuda.max_memory_allocated(place) - before if place.type == "cuda" else 0
    return Taken(clock, processor, peak, count.images)


def _processor_time() -> float:
    """Seconds of this process and of the workers that it has started, so far."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def compared(job: Job, rounds: int, folder: Path) -> dict[str, Any]:
    """Figures of one network and one paradigm.

    Raises:
        SystemExit: a way puts another number of images through the network.
    """
    epochs: dict[str, tuple[Epoch, Embedder, Count]] = {}
    for name, way in ways_of(job.name).items():
        torch.manual_seed(0)
        network, update = made(job)
        count = Count()
        count.watch(network)
        epochs[name] = (way(job, network, update), network, count)
    whole_epoch = whole(job, folder)
    taken: dict[str, list[Taken]] = {name: [] for name in epochs}
    overheads = []
    for number in range(1, rounds + 2):
        for name in list(epochs) if number % 2 else reversed(epochs):
            taken[name].append(measured(epochs[name][0], number, *epochs[name][1:], job.place))
        overheads.append(whole_epoch(number))
    runs = {name: of_way[1:] for name, of_way in taken.items()}  # the first is a warm-up
    images = {name: of_way[-1].images for name, of_way in runs.items()}
    if len(set(images.values())) > 1:
        raise SystemExit(f"{job.name}: not as many images go through the network: {images}")
    with FlopCounterMode(display=False) as counter:
        epochs["bare"][0](0)
    return {
        "images": images["ours"],
        "flops": counter.get_total_flops(),
        "whole_over_training": statistics.median(overheads[1:]),
        "load": os.getloadavg()[0],
        "ways": {name: described(of_way, runs["ours"], runs["bare"]) for name, of_way in runs.items()},
        "rounds": {name: [asdict(one) for one in of_way] for name, of_way in runs.items()},
    }


def described(runs: list[Taken], ours: list[Taken], bare: list[Taken]) -> dict[str, float]:
    """Medians over the rounds; ratios are taken within a round."""

    def over(some: list[Taken], base: list[Taken], which: Literal["clock", "processor"]) -> float:
        ratios: list[float] = [getattr(a, which) / getattr(b, which) for a, b in zip(some, base, strict=True)]
        return statistics.median(ratios)

    return {
        "seconds": statistics.median(run.clock for run in runs),
        "processor_seconds": statistics.median(run.processor for run in runs),
        "peak_bytes": statistics.median(run.peak for run in runs),
        "over_ours": over(runs, ours, "clock"),
        "processor_over_ours": over(runs, ours, "processor"),
        "share_of_bare": over(bare, runs, "clock"),
        "processor_share_of_bare": over(bare, runs, "processor"),
    }


def show(found: dict[str, Any], peak: float | None, gpu: bool) -> None:
    """Prints the figures of one network and one paradigm."""
    columns = "seconds   / ours   of bare" + (" " * 9 if gpu else "   processor   / ours   of bare")
    print(f"{'':27}{columns}{'   peak MiB   TFLOP/s' if gpu else ''}{'   of peak' if peak else ''}")
    for name, row in found["ways"].items():
        line = f"  {name:24}{row['seconds']:8.2f}{row['over_ours']:9.2f}{row['share_of_bare']:10.1%}"
        speed = found["flops"] / row["seconds"] / 1e12
        if gpu:
            line += f"{row['peak_bytes'] / 2**20:20,.0f}{speed:10.1f}"
        else:
            line += f"{row['processor_seconds']:12.2f}{row['processor_over_ours']:9.2f}"
            line += f"{row['processor_share_of_bare']:10.1%}"
        print(line + (f"{speed / peak:10.1%}" if peak else ""))
    print(
        f"  with validation and checkpoint ours takes {found['whole_over_training']:.2f} times as long; "
        f"load {found['load']:.1f}",
        flush=True,
    )


def peak_of(place: torch.device, precision: str) -> float | None:
    """TFLOP/s of a known GPU."""
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else ""
    words = f" {name.replace('-', ' ')} "
    return next((peaks[precision] for known, peaks in PEAKS.items() if f" {known} " in words), None)


def main() -> None:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ["resnet50", "vit_b_16"] if gpu else ["efficientnet_lite0"]
    parser.add_argument("--backbones", nargs="+", default=default, help=f"({' '.join(default)})")
    parser.add_argument("--paradigms", nargs="+", choices=list(PASSES), default=list(PASSES), help="(all)")
    parser.add_argument("--resolution", type=int, default=224 if gpu else 64, help="pixels (%(default)s)")
    parser.add_argument("--size", type=int, default=1000 if gpu else 256, help="data points (%(default)s)")
    parser.add_argument("--batch", type=int, default=64 if gpu else 32, help="data points of a step (%(default)s)")
    parser.add_argument(
        "--precision", choices=["fp32", "bf16"], default="bf16" if gpu else "fp32", help="(%(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch (%(default)s)")
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), help="of loaders (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each way (%(default)s)")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the processor, if this script does not know them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()
    if given.size < given.batch:
        parser.error("--size is at least --batch: a step is a full batch")

    torch.set_num_threads(given.threads)
    place = torch.device("cuda" if gpu else "cpu")
    peak = given.peak or peak_of(place, given.precision)
    print(
        f"{given.size} data points, {given.resolution} px, batches of {given.batch}, {given.precision}, "
        f"{given.threads} thread(s), {given.workers} worker(s), median of {given.rounds}, in turn, on "
        f"{torch.cuda.get_device_name(place) if gpu else 'the CPU'}"
    )
    for peer, (module, of) in PEERS.items():
        if not find_spec(module) and set(of) & set(given.paradigms):
            print(f"{peer} is not installed: left out")
    figures: dict[str, Any] = {name: value for name, value in vars(given).items() if name != "json"}
    figures |= {"device": torch.cuda.get_device_name(place) if gpu else "cpu", "peak": peak, "found": []}
    with tempfile.TemporaryDirectory(prefix="humansim-benchmark-") as folder, keeping_memory():
        kinds = materials(Path(folder), given.size, given.resolution)
        for network in given.backbones:
            for name in given.paradigms:
                trial = Trial(
                    backbone=Variant(network, weights="random"),
                    resolution=given.resolution,
                    precision=given.precision,
                    threads=given.threads,
                    paradigm=Variant(name),
                    fit_size=given.size,
                    batch_size=given.batch,
                )
                kind = paradigm.entry(Variant(name)).facts["data"]
                print(f"{network}, {name}")
                job = Job(trial, kinds[kind], place, given.workers)
                found = compared(job, given.rounds, Path(folder) / f"{network}-{name}")
                show(found, peak, gpu)
                figures["found"].append({"backbone": network, "paradigm": name, **found})
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
