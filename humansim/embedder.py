"""Backbone + projection head; embeddings, each image once; distances, all measures from the same embeddings."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from humansim.backbones.module import Backbone, Scorer, at_least_float
from humansim.judgements import Triplets

MEASURES = ("cosine", "l2", "l1")
OWN = "own"  # the one measure of what judges pairs without embedding them
BATCH = 64  # images in one forward pass of an evaluation: fixed, since on a CPU the bits depend on it
# Numbers in one block of differences. On a CPU a large one is mapped anew by the system for each operation, which took
# four fifths of the time (benchmarks/measures.py); a GPU wants few launches.
BLOCK = {"cpu": 1 << 18, "cuda": 1 << 24}


Progress = Callable[[int, int], None]


class Images(Protocol):
    """Images by number: an array, or the store that holds a source's."""

    def __getitem__(self, images: NDArray[np.int64], /) -> NDArray[np.uint8]:
        """uint8 [k, r, r, 3]."""


class Embedder(nn.Module):
    """A backbone and, while it is fine-tuned, the projection head on top of it.

    Called, it gives what the objective sees: the head's outputs. `embed` gives what is evaluated: the backbone's
    embeddings, the head removed (thesis, 3.4.3), or the head's outputs, if it is to be kept.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
        *,
        keep_head: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.precision = precision
        self.keep_head = keep_head
        self.head = nn.Identity() if head is None else head
        self.to(memory_format=torch.channels_last)  # as images come; 1.5 to 3 times as fast on a CPU

    def forward(self, images: Tensor) -> Tensor:
        """Head outputs [b, k], float32, of images [b, 3, r, r], RGB in [0, 1]."""
        with self._autocast():
            outputs: Tensor = self.head(self.backbone(images.contiguous(memory_format=torch.channels_last)))
        return outputs.float()

    def evaluated(self, images: Tensor) -> Tensor:
        """What is evaluated [b, d], float32 at least, of images [b, 3, r, r], RGB in [0, 1]: in the mode it is in."""
        with self._autocast():
            embedded: Tensor = self.backbone(images.contiguous(memory_format=torch.channels_last))
            if self.keep_head:
                embedded = self.head(embedded)
        return at_least_float(embedded)

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
        done = 0
        for images in _batches(pixels, rows, self.device):
            count = len(images)
            if fixed and count < BATCH:
                images = torch.cat([images, images.new_zeros(BATCH - count, *images.shape[1:])])
            embedded = self.evaluated(images)[:count]
            if found is None:  # filled in place: a list of parts would need the memory twice
                found = embedded.new_empty(len(rows), embedded.shape[1])
            found[done : done + count] = embedded
            done += count
            if progress:
                progress(done, len(rows))
        self.train(was_training)
        return torch.empty(0, 0) if found is None else found

    @property
    def device(self) -> torch.device:
        return self.backbone.mean.device


def as_images(pixels: Images, rows: NDArray[np.int64], device: torch.device) -> Tensor:
    """Rows of uint8 images [n, r, r, 3] as a float tensor [b, 3, r, r] in [0, 1] on the device."""
    return in_unit_range(torch.from_numpy(pixels[rows]).to(device))


def in_unit_range(images: Tensor) -> Tensor:
    """uint8 images [b, r, r, 3] as floats [b, 3, r, r] in [0, 1], channels last in memory."""
    return images.permute(0, 3, 1, 2).float() / 255


def _batches(pixels: Images, rows: NDArray[np.int64], device: torch.device) -> Iterator[Tensor]:
    """Images of these rows in batches, as `as_images`; the next one is read while the last one is worked on."""

    def read(start: int) -> Tensor:
        raw = torch.from_numpy(pixels[rows[start : start + BATCH]])
        return raw.pin_memory() if device.type == "cuda" else raw

    with ThreadPoolExecutor(1, "reading images") as ahead:
        coming = ahead.submit(read, 0)
        for start in range(0, len(rows), BATCH):
            raw = coming.result()
            if start + BATCH < len(rows):
                coming = ahead.submit(read, start + BATCH)
            yield in_unit_range(raw.to(device, non_blocking=True))


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
        apart: Tensor = torch.linalg.vector_norm(a - b, dim=1)  # its gradient at equal ones is 0, sqrt's is NaN
        return apart
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
    first, second, position = _pairs(np.searchsorted(rows, triplets.images))
    block = max(1, BLOCK.get(embeddings.device.type, BLOCK["cuda"]) // embeddings.shape[1])
    # Made beforehand: small results between large temporaries would keep these from being given back.
    found = {measure: embeddings.new_empty(len(first)) for measure in MEASURES}
    for start in range(0, len(first), block):
        some = slice(start, start + block)
        a, b = (embeddings[torch.from_numpy(which[some]).to(embeddings.device)] for which in (first, second))
        for measure in MEASURES:
            found[measure][some] = distance(a, b, measure)
    values = {measure: of_pairs.cpu().numpy() for measure, of_pairs in found.items()}
    return _of_triplets(values, position)


@torch.inference_mode()
def scored(
    scorer: Scorer,
    pixels: Images,
    triplets: Triplets,
    progress: Progress | None = None,
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Distances from query to left and to right of every triplet as a published metric has them.

    Each pair of images is judged once, in batches of one shape.

    Args:
        pixels: uint8 images [n, r, r, 3], by the numbers that the triplets have.
        progress: called with pairs done and pairs in all.

    Returns:
        "own" -> (to left [n], to right [n]).
    """
    scorer.eval()
    first, second, position = _pairs(triplets.images)
    found: list[Tensor] = []
    both = np.stack([np.resize(which, -(-len(first) // BATCH) * BATCH) for which in (first, second)])
    # A batch of first images, one of the second ones, and so on: what comes next is read ahead.
    rows = both.reshape(2, -1, BATCH).transpose(1, 0, 2).reshape(-1)
    batches = _batches(pixels, rows, scorer.device)
    for a, b in zip(batches, batches, strict=True):
        found.append(scorer(a, b))
        if progress:
            progress(min(len(first), BATCH * len(found)), len(first))
    values = torch.cat(found)[: len(first)].cpu().numpy()
    return _of_triplets({OWN: values}, position)


def _pairs(images: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The distinct pairs of images that triplets [n, 3] show to left and right, and where theirs are [n, 2]."""
    low = np.minimum(images[:, :1], images[:, 1:])  # both ways round is one pair
    high = np.maximum(images[:, :1], images[:, 1:])
    base = int(images.max(initial=0)) + 1
    pairs, position = np.unique(low * base + high, return_inverse=True)
    return pairs // base, pairs % base, position.reshape(len(images), 2)


def _of_triplets(
    values: dict[str, NDArray[np.float32]], position: NDArray[np.int64]
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    if not all(np.isfinite(of_pairs).all() for of_pairs in values.values()):
        raise FloatingPointError("distances are not finite: the network has diverged; try a lower learning rate")
    return {measure: (of_pairs[position[:, 0]], of_pairs[position[:, 1]]) for measure, of_pairs in values.items()}
