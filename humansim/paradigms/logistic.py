"""Votes as they are: a logistic model of the share of people who chose the positive."""

from typing import TYPE_CHECKING

from humansim.paradigms import Batch, Objective, paradigm
from humansim.paradigms.distances import cosine

if TYPE_CHECKING:
    from torch import Tensor

    from humansim.paradigms import Network


@paradigm(data="triplet")
def logistic(*, temperature: float = 0.1, outputs: int = 128) -> Objective:
    """Cross-entropy between the share of people and sigmoid((d(query, negative) - d(query, positive)) / temperature).

    Where people were split three to two, the network is to be unsure too: no other paradigm here knows of that. (The
    logistic choice rule of Luce 1959 and Bradley and Terry 1952, on distances.)

    Args:
        temperature: in units of cosine distance, in (0, 2].
        outputs: width of the projection head.
    """

    def loss(network: "Network", batch: Batch) -> "Tensor":
        from torch import nn

        q, p, n = network(batch.images.flatten(0, 1)).chunk(3)
        nearer = (cosine(q, n) - cosine(q, p)) / temperature
        return nn.functional.binary_cross_entropy_with_logits(nearer, batch.share.to(nearer.dtype))

    return Objective(outputs, loss)
