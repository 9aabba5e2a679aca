"""H3: similarity measure."""

import pandas as pd

from analysis.answers import Answers
from analysis.verdict import Verdict

CLAIM = "Cosine is the best measure for every architecture and every supervision"


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    raise NotImplementedError


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(3)
