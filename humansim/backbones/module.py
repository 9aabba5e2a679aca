"""What every backbone is: normalisation and a trunk in one module, read at its end or at one of its layers.

And what stands beside the backbones: a `Scorer`, which knows distances of pairs only.
"""

import contextlib
import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from humansim.backbones import backbone
from humansim.errors import BadInput
from humansim.spec import Variant, near

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Pool = Literal["mean", "class", "flat"]


class Backbone(nn.Module):
    """Images -> embeddings, with the normalisation that the weights were trained with inside.

    Args:
        trunk: module from normalised images [b, 3, r, r] to features; what follows the batch is flattened.
        mean, std: of each channel, for images in [0, 1].
        weights: where the weights come from, in words; recorded in every result.
        prefix_tokens: of a transformer, how many tokens stand before those of the patches; the first is the class
            token.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, trunk: nn.Module, mean: Sequence[float], std: Sequence[float], weights: str, prefix_tokens: int = 0
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.weights = weights
        self.prefix_tokens = prefix_tokens
        self.layer: str | None = None
        self.pool: Pool | None = None
        self._calls: int | None = None  # of the layer in one pass, once that is known
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(3, 1, 1), persistent=False)

    def read_at(self, layer: str | None, pool: Pool | None = None) -> "Backbone":
        """Makes the output of one of the trunk's modules the embedding, pooled over positions; returns itself.

        Args:
            layer: the module's name in the trunk ("layer3", "blocks.5"), as `named_modules` has it; None for the end.
            pool: of maps [b, c, h, w] "mean" (default) over positions, or "flat"; of tokens [b, n, d] "class"
                (default, where there is a class token), "mean" over the patches' tokens, or all of those, "flat".

        Raises:
            BadInput: the trunk has no such module.
        """
        names = [name for name, _ in self.trunk.named_modules() if name]
        if layer is not None and layer not in names:
            few = [name for name in names if name.count(".") <= 2]
            raise BadInput(f"layer: the backbone has no module {layer!r}{near(layer, few)}")
        self.layer, self.pool, self._calls = layer, pool, None
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings [b, d] of images [b, 3, r, r], RGB in [0, 1].

        Raises:
            BadInput: the layer's output is none that can be pooled as asked.
        """
        images = ((images - self.mean) / self.std).to(self.mean.dtype)  # a network in half precision wants its own
        features: Any = self.trunk(images) if self.layer is None else self._output_of(self.layer, images)
        return self._pooled(features, images.shape[0])  # len would fix it in an exported program

    def _output_of(self, layer: str, images: Tensor) -> Any:
        """What a layer gives the last time that it is called in a pass; what comes behind it is not computed."""
        seen: list[Any] = []

        def note(module: nn.Module, given: Any, output: Any) -> None:
            seen.append(output)
            if len(seen) == self._calls and not torch.compiler.is_exporting():  # which follows a pass to its end
                raise _Reached

        # The hook lives for one pass only: a copied network must not write into the one it was copied from.
        hook = self.trunk.get_submodule(layer).register_forward_hook(note)
        try:
            with contextlib.suppress(_Reached):
                self.trunk(images)
        finally:
            hook.remove()
        self._calls = len(seen) or None
        return seen[-1] if seen else None

    def _pooled(self, features: Any, count: int) -> Tensor:
        if not isinstance(features, Tensor) or features.ndim < 2 or features.shape[0] != count:
            where = "the end of the network" if self.layer is None else f"layer {self.layer}"
            raise BadInput(f"{where}: its output is not one tensor [{count}, ...] with a row for each image")
        pool = self.pool
        if pool is None and self.layer is not None:
            pool = "class" if features.ndim == 3 and self.prefix_tokens else "mean"
        if pool is None or features.ndim == 2:
            return features.flatten(1)
        if features.ndim == 3:
            if pool == "class":
                if not self.prefix_tokens:
                    raise BadInput("pool 'class': this backbone has no class token; use 'mean' or 'flat'")
                return features[:, 0]
            patches = features[:, self.prefix_tokens :]
            return patches.mean(dim=1) if pool == "mean" else patches.flatten(1)
        if pool == "class":
            raise BadInput("pool 'class': a layer of maps has no class token; use 'mean' or 'flat'")
        return features.flatten(2).mean(dim=2) if pool == "mean" else features.flatten(1)

    def fingerprint(self) -> str:
        """SHA-256 over the names and bytes of all weights."""
        return _fingerprint(self)


