"""Batched transformations: each the same as torchvision's of one image, random for each image, and never waiting."""

import inspect
import math
from collections.abc import Callable
from itertools import permutations as all_orders

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as tv

from humansim import augmentations, pretext

RANDOM: dict[str, Callable[[Tensor], Tensor]] = {
    "crop": lambda images: augmentations.random_resized_crop(images, 20),
    "flip": augmentations.random_flip,
    "jitter": lambda images: augmentations.color_jitter(images, 0.4, 0.4, 0.4, 0.1),
    "grey": augmentations.random_grayscale,
    "blur": augmentations.gaussian_blur,
    "simclr": augmentations.simclr_view,
    "moco_v2": augmentations.moco_v2_view,
    "moco_v1": augmentations.moco_v1_view,
    "tiles": lambda images: pretext.shuffled_tiles(images, in_order(images)),
}
WITH_CHANCE: dict[str, Callable[[Tensor, float], Tensor]] = {
    "flip": augmentations.random_flip,
    "jitter": lambda images, p: augmentations.color_jitter(images, 0.4, 0.4, 0.4, 0.1, p),
    "grey": augmentations.random_grayscale,
    "blur": lambda images, p: augmentations.gaussian_blur(images, p, sigma=(1.0, 2.0)),
}
ADJUSTED = {
    "brightness": (augmentations.adjusted_brightness, tv.adjust_brightness),
    "contrast": (augmentations.adjusted_contrast, tv.adjust_contrast),
    "saturation": (augmentations.adjusted_saturation, tv.adjust_saturation),
    "hue": (augmentations.adjusted_hue, tv.adjust_hue),
}
any_images = arrays.arrays(np.float32, (2, 3, 5, 5), elements=st.floats(0, 1, width=32)).map(torch.from_numpy)
ORDER = torch.tensor([7, 5, 1, 6, 2, 3, 8, 0, 4])


def noise(count: int, rows: int = 24, columns: int | None = None, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, rows, columns or rows, generator=torch.Generator().manual_seed(seed))


def in_order(images: Tensor) -> Tensor:
    return torch.arange(9, device=images.device).expand(len(images), 9)


def where_from(count: int, side: int) -> Tensor:
    """Images whose red is the pixel's row and whose green is its column."""
    row = torch.arange(side).float()[:, None].expand(side, side)
    return torch.stack([row, row.T, torch.zeros(side, side)]).expand(count, 3, side, side)


# What all of them promise


@pytest.mark.parametrize("name", RANDOM)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(name: str) -> None:
    images = noise(20)

    def seeded(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return RANDOM[name](images)

    assert torch.equal(seeded(1), seeded(1))
    assert not torch.equal(seeded(1), seeded(2))


@pytest.mark.parametrize("name", RANDOM)
def test_no_value_is_ever_read_so_that_nothing_waits_for_a_gpu(name: str) -> None:
    assert RANDOM[name](torch.empty(20, 3, 24, 24, device="meta")).is_meta  # has no values: reading one raises


@pytest.mark.parametrize("name", RANDOM)
def test_images_are_left_as_they_were_and_their_layout_does_not_matter(name: str) -> None:
    images = noise(20)
    before = images.clone()
    torch.manual_seed(0)
    found = RANDOM[name](images)
    assert torch.equal(images, before)
    torch.manual_seed(0)
    torch.testing.assert_close(RANDOM[name](images.contiguous(memory_format=torch.channels_last)), found)


@pytest.mark.parametrize("name", [name for name in RANDOM if name != "tiles"])
@settings(deadline=None, max_examples=25)
@given(images=any_images, seed=st.integers(0, 2**32))
def test_values_stay_in_0_to_1(name: str, images: Tensor, seed: int) -> None:
    torch.manual_seed(seed)
    found = RANDOM[name](images)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6  # weights that sum to 1 do so up to rounding


@pytest.mark.parametrize("name", ["crop", "jitter", "simclr", "moco_v2", "moco_v1"])
def test_every_image_has_parameters_of_its_own(name: str) -> None:
    torch.manual_seed(0)
    views = RANDOM[name](noise(1).expand(50, 3, 24, 24))
    assert len(views.flatten(1).unique(dim=0)) == 50


@pytest.mark.parametrize("name", WITH_CHANCE)
def test_with_chance_0_images_are_the_same_bits_and_with_chance_1_all_are_changed(name: str) -> None:
    images = noise(40)
    assert torch.equal(WITH_CHANCE[name](images, 0.0), images)
    changed = WITH_CHANCE[name](images, 1.0) != images
    assert changed.flatten(1).any(dim=1).all()


@pytest.mark.parametrize("name", WITH_CHANCE)
@pytest.mark.parametrize("p", [0.2, 0.8])
def test_chance_p_changes_a_share_of_p_and_leaves_the_others_the_same_bits(name: str, p: float) -> None:
    torch.manual_seed(0)
    images = noise(2000, 6)
    share = (WITH_CHANCE[name](images, p) != images).flatten(1).any(dim=1).float().mean().item()
    assert share == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 2000))


