"""Distances between outputs of the projection head."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-12  # inside the root: the gradient at two equal embeddings stays finite

Distance = Literal["euclidean", "squared_euclidean"]


def between(a: "Tensor", b: "Tensor", distance: Distance) -> "Tensor":
    """Distances [b] of outputs [b, k].

    The thesis writes the squared Euclidean distance and calls it the Euclidean one (3.7); Euclidean is the default of
    every paradigm.
    """
    squared = (a - b).square().sum(dim=1)
    return squared if distance == "squared_euclidean" else (squared + EPSILON).sqrt()


def cosine(a: "Tensor", b: "Tensor") -> "Tensor":
    """1 - cosine similarity [b] of outputs [b, k]."""
    from torch import nn

    return 1 - nn.functional.cosine_similarity(a, b, dim=1)
