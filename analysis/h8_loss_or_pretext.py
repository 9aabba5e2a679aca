"""H8: loss or pretext task."""

import pandas as pd

from analysis.answers import Answers
from analysis.verdict import Verdict

CLAIM = "Quadruplet is better than triplet, triplet than contrastive, and on whole images SimCLR and MoCo than jigsaw and rotation"


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    raise NotImplementedError


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(8)