# Crops


@st.composite
def boxes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 30))
    return draw(st.integers(0, 24 - height)), draw(st.integers(0, 30 - width)), height, width


@settings(deadline=None, max_examples=100)
@given(some=st.lists(boxes(), min_size=1, max_size=4), size=st.integers(1, 40))
def test_a_crop_is_torchvisions_antialiased_one_of_each_image(some: list[tuple[int, int, int, int]], size: int) -> None:
    images = noise(len(some), 24, 30)
    found = augmentations.crop(images, *torch.tensor(some).T, size)
    for image, box, cropped in zip(images, some, found, strict=True):
        torch.testing.assert_close(
            cropped, tv.resized_crop(image, *box, [size, size], antialias=True), atol=1e-5, rtol=0
        )


def test_the_crop_of_all_in_its_own_size_is_the_image_bit_for_bit() -> None:
    images = noise(3)
    whole = torch.tensor([[0, 0, 24, 24]] * 3).T
    assert torch.equal(augmentations.crop(images, *whole, 24), images)


def test_a_crop_sees_nothing_outside_of_its_box() -> None:
    images = noise(1)
    other = torch.zeros_like(images)
    other[:, :, 5:15, 3:20] = images[:, :, 5:15, 3:20]
    box = [torch.tensor([x]) for x in (5, 3, 10, 17)]
    assert torch.equal(augmentations.crop(images, *box, 30), augmentations.crop(other, *box, 30))


def test_a_crop_is_differentiable() -> None:
    images = noise(2, 4).double().requires_grad_()
    box = torch.tensor([[0, 1, 4, 3], [2, 0, 1, 4]]).T
    assert torch.autograd.gradcheck(lambda images: augmentations.crop(images, *box, 2), images)


def test_autocast_does_not_coarsen_pixels() -> None:
    images, sigma, box = noise(2), torch.tensor([0.5, 2.0]), torch.tensor([[0, 1, 20, 14], [2, 0, 9, 24]]).T
    with torch.autocast("cpu", torch.bfloat16):
        found = augmentations.crop(images, *box, 20), augmentations.blurred(images, sigma, 5)
    assert torch.equal(found[0], augmentations.crop(images, *box, 20))
    assert torch.equal(found[1], augmentations.blurred(images, sigma, 5))


def drawn_boxes(
    count: int, rows: int, columns: int, scale: augmentations.Range, ratio: augmentations.Range = (3 / 4, 4 / 3)
) -> list[np.ndarray]:
    torch.manual_seed(0)
    found = augmentations.random_boxes(torch.empty(1, 3, rows, columns).expand(count, -1, -1, -1), scale, ratio)
    return [of_boxes.numpy() for of_boxes in found]


def test_area_and_logarithm_of_aspect_are_drawn_uniformly_when_every_box_fits() -> None:
    _, _, height, width = drawn_boxes(4000, 1000, 1000, scale=(0.1, 0.5))
    assert stats.kstest(height * width / 1e6, stats.uniform(0.1, 0.4).cdf).pvalue > 0.01
    assert stats.kstest(np.log(width / height), stats.uniform(np.log(3 / 4), 2 * np.log(4 / 3)).cdf).pvalue > 0.01


