"""The nine hypotheses of the study, each in a file of its own: their list, all verdicts at once, and one run alone."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import pandas as pd

from analysis import (
    h1_large_vision_models,
    h2_pretraining_supervision,
    h3_similarity_measure,
    h4_language,
    h5_filters,
    h6_transformers,
    h7_matching_supervision,
    h8_loss_or_pretext,
    h9_difficulty,
)
from analysis.answers import Answers, read
from analysis.verdict import Verdict, within_family
from humansim.errors import BadInput
from humansim.root import Root

ALONE = (
    "humansim report corrects p for all nine (Holm), so there it can be larger, and what is supported or refuted here "
    "may be undecided."
)


@dataclass(frozen=True)
class Hypothesis:
    """One of the nine.

    Attributes:
        number: 1 to 9, as in the thesis.
        name: a short title.
        module: the file of it: its docstring, CLAIM and `verdict`.
    """

    number: int
    name: str
    module: ModuleType

    @property
    def claim(self) -> str:
        return str(self.module.CLAIM)

    @property
    def file(self) -> str:
        return f"{self.module.__name__.replace('.', '/')}.py"

    def verdict(self, trials: pd.DataFrame, answers: Answers) -> Verdict:
        """By itself, not corrected for the others."""
        found: Verdict = self.module.verdict(trials, answers)
        return found


HYPOTHESES = (
    Hypothesis(1, "large vision models", h1_large_vision_models),
    Hypothesis(2, "pre-training supervision", h2_pretraining_supervision),
    Hypothesis(3, "similarity measure", h3_similarity_measure),
    Hypothesis(4, "language in pre-training", h4_language),
    Hypothesis(5, "more CNN filters", h5_filters),
    Hypothesis(6, "transformers and CNNs", h6_transformers),
    Hypothesis(7, "matching supervision", h7_matching_supervision),
    Hypothesis(8, "loss or pretext task", h8_loss_or_pretext),
    Hypothesis(9, "difficulty of the set", h9_difficulty),
)


def verdicts(trials: pd.DataFrame, answers: Answers) -> dict[int, Verdict]:
    """Number -> verdict, corrected for all nine, whichever could be tested: the family was fixed beforehand."""
    found = within_family([one.verdict(trials, answers) for one in HYPOTHESES])
    return {one.number: verdict for one, verdict in zip(HYPOTHESES, found, strict=True)}


def alone(number: int, arguments: Sequence[str] | None = None) -> None:
    """What a hypothesis's file does when it is run: reads sweeps, prints the verdict; ends with 2 on bad input."""
    (one,) = [each for each in HYPOTHESES if each.number == number]
    parser = argparse.ArgumentParser(
        one.file, description=one.module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sweep", action="append", required=True, metavar="NAME", help="swept before; again: together")
    parser.add_argument("--root", metavar="DIR", help="where it was swept (HUMANSIM_ROOT, ./humansim-runs)")
    parser.add_argument("--tracking", metavar="URI", help="MLflow tracking URI (MLFLOW_TRACKING_URI, SQLite in ROOT)")
    given = parser.parse_args(arguments)
    from humansim.tracking import tracking_uri

    try:
        uri = tracking_uri(Root.at(given.root), given.tracking)
        print(one.verdict(*read(*((uri, name) for name in given.sweep))))
        print(f"By itself: {ALONE}")
    except BadInput as error:
        print(f"{one.file}: error: {error}", file=sys.stderr)
        sys.exit(2)
