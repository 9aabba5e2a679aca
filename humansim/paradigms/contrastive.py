"""Contrastive loss on pairs (thesis, equation 3.8; Hadsell, Chopra and LeCun 2006, equation 4)."""

from typing import TYPE_CHECKING

from humansim.paradigms import Batch, Objective, paradigm
from humansim.paradigms.distances import Distance, between

if TYPE_CHECKING:
    from torch import Tensor

    from humansim.paradigms import Network


@paradigm(data="triplet")
def contrastive(*, margin: float = 1.0, distance: Distance = "euclidean", outputs: int = 128) -> Objective:
    """Each triplet is a similar pair, d^2 / 2, and a dissimilar one, max(margin - d, 0)^2 / 2; mean over the pairs.

    Args:
        margin: beyond which dissimilar images are left alone, in units of the distance.
        distance: between outputs of the projection head.
        outputs: width of the projection head.
    """

    def loss(network: "Network", batch: Batch) -> "Tensor":
        q, p, n = network(batch.images.flatten(0, 1)).chunk(3)
        similar = between(q, p, distance).square() / 2
        dissimilar = (margin - between(q, n, distance)).clamp(min=0).square() / 2
        return (similar + dissimilar).mean() / 2

    return Objective(outputs, loss)