def test_boxes_lie_inside_and_everywhere() -> None:
    top, left, height, width = drawn_boxes(4000, 40, 60, scale=(0.08, 1.0))
    assert height.min() >= 1
    assert width.min() >= 1
    for start, length, side in ((top, height, 40), (left, width, 60)):
        assert start.min() == 0
        assert (start + length).max() == side
        some = length < side * 0.5
        assert (
            stats.kstest((start[some] + 0.5) / (side - length[some] + 1), "uniform").pvalue > 1e-4
        )  # steps of a pixel


@pytest.mark.parametrize(("scale", "ratio"), [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.2, 1.0), (0.5, 3.0))])
def test_boxes_are_distributed_as_torchvisions(scale: augmentations.Range, ratio: augmentations.Range) -> None:
    ours = drawn_boxes(3000, 100, 140, scale, ratio)
    image = torch.empty(3, 100, 140)
    theirs = np.array([RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(3000)])
    for of_ours, of_theirs in zip(ours, theirs.T, strict=True):
        assert stats.ks_2samp(of_ours, of_theirs).pvalue > 0.01


@pytest.mark.parametrize("shape", [(50, 50), (40, 100), (100, 40), (50, 60)])
def test_where_no_box_fits_it_is_torchvisions_central_one(shape: tuple[int, int]) -> None:
    found = drawn_boxes(2, *shape, scale=(4.0, 5.0))
    expected = RandomResizedCrop.get_params(torch.empty(3, *shape), [4.0, 5.0], [3 / 4, 4 / 3])
    assert [of_boxes.tolist() for of_boxes in found] == [[x, x] for x in expected]


def test_numbers_drawn_below_a_bound_never_reach_it() -> None:
    bound = torch.arange(1, 100_000)
    largest = torch.tensor(1 - 2.0**-24)  # that torch draws from [0, 1)
    assert torch.equal(augmentations.whole_below(largest, bound).long(), bound - 1)


@pytest.mark.parametrize("size", [10, 24, 50])
def test_resized_is_torchvisions_antialiased_resize(size: int) -> None:
    images = noise(2)
    found = augmentations.resized(images, size)
    torch.testing.assert_close(found, tv.resize(images, [size, size], antialias=True), atol=1e-6, rtol=0)
    assert augmentations.resized(images, 24) is images


# Flip, colours, blur


def test_a_flipped_image_is_the_image_from_right_to_left() -> None:
    images = noise(3)
    assert torch.equal(augmentations.random_flip(images, 1.0), tv.horizontal_flip(images))


@pytest.mark.parametrize("name", ADJUSTED)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_colours_are_adjusted_by_torchvisions_formulas(name: str, data: st.DataObject) -> None:
    ours, theirs = ADJUSTED[name]
    images = data.draw(any_images)
    if name == "hue":  # hue jumps where channels are almost equal: 1e-38 of green is as green as can be
        images = (images * 255).round() / 255
    extent = (-0.5, 0.5) if name == "hue" else (0.0, 3.0)
    factors = torch.tensor(data.draw(st.lists(st.floats(*extent, width=32), min_size=2, max_size=2)))
    for image, factor, found in zip(images, factors.tolist(), ours(images, factors), strict=True):
        torch.testing.assert_close(found, theirs(image, factor), atol=1e-5, rtol=0)


