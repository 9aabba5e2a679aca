"""Distances: all three measures of many triplets over wide embeddings, in bounded memory; and what `evaluate` takes.

Distances: 50,000 random embeddings of 9,216 numbers (AlexNet's), float32, and random triplets, of which hardly any two
share a pair of images: the worst case for ours. Ours is `humansim.embedder.distances`. Beside it the way that gathers
everything: the embeddings of all queries, left and right images as three arrays, distances by their plain formulas on
whole arrays; it is skipped, with a word, if there is not enough memory free. What a full matrix of distances would take
is only reckoned. Evaluation: `humansim.train.evaluate` of an untrained AlexNet, all triplets over 5,000 images at 64
pixels, which come from few pixels: against the bytes of its embeddings. Every run is in a fresh process; peak memory is
the process's high-water mark above what it held before, so without the embeddings for distances, with them for
evaluation (Linux). All on the CPU, in turn. Fails if distances differ by more than 1e-4 of themselves: on all triplets,
or where gathering them is skipped on the first 1,000.

    uv run python benchmarks/measures.py
    uv run python benchmarks/measures.py --triplets 400000 --repeats 1 --json measures.json
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from humansim.backbones import backbone
from humansim.embedder import MEASURES, Embedder, distances
from humansim.images import Store
from humansim.judgements import Judgements, Triplets
from humansim.material import Material
from humansim.spec import Variant
from humansim.splits import Split
from humansim.train import evaluate

TOLERANCE = 1e-4  # of a distance
CHECKED = 1000  # triplets compared where all cannot be gathered
FILLED = 1000  # embeddings made at once
SPARE = 1 << 30  # bytes left to others
PIXELS = 500  # different images shown to the network

Sides = tuple[NDArray[np.float32], NDArray[np.float32]]  # to left, to right [n]


@dataclass(frozen=True)
class Job:
    """What is measured; seconds and bytes hang on it alone."""

    images: int
    features: int
    triplets: int
    threads: int
    out: Path

    @property
    def embeddings_bytes(self) -> int:
        return 4 * self.images * self.features

    @property
    def gathered_bytes(self) -> int:
        """Of the three arrays."""
        return 3 * 4 * self.triplets * self.features


@dataclass(frozen=True)
class Taken:
    """Seconds; bytes above what was held before."""

    seconds: float
    peak: int


def random_embeddings(job: Job) -> Tensor:
    """Made in place: no more memory than they take themselves."""
    generator = torch.Generator().manual_seed(0)
    found = torch.empty(job.images, job.features)
    for start in range(0, job.images, FILLED):
        found[start : start + FILLED].normal_(generator=generator)
    return found


def random_triplets(count: int, images: int) -> Triplets:
    """Three different images each."""
    rng = np.random.default_rng(0)
    query = rng.integers(0, images, count)
    left = (query + rng.integers(1, images // 2, count)) % images
    right = (query + rng.integers(images // 2, images, count)) % images
    nought, unknown = np.zeros(count, dtype=np.int64), np.full(count, -1)
    return Triplets(query, left, right, rng.integers(0, 6, count) / 5, nought + 5, nought, unknown, unknown)


def ours(embeddings: Tensor, triplets: Triplets) -> dict[str, Sides]:
    return distances(embeddings, np.arange(len(embeddings)), triplets)


@torch.inference_mode()
def gathered(embeddings: Tensor, triplets: Triplets) -> dict[str, Sides]:
    """What one writes first."""
    query, left, right = (embeddings[torch.from_numpy(rows)] for rows in triplets.images.T)

    def cosine(a: Tensor, b: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm
        lengths: Tensor = norm(a, dim=1) * norm(b, dim=1)
        return 1 - (a * b).sum(dim=1) / lengths

    formulas: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "cosine": cosine,
        "l2": lambda a, b: (a - b).square().sum(dim=1).sqrt(),
        "l1": lambda a, b: (a - b).abs().sum(dim=1),
    }
    return {name: (of(query, left).numpy(), of(query, right).numpy()) for name, of in formulas.items()}


def measured(work: Callable[[], object]) -> Taken:
    """Runs it; the high-water mark of this process's memory is begun anew before."""
    Path("/proc/self/clear_refs").write_text("5")
    before, clock = _memory("VmRSS"), time.perf_counter()
    work()
    return Taken(time.perf_counter() - clock, _memory("VmHWM") - before)


def _memory(what: str, file: str = "self/status") -> int:
    """A line of a file of /proc, in bytes."""
    lines = (Path("/proc") / file).read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))


def _distances(way: Callable[[Tensor, Triplets], dict[str, Sides]], job: Job) -> Taken:
    """In a fresh process; the distances go to a file."""
    torch.set_num_threads(job.threads)
    embeddings, triplets = random_embeddings(job), random_triplets(job.triplets, job.images)
    few = triplets[np.arange(10)]
    way(embeddings, few)  # once unmeasured: threads, kernels
    found: dict[str, Sides] = {}
    taken = measured(lambda: found.update(way(embeddings, triplets)))
    _save(job.out / way.__name__, found)
    return taken


def _save(file: Path, found: dict[str, Sides]) -> None:
    """As an array [measures, sides, n]."""
    np.save(file.with_suffix(".npy"), np.stack([np.stack(found[measure]) for measure in MEASURES]))


def _checked(job: Job) -> None:
    """In a fresh process: the first triplets gathered."""
    found = gathered(random_embeddings(job), random_triplets(job.triplets, job.images)[np.arange(CHECKED)])
    _save(job.out / "gathered", found)


