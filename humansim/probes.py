"""What a trial's speed and memory hang on, and what was measured of it: `probes/` under the root. Needs no torch.

A probe is a few steps of the real loop (`measuring.probe`), or what a finished trial tells (`of_result`). The time of a
trial is made of what its network does (`Conditions`) and of what its data costs whatever the network
(`DataConditions`): a sweep of 616 trials has some 60 of the first and 4 of the second.
"""

import contextlib
import itertools
import platform
import statistics
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from humansim import results
from humansim.backbones import backbone
from humansim.material import resize_of
from humansim.optimizers import optimizer
from humansim.paradigms import paradigm
from humansim.registry import Registry
from humansim.results import Result
from humansim.root import Root, written_whole
from humansim.spec import AsVariant, Frozen, Trial, Variant, digest
from humansim.tunings import tuning

SHARES = (0.125, 0.25, 0.5, 1.0)  # of a GPU: they add up to a whole one in any mixture
CONTEXT = 600 << 20  # bytes of a GPU's memory that a process takes before its first tensor
MARGIN = 1.2  # times the peak that was measured: allocators leave gaps, batches differ


def share_of_gpu(peak_memory: int, gpu_memory: int) -> float:
    """The smallest share of a GPU whose memory will do; the whole one if none does."""
    return share_of_at_least((peak_memory * MARGIN + CONTEXT) / gpu_memory)


def share_of_at_least(part: float) -> float:
    """The smallest share of a GPU that is no less than this; the whole one if none is."""
    return next((share for share in SHARES if share >= part), 1.0)


class Conditions(Frozen):
    """What a trial's speed and memory hang on: all but the data, the learning rate, the seed and how long it goes on.

    `resize` is the rule's name, with the resolution; `batch` is in data points, no more than there can be. Without a
    paradigm what concerns training is None.
    """

    backbone: AsVariant
    resize: str
    layer: str | None
    pool: str | None
    precision: str
    threads: int
    paradigm: AsVariant | None = None
    tuning: AsVariant | None = None
    head: str | None = None
    optimizer: AsVariant | None = None
    batch: int | None = None
    batch_norm: str | None = None
    workers: int | None = None

    @property
    def key(self) -> str:
        return digest(self.model_dump(mode="json"))


def conditions(trial: Trial) -> Conditions:
    """The conditions of a trial in its normal form."""
    always = Conditions(
        backbone=Variant(trial.backbone.name, **{k: v for k, v in trial.backbone.kwargs.items() if k != "init_seed"}),
        resize=resize_of(trial).name,
        layer=trial.layer,
        pool=trial.pool,
        precision=trial.precision,
        threads=trial.threads,
    )
    if trial.paradigm is None:
        return always
    return always.model_copy(
        update={
            "paradigm": _amount_of_work(trial.paradigm, paradigm),
            "tuning": _amount_of_work(trial.tuning, tuning),
            "head": trial.head,
            "optimizer": _amount_of_work(trial.optimizer, optimizer),
            "batch": min(trial.batch_size, trial.fit_size),
            "batch_norm": trial.batch_norm,
            "workers": trial.workers,
        }
    )


def _amount_of_work(variant: Variant, registry: Registry) -> Variant:
    """The variant without its real numbers: a margin or a temperature is no work, unless it is 0 and switches it off.

    A search over them then needs one probe, not one a sample.
    """
    arguments = registry.entry(variant).arguments
    kept = {
        name: value
        for name, value in variant.kwargs.items()
        if not isinstance(value, float) or bool(value) != bool(arguments[name].default)
    }
    return Variant(variant.name, **{k: bool(v) if isinstance(v, float) else v for k, v in kept.items()})


class DataConditions(Frozen):
    """What the costs of a trial's data hang on; `kind` is the paradigm's kind of data point, `pairwise` of a metric."""

    source: AsVariant
    protocol: str
    kind: str | None
    pairwise: bool

    @property
    def key(self) -> str:
        return digest(self.model_dump(mode="json"))


def data_conditions(trial: Trial) -> DataConditions:
    return DataConditions(
        source=trial.source,
        protocol=trial.protocol,
        kind=None if trial.paradigm is None else paradigm.entry(trial.paradigm).facts["data"],
        pairwise=pairwise(trial),
    )


def pairwise(trial: Trial) -> bool:
    """Whether the backbone is a published metric, which judges pairs of images."""
    return bool(backbone.entry(trial.backbone).facts.get("pairwise"))


def keeps_embeddings(trial: Trial) -> bool:
    """Whether an image that the trial evaluates is embedded once, ever (`embeddings`)."""
    return trial.paradigm is None and bool(backbone.entry(trial.backbone).facts.get("trainable", True))


class Probe(Frozen):
    """What was measured under some conditions on a device.

    Attributes:
        device: its name, as results have it.
        device_memory: bytes that a GPU has in all; 0 of a CPU.
        torch: version.
        setup: seconds, once a trial: network, optimiser, what the first step takes longer.
        step: seconds of a training step.
        save: seconds of a checkpoint, one an epoch.
        image: seconds of an image in an evaluation; of a pair, if the backbone is a metric of pairs.
        read: seconds of reading and splitting the data.
        score: seconds of scoring all sets and writing the answers.
        peak_memory: bytes, as in results.
        checkpoint: bytes, while the trial runs.
        weights: bytes, when it has finished.
        answers: bytes.
    """

    conditions: Conditions
    data: DataConditions
    device: str
    device_memory: int
    torch: str
    setup: float
    step: float
    save: float
    image: float
    read: float
    score: float
    peak_memory: int
    checkpoint: int
    weights: int
    answers: int

    @property
    def share(self) -> float:
        """The smallest share of the GPU whose memory will do; 1 on a CPU."""
        return share_of_gpu(self.peak_memory, self.device_memory) if self.device_memory else 1.0


