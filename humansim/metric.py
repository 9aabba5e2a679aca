"""A finished trial as a perceptual metric: `humansim.load(trial)`.

    metric.distance(a, b)            how far apart two images are, under cosine, l2 or l1
    metric.p_closer(query, a, b)     the probability that a person finds b closer to the query than a
    metric.embed(images)             embeddings

Images are paths, Pillow pictures, numpy arrays or torch tensors, one or a batch (`humansim.accepted`). Where no
gradient is asked for, images are judged as the trial's own were (threads, batches of one shape): on a CPU, files give
the very bits that lie in its answers.parquet. Where one is, the metric is a loss: differentiable in the images and,
after `metric.requires_grad_()`, in its weights.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from humansim import accepted
from humansim.accepted import Images
from humansim.backbones.module import Scorer
from humansim.calibration import Calibration
from humansim.embedder import BATCH, MEASURES, OWN, Embedder, distance, in_unit_range
from humansim.errors import BadInput
from humansim.machine import reproducible
from humansim.pictures import Resize
from humansim.results import Result
from humansim.spec import Frozen, near

if TYPE_CHECKING:
    from humansim.drop_ins import AsLPIPS, MeanDistance


CONFIG, MODEL = "config.json", "model.safetensors"  # in an exported folder


class Facts(Frozen):
    """What is known of a metric; `print(metric.card())` for people.

    Attributes:
        result: of the trial: the trial itself, scores, provenance.
        calibration: of each measure; empty if the trial had no validation part.
        sweeps: names of the sweeps that asked for the trial, as far as they are known.
        simulated: the judges were simulated.
    """

    result: Result
    calibration: dict[str, Calibration]
    sweeps: tuple[str, ...] = ()

    @property
    def simulated(self) -> bool:
        return bool(self.result.provenance["simulated_judges"])


class Config(Frozen):
    """What an exported folder's config.json holds.

    Attributes:
        humansim: version that wrote it.
        preprocessing: the rule by which an image becomes a square, in words of torchvision and Pillow.
        model_sha256: of model.safetensors.
    """

    model_type: Literal["humansim"] = "humansim"
    humansim: str
    preprocessing: dict[str, Any]
    model_sha256: str
    facts: Facts


class Metric(nn.Module):
    """A network and how images are prepared for it. Its weights are frozen until `requires_grad_()`.

    Args:
        judge: the network.
        rule: how an image becomes a square.
        facts: of the trial that it comes from.
    """

    def __init__(self, judge: Embedder | Scorer, rule: Resize, facts: Facts) -> None:
        super().__init__()
        self.judge, self.rule, self.facts = judge, rule, facts
        self.eval().requires_grad_(False)

    @property
    def measures(self) -> tuple[str, ...]:
        return (OWN,) if isinstance(self.judge, Scorer) else MEASURES

    @property
    def device(self) -> torch.device:
        return self.judge.device

    def train(self, mode: bool = True) -> "Metric":
        """A metric is never in training: batch norms and dropout would make it another one with each batch."""
        return super().train(False)

    def forward(self, a: Images, b: Images) -> Tensor:
        """Distances [n] under the measure that the trial is reported under, cosine; `distance` has the others."""
        return self.distance(a, b)

    def embed(self, images: Images) -> Tensor:
        """Embeddings [n, d], on the metric's device.

        Raises:
            BadInput: images that cannot be used; a published metric, which has no embeddings.
        """
        if isinstance(self.judge, Scorer):
            raise BadInput(f"{self._name} judges pairs of images and has no embeddings; use distance")
        return self._in_batches(self.judge.evaluated, images)

    def distance(self, a: Images, b: Images, measure: str | None = None) -> Tensor:
        """Distances [n] of images to images, 0 for equal ones and never negative; one image is held against many.

        Args:
            measure: "cosine" (1 - cosine similarity, 0 to 2), "l2", "l1"; of a published metric "own".

        Raises:
            BadInput: images that cannot be used, numbers of images that do not go together, an unknown measure.
        """
        measure = self._known(measure)
        sizes = accepted.count(a), accepted.count(b)
        if sizes[0] != sizes[1] and 1 not in sizes:
            raise BadInput(f"distance: {sizes[0]} images and {sizes[1]}; give as many, or one to hold against all")
        if isinstance(self.judge, Scorer):
            return self._in_batches(self.judge, a, b)
        first, second = (self.embed(images) for images in (a, b))
        count = max(sizes)
        return distance(first.expand(count, -1), second.expand(count, -1), measure)

    def p_closer(self, query: Images, a: Images, b: Images, measure: str | None = None) -> Tensor:
        """The probability that a person finds b closer to the query than a [n], as validation's votes calibrate it.

        How well it is calibrated says `facts.calibration[measure]`, on validation and on test. It holds for judgements
        like those of the trial's source.

        Raises:
            BadInput: as `distance`; the trial had no validation part to calibrate on.
        """
        measure = self._known(measure)
        if measure not in self.facts.calibration:
            protocol = self.facts.result.trial.protocol
            advice = "run it under protocol 'heldout'" if protocol == "all" else "its source is too small"
            raise BadInput(
                f"{self._name}: no validation part (protocol {protocol!r}) to calibrate p_closer on; {advice}"
            )
        apart = self.distance(query, a, measure) - self.distance(query, b, measure)
        return torch.sigmoid(apart / self.facts.calibration[measure].temperature)

    def lpips(self) -> "AsLPIPS":
        """This metric with the interface of `lpips.LPIPS`: images in [-1, 1], distances [n, 1, 1, 1]."""
        from humansim.drop_ins import AsLPIPS

        return AsLPIPS(self)

    def torchmetric(self, **options: Any) -> "MeanDistance":
        """This metric with the interface of torchmetrics: `update`, `compute`; options as those of `MeanDistance`."""
        from humansim.drop_ins import MeanDistance

        return MeanDistance(self, **options)

    def card(self) -> str:
        """What people should know of this metric, as a page of Markdown."""
        from humansim.card import written

        return written(self.facts.result, self.facts.calibration, self.facts.sweeps)

    def extra_repr(self) -> str:
        return f"{self._name}, images {self.rule.name}, {'simulated judges' if self.facts.simulated else 'people'}"

    @property
    def _name(self) -> str:
        trial = self.facts.result.trial
        return f"{trial.backbone} (trial {trial.id})"

    def _known(self, measure: str | None) -> str:
        measure = measure or self.facts.result.measure
        if measure not in self.measures:
            raise BadInput(f"unknown measure {measure!r}{near(measure, self.measures)}")
        return measure

    def _in_batches(self, judged: Callable[..., Tensor], *images: Images) -> Tensor:
        """What a network makes of columns of images, a row for each; a column of one image goes with all."""
        total = max(accepted.count(column) for column in images)
        if total == 0:
            raise BadInput("images: none are given")
        columns = [self._units(column, total) for column in images]
        if self._wants_gradient(images):
            return torch.cat([judged(*some) for some in zip(*columns, strict=True)])
        found, done = [], 0
        with torch.inference_mode(), reproducible(self.facts.result.trial.threads):
            for some in zip(*columns, strict=True):
                found.append(judged(*(_filled_up(column) for column in some))[: total - done])
                done += len(some[0])
            whole = torch.cat(found)
        return whole.clone()  # no inference tensor: it may go into somebody's loss

    def _units(self, images: Images, total: int) -> Iterator[Tensor]:
        """Batches of floats [b, 3, r, r] in [0, 1] on the metric's device."""
        one = accepted.count(images) == 1
        for batch in accepted.batches(images, self.rule, BATCH):
            moved = batch.to(self.device)
            units = in_unit_range(moved) if moved.dtype == torch.uint8 else moved
            if not one:
                yield units
                continue
            for start in range(0, total, BATCH):
                yield units.expand(min(BATCH, total - start), -1, -1, -1)

    def _wants_gradient(self, images: tuple[Images, ...]) -> bool:
        if not torch.is_grad_enabled():
            return False
        given = [one for column in images for one in (column if isinstance(column, list | tuple) else [column])]
        return any(isinstance(one, Tensor) and one.requires_grad for one in given) or any(
            parameter.requires_grad for parameter in self.parameters()
        )


def _filled_up(images: Tensor) -> Tensor:
    """A batch of the one shape and order in memory that evaluations have: on a CPU the bits depend on them."""
    if len(images) < BATCH:
        images = torch.cat([images, images.new_zeros(BATCH - len(images), *images.shape[1:])])
    return images.contiguous(memory_format=torch.channels_last)
