"""What an embedding knows of places in an image: features at positions, masks over them, maps of distances.

A convolutional network has features at positions until it pools them, a transformer has a token for each patch. They
are read where the trial reads its embedding, if that has positions, else at the last place in the network that has.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from humansim.backbones.module import Backbone, at_least_float
from humansim.embedder import Embedder, distance
from humansim.errors import BadInput

SMALL = {torch.float32: 1e-3, torch.float64: 1e-3}  # of what other features change: what rounding may
SMALL_HALF = 0.05


@dataclass(frozen=True)
class Grid:
    """Where a backbone has features at positions, and how its embedding reads them.

    Attributes:
        layer: the module of the trunk whose output they are; "" for the trunk itself.
        calls: of that module in one pass; the last one counts.
        side: positions a side.
        read: "mean" if the embedding hangs on the mean over positions alone, "flat" if it is all of them one after the
            other, "otherwise" if neither: a class token, an attention pool.
    """

    layer: str
    calls: int
    side: int
    read: Literal["mean", "flat", "otherwise"] = "otherwise"


@torch.no_grad()
def grid_of(backbone: Backbone, side: int) -> Grid:
    """Finds the positions by a pass, and how they are read by putting others in their place.

    They are at the trial's layer; without one, at the last of the trunk's outermost modules that gives several
    positions, such as a ResNet's last stage or the norm behind a transformer's last block.

    Args:
        side: of an image in pixels.

    Raises:
        BadInput: there are none, or none that lie in a square.
    """
    if any(isinstance(module, Backbone) for module in backbone.trunk.modules()):
        raise BadInput("an ensemble has no positions of its own; its members have, each others")
    image = torch.zeros(1, 3, side, side, device=backbone.mean.device)
    calls: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}  # in the order of the last calls

    def noting(name: str) -> Callable[..., None]:
        def note(module: nn.Module, given: Any, output: Any) -> None:
            shape = tuple(output.shape) if isinstance(output, Tensor) else ()
            calls[name] = calls.get(name, 0) + 1
            shapes.pop(name, None)
            shapes[name] = shape

        return note

    hooks = [module.register_forward_hook(noting(name)) for name, module in backbone.trunk.named_modules()]
    try:
        backbone(image)
    finally:
        for hook in hooks:
            hook.remove()
    if backbone.layer is not None:
        chosen = backbone.layer
    else:
        several = [name for name, shape in shapes.items() if _several(shape)]
        depth = min((_depth(name) for name in several), default=0)
        chosen = next((name for name in reversed(several) if _depth(name) == depth), "")
    found = _side(shapes[chosen], backbone.prefix_tokens)
    if not found:
        where = f"layer {chosen!r}" if chosen else "the network"
        raise BadInput(f"{where} gives no square of positions but {list(shapes[chosen])}")
    return _read(backbone, Grid(chosen, calls[chosen], found), image)


def _depth(name: str) -> int:
    return name.count(".") + bool(name)


def _several(shape: tuple[int, ...]) -> bool:
    """Whether an output has more than one position, however they lie."""
    return (len(shape) == 4 and shape[2:] != (1, 1)) or (len(shape) == 3 and shape[1] > 1)


def _side(shape: tuple[int, ...], prefix: int) -> int:
    """Positions a side of maps [1, c, s, s] or of tokens [1, prefix + s s, d]; 0 if it is neither, or of one alone."""
    side = 0
    if len(shape) == 4 and shape[2] == shape[3]:
        side = shape[2]
    elif len(shape) == 3 and shape[1] > prefix:
        root = math.isqrt(shape[1] - prefix)
        side = root if root**2 == shape[1] - prefix else 0
    return side if side > 1 else 0


def _read(backbone: Backbone, grid: Grid, image: Tensor) -> Grid:
    """The grid, with how the embedding reads it."""
    generator = torch.Generator().manual_seed(0)
    held: list[Tensor] = []

    def embedded(change: Callable[[Tensor], Tensor]) -> Tensor:
        def replaced(output: Tensor) -> Tensor:
            before, patches = _split(output, backbone.prefix_tokens)
            held.append(change(torch.randn(patches.shape, generator=generator).to(patches)))
            return torch.cat([before, held[-1]], dim=1) if output.ndim == 3 else held[-1]

        generator.manual_seed(0)
        with _changed(backbone, grid, replaced):
            embedding: Tensor = backbone(image)
        return embedding.float()

    some, others = embedded(lambda patches: patches), embedded(lambda patches: -patches)
    means = embedded(lambda p: p.mean(1, keepdim=True).expand_as(p) if p.ndim == 3 else _mean_everywhere(p))
    apart = (some - others).abs().max()
    small = SMALL.get(backbone.mean.dtype, SMALL_HALF) * apart
    if not apart > 0:
        read: Literal["mean", "flat", "otherwise"] = "otherwise"  # they come too late to matter
    elif (some - means).abs().max() <= small:
        read = "mean"
    elif some.numel() == held[0].numel() and bool((some - held[0].flatten(1)).abs().max() <= small):
        read = "flat"
    else:
        read = "otherwise"
    return Grid(grid.layer, grid.calls, grid.side, read)


def _mean_everywhere(maps: Tensor) -> Tensor:
    return maps.mean((2, 3), keepdim=True).expand_as(maps).contiguous()


def _split(output: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
    """The tokens before those of the patches, and those of the patches; of maps none, and the maps."""
    return (output[:, :prefix], output[:, prefix:]) if output.ndim == 3 else (output[:, :0], output)


@contextlib.contextmanager
def _changed(backbone: Backbone, grid: Grid, change: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Passes inside go on from what `change` makes of the features at positions; None leaves them."""
    calls = 0

    def hook(module: nn.Module, given: Any, output: Tensor) -> Tensor | None:
        nonlocal calls
        calls += 1
        return change(output) if calls == grid.calls else None

    # It lives for one pass only, as the hook of `Backbone.read_at`, which comes after it and sees what it has changed.
    handle = backbone.trunk.get_submodule(grid.layer).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def weighted(judge: Embedder, grid: Grid, images: Tensor, weights: Tensor) -> Tensor:
    """What is evaluated [b, d] of images [b, 3, r, r], the features at each position times its weight [b, 1, s, s].

    With weights of 1 it is `judge.evaluated`, bit for bit.
    """

    def times(output: Tensor) -> Tensor:
        if output.ndim == 4:
            return (output * weights).to(output.dtype)
        each = nn.functional.pad(weights.flatten(1), (judge.backbone.prefix_tokens, 0), value=1.0)
        return (output * each[:, :, None]).to(output.dtype)

    with _changed(judge.backbone, grid, times):
        return judge.evaluated(images)


