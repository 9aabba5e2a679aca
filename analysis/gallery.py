"""Where models and people disagree most: which triplets to look at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.answers import Answers

MOST = 12  # triplets of a group
GOOD = 5  # models that have to be wrong together


@dataclass(frozen=True)
class Group:
    """Models whose disagreement with people is looked at: that of one, or what several get wrong alike.

    Attributes:
        name: pretrained, tuned, or all.
        trials: a trial of each model, the best model first.
        scores: of each, the mean over sets of its 2AFC score.
    """

    name: str
    trials: tuple[str, ...]
    scores: tuple[float, ...]


def groups(trials: pd.DataFrame, answers: Answers) -> list[Group]:
    """The best model as it comes, the best fine-tuned one, and the GOOD best, each network once; as far as there are.

    Best by the mean over sets of the reported measure's 2AFC score, of those that were scored on most sets; of the
    fine-tuned ones, among which a search has chosen, on validation, as everywhere (`answers.chosen`). Floors, and what
    was fitted on what it is evaluated on, are left out; of repeats the lowest seed stands for all.
    """
    scored = answers.scores()
    own = scored[scored["measure"] == scored["cell"].map(dict(zip(trials["cell"], trials["measure"], strict=True)))]
    of_cell = own.groupby("cell").agg(score=("score", "mean"), sets=("set", "nunique"))
    score = of_cell.loc[of_cell["sets"] == of_cell["sets"].max(), "score"]
    first = trials.sort_values("seed", kind="stable") if "seed" in trials else trials
    some = first.drop_duplicates("cell")
    some = some[some["kind"].isin(["pretrained", "metric", "fine-tuned"]) & some["cell"].isin(score.index)]
    some = some.assign(score=some["cell"].map(score)).sort_values("score", ascending=False, kind="stable")
    tuned = some["kind"] == "fine-tuned"
    alike = some[some["data"] == some["data"].iloc[0]].drop_duplicates("model") if len(some) else some
    best = some[tuned].sort_values(["validation", "finished"], ascending=[False, True])
    found = {"pretrained": some[~tuned][:1], "tuned": best[:1]}
    found |= {"all": alike[:GOOD]} if len(alike) > 1 else {}
    return [Group(name, tuple(map(str, own.index)), tuple(own["score"])) for name, own in found.items() if len(own)]


def compared(judged: Sequence[tuple[pd.DataFrame, str]]) -> pd.DataFrame:
    """How sure people are of each test triplet, and how sure some models, all of them, of the other side.

    People are as sure as their votes speak against an even split, by chi-square: (2 choice - 1)^2 judges. A model is as
    sure as its margin, (far - near) / (far + near) of its two distances; of several models the one least
    against people counts. The product is the disagreement.

    Args:
        judged: of each model its answers (`train.score`), all of the same data, and the measure.

    Returns:
        A row for each triplet that all were asked and of which people have a majority: triplet, set, query, left,
        right; choice (share for right) and judges, pooled over all rows of that triplet; people and models (left or
        right: the majority, and the other side); margin and margin_most (of the models least and most against people,
        in [-1, 1]; positive against them); surer (the least share of a model's answers in which it is less sure,
        [0, 1)); disagreement (positive where all models are against people).
    """
    tests = [(frame[frame["part"] == "test"].set_index("triplet"), measure) for frame, measure in judged]
    each = [margin(test, measure) for test, measure in tests]
    margins = pd.concat(each, axis=1, join="inner")
    surer = pd.concat([(one.abs().rank(method="min") - 1) / len(one) for one in each], axis=1, join="inner")
    shown = _pooled(tests[0][0]).loc[margins.index]
    lean = 2 * shown["choice"] - 1
    against = -margins.mul(np.sign(lean), axis=0)
    found = shown.assign(
        people=np.where(lean > 0, "right", "left"),
        models=np.where(lean > 0, "left", "right"),
        margin=against.min(axis=1),
        margin_most=against.max(axis=1),
        surer=surer.min(axis=1),
        disagreement=lean**2 * shown["judges"].clip(lower=1) * against.min(axis=1),
    )
    return found[lean.abs() > 1e-6].reset_index()


def disagreements(found: pd.DataFrame, n: int = MOST) -> pd.DataFrame:
    """The triplets on which all models side against people, and both are surest: rows of `compared`, n at most.

    Sets take turns, each giving its strongest that is left, so that none fills the gallery; a query is shown once a
    set. In the order of the sets, strongest first.
    """
    against = found[found["margin"] > 0].sort_values(["disagreement", "triplet"], ascending=[False, True])
    against = against.drop_duplicates(["set", "query"])
    turn = against.groupby("set").cumcount()
    taken = against.assign(turn=turn).sort_values("turn", kind="stable")[:n].drop(columns="turn")
    place = {name: i for i, name in enumerate(found["set"].drop_duplicates())}
    return taken.sort_values("set", key=lambda sets: sets.map(place), kind="stable").reset_index(drop=True)


def margin(answers: pd.DataFrame, measure: str) -> pd.Series:
    """How clearly a model answers: (far - near) / (far + near) of its distances, in [0, 1]; left counts as negative."""
    left, right = (
        answers[f"to_{side}_{measure}"].astype(np.float64).clip(lower=0)  # cosine may round to less than none
        for side in ("left", "right")
    )
    return ((left - right) / (left + right).where(left + right > 0, 1.0)).rename(measure)


def _pooled(test: pd.DataFrame) -> pd.DataFrame:
    """The triplets with the votes of all rows that show the same three images in the same set, either way round."""
    swapped = test["left"] > test["right"]
    weight = test["judges"].clip(lower=1)  # an unknown number counts as one
    pair = [
        test["set"],
        test["query"],
        test["left"].where(~swapped, test["right"]),
        test["right"].where(~swapped, test["left"]),
    ]
    upper = (weight * test["choice"].where(~swapped, 1 - test["choice"])).groupby(pair).transform("sum")
    share = upper / weight.groupby(pair).transform("sum")
    return test[["set", "query", "left", "right"]].assign(
        choice=share.where(~swapped, 1 - share), judges=test["judges"].groupby(pair).transform("sum")
    )
