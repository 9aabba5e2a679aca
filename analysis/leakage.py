"""How much of what fine-tuning gained was leakage: gains under protocol `thesis` beside those under `heldout`."""

import pandas as pd

from analysis.answers import Answers


def leakage(trials: pd.DataFrame, answers: Answers) -> pd.DataFrame:
    """A row for each paradigm, and "all": paradigm, gain_thesis, gain_heldout, leaked, low, high, n; shares in [0, 1].

    Empty where one of the protocols is missing.
    """
    raise NotImplementedError