def features(judge: Embedder, grid: Grid, images: Tensor) -> Tensor:
    """Features at positions [b, d, s, s], float32 at least, of images [b, 3, r, r].

    A kept head is applied at each of them, if it takes what a position has: behind a mean the mean of what it gives
    there is then what it gives for the embedding, since it is linear.
    """
    seen: list[Tensor] = []
    with _changed(judge.backbone, grid, lambda output: seen.append(output.clone())):  # what follows may work in place
        judge.evaluated(images)
    _, patches = _split(seen[-1], judge.backbone.prefix_tokens)
    rows = at_least_float(patches if patches.ndim == 3 else patches.flatten(2).mT)  # [b, s s, d]
    if judge.keep_head and isinstance(judge.head, nn.Linear) and judge.head.in_features == rows.shape[2]:
        rows = at_least_float(judge.head(rows.to(judge.head.weight.dtype)))
    return rows.mT.reshape(len(rows), -1, grid.side, grid.side)


def map_of(judge: Embedder, grid: Grid, measure: str, a: Tensor, b: Tensor) -> Tensor:
    """Distances [b, 1, s, s] between the features of two batches of images at each position."""
    first, second = (features(judge, grid, images).movedim(1, 3) for images in (a, b))
    apart = distance(first.flatten(0, 2), second.flatten(0, 2), measure)
    return apart.reshape(-1, 1, grid.side, grid.side)


def weights_of(mask: Tensor, grid: Grid) -> Tensor:
    """Weights of positions [n, 1, s, s], 1 on the average, from the part of a mask that is seen, [n, 1, h, w].

    Each position has the mean of the mask over its share of the image.

    Raises:
        BadInput: a mask that is 0 everywhere there.
    """
    shares = nn.functional.adaptive_avg_pool2d(mask, grid.side)
    total = shares.sum((2, 3), keepdim=True)
    if not bool((total > 0).all()):
        raise BadInput("mask: it is 0 wherever the metric looks, so that nothing is left to judge by")
    return shares * (grid.side**2 / total)
