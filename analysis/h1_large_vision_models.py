"""H1: large vision models."""

import pandas as pd

from analysis.answers import Answers
from analysis.verdict import Verdict

CLAIM = "Large vision models (CLIP, DINO) judge more as people do than networks trained on class labels"


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    raise NotImplementedError


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(1)
