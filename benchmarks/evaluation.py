"""Evaluation: every image embedded once for all measures, beside the plain way and beside the loops that peers ship.

All on the same image files of the source `sample`, the same efficientnet_lite0 with its ImageNet weights (kept in the
layout that is fastest on a CPU), the same number of threads of torch and of workers that decode, on the CPU, in turn:

- ours, warm: `humansim.train.evaluate`, the image store being there: each distinct image of validation and test is
  embedded once; all sets, parts and three measures are scored, with intervals and ceilings, from those embeddings.
- ours, cold: the same from image files: the store is made first, hashed and flushed to the disk, within the time.
- plain, what one writes first: for each measure, for each batch of 64 triplets, a forward pass of the queries, one of
  the left and one of the right images. It reads from our store: decoding costs it nothing.
- pairwise, as DreamSim and LPIPS score 2AFC sets: a DataLoader of triplets whose items open and resize three files;
  the model is a distance of two images, called on (query, left), then on (query, right), and embeds both each time.
- once, as thingsvision extracts features: the files in order, decoded each time, each embedded once; all features in
  one array on the CPU; then distances of all triplets in numpy. Theirs reads in the main process; here workers help.

Pairwise and once give one measure, cosine, and neither intervals nor ceilings. The script fails if scores differ.
Images through the network are counted there: ours counts what fills a last batch up.

    uv run python benchmarks/evaluation.py
    uv run python benchmarks/evaluation.py --triplets 100 --resolution 128 --json evaluation.json
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from humansim.backbones import backbone
from humansim.embedder import MEASURES, Embedder, as_images, distance
from humansim.images import open_store
from humansim.judgements import Ints
from humansim.material import Material, prepare, resize_of
from humansim.root import Root
from humansim.scores import two_afc
from humansim.spec import Trial
from humansim.train import evaluate

PARTS = ("validation", "test")
BATCH = 64  # triplets, or images
PEERS = ("cosine",)  # what they measure by
TOLERANCE = 1e-4  # of a 2AFC score in [0, 1]; a batch of other images may change the last bits of an embedding

Which = tuple[str, str, str]  # set, part, measure
Scores = dict[Which, float]


def evaluated(material: Material, trial: Trial, root: Root, most: int | None) -> Material:
    """Only what is evaluated: the triplets of validation and test, and their images.

    Args:
        most: so many triplets at most, spread evenly over both parts.
    """
    judgements, parts = material.judgements, material.split.parts
    total = sum(len(parts[part]) for part in PARTS)
    chosen, own, start = [], {"fit": np.empty(0, dtype=np.int64)}, 0
    for part in PARTS:
        count = len(parts[part])
        if most is not None and most < total:
            count = max(1, round(most * count / total))
        chosen.append(parts[part][np.linspace(0, len(parts[part]) - 1, count).round().astype(np.int64)])
        own[part] = np.arange(start, start + count)
        start += count
    triplets = judgements.triplets[np.concatenate(chosen)]
    kept = np.unique(triplets.images)
    new = np.full(len(judgements.images) + 1, -1)
    new[kept] = np.arange(len(kept))
    fewer = replace(
        judgements,
        images=tuple(judgements.images[i] for i in kept),
        files=tuple(judgements.paths[i] for i in kept),
        triplets=triplets.relabelled(new),
        locate=None,
    )
    store = open_store(root, fewer, resize_of(trial))
    return replace(material, judgements=fewer, store=store, split=replace(material.split, parts=own))


def warm(embedder: Embedder, material: Material) -> Scores:
    """Ours, the store being there."""
    return {(score.set, score.part, score.measure): score.score for score in evaluate(embedder, material)[0]}


def cold(embedder: Embedder, material: Material, trial: Trial, place: Path, workers: int) -> Scores:
    """Ours from image files; the store is made at a place where there is none."""
    store = open_store(Root(place, place), material.judgements, resize_of(trial), workers=workers)
    return warm(embedder, replace(material, store=store))


@torch.inference_mode()
def plain(embedder: Embedder, material: Material) -> Scores:
    """The three images of every triplet embedded anew for every measure."""
    pixels, place = material.store, embedder.device
    embedder.eval()
    scores: Scores = {}
    for part in PARTS:
        triplets = material.judgements.triplets[material.split.parts[part]]
        for measure in MEASURES:
            to_left: list[Tensor] = []
            to_right: list[Tensor] = []
            for start in range(0, len(triplets), BATCH):
                rows = slice(start, start + BATCH)
                query = embedder.backbone(as_images(pixels, triplets.query[rows], place))
                left = embedder.backbone(as_images(pixels, triplets.left[rows], place))
                right = embedder.backbone(as_images(pixels, triplets.right[rows], place))
                to_left.append(distance(query, left, measure))
                to_right.append(distance(query, right, measure))
            scores |= scored(material, part, measure, torch.cat(to_left).numpy(), torch.cat(to_right).numpy())
    return scores


class Files(Dataset[tuple[Tensor, ...]]):
    """Image files, opened and resized whenever they are asked for: an item is a row of them."""

    def __init__(self, paths: Sequence[Path], rows: Ints, resolution: int) -> None:
        self.paths, self.rows, self.resolution = paths, rows, resolution

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[Tensor, ...]:
        return tuple(self._read(self.paths[image]) for image in self.rows[row])

    def _read(self, path: Path) -> Tensor:
        with Image.open(path) as picture:
            resized = picture.convert("RGB").resize((self.resolution, self.resolution), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous().float() / 255


def loaded(material: Material, rows: Ints, resolution: int, workers: int) -> Iterable[list[Tensor]]:
    """Batches of rows of images, read from their files."""
    return DataLoader(Files(material.judgements.paths, rows, resolution), batch_size=BATCH, num_workers=workers)


def embedding(embedder: Embedder, images: Tensor) -> Tensor:
    """Of images as a loader gives them; they are brought into the network's layout."""
    embedded: Tensor = embedder.backbone(images.contiguous(memory_format=torch.channels_last))
    return embedded