def test_turned_by_a_third_red_is_green_green_is_blue_and_greys_stay() -> None:
    colours = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0.3, 0.3, 0.3], [1, 1, 1], [0, 0, 0]])
    turned = augmentations.adjusted_hue(colours.T[None, :, None], torch.tensor([1 / 3]))[0, :, 0].T
    torch.testing.assert_close(turned, torch.cat([colours[[1, 2, 0]], colours[3:]]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ADJUSTED)
def test_the_identity_s_factor_gives_the_image(name: str) -> None:
    images = noise(2)
    found = ADJUSTED[name][0](images, torch.full((2,), 0.0 if name == "hue" else 1.0))
    torch.testing.assert_close(found, images, atol=1e-6 if name == "hue" else 0, rtol=0)


def recorded_jitter(monkeypatch: pytest.MonkeyPatch, images: Tensor, *strengths: float) -> tuple[list, Tensor]:
    """What color_jitter applied in turn, (name, factors [of a group]), and what came of it."""
    applied: list[tuple[str, Tensor]] = []
    for name, (ours, _) in ADJUSTED.items():

        def adjusted(images: Tensor, factor: Tensor, name: str = name, ours: Callable = ours) -> Tensor:
            applied.append((name, factor))
            return ours(images, factor)

        monkeypatch.setattr(augmentations, f"adjusted_{name}", adjusted)
    torch.manual_seed(0)
    return applied, augmentations.color_jitter(images, *strengths)


def test_jitter_is_torchvisions_four_one_after_the_other_with_each_image_s_factors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = noise(augmentations.GROUP + 5, 8)
    applied, found = recorded_jitter(monkeypatch, images, 0.8, 0.8, 0.8, 0.2)
    assert len(applied) == 8
    for i, (image, jittered) in enumerate(zip(images, found, strict=True)):
        group, place = divmod(i, augmentations.GROUP)
        for name, factors in applied[4 * group : 4 * group + 4]:
            image = ADJUSTED[name][1](image, factors[place].item())
        torch.testing.assert_close(jittered, image, atol=1e-5, rtol=0)


def test_jitter_s_factors_are_uniform_in_torchvisions_ranges_and_every_order_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    groups = 300
    applied, _ = recorded_jitter(monkeypatch, noise(groups * augmentations.GROUP, 2), 0.4, 1.5, 0.8, 0.2)
    ranges = {"brightness": (0.6, 1.4), "contrast": (0, 2.5), "saturation": (0.2, 1.8), "hue": (-0.2, 0.2)}
    for name, (low, high) in ranges.items():
        factors = torch.cat([factors for applied_name, factors in applied if applied_name == name]).numpy()
        assert len(factors) == groups * augmentations.GROUP
        assert stats.kstest(factors, stats.uniform(low, high - low).cdf).pvalue > 0.01
    names = [name for name, _ in applied]
    orders = {tuple(names[4 * group : 4 * group + 4]) for group in range(groups)}
    assert orders == set(all_orders(ADJUSTED))


def test_a_hue_of_more_than_half_the_circle_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hue is 0\.6; it is at least 0 and at most 0\.5"):
        augmentations.color_jitter(noise(1), 0, 0, 0, 0.6)


def test_grey_is_torchvisions_in_three_channels() -> None:
    images = noise(3)
    expected = tv.rgb_to_grayscale(images, num_output_channels=3)
    torch.testing.assert_close(augmentations.random_grayscale(images, 1.0), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(24, 24), (9, 13)])
