"""Every score beside what it is to be held against: chance, a floor without a network, and people."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.answers import Answers
from analysis.joint import FRESH_JUDGE, joint
from analysis.stats import estimate, mean
from humansim.scores import CHANCE, ceilings

COLUMNS = (
    *("cell", "model", "kind", "measure", "set", "score", "low", "high", "n", "clusters"),
    *("explained", "plug_in", "fresh_judge", "best_possible"),
    *("over_fresh_judge", "over_low", "over_high", "beyond_fresh_judge", "best", "chance", "floor"),
)


def table(
    trials: pd.DataFrame,
    answers: Answers,
    *,
    measure: str | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> pd.DataFrame:
    """A row for each cell and each set that it answered. Shares, not points.

    Columns:
        cell, model, kind, measure; set.
        score, low, high: mean 2AFC score, and its interval, by queries and repeats; n triplets in so many clusters.
        explained: how much of what can be explained of these votes is: (score - chance) / (best_possible - chance).
        plug_in, fresh_judge, best_possible: what people reach on these triplets (`scores.ceilings`, there `best`).
        over_fresh_judge, over_low, over_high: how far the score is above a fresh judge's, paired; NaN where no triplet
            has two judges or more.
        beyond_fresh_judge: the whole of that interval is above 0.
        best: not shown to be worse than any other cell on this set (`Joint.not_worse`). Cells that were fitted on what
            they are evaluated on are no rivals to those that were not.
        chance; floor: the score of the backbone `pixels` by this measure, NaN if it was not run.

    Args:
        trials: some of its rows or all.
        measure: None for the one that each cell reports; cells that lack it are left out.
        groups: name -> sets, to average over instead of one row a set; the sets of it that were answered.
        level: of intervals and of `best`.
    """
    wanted = {name: [name] for name in answers.sets} if groups is None else groups
    rows = [row for name, sets in wanted.items() for row in _on(trials, answers, measure, name, sets, level, resamples)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _on(
    trials: pd.DataFrame,
    answers: Answers,
    measure: str | None,
    name: str,
    sets: Sequence[str],
    level: float,
    resamples: int,
) -> list[dict[str, object]]:
    """The rows of one set, or of one group of sets."""
    present = [one for one in sets if one in answers.sets]
    kept: list[tuple[pd.Series, str]] = []
    for _, row in trials.drop_duplicates("cell").iterrows():
        by = str(row["measure"] if measure is None else measure)
        if present and answered(answers, str(row["cell"]), by, present):
            kept.append((row, by))
    if not kept:
        return []
    scores = [mean([(str(row["cell"]), by)], present) for row, by in kept]
    people = mean([FRESH_JUDGE], present)
    found = joint(answers, [*scores, *(score - people for score in scores)], resamples=resamples)
    over_low, over_high = found.interval(level)
    k = len(kept)
    contaminated = np.array([row["kind"] == "contaminated" for row, _ in kept])
    best = found.of(np.arange(k)).not_worse(~contaminated[None, :] | contaminated[:, None], level)
    floors = {by: found.value[i] for i, (row, by) in enumerate(kept) if row["backbone"] == "pixels"}
    rows: list[dict[str, object]] = []
    for i, (row, by) in enumerate(kept):
        one = estimate(answers, scores[i])
        low, high = one.interval(level)
        reached = _people(answers, str(row["cell"]), by, present)
        rows.append(
            {
                **{column: row[column] for column in ("cell", "model", "kind")},
                "measure": by,
                "set": name,
                "score": one.value,
                "low": low,
                "high": high,
                "n": one.n,
                "clusters": one.clusters,
                "explained": explained(one.value, reached["best_possible"]),
                **reached,
                "over_fresh_judge": found.value[k + i],
                "over_low": over_low[k + i],
                "over_high": over_high[k + i],
                "beyond_fresh_judge": bool(over_low[k + i] > 0),
                "best": bool(best[i]),
                "chance": CHANCE,
                "floor": floors.get(by, np.nan),
            }
        )
    return rows


def explained(score: float, best_possible: float) -> float:
    """How much of what can be explained is: 0 at chance, 1 for the majority's own answers; NaN if nothing can be."""
    return (score - CHANCE) / (best_possible - CHANCE) if best_possible > CHANCE else np.nan


def answered(answers: Answers, cell: str, measure: str, sets: Sequence[str]) -> bool:
    """Whether each trial of a cell answered some of each of these sets by this measure."""
    numbers = [answers.sets.index(name) for name in sets]
    for trial in answers.repeats[cell]:
        if (trial, measure) not in answers.rows:
            return False
        count = np.bincount(answers.set[answers.asked(trial, measure)], minlength=len(answers.sets))
        if (count[numbers] == 0).any():
            return False
    return True


def _people(answers: Answers, cell: str, measure: str, sets: Sequence[str]) -> dict[str, float]:
    """`Answers.people` on the triplets that a cell was asked, the mean over sets."""
    asked = answers.asked(answers.repeats[cell][0], measure)
    each = [
        ceilings(answers.choice[here], answers.judges[here])
        for name in sets
        for here in [asked & (answers.set == answers.sets.index(name))]
    ]
    return {
        "plug_in": float(np.mean([one.plug_in for one in each])),
        "fresh_judge": float(np.mean([one.fresh_judge for one in each])),
        "best_possible": float(np.mean([one.best for one in each])),
    }
