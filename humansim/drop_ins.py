"""A metric in the place of others: with the interface of `lpips.LPIPS`, and with that of torchmetrics."""

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric as TorchMetric

from humansim.errors import BadInput

if TYPE_CHECKING:
    from humansim.metric import Metric


class AsLPIPS(nn.Module):
    """Called as `lpips.LPIPS` is: images [n, 3, h, w] in [-1, 1], or in [0, 1] with `normalize=True`.

    Returns distances [n, 1, 1, 1] of the measure that the metric is reported under, or where the images differ
    [n, 1, h, w] with `spatial`. There are no layers to return.
    """

    def __init__(self, metric: "Metric", spatial: bool = False) -> None:
        super().__init__()
        self.metric, self.spatial = metric, spatial

    def forward(self, in0: Tensor, in1: Tensor, retPerLayer: bool = False, normalize: bool = False) -> Tensor:  # noqa: N803
        if retPerLayer:
            raise BadInput("retPerLayer: the distance is not a sum over layers; leave it out")
        a, b = _unit(in0, normalize), _unit(in1, normalize)
        return self.metric.distance_map(a, b) if self.spatial else self.metric.distance(a, b).reshape(-1, 1, 1, 1)


class MeanDistance(TorchMetric):
    """The mean distance over all pairs that were seen, as torchmetrics' `LearnedPerceptualImagePatchSimilarity` gives.

    Args:
        metric: what judges.
        normalize: images come in [0, 1]; without it, as there, in [-1, 1].
        reduction: "mean" or "sum" over the pairs.
    """

    is_differentiable, higher_is_better, full_state_update = True, False, False
    total: Tensor
    seen: Tensor

    def __init__(
        self, metric: "Metric", normalize: bool = False, reduction: Literal["mean", "sum"] = "mean", **options: Any
    ) -> None:
        super().__init__(**options)
        if reduction not in ("mean", "sum"):
            raise BadInput(f"reduction {reduction!r}: it is 'mean' or 'sum'")
        self.metric, self.normalize, self.reduction = metric, normalize, reduction
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("seen", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, img1: Tensor, img2: Tensor) -> None:
        """Takes note of pairs of images [n, 3, h, w]."""
        found = self.metric(_unit(img1, self.normalize), _unit(img2, self.normalize))
        self.total = self.total + found.sum()
        self.seen = self.seen + len(found)

    def compute(self) -> Tensor:
        return self.total / self.seen if self.reduction == "mean" else self.total


def _unit(images: Tensor, normalize: bool) -> Tensor:
    if not (isinstance(images, Tensor) and images.is_floating_point()):
        raise BadInput("images: give a float tensor [n, 3, h, w], of [-1, 1], or of [0, 1] with normalize=True")
    if not normalize and bool((images.detach() < -1 - 1e-4).any()):
        raise BadInput(f"images: down to {float(images.min()):.4g}; they have to lie in [-1, 1]")
    return images if normalize else (images + 1) / 2
