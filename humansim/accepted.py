"""What a metric takes for images: files, Pillow pictures, numpy arrays, torch tensors. Anything else is refused.

Pictures of whole numbers are resized by Pillow, exactly as the trial's images were. Floats are resized by torch, so
that a gradient gets through: much the same picture, not the same bits.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor, nn

from humansim.errors import BadInput
from humansim.pictures import Resize, as_seen, upright

One = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor
Images = One | Sequence[One]
Mask = NDArray[Any] | Tensor
SLACK = 1e-4  # that rounding may take a float out of [0, 1]
SMALLEST = 2  # pixels of a side


def count(images: Images) -> int:
    """How many images are given: one that is no batch counts as a batch of one.

    Raises:
        BadInput: nothing that could be images.
    """
    if isinstance(images, str | os.PathLike | Image.Image):
        return 1
    if isinstance(images, np.ndarray | Tensor):
        if images.ndim not in (3, 4):
            raise BadInput(f"images: {_what(images)}; give [h, w, 3] or [n, h, w, 3] (numpy), [n, 3, h, w] (torch)")
        return len(images) if images.ndim == 4 else 1
    if isinstance(images, list | tuple):
        return len(images)
    raise BadInput(f"images: {type(images).__name__}; give paths, Pillow pictures, numpy arrays or torch tensors")


def batches(images: Images, rule: Resize, size: int) -> Iterator[Tensor]:
    """The images in batches of a size, the last one less: uint8 [b, r, r, 3], or floats [b, 3, r, r] in [0, 1].

    Raises:
        BadInput: an image that cannot be read; a range, a shape or a type that is not an image's.
    """
    if isinstance(images, np.ndarray | Tensor) and images.ndim == 4:
        if images.dtype in (np.uint8, torch.uint8):
            images = [one.numpy() if isinstance(one, Tensor) else one for one in _last(images)]
        else:
            floats = _floats(images)
            for start in range(0, len(floats), size):
                yield resized(floats[start : start + size], rule)
            return
    every: Sequence[One] = images if isinstance(images, list | tuple) else [images]  # type: ignore[list-item]
    for start in range(0, len(every), size):
        some = enumerate(every[start : start + size], start)
        read = [_one(one, rule, f"image {i}" if len(every) > 1 else "image") for i, one in some]
        if all(one.dtype == torch.uint8 for one in read):
            yield torch.stack(read)
        else:
            yield torch.stack([_unit(one) if one.dtype == torch.uint8 else one for one in read])


def _one(image: One, rule: Resize, name: str) -> Tensor:
    """One image as uint8 [r, r, 3], or as floats [3, r, r]."""
    if isinstance(image, np.ndarray | Tensor):
        if image.ndim != 3:
            raise BadInput(f"{name}: {_what(image)}; in a list each is one image: [h, w, 3] (numpy), [3, h, w] (torch)")
        if image.dtype not in (np.uint8, torch.uint8):
            return resized(_floats(image[None]), rule)[0]
        (array,) = _last(image[None])
        picture = Image.fromarray(array.cpu().numpy() if isinstance(array, Tensor) else np.ascontiguousarray(array))
    elif isinstance(image, Image.Image):
        picture = _seen(image, name)
    elif isinstance(image, str | os.PathLike):
        picture = _opened(Path(image))
    else:
        raise BadInput(
            f"{name}: {type(image).__name__}; give a path, a Pillow picture, a numpy array or a torch tensor"
        )
    _check_size(name, *picture.size)
    return torch.from_numpy(np.array(rule(picture)))


def _opened(path: Path) -> Image.Image:
    try:
        return upright(path.read_bytes())
    except UnidentifiedImageError:
        raise BadInput(f"{path}: it is no image that can be read") from None
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from None
    except (ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(f"{path}: it cannot be read as an image ({error})") from None


def _seen(picture: Image.Image, name: str) -> Image.Image:
    if picture.mode in ("F", "I"):
        raise BadInput(f"{name}: a Pillow picture of mode {picture.mode}; scale it to 8 bits and convert it to RGB")
    return as_seen(picture)


def _last(images: NDArray[Any] | Tensor) -> NDArray[Any] | Tensor:
    """Whole-number images [n, h, w, 3], channels last whichever way they come."""
    moved = images.permute(0, 2, 3, 1) if isinstance(images, Tensor) else images
    if moved.shape[3] != 3:
        raise _channels(images)
    _check_size("images", moved.shape[2], moved.shape[1])
    return moved


def _floats(images: NDArray[Any] | Tensor) -> Tensor:
    """Float images [n, 3, h, w], checked.

    Raises:
        BadInput: another type, another number of channels, or values outside [0, 1].
    """
    if not (torch.is_floating_point(images) if isinstance(images, Tensor) else images.dtype.kind == "f"):
        raise BadInput(f"images: {_what(images)}; give uint8 of 0 to 255, or floats of 0 to 1")
    if isinstance(images, Tensor):
        tensor = images
    else:
        tensor = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    if tensor.shape[1] != 3:
        raise _channels(images)
    _check_size("images", tensor.shape[3], tensor.shape[2])
    low, high = (float(end) for end in tensor.detach().aminmax()) if len(tensor) else (0.0, 1.0)
    if not (low >= -SLACK and high <= 1 + SLACK):  # also of NaN
        advice = "divide them by 255" if high > 2 else "of [-1, 1] make (x + 1) / 2; clamp what a network put outside"
        raise BadInput(f"images: floats from {low:.4g} to {high:.4g}; they have to lie in [0, 1]: {advice}")
    return tensor


def resized(images: Tensor, rule: Resize) -> Tensor:
    """Float images [n, 3, h, w] as the rule's squares [n, 3, r, r], by torch; of the right size as they are."""
    side, (high, wide) = rule.resolution, images.shape[2:]
    size = _size(high, wide, rule)
    if size != (high, wide):
        images = nn.functional.interpolate(images, size, mode=rule.interpolation, antialias=True).clamp(0, 1)
    top, left = (round((length - side) / 2.0) for length in size)
    return images[:, :, top : top + side, left : left + side]


