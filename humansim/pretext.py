"""Pretext tasks in batches, on the device where the images are: turned images, and jigsaw puzzles of their tiles.

Images are float [b, 3, r, r], RGB in [0, 1]. Random offsets come from torch's global generators, as in `augmentations`.
"""

import math
from functools import lru_cache
from itertools import permutations as all_orders

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from humansim.augmentations import whole_below


def rotated(images: Tensor, quarters: Tensor) -> Tensor:
    """Square images [b, 3, r, r], each turned by quarters [b] * 90 degrees counter-clockwise, as torch.rot90.

    The pretext task of RotNet (Gidaris et al. 2018, section 3).
    """
    side = images.shape[3]
    pixel = torch.arange(side * side, device=images.device).view(side, side)
    turned = torch.stack([pixel.rot90(quarter).flatten() for quarter in range(4)])
    return _gathered(images, turned[quarters.remainder(4)]).view_as(images)


def permutations(count: int = 36, tiles: int = 9, seed: int = 0) -> NDArray[np.int64]:
    """Orders of tiles that are far from each other, int64 [count, tiles]; the same ones for the same seed.

    Greedy as in Jigsaw (Noroozi and Favaro 2016, algorithm 1): the first at random, then always that which is farthest
    from those chosen, in tiles that stand elsewhere (Hamming). There the farthest is that of the largest average
    distance; here that of the largest minimum, and among those of the largest average. This costs nothing on average
    (8.2 of 9 for 36 orders, both) and leaves no two orders that differ in two tiles alone (minimum 7 instead of 2).
    """
    if not 2 <= tiles <= 9 or not 1 <= count <= math.factorial(tiles):
        raise ValueError(f"{count} orders of {tiles} tiles; tiles are 2 to 9, and no order comes twice")
    return _permutations(count, tiles, seed).copy()


@lru_cache
def _permutations(count: int, tiles: int, seed: int) -> NDArray[np.int64]:
    every = np.array(list(all_orders(range(tiles))), dtype=np.int8)
    by_place = np.ascontiguousarray(every.T)  # 3 times as fast to compare as by order
    total = np.zeros(len(every), dtype=np.int32)
    least = np.full(len(every), tiles, dtype=np.int32)
    chosen = [int(np.random.default_rng(seed).integers(len(every)))]
    while len(chosen) < count:
        last = every[chosen[-1]]
        distance = np.zeros(len(every), dtype=np.int8)
        for tiles_there, tile in zip(by_place, last, strict=True):
            distance += tiles_there != tile
        total += distance
        np.minimum(least, distance, out=least)  # 0 for those chosen: they do not come again
        chosen.append(int(np.argmax(least * (tiles * count) + total)))
    return every[chosen].astype(np.int64)


def shuffled_tiles(
    images: Tensor,
    order: Tensor,
    grid: int = 3,
    gap: float = 4 / 85,
    jitter: float = 17 / 85,
    normalised: bool = True,
) -> Tensor:
    """Images as jigsaw puzzles (Noroozi and Favaro 2016, section 3): [b, 3, grid * t, grid * t], t the tile's side.

    The image is cut in grid x grid cells (the outermost pixels are left out if it cannot be, evenly), and out of each a
    smaller tile, at random, so that edges do not say which cells are neighbours. At position i, counted by rows, stands
    the tile of cell order[b, i]. Resize the outcome with `resized` to what a network expects.

    Of a cell of 85 pixels the defaults make tiles of 64, as Goyal et al. 2019 do; the paper's are 64 of 75, which may
    touch.

    Args:
        order: int64 [b, grid * grid], each row a permutation.
        gap: least distance of the tiles of neighbouring cells, as a share of the cell's side; at least two pixels if
            it is not 0.
        jitter: by how much a tile may be moved in its cell, as a share of the cell's side.
        normalised: bring each tile to the mean and the standard deviation of the whole image, channel by channel, so
            that neither light nor contrast says which tiles belong together. The paper brings them to 0 and 1, which a
            network that normalises for itself would not expect. Values may then leave [0, 1]; they are not clipped. A
            tile of less contrast than one step of 8 bits is not raised as if it had more.
    """
    count, _, rows, columns = images.shape
    cell = min(rows, columns) // grid
    margin = max(1, round(cell * gap / 2)) if gap else 0
    slack = round(cell * jitter)
    side = cell - 2 * margin - slack
    if side < 1:
        raise ValueError(f"cells of {cell} pixels leave no tile with gap {gap} and jitter {jitter}")
    offsets = whole_below(images.new_empty(2, *order.shape, dtype=torch.float32).uniform_(), slack + 1).long() + margin
    top = (rows - grid * cell) // 2 + order // grid * cell + offsets[0]
    left = (columns - grid * cell) // 2 + order % grid * cell + offsets[1]
    puzzle = assembled(images, top, left, side)
    if not normalised:
        return puzzle
    tiles = puzzle.view(count, 3, grid, side, grid, side)
    deviation, mean = torch.std_mean(tiles, dim=(3, 5), keepdim=True, correction=0)
    whole_deviation, whole_mean = torch.std_mean(images, dim=(2, 3), correction=0)
    gain = whole_deviation.view(count, 3, 1, 1, 1, 1) / deviation.clamp(min=1 / 255)
    return ((tiles - mean) * gain + whole_mean.view(count, 3, 1, 1, 1, 1)).view_as(puzzle)


def assembled(images: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Squares of each image side by side: [b, 3, g * side, g * side], by rows.

    Args:
        top: upper edge of each square in pixels, int64 [b, g * g]; left: its left edge.
    """
    count, grid = len(images), math.isqrt(top.shape[1])
    within = torch.arange(side, device=images.device)
    rows = (top.view(count, grid, grid, 1) + within).transpose(2, 3)  # [b, g, side, g]: by row of the outcome
    columns = left.view(count, grid, grid, 1) + within  # [b, g, g, side]
    pixel = rows[..., None] * images.shape[3] + columns[:, :, None]  # [b, g, side, g, side]
    return _gathered(images, pixel.flatten(1)).view(count, images.shape[1], grid * side, grid * side)


def _gathered(images: Tensor, pixel: Tensor) -> Tensor:
    """Pixels [b, 3, k] of each image, by their numbers [b, k], counted by rows."""
    return images.flatten(2).gather(2, pixel[:, None].expand(-1, images.shape[1], -1))
