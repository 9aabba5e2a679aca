"""Pretext tasks: images are turned as rot90 turns them; puzzles are those of their orders and give nothing away."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from test_augmentations import ORDER, in_order, noise, where_from
from torch import Tensor

from humansim import pretext

# Rotations


def test_each_image_is_turned_by_its_own_quarters_as_rot90() -> None:
    quarters = torch.tensor([0, 1, 2, 3, 4, -1, 6])
    images = noise(7)
    expected = torch.stack(
        [image.rot90(quarter, (1, 2)) for image, quarter in zip(images, quarters.tolist(), strict=True)]
    )
    assert torch.equal(pretext.rotated(images, quarters), expected)
    assert pretext.rotated(images.to("meta"), quarters.to("meta")).is_meta


# Jigsaws


def hamming(orders: np.ndarray) -> np.ndarray:
    return (orders[:, None] != orders[None]).sum(axis=2)


@pytest.mark.parametrize(("count", "least", "mean"), [(36, 7, 8.2), (100, 6, 8.0)])
def test_permutations_are_far_from_each_other(count: int, least: int, mean: float) -> None:
    orders = pretext.permutations(count)
    assert orders.dtype == np.int64
    assert (np.sort(orders, axis=1) == np.arange(9)).all()
    between = hamming(orders)[np.triu_indices(count, 1)]
    assert between.min() == least
    assert between.mean() > mean


@pytest.mark.parametrize("seed", range(3))
def test_each_permutation_is_the_farthest_from_those_before_it(seed: int) -> None:
    orders = pretext.permutations(24, tiles=4, seed=seed)
    assert len(np.unique(orders, axis=0)) == 24  # all there are
    between = hamming(orders)
    for i in range(1, 24):
        far = [(between[k, :i].min(), between[k, :i].sum()) for k in range(i, 24)]
        assert far[0] == max(far)


def test_permutations_are_fixed_by_their_seed_and_a_caller_cannot_change_them() -> None:
    first = pretext.permutations()
    first[:] = 0
    again = pretext.permutations(36, 9, 0)
    assert again.any()
    assert not np.array_equal(again, pretext.permutations(seed=1))
    assert np.array_equal(pretext.permutations(10), again[:10])


@pytest.mark.parametrize(("count", "tiles"), [(7, 3), (0, 9), (10, 16), (1, 1)])
def test_permutations_that_there_are_not_are_refused(count: int, tiles: int) -> None:
    with pytest.raises(ValueError, match=f"{count} orders of {tiles} tiles"):
        pretext.permutations(count, tiles)


def tiles_of(puzzle: Tensor, grid: int = 3) -> Tensor:
    """[b, grid * grid, 3, t, t], by rows."""
    side = puzzle.shape[3] // grid
    return puzzle.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


@settings(deadline=None, max_examples=30)
@given(
    side=st.integers(36, 100),
    grid=st.integers(2, 4),
    gap=st.sampled_from([0.0, 4 / 85, 0.2]),
    jitter=st.sampled_from([0.0, 17 / 85, 0.4]),
    seed=st.integers(0, 2**32),
)
def test_at_each_position_stands_a_whole_tile_of_the_cell_that_the_order_names(
    side: int, grid: int, gap: float, jitter: float, seed: int
) -> None:
    torch.manual_seed(seed)
    order = torch.stack([torch.randperm(grid * grid) for _ in range(3)])
    puzzle = pretext.shuffled_tiles(where_from(3, side), order, grid, gap, jitter, normalised=False)
    tiles = tiles_of(puzzle, grid)
    cell = side // grid
    edge = (side - grid * cell) // 2
    top, left = tiles[:, :, 0, 0, 0], tiles[:, :, 1, 0, 0]
    steps = torch.arange(tiles.shape[-1])
    assert torch.equal(
        tiles[:, :, 0], (top[..., None] + steps)[..., None].expand_as(tiles[:, :, 0])
    )  # all of it, upright
    assert torch.equal(tiles[:, :, 1], (left[..., None] + steps)[..., None, :].expand_as(tiles[:, :, 1]))
    for start, place in ((top, order // grid), (left, order % grid)):
        assert torch.equal((start - edge).long() // cell, place)
        assert torch.equal((start + len(steps) - 1 - edge).long() // cell, place)


def test_tiles_of_neighbouring_cells_never_touch_and_stand_everywhere_else() -> None:
    torch.manual_seed(0)
    tiles = tiles_of(pretext.shuffled_tiles(where_from(500, 255), in_order(torch.empty(500)), normalised=False))
    assert tiles.shape[-1] == 64
    left, top = tiles[:, :, 1, 0, 0].view(-1, 3, 3), tiles[:, :, 0, 0, 0].view(-1, 3, 3)
    between = torch.cat([left.diff(dim=2).flatten(), top.diff(dim=1).flatten()]) - 64
    assert between.min() >= 4  # pixels that neither shows
    assert between.max() > 30
    offsets = left - torch.arange(3) * 85
    assert offsets.unique().tolist() == list(range(2, 20))
    assert stats.chisquare(offsets.unique(return_counts=True)[1].numpy()).pvalue > 0.01
    corners = torch.stack([left, top], dim=-1).view(500, 9, 2)
    within = corners - torch.tensor([[85 * (i % 3), 85 * (i // 3)] for i in range(9)])
    assert np.abs(np.corrcoef(within.flatten(1).T.numpy()) - np.eye(18)).max() < 0.2  # each tile by itself, both ways


def test_the_inverse_order_puts_every_tile_back() -> None:
    images = noise(2, 33)
    orders = ORDER.expand(2, 9)
    torch.manual_seed(0)
    puzzle = pretext.shuffled_tiles(images, orders, gap=0, jitter=0, normalised=False)
    assert not torch.equal(puzzle, images)
    assert torch.equal(pretext.shuffled_tiles(puzzle, orders.argsort(1), gap=0, jitter=0, normalised=False), images)


def test_each_tile_has_the_image_s_mean_and_contrast_in_every_channel() -> None:
    images = noise(4, 90) * torch.linspace(0.2, 0.9, 90)
    orders = ORDER.expand(4, 9)
    tiles = tiles_of(pretext.shuffled_tiles(images, orders))
    for statistic in (torch.mean, torch.std):
        kwargs = {"correction": 0} if statistic is torch.std else {}
        expected = statistic(images, dim=(2, 3), **kwargs)[:, None].expand(4, 9, 3)
        torch.testing.assert_close(statistic(tiles, dim=(3, 4), **kwargs), expected, atol=1e-5, rtol=1e-5)


def test_light_and_contrast_of_a_tile_do_not_show_and_a_plain_tile_stays_plain() -> None:
    flat = torch.full((1, 3, 90, 90), 0.25)
    assert torch.equal(pretext.shuffled_tiles(flat, ORDER[None]), torch.full((1, 3, 66, 66), 0.25))
    images = noise(1, 90)
    lit = images.clone()
    lit[:, :, :30, :30] = lit[:, :, :30, :30] * 0.5 + 0.3
    torch.manual_seed(0)
    first = tiles_of(pretext.shuffled_tiles(images, ORDER[None]))[0, 7]  # of cell 0, the one that was lit
    torch.manual_seed(0)
    second = tiles_of(pretext.shuffled_tiles(lit, ORDER[None]))[0, 7]

    def standard(tile: Tensor) -> Tensor:  # the whole image's light has changed a little, too
        return (tile - tile.mean(dim=(1, 2), keepdim=True)) / tile.std(dim=(1, 2), keepdim=True)

    torch.testing.assert_close(standard(first), standard(second), atol=1e-4, rtol=0)
    torch.testing.assert_close(second.mean(dim=(1, 2)), lit[0].mean(dim=(1, 2)), atol=1e-5, rtol=0)


def test_cells_too_small_for_a_tile_are_refused() -> None:
    with pytest.raises(ValueError, match="cells of 2 pixels leave no tile"):
        pretext.shuffled_tiles(noise(1, 8), ORDER[None])
