"""N-tuplet loss, N growing with the quality of the predictions (thesis, 6, future work; Sohn 2016, equation 3)."""

from typing import TYPE_CHECKING

from humansim.paradigms import Batch, Objective, paradigm
from humansim.paradigms.distances import Distance, between

if TYPE_CHECKING:
    from torch import Tensor

    from humansim.paradigms import Network


@paradigm(data="triplet")
def tuplet(
    *,
    negatives: int = 1,
    most: int = 16,
    grow_at: float = 0.75,
    distance: Distance = "euclidean",
    outputs: int = 128,
) -> Objective:
    """log(1 + sum over N negatives of exp(d(query, positive) - d(query, negative))), mean over the batch.

    The first negative is the data point's own; the others are the negatives of the next data points in the batch,
    those that this one's query or positive shows left out. After an epoch in which the own negative was further away
    than the positive in more than `grow_at` of the data points, N doubles.

    Args:
        negatives: N of the first epoch.
        most: N at most; a batch of b data points has b negatives.
        grow_at: share of right answers, in [0, 1]; above 1 N stays.
        distance: between outputs of the projection head.
        outputs: width of the projection head.
    """
    import torch
    from torch import nn

    class Memory(nn.Module):
        count: "Tensor"
        right: "Tensor"
        seen: "Tensor"

        def __init__(self) -> None:
            super().__init__()
            for name, value in (("count", negatives), ("right", 0), ("seen", 0)):
                self.register_buffer(name, torch.tensor(value))

    memory = Memory()

    def loss(network: "Network", batch: Batch) -> "Tensor":
        q, p, n = network(batch.images.flatten(0, 1)).chunk(3)
        near = between(q, p, distance)
        query, positive, negative = batch.numbers
        terms = []
        for shift in range(min(int(memory.count), len(q))):
            other = negative.roll(-shift)
            apart = near - between(q, n.roll(-shift, 0), distance)
            shown = (other == query) | (other == positive)
            terms.append(apart.masked_fill(shown, -torch.inf) if shift else apart)
        with torch.no_grad():
            memory.right += (terms[0] < 0).sum()
            memory.seen += len(q)
        return torch.cat([torch.zeros_like(near)[None], torch.stack(terms)]).logsumexp(dim=0).mean()

    def after_epoch() -> None:
        if int(memory.right) > grow_at * int(memory.seen):
            memory.count.fill_(min(2 * int(memory.count), most))
        memory.right.zero_()
        memory.seen.zero_()

    return Objective(outputs, loss, memory, after_epoch=after_epoch)
