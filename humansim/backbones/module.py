"""What every backbone is: normalisation and a trunk in one module, read at its end or at one of its layers."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from humansim.errors import BadInput
from humansim.spec import near

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
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

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
        self.layer, self.pool = layer, pool
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings [b, d] of images [b, 3, r, r], RGB in [0, 1].

        Raises:
            BadInput: the layer's output is none that can be pooled as asked.
        """
        images = (images - self.mean) / self.std
        if self.layer is None:
            features: Any = self.trunk(images)
        else:
            # The hook lives for one pass only: a copied network must not write into the one it was copied from.
            seen: list[Any] = []
            hook = self.trunk.get_submodule(self.layer).register_forward_hook(lambda *given: seen.append(given[-1]))
            try:
                self.trunk(images)
            finally:
                hook.remove()
            features = seen[-1] if seen else None
        return self._pooled(features, len(images))

    def _pooled(self, features: Any, count: int) -> Tensor:
        if not isinstance(features, Tensor) or features.ndim < 2 or len(features) != count:
            raise BadInput(f"layer {self.layer}: its output is not one tensor with a row for each image")
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
        total = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return total.hexdigest()


@contextlib.contextmanager
def initialised_by(seed: int) -> Iterator[None]:
    """Random weights made inside are those of this seed; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