@pytest.mark.parametrize("kernel", [1, 3, 7, 17])
def test_blurred_is_torchvisions_gaussian_blur_of_each_image(shape: tuple[int, int], kernel: int) -> None:
    images, sigmas = noise(4, *shape), [0.1, 0.7, 2.0, 30.0]
    found = augmentations.blurred(images, torch.tensor(sigmas), kernel)
    for image, sigma, blurry in zip(images, sigmas, found, strict=True):
        expected = tv.gaussian_blur(image, [kernel, kernel], [sigma, sigma])
        torch.testing.assert_close(blurry, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernel", [4, 0, -1, 49])
def test_a_kernel_that_has_no_centre_or_is_mirrored_twice_is_refused(kernel: int) -> None:
    with pytest.raises(ValueError, match=f"a kernel of {kernel} pixels; it is odd, and less than twice"):
        augmentations.blurred(noise(1), torch.ones(1), kernel)


@pytest.mark.parametrize(("side", "kernel"), [(224, 23), (112, 11), (64, 7), (12, 3)])
def test_the_kernel_is_about_a_tenth_of_the_image(side: int, kernel: int) -> None:
    images = noise(1, side)
    found = augmentations.gaussian_blur(images, 1.0, sigma=(20.0, 20.0))
    torch.testing.assert_close(found, augmentations.blurred(images, torch.tensor([20.0]), kernel))


def test_sigmas_are_drawn_uniformly(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    monkeypatch.setattr(augmentations, "blurred", lambda images, sigma, kernel: seen.append(sigma) or images)
    torch.manual_seed(0)
    augmentations.gaussian_blur(noise(4000, 2), sigma=(0.1, 2.0))
    assert stats.kstest(seen[0].numpy(), stats.uniform(0.1, 1.9).cdf).pvalue > 0.01


# Views

PARTS = ("random_resized_crop", "random_flip", "color_jitter", "random_grayscale", "gaussian_blur")


def crop_of(low: float) -> tuple[str, dict]:
    return "random_resized_crop", {"size": 12, "scale": (low, 1.0), "ratio": (3 / 4, 4 / 3)}


def jitter_of(b: float, c: float, s: float, h: float, p: float) -> tuple[str, dict]:
    return "color_jitter", {"brightness": b, "contrast": c, "saturation": s, "hue": h, "p": p}


FLIP = ("random_flip", {"p": 0.5})
GREY = ("random_grayscale", {"p": 0.2})
BLUR = ("gaussian_blur", {"p": 0.5, "sigma": (0.1, 2.0), "kernel": None})


@pytest.mark.parametrize(
    ("view", "published"),
    [
        (
            lambda images: augmentations.simclr_view(images, 12),
            [crop_of(0.08), FLIP, jitter_of(0.8, 0.8, 0.8, 0.2, p=0.8), GREY, BLUR],
        ),
        (
            lambda images: augmentations.simclr_view(images, 12, strength=0.5, blur=False),
            [crop_of(0.08), FLIP, jitter_of(0.4, 0.4, 0.4, 0.1, p=0.8), GREY],
        ),
        (
            lambda images: augmentations.moco_v2_view(images, 12),
            [crop_of(0.2), jitter_of(0.4, 0.4, 0.4, 0.1, p=0.8), GREY, BLUR, FLIP],
        ),
        (
            lambda images: augmentations.moco_v1_view(images, 12),
            [crop_of(0.2), GREY, jitter_of(0.4, 0.4, 0.4, 0.4, p=1.0), FLIP],
        ),
    ],
    ids=["simclr", "simclr_cifar", "moco_v2", "moco_v1"],
)
def test_a_view_is_made_of_the_published_parts(
    monkeypatch: pytest.MonkeyPatch, view: Callable[[Tensor], Tensor], published: list[tuple[str, dict]]
) -> None:
    applied: list[tuple[str, dict]] = []
    for name in PARTS:
        part = getattr(augmentations, name)

        def recorded(*args: object, name: str = name, part: Callable = part, **kwargs: object) -> Tensor:
            bound = inspect.signature(part).bind(*args, **kwargs)
            bound.apply_defaults()
            applied.append((name, {key: value for key, value in bound.arguments.items() if key != "images"}))
            return part(*args, **kwargs)

        monkeypatch.setattr(augmentations, name, recorded)
    assert view(noise(4)).shape == (4, 3, 12, 12)
    assert [name for name, _ in applied] == [name for name, _ in published]
    for (_, found), (_, expected) in zip(applied, published, strict=True):
        assert found == {key: pytest.approx(value) if value is not None else None for key, value in expected.items()}


@pytest.mark.parametrize("name", ["simclr", "moco_v2", "moco_v1"])
def test_a_view_is_as_large_as_its_image_and_every_image_of_every_group_is_seen(name: str) -> None:
    count = 2 * augmentations.GROUP + 3
    views = RANDOM[name](torch.linspace(0.3, 0.7, count)[:, None, None, None].expand(count, 3, 24, 24))
    assert views.shape == (count, 3, 24, 24)
    torch.manual_seed(0)
    plain = RANDOM[name](torch.zeros(count, 3, 24, 24))
    assert torch.equal(plain, torch.zeros_like(plain))
    torch.manual_seed(0)
    one_white = torch.zeros(count, 3, 24, 24)
    one_white[augmentations.GROUP + 1] = 1
    lit = RANDOM[name](one_white).flatten(1).amax(dim=1)
    assert lit.nonzero().flatten().tolist() == [augmentations.GROUP + 1]
