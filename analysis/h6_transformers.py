"""H6: transformers and CNNs."""

import pandas as pd

from analysis.answers import Answers
from analysis.verdict import Verdict

CLAIM = "Transformers judge more as people do than CNNs of the same pre-training, on birds and on all sets"


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    raise NotImplementedError


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(6)