@torch.inference_mode()
def pairwise(embedder: Embedder, material: Material, resolution: int, workers: int) -> Scores:
    """As DreamSim and LPIPS: a distance of two images, called for both sides of every triplet."""

    def between(a: Tensor, b: Tensor) -> Tensor:
        return 1 - torch.cosine_similarity(embedding(embedder, a), embedding(embedder, b))

    embedder.eval()
    to_left: list[Tensor] = []
    to_right: list[Tensor] = []
    for query, left, right in loaded(material, material.judgements.triplets.images, resolution, workers):
        to_left.append(between(query, left))
        to_right.append(between(query, right))
    return of_parts(material, torch.cat(to_left).numpy(), torch.cat(to_right).numpy())


@torch.inference_mode()
def once(embedder: Embedder, material: Material, resolution: int, workers: int) -> Scores:
    """As thingsvision: features of all files in one array, then distances in numpy."""
    embedder.eval()
    files = np.arange(len(material.judgements.images))[:, None]
    batches = loaded(material, files, resolution, workers)
    features = torch.cat([embedding(embedder, images) for (images,) in batches]).numpy()
    norms = np.linalg.norm(features, axis=1)

    def between(a: Ints, b: Ints) -> NDArray[np.float32]:
        cosine = np.einsum("ij,ij->i", features[a], features[b]) / (norms[a] * norms[b])
        return np.asarray(1 - cosine)

    triplets = material.judgements.triplets
    return of_parts(material, between(triplets.query, triplets.left), between(triplets.query, triplets.right))


def of_parts(material: Material, to_left: NDArray[np.float32], to_right: NDArray[np.float32]) -> Scores:
    """2AFC scores from the cosine distances of all triplets."""
    scores: Scores = {}
    for part in PARTS:
        rows = material.split.parts[part]
        scores |= scored(material, part, "cosine", to_left[rows], to_right[rows])
    return scores


def scored(
    material: Material, part: str, measure: str, to_left: NDArray[np.float32], to_right: NDArray[np.float32]
) -> Scores:
    """2AFC scores of a part's sets."""
    triplets, names = material.judgements.triplets[material.split.parts[part]], material.judgements.sets
    members = {names[index]: triplets.set == index for index in np.unique(triplets.set)}
    return {
        (name, part, measure): two_afc(to_left[some], to_right[some], triplets.choice[some])
        for name, some in members.items()
    }


def check_equal(scores: Scores, way: str, expected: Scores, measures: Sequence[str]) -> float:
    """The largest difference between our scores and those of another way, under the measures that it has.

    Raises:
        SystemExit: they differ by more than the tolerance, or are not of the same sets.
    """
    scores = {which: score for which, score in scores.items() if which[2] in measures}
    if set(scores) != set(expected):
        raise SystemExit(f"{way} scores different sets: {sorted(set(scores) ^ set(expected))}")
    worst = max(scores, key=lambda which: abs(scores[which] - expected[which]))
    if abs(scores[worst] - expected[worst]) > TOLERANCE:
        raise SystemExit(f"{way} differs on {worst}: ours {scores[worst]}, there {expected[worst]}")
    return abs(scores[worst] - expected[worst])


