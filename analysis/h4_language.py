"""H4: language in pre-training."""

import pandas as pd

from analysis.answers import Answers
from analysis.verdict import Verdict

CLAIM = "Language in pre-training brings a model nearer to people"


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    raise NotImplementedError


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(4)
