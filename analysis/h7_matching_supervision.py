"""H7: matching supervision."""

import pandas as pd

from analysis.answers import Answers
from analysis.verdict import Verdict

CLAIM = "Fine-tuning helps more where its supervision matches that of pre-training"


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    raise NotImplementedError


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(7)
