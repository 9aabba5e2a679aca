"""The study's figures, each as PNG and SVG, with a caption and a sentence that says what is seen."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from analysis.answers import Answers
from analysis.figures import scores
from analysis.figures.look import Drawn, style, written
from analysis.verdict import Verdict

Embedded = object

__all__ = ["Drawn", "Embedded", "draw"]


def draw(
    trials: pd.DataFrame,
    answers: Answers,
    verdicts: Mapping[int, Verdict],
    folder: Path,
    maps: Mapping[str, Embedded] | None = None,
) -> list[Drawn]:
    """Every figure for which the tables have what it needs, in `folder`, which is made."""
    with style():
        pictures = [
            scores.pretrained(trials, answers),
            scores.fine_tuned(trials, answers),
            scores.fine_tuned(trials, answers, "contaminated"),
        ]
        return [written(picture, folder) for picture in pictures if picture is not None]
