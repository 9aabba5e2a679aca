"""The study's figures, each as PNG and SVG, with a caption and a sentence that says what is seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.answers import Answers
from analysis.verdict import Verdict

Embedded = tuple[NDArray[np.float32], Sequence[str]]  # embeddings [images, dim], and the family of each image


@dataclass(frozen=True)
class Drawn:
    """A figure on disk.

    Attributes:
        name: of its files, without an ending.
        title: what it shows, in a few words.
        caption: how to read it.
        alt: what is seen, in words, for who does not see it.
    """

    name: str
    title: str
    caption: str
    alt: str
    png: Path
    svg: Path


def draw(
    trials: pd.DataFrame,
    answers: Answers,
    verdicts: Mapping[int, Verdict],
    folder: Path,
    maps: Mapping[str, Embedded] | None = None,
) -> list[Drawn]:
    """Every figure for which the tables have what it needs."""
    return []
