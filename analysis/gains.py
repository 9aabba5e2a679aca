"""What fine-tuning gained over each backbone as it came, on the same test triplets.

Of a backbone's fine-tuned cells the one that counts is the best on validation: the test part has chosen nothing. It is
compared, as `humansim compare` does it, with the backbone that it was fine-tuned from, under the same protocol and read
in the same way: paired, on the sets that both answered, resampled by query images.
"""

from dataclasses import dataclass

import pandas as pd

from analysis.answers import Answers, chosen
from analysis.compared import reading, sets_of
from analysis.stats import Estimate, estimate, mean, would_tell

ALIKE = ["model", "protocol", "reading"]


@dataclass(frozen=True)
class Gain:
    """A fine-tuned cell and the cell that it came from. Shares: 0.01 is one point of 2AFC.

    Attributes:
        model: the backbone.
        cell, before: of the fine-tuned one, and of the backbone as it came.
        sets: that both answered.
        validation: score of the fine-tuned one's lowest seed.
        tied: how many of the backbone's fine-tuned cells have just this validation score.
        score, came: test scores, means over sets and repeats.
        difference: score minus came, paired.
    """

    model: str
    cell: str
    before: str
    sets: tuple[str, ...]
    validation: float
    tied: int
    score: float
    came: float
    difference: Estimate

    @property
    def means(self) -> str:
        """What the difference says of fine-tuning, in words."""
        low, high = self.difference.interval()
        if low > 0 or high < 0:
            said = "it helped" if low > 0 else "it did harm"
        elif (enough := would_tell(self.difference)) is not None:
            said = f"undecided: to tell an effect of this size takes {enough} (there are {self.difference.n:,})"
        else:
            said = "no difference" if self.difference.value == 0 else "too few queries to tell"
        return said + ("; of one training, which says nothing of other seeds" if self.difference.repeats == 1 else "")


def gains(trials: pd.DataFrame, answers: Answers) -> list[Gain]:
    """One for each backbone, protocol and reading that was evaluated both as it came and fine-tuned."""
    if "paradigm" not in trials or not trials["paradigm"].notna().any():
        return []
    rows = trials.assign(reading=reading)
    came = {alike: one.iloc[0] for alike, one in rows[rows["paradigm"].isna()].groupby(ALIKE)}
    found = []
    for alike, tuned in rows[rows["paradigm"].notna()].groupby(ALIKE):
        if (before := came.get(alike)) is None:
            continue
        best = chosen(tuned, ALIKE)
        sets = sets_of(answers, rows[rows["cell"].isin([before["cell"], best["cell"].iloc[0]])])
        if not sets:
            continue
        first = tuned.sort_values("seed").drop_duplicates("cell")
        validation = first.loc[first["cell"] == best["cell"].iloc[0], "validation"].iloc[0]
        after = mean([(best["cell"].iloc[0], best["measure"].iloc[0])], sets)
        as_it_came = mean([(before["cell"], before["measure"])], sets)
        found.append(
            Gain(
                model=str(before["model"]),
                cell=best["cell"].iloc[0],
                before=before["cell"],
                sets=tuple(sets),
                validation=float(validation),
                tied=max(1, int((first["validation"] == validation).sum())),
                score=estimate(answers, after, resamples=1).value,
                came=estimate(answers, as_it_came, resamples=1).value,
                difference=estimate(answers, after - as_it_came),
            )
        )
    return found