OF_NETWORK = ("setup", "step", "save", "image", "peak_memory", "device_memory", "checkpoint", "weights")
OF_DATA = ("read", "score", "answers")


def typical(of_network: Sequence[Probe], of_data: Sequence[Probe]) -> Probe:
    """What is usual of probes of the same conditions, and of probes of the same data.

    Seconds are means: they are added up, and a median would leave out what is rarely slow.
    """

    def middle(probes: Sequence[Probe], name: str) -> Any:
        values = [getattr(probe, name) for probe in probes]
        return statistics.fmean(values) if isinstance(values[0], float) else max(values)

    found = {name: middle(of_network, name) for name in OF_NETWORK} | {name: middle(of_data, name) for name in OF_DATA}
    return of_network[0].model_copy(update={"data": of_data[0].data, **found})


def keep(root: Root, probe: Probe) -> None:
    """Keeps a probe under the root, in the place of an older one."""
    name = f"{probe.conditions.key}-{probe.data.key}-{digest([probe.device, probe.torch], 8)}.json"
    with written_whole(root.path / "probes" / name) as file:
        file.write_text(probe.model_dump_json(indent=1))


def kept(root: Root) -> list[Probe]:
    """All probes of this version of torch; one that cannot be read was made by another humansim and is passed over."""
    found = []
    for file in sorted((root.path / "probes").glob("*.json")):
        with contextlib.suppress(ValidationError, FileNotFoundError):
            found.append(Probe.model_validate_json(file.read_bytes()))
    return [probe for probe in found if probe.torch == torch_version()]


class Peaks:
    """What trials are known to need, learnt from probes and from whatever finishes: bytes, by a trial's conditions.

    A peak of a GPU and one of a process on a CPU are not the same: the larger one is on the safe side.
    """

    def __init__(self, root: Root) -> None:
        self._known: dict[str, int] = {}
        for probe in kept(root):
            self._note(probe.conditions, probe.peak_memory)

    def learn(self, result: Result) -> None:
        """Takes note of a finished trial."""
        self._note(conditions(result.trial), result.peak_memory)

    def of(self, trial: Trial) -> int | None:
        """Bytes of the largest peak under the trial's conditions; None where none is known."""
        return self._known.get(conditions(trial).key)

    def _note(self, known: Conditions, peak: int) -> None:
        self._known[known.key] = max(peak, self._known.get(known.key, 0))


def torch_version() -> str:
    """Version of torch without what it was built for: a cluster's GPU build is the same torch."""
    return metadata.version("torch").partition("+")[0]


def this_device() -> str:
    """Name of the device that trials run on here, as results have it: the GPU if there is one. Needs no torch."""
    names = _gpus()
    return names[0] if names else f"cpu ({platform.machine()})"


def gpus_here() -> int:
    """GPUs of this machine."""
    return len(_gpus())


def _gpus() -> list[str]:
    found = []
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = file.read_text(errors="replace").splitlines()
        found += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return found


def of_result(result: Result, root: Root) -> Probe | None:
    """What a finished trial tells of its conditions; None where it was interrupted or is of an older humansim."""
    seconds, trial, made, history = result.seconds, result.trial, result.provenance, result.history
    known = {"read", "make", "train", "embed", "score"} <= set(seconds)
    if not known or not all("validation_seconds" in row for row in history):
        return None
    steps = steps_of(trial, made["fit"])
    # The first epoch is the slowest; where there are more, it is no measure of a step.
    step = statistics.median(row["seconds"] / steps for row in history[1:] or history) if history else 0.0
    apart = [
        (row["time"] - before["time"]) / 1000 - row["seconds"] - row["validation_seconds"]
        for before, row in itertools.pairwise(history)
    ]
    save = max(0.0, statistics.median(apart)) if apart else 0.0
    whole = sum(row["seconds"] + row["validation_seconds"] for row in history)
    if whole > seconds["train"]:
        return None  # its history has epochs that another process trained
    rest = seconds["train"] - len(history) * (steps * step + save) - sum(row["validation_seconds"] for row in history)
    weights, answers = (_size(results.folder(root, trial) / name) for name in (results.WEIGHTS, results.ANSWERS))
    images = made["embedded"]
    return Probe(
        conditions=conditions(trial),
        data=data_conditions(trial),
        device=made["device"],
        device_memory=0,
        torch=str(made["versions"].get("torch", "")).partition("+")[0],
        setup=seconds["make"] + max(0.0, rest),
        step=step,
        save=save,
        image=seconds["embed"] / images if images else 0.0,
        read=seconds["read"],
        score=seconds["score"],
        peak_memory=result.peak_memory,
        checkpoint=3 * weights,  # the weights, and Adam's two moments of each
        weights=weights,
        answers=answers,
    )


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def steps_of(trial: Trial, points: int) -> int:
    """Steps of an epoch over so many data points: a last batch that is not full is left out (`fitting`)."""
    return max(1, points // max(1, min(points, trial.batch_size))) if trial.paradigm is not None else 1


def duration(trial: Trial, probe: Probe, points: int, validation: int, evaluated: int) -> float:
    """Seconds of a trial from its beginning to its result.

    Args:
        points: data points that it fits on.
        validation: images that are embedded after each epoch.
        evaluated: images that are embedded at the end, those left out that are kept already; pairs of a metric.
    """
    fixed = probe.read + probe.setup + evaluated * probe.image + probe.score
    if trial.paradigm is None:
        return fixed
    return fixed + trial.epochs * (steps_of(trial, points) * probe.step + validation * probe.image + probe.save)
