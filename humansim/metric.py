"""A finished trial as a perceptual metric: `humansim.load(trial)`.

    metric.distance(a, b)            how far apart two images are, under cosine, l2 or l1
    metric.p_closer(query, a, b)     the probability that a person finds b closer to the query than a
    metric.embed(images)             embeddings
    metric.distance_map(a, b)        where they differ; `distance(a, b, mask=...)` judges by a part of them

Images are paths, Pillow pictures, numpy arrays or torch tensors, one or a batch (`humansim.accepted`). Where no
gradient is asked for, images are judged as the trial's own were (threads, batches of one shape): on a CPU, files give
the very bits that lie in its answers.parquet, and one pair costs as much as a whole batch: give many at once. Where a
gradient is, the metric is a loss: differentiable in the images and, after `metric.requires_grad_()`, in its weights.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from humansim import accepted, positions
from humansim.accepted import Images, Mask
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

    def __str__(self) -> str:
        score, of = 100 * self.result.mean("test"), ", ".join(self.sweeps) or "no known sweep"
        return (
            f"trial {self.result.trial.id} of {of}: {score:.2f} % of 2AFC on test by {self.result.measure}, "
            f"{'simulated judges' if self.simulated else 'people'}; calibrated: {', '.join(self.calibration) or 'no'}; "
            "all of it: .card(), .facts.result, .facts.calibration"
        )

    __repr__ = __str__  # the fields are some hundred lines

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

    def distance(self, a: Images, b: Images, measure: str | None = None, mask: Mask | None = None) -> Tensor:
        """Distances [n] of images to images, 0 for equal ones and never negative; one image is held against many.

        With a mask, features count as much as the mask says at their position: f_p becomes f_p m_p s^2 / sum(m), m
        being the mask as its mean over each of the s x s positions' share of the image. Where the embedding is the
        mean of f_p, it becomes their weighted mean; a mask of ones changes no bit. Features look beyond their own
        share, so that what lies just outside the mask still tells.

        Args:
            measure: "cosine" (1 - cosine similarity, 0 to 2), "l2", "l1"; of a published metric "own".
            mask: of 0 to 1 [h, w], or one for each pair [n, 1, h, w], of the size of the images `a`; the same
                share of the images `b` is meant.

        Raises:
            BadInput: images that cannot be used, numbers of images that do not go together, an unknown measure; a mask
                of another size or of zeros; a mask where embeddings are no mean over positions.
        """
        measure, count = self._known(measure), _pairs(a, b)
        if mask is not None:
            a = accepted.opened(a)
            weights = self._weights(mask, a, count)
            first, second = (self._in_batches(self._weighted, images, beside=weights) for images in (a, b))
        elif isinstance(self.judge, Scorer):
            return self._in_batches(self.judge, a, b)
        else:
            first, second = (self.embed(images) for images in (a, b))
        return distance(first.expand(count, -1), second.expand(count, -1), measure)

    def distance_map(self, a: Images, b: Images, measure: str | None = None) -> Tensor:
        """Where images differ [n, 1, h, w], at the size of the images `a`: 0 where they do not, never negative.

        At each of the s x s positions it is the distance of the features there, brought to the size of the image
        bilinearly, as LPIPS does (Zhang et al. 2018; its `spatial=True`): under "cosine" that is half of their
        equation 1 for one layer without its weights. Features are those that the embedding is made of: at the trial's
        layer, or at the last place of the network that has positions, with a kept head on each where that fits. Of
        LPIPS and SSIM it is their own map. 0 also where a metric with resize="native" does not look, at the margins.

        There are as few positions as the network has there: of EfficientNet-Lite0 at its end 7 x 7 at a resolution of
        224, 2 x 2 at 64, where the map says little more than which quarter.

        It shows where the network sees a difference, the more blurred the deeper its features: of a piece planted into
        a photograph, 11 % of its area, the map of EfficientNet-Lite0 has 41 % of its sum there at the network's end, 70
        % at layer "blocks.4", 85 % at "blocks.2". People's choices have fitted and calibrated whole images only:
        the map is no measure of what people see at a place. Under "l2" and "l1" its mean over the grid is no less than
        the distance where the embedding is a mean of features.

        Args:
            measure: as of `distance`.

        Raises:
            BadInput: as `distance`; images `a` of several sizes; a network without a square of positions, such as an
                ensemble.
        """
        measure = self._known(measure)
        _pairs(a, b)
        a = accepted.opened(a)
        high, wide = accepted.size_of(a)
        if isinstance(self.judge, Scorer):
            if not self.judge.has_map:
                raise BadInput(f"{self._name} compares images as a whole and has no map")
            judged: Callable[..., Tensor] = self.judge.mapped
        else:
            judged = functools.partial(positions.map_of, self.judge, self._grid, measure)
        found = self._in_batches(judged, a, b, stored=False)
        rows, columns = accepted.seen(high, wide, self.rule)
        size = (rows.stop - rows.start, columns.stop - columns.start)
        there = nn.functional.interpolate(found, size, mode="bilinear", align_corners=False)
        return nn.functional.pad(there, (columns.start, wide - columns.stop, rows.start, high - rows.stop))

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

    def lpips(self, spatial: bool = False) -> "AsLPIPS":
        """This metric with the interface of `lpips.LPIPS`: images in [-1, 1], distances [n, 1, 1, 1].

        Args:
            spatial: gives `distance_map` [n, 1, h, w] instead, as theirs does.
        """
        from humansim.drop_ins import AsLPIPS

        return AsLPIPS(self, spatial)

    def torchmetric(self, **options: Any) -> "MeanDistance":
        """This metric with the interface of torchmetrics: `update`, `compute`; options as those of `MeanDistance`."""
        from humansim.drop_ins import MeanDistance

        return MeanDistance(self, **options)

    def card(self, beside: Sequence[Result] = ()) -> str:
        """What people should know of this metric, as a page of Markdown.

        Args:
            beside: results to see its scores beside: floor, untrained, pretrained (`export.beside`).
        """
        from humansim.card import written

        return written(self.facts.result, self.facts.calibration, self.facts.sweeps, beside)

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

    @functools.cached_property
    def _grid(self) -> positions.Grid:
        assert isinstance(self.judge, Embedder)
        try:
            return positions.grid_of(self.judge.backbone, self.rule.resolution)
        except BadInput as error:
            raise BadInput(f"{self._name}: {error}") from None

    def _weights(self, mask: Mask, a: Images, count: int) -> Tensor:
        """Weights of positions [n, 1, s, s], n being 1 or the number of pairs."""
        if isinstance(self.judge, Scorer):
            raise BadInput(f"mask: {self._name} is a published metric; weight its distance_map instead, if it has one")
        grid = self._grid
        if grid.read == "otherwise":
            raise BadInput(
                f"mask: the embedding of {self._name} is no mean over positions, as where a class token or an "
                f"attention pool looks at all of them; a trial with layer={grid.layer!r} and pool='mean' can be masked"
            )
        high, wide = accepted.size_of(a)
        whole = accepted.mask_of(mask, (high, wide), self.device)
        if len(whole) not in (1, count):
            raise BadInput(f"mask: {len(whole)} of them for {count} pairs; give one, or as many")
        rows, columns = accepted.seen(high, wide, self.rule)
        return positions.weights_of(whole[:, :, rows, columns], grid)

    def _weighted(self, images: Tensor, weights: Tensor) -> Tensor:
        assert isinstance(self.judge, Embedder)
        return positions.weighted(self.judge, self._grid, images, weights)

    def _in_batches(
        self, judged: Callable[..., Tensor], *images: Images, beside: Tensor | None = None, stored: bool = True
    ) -> Tensor:
        """What a network makes of columns of images, a row for each; a column of one image goes with all.

        Args:
            beside: weights [n, 1, s, s] that go with the images as a last column.
            stored: the bits are to be those of an evaluation; what none has, such as maps, comes in smaller batches.
        """
        counts = [accepted.count(column) for column in images]
        if 0 in counts:
            raise BadInput("images: none are given")
        total = max(*counts, 1 if beside is None else len(beside))
        columns = [self._units(column, total) for column in images]
        if beside is not None:
            columns.append(iter(torch.split(beside.expand(total, -1, -1, -1), BATCH)))
            images = (*images, beside)
        exact = torch.autocast(self.device.type, enabled=False)  # the trial says its precision, not who calls
        if self._wants_gradient(images):
            with exact:
                return torch.cat([judged(*some) for some in zip(*columns, strict=True)])
        found, done = [], 0
        with torch.inference_mode(), exact, reproducible(self.facts.result.trial.threads):
            for some in zip(*columns, strict=True):
                given = [_filled_up(column) for column in some] if stored else some
                found.append(judged(*given)[: total - done])
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


def _pairs(a: Images, b: Images) -> int:
    """How many pairs two columns of images make.

    Raises:
        BadInput: they do not go together.
    """
    sizes = accepted.count(a), accepted.count(b)
    if sizes[0] != sizes[1] and 1 not in sizes:
        raise BadInput(f"distance: {sizes[0]} images and {sizes[1]}; give as many, or one to hold against all")
    return max(sizes) if min(sizes) else 0


def _filled_up(images: Tensor) -> Tensor:
    """A batch of the one shape and order in memory that evaluations have: on a CPU the bits depend on them."""
    if len(images) < BATCH:
        images = torch.cat([images, images.new_zeros(BATCH - len(images), *images.shape[1:])])
    return images.contiguous(memory_format=torch.channels_last)