def _size(high: int, wide: int, rule: Resize) -> tuple[int, int]:
    """Height and width to which a rule brings an image before it cuts out the centre."""
    if rule.shorter is None:
        return rule.resolution, rule.resolution
    if wide <= high:
        return int(rule.shorter * high / wide), rule.shorter
    return rule.shorter, int(rule.shorter * wide / high)


def seen(high: int, wide: int, rule: Resize) -> tuple[slice, slice]:
    """Rows and columns of an image that are in the rule's square: all of them, or those of the centre."""
    rows, columns = (
        slice(round((size - rule.resolution) / 2 * own / size), round((size + rule.resolution) / 2 * own / size))
        for own, size in zip((high, wide), _size(high, wide, rule), strict=True)
    )
    return rows, columns


def opened(images: Images) -> Images:
    """The same with pictures in the place of paths: for those who need their size too, so that each is read once.

    Raises:
        BadInput: a file that cannot be read.
    """
    if isinstance(images, str | os.PathLike):
        return _opened(Path(images))
    if isinstance(images, list | tuple):
        return [_opened(Path(one)) if isinstance(one, str | os.PathLike) else one for one in images]
    return images


def size_of(images: Images) -> tuple[int, int]:
    """Height and width of images that are all of one size.

    Raises:
        BadInput: they are of several sizes, are none, or are no images.
    """
    every: Sequence[One] = images if isinstance(images, list | tuple) else [images]  # type: ignore[list-item]
    sizes = {_size_of(one) for one in every}
    if not sizes:
        raise BadInput("images: none are given")
    if len(sizes) > 1:
        some = ", ".join(f"{high} x {wide}" for high, wide in sorted(sizes)[:3])
        raise BadInput(f"images: of several sizes (height x width {some}); give those of one size at a time")
    return sizes.pop()


def _size_of(image: One) -> tuple[int, int]:
    if isinstance(image, Image.Image):
        turned = ImageOps.exif_transpose(image)
        return turned.height, turned.width
    if isinstance(image, Tensor | np.ndarray):
        if image.ndim < 3:
            raise BadInput(f"image: {_what(image)}; a tensor is [3, h, w] or [n, 3, h, w], an array [h, w, 3]")
        high, wide = image.shape[-2:] if isinstance(image, Tensor) else image.shape[-3:-1]
        return high, wide
    raise BadInput(f"image: {type(image).__name__}; give a path, a Pillow picture, a numpy array or a torch tensor")


def mask_of(mask: Mask, size: tuple[int, int], device: torch.device) -> Tensor:
    """A mask over images of a size as floats [n, 1, h, w] on a device; n is 1 for one [h, w].

    Raises:
        BadInput: another size, or values outside [0, 1].
    """
    if not isinstance(mask, np.ndarray | Tensor):
        raise BadInput(f"mask: {type(mask).__name__}; give a torch tensor or a numpy array, [h, w] or [n, 1, h, w]")
    given = torch.from_numpy(np.ascontiguousarray(mask)) if isinstance(mask, np.ndarray) else mask
    whole = given[None, None] if given.ndim == 2 else given
    if whole.ndim != 4 or whole.shape[1] != 1 or whole.shape[2:] != size:
        wanted = f"[{size[0]}, {size[1]}] or [n, 1, {size[0]}, {size[1]}], the size of the first images"
        raise BadInput(f"mask: {_what(mask)}; give {wanted}")
    whole = whole.to(device) if whole.is_floating_point() else whole.to(device, torch.float32)
    low, high = (float(end) for end in whole.detach().aminmax()) if len(whole) else (0.0, 1.0)
    if not (low >= 0 and high <= 1):  # also of NaN
        raise BadInput(f"mask: from {low:.4g} to {high:.4g}; 1 is what counts, 0 what does not")
    return whole


def _unit(image: Tensor) -> Tensor:
    return image.permute(2, 0, 1).float() / 255


def _check_size(name: str, wide: int, high: int) -> None:
    if min(wide, high) < SMALLEST:
        raise BadInput(f"{name}: {wide} x {high} pixels; a side has at least {SMALLEST}")


def _channels(images: NDArray[Any] | Tensor) -> BadInput:
    where = "[n, 3, h, w]" if isinstance(images, Tensor) else "[n, h, w, 3]"
    return BadInput(f"images: {_what(images)}; RGB is {where}: repeat a grey channel three times, leave alpha out")


def _what(images: NDArray[Any] | Tensor) -> str:
    kind = "torch tensor" if isinstance(images, Tensor) else "numpy array"
    return f"a {kind} {list(images.shape)} of {str(images.dtype).removeprefix('torch.')}"
