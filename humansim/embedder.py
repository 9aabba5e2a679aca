"""Backbone + projection head; embeddings, each image once; distances, all measures from the same embeddings."""

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from humansim.backbones.module import Backbone
from humansim.judgements import Triplets

MEASURES = ("cosine", "l2", "l1")
BATCH = 64  # images in one forward pass of an evaluation: fixed, since on a CPU the bits depend on it
BLOCK = 1 << 24  # numbers in one block of differences: 64 MiB


Progress = Callable[[int, int], None]


class Images(Protocol):
    """Images by number: an array, or the store that holds a source's."""

    def __getitem__(self, images: NDArray[np.int64], /) -> NDArray[np.uint8]:
        """uint8 [k, r, r, 3]."""


class Embedder(nn.Module):
    """A backbone and, while it is fine-tuned, the projection head on top of it.

    Called, it gives what the objective sees: the head's outputs. `embed` gives what is evaluated: the backbone's
    embeddings, the head removed (thesis, 3.4.3).
    """

    def __init__(
        self, backbone: Backbone, head: nn.Module | None = None, precision: Literal["fp32", "bf16"] = "fp32"
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.precision = precision
        self.head = nn.Identity() if head is None else head
        self.to(memory_format=torch.channels_last)  # as images come; 1.5 to 3 times as fast on a CPU

    def forward(self, images: Tensor) -> Tensor:
        """Head outputs [b, k], float32, of images [b, 3, r, r], RGB in [0, 1]."""
        with self._autocast():
            outputs: Tensor = self.head(self.backbone(images))
        return outputs.float()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    @torch.inference_mode()
    def embed(
        self,
        pixels: Images,
        rows: NDArray[np.int64],
        progress: Progress | None = None,
        *,
        fixed: bool = False,
    ) -> Tensor:
        """Embeddings [len(rows), d], float32, on the module's device, of rows of uint8 images [n, r, r, 3].

        Args:
            progress: called with images done and images in all.
            fixed: fill the last batch up. On a CPU an image's bits depend on the shape of its batch and on nothing
                else in it: in batches of one shape its embedding is the same in whichever company it comes.
        """
        was_training = self.training
        self.eval()
        found: Tensor | None = None
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            images = as_images(pixels, some, self.device)
            if fixed and len(some) < BATCH:
                images = torch.cat([images, images.new_zeros(BATCH - len(some), *images.shape[1:])])
            with self._autocast():
                embedded = self.backbone(images.contiguous(memory_format=torch.channels_last))[: len(some)].float()
            if found is None:  # filled in place: a list of parts would need the memory twice
                found = embedded.new_empty(len(rows), embedded.shape[1])
            found[start : start + len(some)] = embedded
            if progress:
                progress(start + len(some), len(rows))
        self.train(was_training)
        return torch.empty(0, 0) if found is None else found

    @property
    def device(self) -> torch.device:
        return self.backbone.mean.device


def as_images(pixels: Images, rows: NDArray[np.int64], device: torch.device) -> Tensor:
    """Rows of uint8 images [n, r, r, 3] as a float tensor [b, 3, r, r] in [0, 1] on the device."""
    return torch.from_numpy(pixels[rows]).to(device).permute(0, 3, 1, 2).float() / 255


def distance(a: Tensor, b: Tensor, measure: str) -> Tensor:
    """Distances [n] between embeddings [n, d]; never negative, zero for equal embeddings.

    `cosine` is 1 - cosine similarity, in [0, 2], computed as half the squared distance of the normalised embeddings:
    equal in exact arithmetic, and without its cancellation for near-identical images. `l2` is the Euclidean, `l1` the
    Manhattan distance.
    """
    if measure == "cosine":
        a, b = nn.functional.normalize(a, dim=1), nn.functional.normalize(b, dim=1)
        return (a - b).square().sum(dim=1) / 2
    if measure == "l2":
        return (a - b).square().sum(dim=1).sqrt()
    if measure == "l1":
        return (a - b).abs().sum(dim=1)
    raise ValueError(f"unknown measure {measure!r}; known: {', '.join(MEASURES)}")


@torch.inference_mode()
def distances(
    embeddings: Tensor, rows: NDArray[np.int64], triplets: Triplets
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Distances from query to left and to right of every triplet, under every measure.

    Each pair of images is computed once, however many triplets show it, in blocks of bounded size.

    Args:
        embeddings: [k, d].
        rows: the image that each embedding is of [k], sorted.

    Returns:
        measure -> (to left [n], to right [n]).

    Raises:
        FloatingPointError: a distance is not finite: the network has diverged. Scored, it would pass for chance.
    """
    at = np.searchsorted(rows, triplets.images)
    low = np.minimum(at[:, :1], at[:, 1:])  # both ways round is one pair
    high = np.maximum(at[:, :1], at[:, 1:])
    pairs, position = np.unique(low * len(rows) + high, return_inverse=True)
    first = torch.from_numpy(pairs // len(rows)).to(embeddings.device)
    second = torch.from_numpy(pairs % len(rows)).to(embeddings.device)
    block = max(1, BLOCK // embeddings.shape[1])
    found: dict[str, list[Tensor]] = {measure: [] for measure in MEASURES}
    for start in range(0, len(pairs), block):
        a, b = embeddings[first[start : start + block]], embeddings[second[start : start + block]]
        for measure in MEASURES:
            found[measure].append(distance(a, b, measure))
    position = position.reshape(len(triplets), 2)
    values = {measure: torch.cat(parts).cpu().numpy() for measure, parts in found.items()}
    if not all(np.isfinite(of_pairs).all() for of_pairs in values.values()):
        raise FloatingPointError("distances are not finite: the network has diverged; try a lower learning rate")
    return {measure: (of_pairs[position[:, 0]], of_pairs[position[:, 1]]) for measure, of_pairs in values.items()}
