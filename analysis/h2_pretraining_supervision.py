"""H2: pre-training supervision."""

import pandas as pd

from analysis.answers import Answers
from analysis.verdict import Verdict

CLAIM = "One kind of supervision in pre-training is better than both others"


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    raise NotImplementedError


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(2)
