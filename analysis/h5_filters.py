"""H5: more CNN filters."""

import pandas as pd

from analysis.answers import Answers
from analysis.verdict import Verdict

CLAIM = "More filters bring CLIP's ResNet-50 nearer to people"


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    raise NotImplementedError


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(5)
