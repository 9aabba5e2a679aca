"""The study's figures, each as PNG and SVG, with a caption and a sentence that says what is seen."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from analysis.answers import Answers
from analysis.figures import birds, cost, depth, forests, heat, scores
from analysis.figures.birds import Embedded
from analysis.figures.look import Drawn, Picture, style, written
from analysis.verdict import Verdict

__all__ = ["Drawn", "Embedded", "draw"]


def draw(
    trials: pd.DataFrame,
    answers: Answers,
    verdicts: Mapping[int, Verdict],
    folder: Path,
    maps: Mapping[str, Embedded] | None = None,
) -> list[Drawn]:
    """Every figure for which the tables have what it needs, in `folder`, which is made.

    What is missing stays blank. The same tables give the same bytes.

    Args:
        trials, answers: `answers.read`.
        verdicts: by number of the hypothesis.
        maps: model -> embeddings [images, dim] of the bird images, and the family of each (`birds.family`).
    """
    with style():
        return [written(one, folder) for one in pictures(trials, answers, verdicts, maps or {}) if one is not None]


def pictures(
    trials: pd.DataFrame, answers: Answers, verdicts: Mapping[int, Verdict], maps: Mapping[str, Embedded]
) -> Iterator[Picture | None]:
    """The figures, one after the other; None for one that the tables have nothing for."""
    yield scores.pretrained(trials, answers)
    yield heat.models_by_sets(trials, answers)
    yield birds.maps_of(maps, bool(trials["simulated"].any()))
    for kind in ("fine-tuned", "contaminated"):
        yield scores.fine_tuned(trials, answers, kind)
        yield cost.against_gain(trials, answers, kind)
    yield depth.curves(trials, answers)
    yield forests.of_hypotheses(verdicts)
    for number in sorted(verdicts):
        yield forests.of_parts(number, verdicts[number])
