"""Random views of images in batches, on the device where the images are: what contrastive learning trains on.

Images are float [b, 3, r, r], RGB in [0, 1]. Every image has random parameters of its own, from torch's global
generators: the same seed gives the same bits on the same device. They are drawn on the images' device (parameters that
are given must be there, too) and no value is ever read back, so that a GPU is never waited for. What is drawn is apart
from what is done with it: `crop`, `adjusted_hue`, `blurred` and the like are pure functions of given parameters, the
same as torchvision's on tensors.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn.functional import interpolate

Range = tuple[float, float]

TRIES = 10  # crops drawn for an image before the central one is taken, as torchvision does
GROUP = 16  # images that share an order of colour operations; a CPU makes views of so many at a time, in its cache


def random_resized_crop(images: Tensor, size: int, scale: Range = (0.08, 1.0), ratio: Range = (3 / 4, 4 / 3)) -> Tensor:
    """A random part of each image, resized to a square [b, 3, size, size]: torchvision's RandomResizedCrop.

    Args:
        scale: share of the image's area, drawn uniformly.
        ratio: width by height, drawn uniformly in its logarithm.
    """
    return crop(images, *random_boxes(images, scale, ratio), size)


def random_boxes(images: Tensor, scale: Range, ratio: Range) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, left, height and width, each int64 [b], in pixels: Inception's crops (Szegedy et al. 2015, section 6).

    Area and aspect are drawn until the rounded box fits, ten times at most; then the box is the largest central one of
    an allowed aspect. All ten are drawn at once and the first that fits is taken.
    """
    count, _, rows, columns = images.shape
    drawn = images.new_empty(4, count, TRIES, dtype=torch.float32)
    area = drawn[0].uniform_(*scale) * (rows * columns)
    aspect = drawn[1].uniform_(math.log(ratio[0]), math.log(ratio[1])).exp()
    width, height = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (width > 0) & (width <= columns) & (height > 0) & (height <= rows)
    top = whole_below(drawn[2].uniform_(), rows - height + 1)
    left = whole_below(drawn[3].uniform_(), columns - width + 1)
    first = fits.int().argmax(dim=1, keepdim=True)  # of equal ones, argmax names the first

    high, wide = rows, columns
    if columns / rows < ratio[0]:
        high = round(columns / ratio[0])
    elif columns / rows > ratio[1]:
        wide = round(rows * ratio[1])
    any_fits = fits.any(dim=1)

    def chosen(candidates: Tensor, fallback: int) -> Tensor:
        return torch.where(any_fits, candidates.gather(1, first).squeeze(1), float(fallback)).long()

    return (
        chosen(top, (rows - high) // 2),
        chosen(left, (columns - wide) // 2),
        chosen(height, high),
        chosen(width, wide),
    )


def crop(images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, size: int) -> Tensor:
    """The given box [b] of each image, in whole pixels, resized to [b, 3, size, size]; differentiable.

    Bilinear, antialiased where it shrinks, as torchvision's resized_crop: nothing outside of the box is seen. Both
    are linear and separable, so that this is two matrix products an image.
    """
    rows = _resampling(top, height, images.shape[2], size, images.dtype)
    columns = _resampling(left, width, images.shape[3], size, images.dtype)
    return _products(rows, images, columns)


def resized(images: Tensor, size: int) -> Tensor:
    """Whole images as [b, 3, size, size], bilinear, antialiased where that shrinks; as they are if they fit."""
    if images.shape[2:] == (size, size):
        return images
    return interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def random_flip(images: Tensor, p: float = 0.5) -> Tensor:
    """Each image mirrored left to right with probability p."""
    return _where(_chance(images, p), images.flip(3), images)


def color_jitter(
    images: Tensor, brightness: float, contrast: float, saturation: float, hue: float, p: float = 1.0
) -> Tensor:
    """Each image's colours changed at random with probability p: torchvision's ColorJitter.

    The factors of brightness, contrast and saturation are drawn uniformly from [max(0, 1 - x), 1 + x], the turn of the
    hue from [-hue, hue], at most 0.5. The order of the four is random, and shared by GROUP images that follow each
    other in the batch: one for each image would need every operation four times. Orders are drawn on the CPU, since
    they decide what is run.
    """
    if not 0 <= hue <= 0.5:
        raise ValueError(f"hue is {hue}; it is at least 0 and at most 0.5, half the circle")
    factors = images.new_empty(4, len(images), dtype=torch.float32)
    for of_images, spread in zip(factors, (brightness, contrast, saturation), strict=False):
        of_images.uniform_(max(0.0, 1 - spread), 1 + spread)
    factors[3].uniform_(-hue, hue)
    jittered = [
        _jittered(some, of_some, torch.randperm(4).tolist())
        for some, of_some in zip(torch.split(images, GROUP), torch.split(factors, GROUP, dim=1), strict=True)
    ]
    return _where(_chance(images, p), torch.cat(jittered), images)


def _jittered(images: Tensor, factors: Tensor, order: list[int]) -> Tensor:
    operations = (adjusted_brightness, adjusted_contrast, adjusted_saturation, adjusted_hue)
    for i in order:
        images = operations[i](images, factors[i])
    return images


def adjusted_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Images mixed with black: 0 is black, 1 the image; factor [b], never negative. Stays in [0, 1] by clipping."""
    return (images * _per_image(factor, images)).clamp(0, 1)


def adjusted_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Images mixed with their mean grey; 0 is grey, 1 the image; factor [b]."""
    return _mixed(images, grey(images).mean(dim=(1, 2, 3), keepdim=True), factor)


def adjusted_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Images mixed with themselves in grey; 0 is grey, 1 the image; factor [b]."""
    return _mixed(images, grey(images), factor)


def adjusted_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Images with the hue of HSV turned; turn [b] in [-0.5, 0.5], in circles.

    The way back from HSV is taken without its six cases: a channel is the largest one less a share of the chroma, and
    the share is a trapezium over the hue, 0 around the channel's own (red's 0, green's 2, blue's 4 sixths of a circle).
    """
    red, green, blue = images.unbind(1)
    low, high = torch.aminmax(images, dim=1)
    chroma = high - low
    by_green = torch.where(high == green, blue - red + 2 * chroma, red - green + 4 * chroma)
    sixths = torch.where(high == red, green - blue, by_green) / torch.where(chroma == 0, 1, chroma)
    sixths = (sixths + 6 * _per_image(turn, images)[:, 0]).remainder(6)
    less = (2 - (sixths - 3).abs(), (sixths - 2).abs() - 1, (sixths - 4).abs() - 1)
    return torch.stack([high - chroma * of_channel.clamp(0, 1) for of_channel in less], dim=1)


def random_grayscale(images: Tensor, p: float = 0.1) -> Tensor:
    """Each image in grey, still of three channels, with probability p."""
    return _where(_chance(images, p), grey(images), images)


def grey(images: Tensor) -> Tensor:
    """Luma [b, 1, r, r], the weights of ITU-R BT.601 to the digits that torchvision uses."""
    red, green, blue = images.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def gaussian_blur(images: Tensor, p: float = 0.5, sigma: Range = (0.1, 2.0), kernel: int | None = None) -> Tensor:
    """Each image blurred with probability p, by a Gaussian of a sigma drawn uniformly, in pixels.

    Args:
        kernel: pixels of the kernel's side, odd; by default about a tenth of the image's side (23 of 224), at least 3:
            as in SimCLR (Chen et al. 2020, appendix A).
    """
    if kernel is None:
        kernel = 2 * max(1, images.shape[3] // 20) + 1
    drawn = images.new_empty(len(images), dtype=torch.float32).uniform_(*sigma)
    return _where(_chance(images, p), blurred(images, drawn, kernel), images)


def blurred(images: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Images convolved with Gaussians of their own sigma [b], in pixels, cut off at kernel x kernel; mirrored at edges.

    The mirror folded in, this is a product with a banded matrix along each axis.
    """
    if kernel % 2 == 0 or not 0 < kernel < 2 * min(images.shape[2:]):
        raise ValueError(f"a kernel of {kernel} pixels; it is odd, and less than twice the image's side")
    away = torch.arange(kernel // 2 + 1, device=images.device)
    weights = (-0.5 * (away / sigma[:, None]).square()).exp()
    weights = weights / (2 * weights.sum(dim=1, keepdim=True) - weights[:, :1])  # both sides, the centre once
    weights = weights.to(images.dtype)
    sides = {side: _at_distance(side, kernel // 2, images).flatten(1) for side in images.shape[2:]}
    with _without_autocast(images.device.type):
        bands = {side: (weights @ at_distance).view(-1, side, side) for side, at_distance in sides.items()}
    return _products(bands[images.shape[2]], images, bands[images.shape[3]])


def simclr_view(images: Tensor, size: int | None = None, strength: float = 1.0, blur: bool = True) -> Tensor:
    """A view as in SimCLR (Chen et al. 2020, "A simple framework ...", appendix A): [b, 3, size, size], in [0, 1].

    A crop of 8 to 100 % of the area, a flip, colours jittered (80 %), grey (20 %), blurred (50 %).

    Args:
        size: pixels of the view's side; by default the image's.
        strength: of the jitter, the paper's s: 1 on ImageNet, 0.5 on CIFAR-10 (appendix B.9); at most 2.5.
        blur: the paper does without on CIFAR-10.
    """

    def view(images: Tensor) -> Tensor:
        images = random_flip(random_resized_crop(images, size or images.shape[3]))
        images = color_jitter(images, 0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength, p=0.8)
        images = random_grayscale(images, p=0.2)
        return gaussian_blur(images, p=0.5) if blur else images

    return _in_groups(view, images)


def moco_v2_view(images: Tensor, size: int | None = None) -> Tensor:
    """A view as in MoCo v2 (Chen et al. 2020, "Improved baselines ...", section 3): [b, 3, size, size], in [0, 1].

    The numbers are those of the authors' code: a crop of 20 to 100 % of the area, colours jittered more weakly than
    SimCLR's (80 %), grey (20 %), blurred (50 %), a flip. Their blur is Pillow's, of a radius that is this sigma.
    """

    def view(images: Tensor) -> Tensor:
        images = random_resized_crop(images, size or images.shape[3], scale=(0.2, 1.0))
        images = color_jitter(images, 0.4, 0.4, 0.4, 0.1, p=0.8)
        images = random_grayscale(images, p=0.2)
        return random_flip(gaussian_blur(images, p=0.5, sigma=(0.1, 2.0)))

    return _in_groups(view, images)


def moco_v1_view(images: Tensor, size: int | None = None) -> Tensor:
    """A view as in MoCo (He et al. 2020, section 3.3), which is InstDisc's (Wu et al. 2018): [b, 3, size, size].

    The numbers are those of the authors' code: a crop of 20 to 100 % of the area, grey (20 %), colours jittered
    (always, and after the grey: what is grey has no hue to turn), a flip.
    """

    def view(images: Tensor) -> Tensor:
        images = random_resized_crop(images, size or images.shape[3], scale=(0.2, 1.0))
        images = random_grayscale(images, p=0.2)
        return random_flip(color_jitter(images, 0.4, 0.4, 0.4, 0.4))

    return _in_groups(view, images)


def _in_groups(view: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Views of all images; on a CPU a group at a time, 1.4 times as fast as all at once. A GPU wants large batches."""
    if images.device.type != "cpu":
        return view(images)
    return torch.cat([view(some) for some in torch.split(images, GROUP)])


def _chance(images: Tensor, p: float) -> Tensor:
    """Which images [b], each with probability p."""
    return images.new_empty(len(images), dtype=torch.float32).uniform_() < p


def _where(which: Tensor, changed: Tensor, images: Tensor) -> Tensor:
    return torch.where(which[:, None, None, None], changed, images)


def whole_below(uniform: Tensor, bound: Tensor | int) -> Tensor:
    """Whole numbers from 0 to bound - 1, all equally likely, of float32 from [0, 1): no product rounds up to bound."""
    return (uniform * bound).floor()


def _per_image(factor: Tensor, images: Tensor) -> Tensor:
    return factor.to(images.dtype)[:, None, None, None]


def _mixed(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    factor = _per_image(factor, images)
    return (factor * images + (1 - factor) * other).clamp(0, 1)


def _resampling(start: Tensor, length: Tensor, pixels: int, size: int, dtype: torch.dtype) -> Tensor:
    """Weights [b, size, pixels] of an axis's pixels in each of the pixels that start [b] to start + length become.

    A triangle around the new pixel's centre, one old pixel to each side or, if it shrinks, one new pixel; what is
    outside of the part has no weight, and the weights sum to 1 (torch's upsample with antialias).
    """
    start, length = start[:, None, None].float(), length[:, None, None].float()
    step = length / size
    centre = step * (torch.arange(size, device=start.device)[:, None] + 0.5)
    pixel = torch.arange(pixels, device=start.device) + 0.5 - start
    pixel = torch.where((pixel > 0) & (pixel < length), pixel, math.inf)
    weights = (pixel - centre).abs_().div_(step.clamp(min=1)).neg_().add_(1).clamp_(min=0)  # in place: they are large
    return weights.div_(weights.sum(dim=2, keepdim=True)).to(dtype)


def _at_distance(side: int, radius: int, images: Tensor) -> Tensor:
    """How often [radius + 1, side, side] pixel j, or its mirror image beyond an edge, is so far from pixel i."""
    i = torch.arange(side, device=images.device)[:, None]
    j = torch.arange(side, device=images.device)
    far = torch.arange(radius + 1, device=images.device)[:, None, None]
    inside = (i - j).abs() == far
    before = (i + j == far) & (j > 0)  # the edge itself has no mirror image
    behind = (2 * (side - 1) - i - j == far) & (j < side - 1)
    return inside.to(images.dtype) + before + behind


def _products(rows: Tensor, images: Tensor, columns: Tensor) -> Tensor:
    """rows [b, p, r] @ images [b, 3, r, q] @ columns^T [b, q, s], in the images' own precision: [b, 3, p, s].

    Out of autocast, whose bfloat16 knows 256 steps of a pixel's value. TensorFloat-32, if it is allowed, knows 2048.
    """
    with _without_autocast(images.device.type):
        half = images.flatten(1, 2) @ columns.mT
        found: Tensor = rows[:, None] @ half.view(images.shape[:3] + half.shape[2:])
    return found


def _without_autocast(device: str) -> AbstractContextManager[object]:
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
