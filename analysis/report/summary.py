"""The report's summary, in sentences."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.gains import FLOORS, Gain, Leader
from analysis.numerals import between, p_value, percent, points
from analysis.report import made
from analysis.report.form import Table
from analysis.report.verdicts import rests_on
from analysis.verdict import Verdict
from humansim.scores import CHANCE
from humansim.tables import counted

FEW = 3  # backbones of which is told in words


def simulated(trials: pd.DataFrame) -> str:
    """What to say of the judges; empty if they were people."""
    count = int(trials["simulated"].sum())
    if not count:
        return ""
    which = "The judges" if count == len(trials) else f"The judges of {count:,} of {len(trials):,} trials"
    return f"{which} were simulated: no number or verdict here says anything about people."


def gained(found: Sequence[Gain], named: Mapping[str, str]) -> list[str]:
    """What fine-tuning gained, a sentence for each backbone.

    Args:
        named: cell -> its name.
    """
    return [
        f"Fine-tuning {one.model}: {one.means}. {named[one.cell]}, {_best_of(one.tied, 'fine-tuned models')}, scores "
        f"{percent(one.score)} % on test{', less than the floor' if one.score < one.floor else ''}, as it came "
        f"{percent(one.came)} %: {points(one.difference.value)} points of 2AFC {between(one.difference.interval())}, "
        f"p {p_value(one.difference.p())} (by itself, not corrected), on {counted(one.difference.n, 'triplet')}."
        for one in found[:FEW]
    ]


def leading(found: Sequence[Leader], named: Mapping[str, str]) -> list[str]:
    """Which model is best, a sentence for each protocol."""
    told = []
    for one in found:
        beside = [f"the floor {model} {percent(score)}" for model, score in one.floors.items()]
        beside += [] if one.came is None else [f"{one.model} as it came {percent(one.came)}"]
        beside += [] if np.isnan(one.fresh) else [f"a fresh judge {percent(one.fresh)}"]
        beside += [f"the best possible {percent(one.best)}, chance {percent(CHANCE)}"]
        told.append(
            f"{_best_of(one.tied, 'models').capitalize()} is {named[one.cell]} "
            f"({percent(one.validation)} %). On test it scores {percent(one.score.value)} % "
            f"{between(one.score.interval(), percent)}; beside it: {', '.join(beside)}."
        )
        if one.kind in FLOORS:
            told[-1] += " No model is above this floor on validation."
        elif one.score.value < max(one.floors.values(), default=np.nan):
            told[-1] += " That is less than the floor."
    return told


def seen(trials: pd.DataFrame) -> list[str]:
    """Of what scores on test speak, where fine-tuning has seen the images of the test part."""
    if "paradigm" not in trials or "shared.test.images" not in trials:
        return []
    trained = trials[trials["paradigm"].notna() & ~trials["contaminated"]]
    if not (count := trained["shared.test.images"].max()) > 0:
        return []
    return [
        f"Fit and test share {made.images(int(count), trained)} images: scores after fine-tuning are of new judgements "
        "on these, and say nothing of images that nobody has seen."
    ]


def _best_of(tied: int, which: str) -> str:
    if not tied:
        return "the first by its id, none of which has a validation score"
    return (
        "the best on validation" if tied == 1 else f"the first by its id of {tied} {which} that are best on validation"
    )


def backbones(verdict: Verdict, trials: pd.DataFrame) -> int:
    """How many backbones a verdict rests on."""
    return int(trials.loc[trials["cell"].isin(rests_on(verdict)), "model"].nunique())


def untested(left: Mapping[int, Verdict]) -> list[str]:
    """One line for the study's hypotheses that somebody else's judgements cannot test; none if there are none."""
    untested, one = (
        ", ".join(f"H{number}" for number, verdict in left.items() if (verdict.outcome == "untested") == side)
        for side in (True, False)
    )
    told = "The study's nine hypotheses compare many backbones and ways to fine-tune."
    told += f" Untested, because nothing that they compare was evaluated on these judgements: {untested}." * bool(
        untested
    )
    told += f" On one backbone alone, which tells nothing of others: {one}." * bool(one)
    return [told] if left else []


def answer(judged: Mapping[int, Verdict], untuned: Table | None) -> list[str]:
    """The report in a few sentences."""
    by: dict[str, list[str]] = {"supported": [], "refuted": [], "undecided": [], "untested": []}
    for number, one in judged.items():
        by[one.outcome].append(f"H{number}")
    counts = [f"{len(which)} {outcome} ({', '.join(which)})" for outcome, which in by.items() if which]
    told = [f"Of the nine hypotheses: {'; '.join(counts)}."] if counts else []
    if by["untested"]:
        told[0] += " Untested are those for which nothing to compare is among the finished trials."
    if untuned is not None:
        exact = untuned.exact
        models = exact[exact["kind"].isin(["pretrained", "metric"])]
        floors = exact[exact["kind"].isin(["floor", "untrained"])]
        best = (models if len(models) else exact).iloc[0]
        people = {str(row[0]): str(row[2]) for row in untuned.rows[:2]}
        told.append(
            f"The best model as it comes is {best['model']}: {percent(best['score'])} % 2AFC "
            f"{between((best['low'], best['high']), percent)}, mean over {counted(best['sets'], 'set')}"
            + (
                f"; the best floor, {floors.iloc[0]['model']}, {percent(floors.iloc[0]['score'])} %"
                if len(floors) and len(models)
                else ""
            )
            + f"; the best possible is {people['People: best possible']} %, chance 50 %."
        )
    return told
