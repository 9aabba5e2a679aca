"""What every backbone is: normalisation and a trunk in one module."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """Images -> embeddings, with the normalisation that the weights were trained with inside.

    Args:
        trunk: module from normalised images [b, 3, r, r] to features; what follows the batch is flattened.
        mean, std: of each channel, for images in [0, 1].
        weights: where the weights come from, in words; recorded in every result.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: nn.Module, mean: Sequence[float], std: Sequence[float], weights: str) -> None:
        super().__init__()
        self.trunk = trunk
        self.weights = weights
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings [b, d] of images [b, 3, r, r], RGB in [0, 1]."""
        features: Tensor = self.trunk((images - self.mean) / self.std)
        return features.flatten(1)

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