class Scorer(nn.Module):
    """A published metric of two images: it gives their distance and no embeddings.

    Args:
        network: from two batches of images [b, 3, r, r], RGB in [0, 1], to their distances [b]. If it has a method
            `mapped`, that gives them at each position, [b, 1, r, r].
        weights: where the weights come from, in words.
    """

    place: Tensor

    def __init__(self, network: nn.Module, weights: str) -> None:
        super().__init__()
        self.network = network
        self.weights = weights
        self.register_buffer("place", torch.empty(0), persistent=False)  # not every metric has parameters

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances [b], float32 at least; the smaller the more alike. Not every metric starts at zero."""
        kind = self.place.dtype
        return at_least_float(self.network(a.to(kind), b.to(kind))).reshape(len(a))

    @property
    def has_map(self) -> bool:
        return hasattr(self.network, "mapped")

    def mapped(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances at each position [b, 1, r, r] of a metric that `has_map`."""
        mapped: Any = self.network.mapped
        found: Tensor = mapped(a.to(self.place.dtype), b.to(self.place.dtype))
        return at_least_float(found)

    @property
    def device(self) -> torch.device:
        return self.place.device

    def fingerprint(self) -> str:
        """SHA-256 over the names and bytes of all weights."""
        return _fingerprint(self)


# Networks of parts that only make what others have: here, and not where they are made, so that they can be pickled.


class SideBySide(nn.Module):
    """Embeddings of several backbones, each of length one, one after the other."""

    def __init__(self, parts: Sequence[Backbone]) -> None:
        super().__init__()
        self.members = nn.ModuleList(parts)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([nn.functional.normalize(part(images), dim=1) for part in self.members], dim=1)


class FromUnitRange(nn.Module):
    """LPIPS of torchmetrics for images in [0, 1]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.lpips: Any = network

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.lpips(a, b, normalize=True)  # type: ignore[no-any-return]

    def mapped(self, a: Tensor, b: Tensor) -> Tensor:
        """As `lpips.LPIPS(spatial=True)`."""
        self.lpips.spatial = True
        try:
            return self(a, b)  # type: ignore[no-any-return]
        finally:
            self.lpips.spatial = False


class Dissimilarity(nn.Module):
    """1 - SSIM of images in [0, 1]."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return 1 - self._alike(a, b)  # type: ignore[no-any-return]

    def mapped(self, a: Tensor, b: Tensor) -> Tensor:
        """Its mean over positions is the distance."""
        _, alike = self._alike(a, b, return_full_image=True)
        return 1 - alike.mean(dim=1, keepdim=True)  # type: ignore[no-any-return]

    def _alike(self, a: Tensor, b: Tensor, **options: Any) -> Any:
        from torchmetrics.functional.image import structural_similarity_index_measure as similarity

        return similarity(a, b, data_range=1.0, reduction="none", **options)


def at_least_float(values: Tensor) -> Tensor:
    """Values of half precision as float32; of more as they are."""
    return values if values.dtype == torch.float64 else values.float()


class _Reached(Exception):  # noqa: N818 - no error: the layer that is read at has been reached
    pass


def _fingerprint(module: nn.Module) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


@contextlib.contextmanager
def initialised_by(seed: int) -> Iterator[None]:
    """Random weights made inside are those of this seed; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@functools.cache
def check_layer(made: Variant, layer: str) -> None:
    """Builds the network, without its weights, to see whether it has a layer.

    Raises:
        BadInput: it has not, or it cannot be built.
    """
    untrained = made.having(weights="random") if "weights" in backbone.entry(made).arguments else made
    with initialised_by(0):
        try:
            with torch.device("meta"):  # modules without memory
                network = backbone.make(untrained)
        except NotImplementedError:  # open_clip moves what it makes
            network = backbone.make(untrained)
    network.read_at(layer)
