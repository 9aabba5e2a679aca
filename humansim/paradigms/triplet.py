"""Triplet loss on human choices (thesis, equation 3.7)."""

from typing import TYPE_CHECKING, Literal

from humansim.paradigms import Objective, paradigm

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

EPSILON = 1e-12  # inside the root: the gradient at two equal embeddings stays finite


@paradigm()
def triplet(
    *, margin: float = 1.0, distance: Literal["euclidean", "squared_euclidean"] = "euclidean", outputs: int = 128
) -> Objective:
    """max(d(query, positive) - d(query, negative) + margin, 0), mean over the batch.

    Args:
        margin: in units of the distance.
        distance: between outputs of the projection head. The thesis writes the squared Euclidean distance and calls
            it the Euclidean one; Euclidean is the default.
        outputs: width of the projection head.
    """

    def d(a: "Tensor", b: "Tensor") -> "Tensor":
        squared = (a - b).square().sum(dim=1)
        return squared if distance == "squared_euclidean" else (squared + EPSILON).sqrt()

    def loss(
        network: "Callable[[Tensor], Tensor]", query: "Tensor", positive: "Tensor", negative: "Tensor"
    ) -> "Tensor":
        import torch

        q, p, n = network(torch.cat([query, positive, negative])).chunk(3)
        return (d(q, p) - d(q, n) + margin).clamp(min=0).mean()

    return Objective(outputs, loss)
