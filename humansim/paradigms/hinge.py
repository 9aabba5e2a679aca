"""DreamSim's hinge on the answers themselves (Fu et al. 2023, equation 2)."""

from typing import TYPE_CHECKING

from humansim.paradigms import Batch, Objective, paradigm
from humansim.paradigms.distances import cosine

if TYPE_CHECKING:
    from torch import Tensor

    from humansim.paradigms import Network


@paradigm(data="triplet")
def hinge(*, margin: float = 0.05, outputs: int = 128) -> Objective:
    """max(margin - (d(query, negative) - d(query, positive)), 0) under cosine distance, mean over the batch.

    Args:
        margin: by which the distances are to differ, DreamSim's 0.05; cosine distance is in [0, 2].
        outputs: width of the projection head.
    """

    def loss(network: "Network", batch: Batch) -> "Tensor":
        q, p, n = network(batch.images.flatten(0, 1)).chunk(3)
        return (margin - (cosine(q, n) - cosine(q, p))).clamp(min=0).mean()

    return Objective(outputs, loss)
