"""Triplet loss on human choices (thesis, equation 3.7; Schroff et al. 2015)."""

from typing import TYPE_CHECKING

from humansim.paradigms import Batch, Objective, paradigm
from humansim.paradigms.distances import Distance, between

if TYPE_CHECKING:
    from torch import Tensor

    from humansim.paradigms import Network


@paradigm(data="triplet")
def triplet(*, margin: float = 1.0, distance: Distance = "euclidean", outputs: int = 128) -> Objective:
    """max(d(query, positive) - d(query, negative) + margin, 0), mean over the batch.

    Args:
        margin: in units of the distance.
        distance: between outputs of the projection head. The thesis writes the squared Euclidean distance and calls
            it the Euclidean one; Euclidean is the default.
        outputs: width of the projection head.
    """

    def loss(network: "Network", batch: Batch) -> "Tensor":
        q, p, n = network(batch.images.flatten(0, 1)).chunk(3)
        return (between(q, p, distance) - between(q, n, distance) + margin).clamp(min=0).mean()

    return Objective(outputs, loss)