@dataclass
class Forward:
    """What went through the network, and how long that took, in seconds."""

    images: int = 0
    seconds: float = 0.0
    begun: float = 0.0

    def watch(self, network: torch.nn.Module) -> None:
        def begin(_: object, given: tuple[Tensor, ...]) -> None:
            self.images += len(given[0])
            self.begun = time.perf_counter()

        def end(*_: Any) -> None:
            self.seconds += time.perf_counter() - self.begun

        network.register_forward_pre_hook(begin)
        network.register_forward_hook(end)

    def clear(self) -> None:
        self.images, self.seconds = 0, 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=64, help="pixels (%(default)s)")
    parser.add_argument("--triplets", type=int, help="of validation and test together, at most (all)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="that decode images (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()

    torch.set_num_threads(given.threads)
    trial = Trial(resolution=given.resolution, threads=given.threads)
    with tempfile.TemporaryDirectory(prefix="humansim-benchmark-") as folder:
        root, fresh = Root.at(Path(folder) / "root"), Path(folder) / "fresh"
        whole = prepare(trial, root)
        embedder = Embedder(backbone.make(trial.backbone))
        read = (given.resolution, given.workers)
        ways: dict[str, Callable[[Material], Scores]] = {
            "warm": lambda material: warm(embedder, material),
            "cold": lambda material: cold(embedder, material, trial, fresh, given.workers),
            "plain": lambda material: plain(embedder, material),
            "pairwise": lambda material: pairwise(embedder, material, *read),
            "once": lambda material: once(embedder, material, *read),
        }
        few = evaluated(whole, trial, root, 2 * BATCH)
        for way in ways.values():  # once unmeasured: memory, kernels, page cache
            way(few)
        material = evaluated(whole, trial, root, given.triplets)
        forward = Forward()
        forward.watch(embedder.backbone)
        took: dict[str, list[float]] = {way: [] for way in ways}
        shares: dict[str, list[float]] = {way: [] for way in ways}
        images, differences = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0.0)
        for _ in range(given.repeats):
            scores: Scores = {}
            for name, way in ways.items():
                shutil.rmtree(fresh, ignore_errors=True)
                forward.clear()
                clock = time.perf_counter()
                found = way(material)
                took[name].append(time.perf_counter() - clock)
                shares[name].append(forward.seconds / took[name][-1])
                images[name] = forward.images
                scores = scores or found
                measures = PEERS if name in ("pairwise", "once") else MEASURES
                differences[name] = max(differences[name], check_equal(scores, name, found, measures))

    def over(way: str, base: str) -> float:
        return median(a / b for a, b in zip(took[way], took[base], strict=True))

    triplets = sum(len(material.split.parts[part]) for part in PARTS)
    figures = {
        "resolution": given.resolution,
        "threads": given.threads,
        "workers": given.workers,
        "repeats": given.repeats,
        "triplets": triplets,
        "distinct_images": len(material.judgements.images),
        "ways": {
            name: {
                "seconds": median(took[name]),
                "images": images[name],
                "forward_share": median(shares[name]),
                "over_warm": over(name, "warm"),
                "over_cold": over(name, "cold"),
                "largest_difference": differences[name],
            }
            for name in ways
        },
    }
    print(
        f"{triplets} triplets of {len(material.judgements.images)} images, {given.resolution} px, {given.threads} "
        f"thread(s), {given.workers} worker(s), median of {given.repeats}, in turn"
    )
    print("            measures  seconds  / ours warm  / ours cold  images through  in the forward  scores differ")
    print("                                                            the network            pass        at most")
    for name, title in zip(ways, ("ours, warm", "ours, cold", "plain", "pairwise", "once"), strict=True):
        count = len(PEERS) if name in ("pairwise", "once") else len(MEASURES)
        print(
            f"  {title:10}{count:8}{median(took[name]):9.2f}{over(name, 'warm'):13.2f}{over(name, 'cold'):13.2f}"
            f"{images[name]:16,}{median(shares[name]):16.1%}{differences[name]:15.0e}"
        )
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
