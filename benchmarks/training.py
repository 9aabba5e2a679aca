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
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from training_ways import PASSES, PEERS, Epoch, Job, made, materials, ways_of, whole

from humansim.embedder import Embedder
from humansim.machine import keeping_memory
from humansim.paradigms import paradigm
from humansim.spec import Trial, Variant

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
