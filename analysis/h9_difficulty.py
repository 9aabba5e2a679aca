"""H9: difficulty of the set."""

import pandas as pd

from analysis.answers import Answers
from analysis.verdict import Verdict

CLAIM = "How much supervised fine-tuning is ahead of self-supervised depends on how alike the images of a set are"


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    raise NotImplementedError


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(9)
