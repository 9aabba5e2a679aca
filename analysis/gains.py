"""What fine-tuning gained over each backbone as it came, on the same test triplets.

Of a backbone's fine-tuned cells the one that counts is the best on validation: the test part has chosen nothing. Only
cells that fit on the same sets are chosen among, for validation is scored on these. The best is compared with the
backbone that it was fine-tuned from, under the same protocol and read in the same way: paired, on the sets that both
answered, resampled by query images, as `humansim compare` does it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.answers import Answers, axes, chosen, equals
from analysis.compared import reading, sets_of
from analysis.stats import Estimate, estimate, mean, would_tell

ALIKE = ["model", "protocol", "reading"]
FLOORS = ("floor", "untrained")


@dataclass(frozen=True)
class Pair:
    """A fine-tuned cell and the cell that it came from.

    Attributes:
        model: the backbone.
        cell, before: of the fine-tuned one, and of the backbone as it came.
        protocol: of both.
        fit_on: what it was fitted on; empty if that is all.
        contaminated: the fine-tuned one was fitted on what it is tested on.
        sets: that both answered.
        validation: score of the fine-tuned one's lowest seed.
        tried: how many fine-tuned cells it was chosen among.
        tied: how many of these have just this validation score; 0 if none has one, and it is the first by its id.
    """

    model: str
    cell: str
    before: str
    protocol: str
    fit_on: str
    contaminated: bool
    sets: tuple[str, ...]
    validation: float
    tried: int
    tied: int


@dataclass(frozen=True)
class Gain(Pair):
    """What was gained. Shares: 0.01 is one point of 2AFC.

    Attributes:
        score, came: test scores, means over sets and repeats.
        floor: the best floor's score on the same sets under the same protocol, NaN without one.
        difference: score minus came, paired.
    """

    score: float
    came: float
    floor: float
    difference: Estimate

    @property
    def means(self) -> str:
        """What the difference says of fine-tuning, in words."""
        low, high = self.difference.interval()
        if low > 0 or high < 0:
            said = "it helped" if low > 0 else "it did harm"
        elif low == high == 0:
            said = "the same credit"
        elif (enough := would_tell(self.difference)) is not None:
            said = f"undecided: to tell an effect of this size takes {enough} in the test part, which has "
            said += f"{self.difference.n:,}"
        else:
            said = "undecided: too few queries to tell"
        said = f"{said}, fitted on what it is tested on" if self.contaminated else said
        return said + ("; of one training, which says nothing of other seeds" if self.difference.repeats == 1 else "")


def gains(trials: pd.DataFrame, answers: Answers, by: Sequence[str] = ()) -> list[Gain]:
    """What each of the `pairs` gained."""
    measure = trials.drop_duplicates("cell").set_index("cell")["measure"]
    found = []
    for one in pairs(trials, answers, by):
        after, as_it_came = (mean([(cell, str(measure[cell]))], one.sets) for cell in (one.cell, one.before))
        floors = floors_of(trials[trials["protocol"] == one.protocol], answers, one.sets)
        found.append(
            Gain(
                **vars(one),
                score=estimate(answers, after, resamples=1).value,
                came=estimate(answers, as_it_came, resamples=1).value,
                floor=max(floors.values(), default=np.nan),
                difference=estimate(answers, after - as_it_came),
            )
        )
    return found


def varied(trials: pd.DataFrame, answers: Answers, searched: Collection[str] = ()) -> list[Gain]:
    """What was gained by each combination of what a grid varied, the best on validation first; none if `gains` has all.

    Args:
        searched: axes of which a search chose the value inside each combination.
    """
    if "paradigm" not in trials:
        return []
    tuned = trials[trials["paradigm"].notna()]
    by = [axis for axis in axes(tuned) if axis not in searched and tuned[axis].nunique(dropna=False) > 1]
    if len(pairs(trials, answers, by)) == len(pairs(trials, answers)):
        return []
    found = gains(trials, answers, by)
    return sorted(
        found, key=lambda one: (one.model, one.protocol, one.fit_on, -np.nan_to_num(one.validation), one.cell)
    )


def pairs(trials: pd.DataFrame, answers: Answers, by: Sequence[str] = ()) -> list[Pair]:
    """One for each backbone, protocol, reading and data to fit on that was evaluated as it came and fine-tuned.

    Args:
        by: columns by whose values the fine-tuned ones are told apart further.
    """
    if "paradigm" not in trials or not trials["paradigm"].notna().any():
        return []
    rows = trials.assign(reading=reading)
    fit_on = rows["fit_on"].astype(object) if "fit_on" in rows else pd.Series(None, rows.index, dtype=object)
    rows = rows.assign(fit_on=fit_on.fillna(""))
    came = {alike: one.iloc[0] for alike, one in rows[rows["paradigm"].isna()].groupby(ALIKE)}
    found = []
    keys = list(dict.fromkeys([*ALIKE, "fit_on", *by]))
    for alike, tuned in rows[rows["paradigm"].notna()].groupby(keys, dropna=False):
        if (before := came.get(alike[: len(ALIKE)])) is None:
            continue
        first = chosen(tuned, ALIKE).sort_values("seed").iloc[0]
        sets = sets_of(answers, rows[rows["cell"].isin([before["cell"], first["cell"]])])
        if sets:
            found.append(
                Pair(
                    model=str(before["model"]),
                    cell=str(first["cell"]),
                    before=str(before["cell"]),
                    protocol=str(first["protocol"]),
                    fit_on=str(first["fit_on"]),
                    contaminated=bool(first["contaminated"]),
                    sets=tuple(sets),
                    validation=float(first["validation"]),
                    tried=tuned["cell"].nunique(),
                    tied=equals(tuned, float(first["validation"])),
                )
            )
    return found


@dataclass(frozen=True)
class Leader:
    """The model that is best on validation under a protocol, fine-tuned or not, and what its score stands beside.

    Attributes:
        cell, model, kind, protocol: which it is.
        validation: its score there; `tied` models have just this.
        score: its test score, over the sets that it answered.
        came: test score of its backbone as it came, read in the same way; None if it is that itself, or was not run.
        floors: model -> test score, on the same sets under the same protocol.
        fresh, best: of a fresh judge, NaN if unknown, and the best possible.
    """

    cell: str
    model: str
    kind: str
    protocol: str
    validation: float
    tied: int
    score: Estimate
    came: float | None
    floors: dict[str, float]
    fresh: float
    best: float


def leaders(trials: pd.DataFrame, answers: Answers) -> list[Leader]:
    """One for each protocol in which all were validated on the same sets, if any has a validation score."""
    found = []
    rows = trials.assign(reading=reading)
    for protocol, some in rows.groupby("protocol"):
        if "fit_on" in some and some["fit_on"].notna().any():
            continue
        best = chosen(some, ["protocol"])
        first = (best.sort_values("seed") if "seed" in best else best).iloc[0]
        sets = sets_of(answers, best)
        if np.isnan(first["validation"]) or not sets:
            continue
        untuned = some[some["paradigm"].isna()] if "paradigm" in some else some
        own = untuned[(untuned["model"] == first["model"]) & (untuned["reading"] == first["reading"])]
        own = own[own["cell"] != first["cell"]]
        people = answers.people().loc[sets].mean(skipna=False)
        found.append(
            Leader(
                cell=str(first["cell"]),
                model=str(first["model"]),
                kind=str(first["kind"]),
                protocol=str(protocol),
                validation=float(first["validation"]),
                tied=equals(some, float(first["validation"])),
                score=estimate(answers, mean([(first["cell"], first["measure"])], sets)),
                came=_on_test(own["cell"].iloc[0], own["measure"].iloc[0], answers, sets) if len(own) else None,
                floors=floors_of(some, answers, sets),
                fresh=float(people["fresh_judge"]),
                best=float(people["best"]),
            )
        )
    return found


def floors_of(some: pd.DataFrame, answers: Answers, sets: Sequence[str]) -> dict[str, float]:
    """Model -> test score of the floors among these trials that were evaluated on all of these sets.

    By the measure that is reported and, as "pixels under l2", by its best one where that is another: whatever needs no
    training is a floor.
    """
    floors, scored, found = some[some["kind"].isin(FLOORS)].drop_duplicates("cell"), answers.scores(), {}
    for trial, row in floors.iterrows():
        if not set(sets) <= set(sets_of(answers, floors.loc[[trial]])):
            continue
        known = scored.loc[scored["cell"] == row["cell"], "measure"].unique()
        by = {str(measure): _on_test(str(row["cell"]), str(measure), answers, sets) for measure in known}
        best = max(by, key=by.__getitem__)
        found[str(row["model"])] = by[row["measure"]]
        if by[best] > by[row["measure"]]:
            found[f"{row['model']} under {best}"] = by[best]
    return found


def _on_test(cell: str, measure: str, answers: Answers, sets: Sequence[str]) -> float:
    return estimate(answers, mean([(cell, measure)], sets), resamples=1).value
