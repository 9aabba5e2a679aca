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
    """

    name: str
    trials: tuple[str, ...]


def groups(trials: pd.DataFrame, answers: Answers) -> list[Group]:
    """The best model as it comes, the best fine-tuned one, and the GOOD best, each network once; as far as there are.

    Best by the mean over sets of the reported measure's 2AFC score, of those that were scored on most sets. Floors,
    and what was fitted on what it is evaluated on, are left out; of repeats the lowest seed stands for all.
    """
    scored = answers.scores()
    own = scored[scored["measure"] == scored["cell"].map(dict(zip(trials["cell"], trials["measure"], strict=True)))]
    by_cell = own.groupby("cell")
    score = by_cell["score"].mean()[by_cell["set"].nunique() == len(answers.sets)]
    if score.empty:  # data of several sources: no model was asked all of it
        score = by_cell["score"].mean()[by_cell["set"].nunique() == by_cell["set"].nunique().max()]
    first = trials.sort_values("seed", kind="stable") if "seed" in trials else trials
    some = first.drop_duplicates("cell")
    some = some[some["kind"].isin(["pretrained", "metric", "fine-tuned"]) & some["cell"].isin(score.index)]
    some = some.assign(score=some["cell"].map(score)).sort_values("score", ascending=False, kind="stable")
    tuned = some["kind"] == "fine-tuned"
    found = [
        Group(name, (str(own.index[0]),))
        for name, own in (("pretrained", some[~tuned]), ("tuned", some[tuned]))
        if len(own)
    ]
    if len(some):
        alike = some[some["data"] == some["data"].iloc[0]].drop_duplicates("model")[:GOOD]
        if len(alike) > 1:
            found.append(Group("all", tuple(map(str, alike.index))))
    return found


def disagreements(judged: Sequence[tuple[pd.DataFrame, str]], n: int = MOST) -> pd.DataFrame:
    """The test triplets on which all of some models side against a sure majority of people, and are sure of it.

    How sure people are is how far their votes lie from an even split, in standard errors of one: |2 choice - 1|
    sqrt(judges). How sure a model is, is its margin, (far - near) / (far + near) of its two distances; of several
    models, the least sure one's. A triplet counts by the product. Sets take turns, each giving its strongest that is
    left, so that none fills the gallery; a query is shown once a set.

    Args:
        judged: of each model its answers (`train.score`), all of the same data, and the measure.
        n: how many, at most.

    Returns:
        A row for each, in the order of the sets, strongest first: triplet, set, query, left, right; choice (share for
        right) and judges, pooled over all rows of that triplet; people and models (left or right); margin and
        margin_most (the least and the most sure model's, in (0, 1]); surer (the least share of a model's answers in
        which it is less sure, [0, 1)); disagreement.
    """
    tests = [(frame[frame["part"] == "test"].set_index("triplet"), measure) for frame, measure in judged]
    margins = pd.concat([margin(test, measure) for test, measure in tests], axis=1, join="inner")
    surer = pd.concat([_surer(margin(test, measure)) for test, measure in tests], axis=1, join="inner")
    shown = _pooled(tests[0][0]).loc[margins.index]
    lean = 2 * shown["choice"] - 1
    against = -margins.mul(np.sign(lean.where(lean.abs() > 1e-6, 0.0)), axis=0)
    found = shown.assign(
        people=np.where(lean > 0, "right", "left"),
        models=np.where(lean > 0, "left", "right"),
        margin=against.min(axis=1),
        margin_most=against.max(axis=1),
        surer=surer.min(axis=1),
    )
    found["disagreement"] = lean.abs() * np.sqrt(found["judges"].clip(lower=1)) * found["margin"]
    found = found[found["margin"] > 0].reset_index()
    found = found.sort_values(["disagreement", "triplet"], ascending=[False, True]).drop_duplicates(["set", "query"])
    found["turn"] = found.groupby("set").cumcount()
    found = found.sort_values(["turn", "disagreement"], ascending=[True, False], kind="stable")[:n]
    place = {name: i for i, name in enumerate(shown["set"].drop_duplicates())}
    order = found.assign(place=found["set"].map(place)).sort_values(["place", "turn"]).index
    return found.loc[order].drop(columns="turn").reset_index(drop=True)


def margin(answers: pd.DataFrame, measure: str) -> pd.Series:
    """How clearly a model answers: (far - near) / (far + near) of its distances, in [0, 1]; left counts as negative."""
    left, right = (
        answers[f"to_{side}_{measure}"].astype(np.float64).clip(lower=0)  # cosine may round to less than none
        for side in ("left", "right")
    )
    return ((left - right) / (left + right).where(left + right > 0, 1.0)).rename(measure)


def _surer(margins: pd.Series) -> pd.Series:
    """In which share of its answers a model is less sure than in this one."""
    return (margins.abs().rank(method="min") - 1) / len(margins)


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
