"""Which triplets to look at: where the best model and people disagree most, and what fine-tuning changed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.answers import Answers
from analysis.gains import Pair, leaders, pairs

MOST = 12  # triplets of a kind
CLEAR = 0.75  # share of people that has to agree
SURE = 0.75  # share of a model's own answers in which it has to be less sure
CLOSE = 0.25  # share below which an answer is a close call
NO_FLOORS = ("pretrained", "metric", "fine-tuned")


def best(trials: pd.DataFrame, answers: Answers) -> tuple[str, str] | None:
    """The trial of the best model, as the summary has it: on validation, whether fine-tuned or not; and how it is best.

    Where validation scores are not of the same sets, or there are none, it is the model as it comes with the highest
    test score, of those that were scored on most sets. Floors, and what was fitted on what it is tested on, are left
    out; of repeats the lowest seed stands for all.
    """
    some = trials[trials["kind"].isin(NO_FLOORS)]
    if len(some) and (led := leaders(some, answers)):
        return first(trials, led[0].cell), "the best on validation"
    scored = answers.scores()
    own = scored[scored["measure"] == scored["cell"].map(dict(zip(trials["cell"], trials["measure"], strict=True)))]
    own = own[own["cell"].isin(some.loc[some["kind"] != "fine-tuned", "cell"])]
    of_cell = own.groupby("cell").agg(score=("score", "mean"), sets=("set", "nunique"))
    of_cell = of_cell[of_cell["sets"] == of_cell["sets"].max()]
    if of_cell.empty:
        return None
    return first(trials, str(of_cell["score"].idxmax())), "the best of those that were not fine-tuned"


def pair(trials: pd.DataFrame, answers: Answers) -> tuple[Pair, str] | None:
    """A backbone as it came, and what was fine-tuned from it, both asked the same: the best on validation; and of what.

    Validation scores compare only where the same was fitted on: it is that which most pairs have, of equals the first
    by name. None if there is no pair but such as was fitted on what it is tested on.
    """
    data = trials.drop_duplicates("cell").set_index("cell")["data"]
    found = [one for one in pairs(trials, answers) if not one.contaminated and data[one.cell] == data[one.before]]
    if not found:
        return None
    fitted = sorted(one.fit_on for one in found)
    most = max(dict.fromkeys(fitted), key=fitted.count)
    among = [one for one in found if one.fit_on == most]
    which = "the best on validation" + (f" of what was fitted on {most}" if most and len(set(fitted)) > 1 else "")
    return max(among, key=lambda one: np.nan_to_num(one.validation, nan=-1.0)), which


def first(trials: pd.DataFrame, cell: str) -> str:
    """The trial of a cell that stands for its repeats: that of the lowest seed."""
    own = trials[trials["cell"] == cell]
    return str((own.sort_values("seed", kind="stable") if "seed" in own else own).index[0])


def judged(**models: tuple[pd.DataFrame, str]) -> pd.DataFrame:
    """How people and some models judge each test triplet that all were asked and of which people have a majority.

    Args:
        models: name -> a model's answers (`train.score`), all of the same data, and the measure.

    Returns:
        triplet, set, query, left, right; choice (share for right) and judges, pooled over all rows of that triplet;
        people (left or right: the majority's side) and agree (its share, in (0.5, 1]); of each model NAME_margin, in
        [-1, 1], positive with people and negative against them, and NAME_surer, the share of its answers to test
        triplets in which it is less sure, [0, 1).
    """
    tests = {name: (frame[frame["part"] == "test"].set_index("triplet"), by) for name, (frame, by) in models.items()}
    margins = {name: margin(test, by) for name, (test, by) in tests.items()}
    both = pd.concat(margins, axis=1, join="inner")
    shown = _pooled(next(iter(tests.values()))[0]).loc[both.index]
    side = np.sign(2 * shown["choice"] - 1)
    found = shown.assign(
        people=np.where(side > 0, "right", "left"), agree=np.maximum(shown["choice"], 1 - shown["choice"])
    )
    for name, own in margins.items():
        surer = (own.abs().rank(method="min") - 1) / len(own)
        found = found.assign(**{f"{name}_margin": side * both[name], f"{name}_surer": surer.loc[both.index]})
    return found[found["agree"] > 0.5 + 1e-6].reset_index()


def clear(found: pd.DataFrame) -> pd.DataFrame:
    """The triplets on which people are clear: at least CLEAR of them agree; rows of `judged`."""
    return found[found["agree"] >= CLEAR - 1e-6]


def against(found: pd.DataFrame) -> pd.DataFrame:
    """The triplets on which people are clear, and the model takes the other side and is sure: SURE; strongest first."""
    some = clear(found)
    return _ranked(some[(some["model_margin"] < 0) & (some["model_surer"] >= SURE)], ["model"])


def mended(found: pd.DataFrame) -> pd.DataFrame:
    """The triplets on which people are clear, the backbone as it came is against them, and fine-tuned it is not."""
    some = clear(found)
    return _ranked(some[(some["came_margin"] < 0) & (some["tuned_margin"] > 0)], ["came", "tuned"])


def broken(found: pd.DataFrame) -> pd.DataFrame:
    """The other way round: with people as it came, against them after fine-tuning."""
    some = clear(found)
    return _ranked(some[(some["came_margin"] > 0) & (some["tuned_margin"] < 0)], ["came", "tuned"])


def firm(changed: pd.DataFrame) -> pd.DataFrame:
    """Those of `mended` or `broken` in which neither answer is a close call: from one to another shows nothing."""
    return changed[(changed["came_surer"] >= CLOSE) & (changed["tuned_surer"] >= CLOSE)]


def _ranked(some: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """By how sure people are, chi-square of their votes against an even split, times the margin of the least sure."""
    votes = (2 * some["choice"] - 1) ** 2 * some["judges"].clip(lower=1)
    weight = votes * some[[f"{name}_margin" for name in names]].abs().min(axis=1)
    return some.assign(weight=weight).sort_values(["weight", "triplet"], ascending=[False, True])


def taken(ranked: pd.DataFrame, besides: Sequence[pd.DataFrame] = (), n: int = MOST) -> pd.DataFrame:
    """Some of them to be shown, n at most, by the name of their set, strongest first.

    Sets take turns, each giving its strongest that is left, so that none fills the gallery; a query is shown once a
    set.

    Args:
        besides: what is shown already, and not again.
    """
    there = {images for shown in besides for images in _images(shown)}
    new = np.array([images not in there for images in _images(ranked)], dtype=bool)
    some = ranked[new].drop_duplicates(["set", "query"])
    turn = some.groupby("set").cumcount()
    found = some.assign(turn=turn).sort_values("turn", kind="stable")[:n].drop(columns="turn")
    return found.sort_values(["set", "weight", "triplet"], ascending=[True, False, True]).reset_index(drop=True)


def _images(some: pd.DataFrame) -> list[tuple[str, str, frozenset[str]]]:
    """What each triplet shows, either way round."""
    rows = zip(some["set"], some["query"], some["left"], some["right"], strict=True)
    return [(name, query, frozenset((left, right))) for name, query, left, right in rows]


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
