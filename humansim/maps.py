"""Maps of embeddings: where images lie beside each other, in two dimensions, and as a table."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from humansim.errors import BadInput


def umap(
    embeddings: NDArray[np.float32], *, neighbors: int = 15, min_distance: float = 0.1, seed: int = 0
) -> NDArray[np.float32]:
    """A map [n, 2] of embeddings [n, d] by UMAP (McInnes, Healy and Melville 2018) under the cosine measure.

    The same embeddings and seed give the same map. What a map shows of clusters is true of neighbours only: distances
    between far groups, and their sizes, mean nothing.

    Args:
        neighbors: how many nearest images an image is tied to: few show detail, many the whole; fewer of few images.
        min_distance: how close points may lie.

    Raises:
        BadInput: fewer than four images, or not two neighbours.
    """
    if len(embeddings) < 4:
        raise BadInput(f"a map takes four images or more, not {len(embeddings)}")
    if neighbors < 2:
        raise BadInput(f"neighbors {neighbors}: a map takes two or more")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # of a part that wants Tensorflow
        from umap import UMAP

    made = UMAP(
        n_neighbors=min(neighbors, len(embeddings) - 1),
        min_dist=min_distance,
        metric="cosine",
        init="spectral" if len(embeddings) > 20 else "random",  # too few have no spectrum to start from
        random_state=seed,
        n_jobs=1,
    )
    return np.asarray(made.fit_transform(embeddings), dtype=np.float32)


def as_table(
    images: Sequence[str], embeddings: NDArray[np.float32], place: NDArray[np.float32] | None = None
) -> pd.DataFrame:
    """One row an image: `image`, with a map `x` and `y`, and its embedding in `0`, `1`, ...."""
    numbers = pd.DataFrame(embeddings, columns=[str(i) for i in range(embeddings.shape[1])])
    where = {} if place is None else {"x": place[:, 0], "y": place[:, 1]}
    return pd.concat([pd.DataFrame({"image": list(images), **where}), numbers], axis=1)
