"""Jigsaw: in which order do the tiles stand? (thesis, 3.2; Noroozi and Favaro 2016.)"""

from typing import TYPE_CHECKING

from humansim.paradigms import Batch, Objective, paradigm

if TYPE_CHECKING:
    from torch import Tensor

    from humansim.paradigms import Network


@paradigm(data="singleton", classifies=True)
def jigsaw(
    *,
    permutations: int = 36,
    gap: float = 4 / 85,
    jitter: float = 17 / 85,
    normalised: bool = True,
    permutations_seed: int = 0,
) -> Objective:
    """Cross-entropy over the 36 orders of 3 x 3 tiles that are farthest from each other (Hamming distance).

    The network sees the puzzle as one image, resized to its resolution (the thesis's way: one backbone, one image). The
    paper's sees nine tiles, each by itself.

    Args:
        permutations: how many orders there are.
        gap: between tiles of neighbouring cells, as a share of a cell's side, so that edges give nothing away.
        jitter: by how much a tile may lie elsewhere in its cell, as a share of the cell's side.
        normalised: bring all tiles to one mean and deviation, so that light gives nothing away.
        permutations_seed: fixes the orders.
    """

    def loss(network: "Network", batch: Batch) -> "Tensor":
        import torch
        from torch import nn

        from humansim.augmentations import resized
        from humansim.pretext import permutations as orders_of
        from humansim.pretext import shuffled_tiles

        (images,) = batch.images
        every = torch.from_numpy(orders_of(permutations, 9, permutations_seed))
        orders = every.to(images.device, non_blocking=True)
        which = torch.randint(permutations, (len(images),), device=images.device)
        puzzle = shuffled_tiles(images, orders[which], gap=gap, jitter=jitter, normalised=normalised)
        return nn.functional.cross_entropy(network(resized(puzzle, images.shape[3])), which)

    return Objective(permutations, loss)
