"""Quadruplet loss (thesis, equation 3.9; Chen et al. 2017, equation 6)."""

from typing import TYPE_CHECKING, Literal

from humansim.paradigms import Batch, Objective, paradigm
from humansim.paradigms.distances import Distance, between

if TYPE_CHECKING:
    from torch import Tensor

    from humansim.paradigms import Network


@paradigm(data="quadruplet")
def quadruplet(
    *,
    margin: float = 1.0,
    second_margin: float = 0.5,
    second: Literal["positive", "negatives"] = "positive",
    distance: Distance = "euclidean",
    outputs: int = 128,
) -> Objective:
    """max(d(q, p) - d(q, n1) + m1, 0) + max(d(q, p) - d(p, n2) + m2, 0), mean over the batch.

    Args:
        margin: m1, Chen's 1, in units of the distance.
        second_margin: m2, Chen's 0.5.
        second: what d(q, p) is below in the second term: "positive" is the thesis's d(p, n2), "negatives" is Chen's
            d(n1, n2).
        distance: between outputs of the projection head.
        outputs: width of the projection head.
    """

    def loss(network: "Network", batch: Batch) -> "Tensor":
        q, p, n1, n2 = network(batch.images.flatten(0, 1)).chunk(4)
        near, other = between(q, p, distance), between(p if second == "positive" else n1, n2, distance)
        first = (near - between(q, n1, distance) + margin).clamp(min=0)
        return (first + (near - other + second_margin).clamp(min=0)).mean()

    return Objective(outputs, loss)