def _evaluate(job: Job) -> tuple[Taken, int]:
    """In a fresh process: a whole evaluation, and the features of its network."""
    torch.set_num_threads(job.threads)
    embedder = Embedder(backbone.make(Variant("alexnet", weights="random")))
    pixels = np.random.default_rng(0).integers(0, 256, (PIXELS, 64, 64, 3), dtype=np.uint8)

    def material(triplets: Triplets) -> Material:
        names = tuple(f"{i:06d}" for i in range(job.images))
        judgements = Judgements("benchmark", Path(), names, triplets, ("benchmark",), simulated=True)
        sizes, none = np.full((job.images, 2), 64), np.zeros(job.images, dtype=np.uint64)
        store = Store(pixels, np.arange(job.images) % PIXELS, names, sizes, none)
        tenth = len(triplets) // 10
        rows = np.arange(len(triplets))
        parts = {"fit": rows[:0], "validation": rows[:tenth], "test": rows[tenth:]}
        return Material(judgements, store, Split(parts, "nothing", 0), None, [0], "")

    triplets = random_triplets(job.triplets, job.images)
    evaluate(embedder, material(triplets[np.arange(60)]))  # once unmeasured: threads, kernels, the network's memory
    whole = material(triplets)
    taken = measured(lambda: evaluate(embedder, whole))
    return taken, embedder.embed(pixels, np.arange(1)).shape[1]


def differ(out: Path) -> float:
    """The largest difference between the distances of both ways, as a share of the distance.

    Raises:
        SystemExit: it is above the tolerance.
    """
    expected = np.load(out / "gathered.npy")
    share = np.abs(np.load(out / "ours.npy")[..., : expected.shape[2]] - expected) / expected
    worst = float(share.max())
    if not worst <= TOLERANCE:
        raise SystemExit(f"the two ways differ by {worst:.1e} of a distance")
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000, help="embeddings (%(default)s)")
    parser.add_argument("--features", type=int, default=9216, help="numbers in an embedding (%(default)s)")
    parser.add_argument("--triplets", type=int, default=36_344, help="(%(default)s)")
    parser.add_argument("--evaluated", type=int, default=5000, help="images of the evaluation (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()

    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="humansim-benchmark-") as folder,
        ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as fresh,
    ):
        job = Job(given.images, given.features, given.triplets, given.threads, Path(folder))
        seen = Job(given.evaluated, given.features, given.triplets, given.threads, Path(folder))
        # Its three arrays, and in a measure two more of one's size.
        needed = {"ours": job.embeddings_bytes + SPARE}
        needed["gathered"] = needed["ours"] + job.gathered_bytes * 5 // 3
        free = _memory("MemAvailable", "meminfo")
        if free < needed["ours"]:
            raise SystemExit(f"{needed['ours']:,} bytes are needed, {free:,} are free: take fewer --images")
        ways = [ours, gathered] if free >= needed["gathered"] else [ours]
        taken: dict[str, list[Taken]] = {"ours": [], "gathered": [], "evaluate": []}
        features = 0
        for _ in range(given.repeats):
            for way in ways:
                taken[way.__name__].append(fresh.submit(_distances, way, job).result())
            of_whole, features = fresh.submit(_evaluate, seen).result()
            taken["evaluate"].append(of_whole)
        if gathered not in ways:
            fresh.submit(_checked, job).result()
        difference = differ(job.out)

    middle = {
        name: Taken(median(run.seconds for run in runs), int(median(run.peak for run in runs)))
        for name, runs in taken.items()
        if runs
    }
    whole_bytes, matrix = 4 * given.evaluated * features, 4 * given.images**2
    print(
        f"{given.images:,} embeddings of {given.features:,} ({_mib(job.embeddings_bytes)}), {given.triplets:,} "
        f"triplets, {len(MEASURES)} measures, {given.threads} thread(s), median of {given.repeats}, in turn"
    )
    print("                         seconds   peak above the embeddings")
    for name in ("ours", "gathered"):
        if name in middle:
            one, base = middle[name], middle["ours"]
            more = f"   / ours: {one.seconds / base.seconds:.2f} in time, {one.peak / base.peak:.1f} in memory"
            print(f"  {name:20}{one.seconds:12.2f}{_mib(one.peak):>28}{more if name != 'ours' else ''}")
        else:
            print(f"  {name:20}  skipped: it needs {_mib(needed[name])}, {_mib(free)} are free")
    print(f"  full matrix, not run: {_mib(matrix)} for each measure")
    print(f"  largest difference: {difference:.1e} of a distance")
    whole = middle["evaluate"]
    print(
        f"evaluate, {given.evaluated:,} images, embeddings of {_mib(whole_bytes)}: {whole.seconds:.1f} s, peak "
        f"{_mib(whole.peak)}: {whole.peak / whole_bytes:.2f} times the embeddings, {_mib(whole.peak - whole_bytes)} "
        "above them"
    )
    if given.json:
        figures = {
            "images": given.images,
            "features": given.features,
            "triplets": given.triplets,
            "evaluated": given.evaluated,
            "threads": given.threads,
            "repeats": given.repeats,
            "embeddings_bytes": job.embeddings_bytes,
            "evaluate_embeddings_bytes": whole_bytes,
            "matrix_bytes": matrix,
            "largest_difference": difference,
            "medians": {name: asdict(one) for name, one in middle.items()},
        }
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


def _mib(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"


if __name__ == "__main__":
    main()
