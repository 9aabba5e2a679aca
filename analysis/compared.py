"""What the hypotheses compare: rows of `trials` chosen by facts, and contrasts of them that are balanced and paired."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.answers import Answers, cells, chosen
from analysis.stats import Contrast, Estimate, Mixed, estimate, mean, mixed
from analysis.verdict import Direction, Evidence, Verdict, evidence, judge
from humansim.paradigms import paradigm
from humansim.published import PARADIGMS
from humansim.sources.study import SETS
from humansim.spec import Variant
from humansim.tables import counted

ARCHITECTURES = ("ResNet-50", "ViT-B/16")  # the two that every kind of pre-training has
SUPERVISIONS = ("supervised", "self-supervised", "image-text")
PROTOCOLS = ("all", "heldout", "heldout_images", "thesis")  # of several, the first that is there: the last one leaks
READING = (
    "precision",
    "resolution",
    "resize",
    "layer",
    "pool",
)  # how an embedding is read; and whatever begins with "source"
FACTS = ("architecture", "family", *(f"pretraining.{name}" for name in ("supervision", "method", "language")))


def release(name: str) -> str:
    """Of an evaluation set, or of what is fitted on."""
    return name.partition("/")[0]


def pretrained(trials: pd.DataFrame) -> pd.DataFrame:
    """Pretrained backbones as they are, each read in one way, the same for all."""
    rows = _of_kind(trials, "pretrained")
    return _alike(rows, "model").drop_duplicates("model") if len(rows) else rows


def fine_tuned(trials: pd.DataFrame) -> pd.DataFrame:
    """Fine-tuned backbones under one protocol; of a search, what it chose for each backbone, paradigm and data.

    Adds the column `people`: whether it was fitted to people's choices (supervised), or to images alone.
    """
    rows = _of_kind(trials, "fine-tuned", "contaminated")
    if rows.empty:
        return rows.assign(people=False)
    rows = chosen(_alike(rows, "cell"), ["model", "paradigm", "fit_on"])
    data = {name: paradigm.entry(Variant(name)).facts["data"] for name in rows["paradigm"].unique()}
    return rows.assign(people=rows["paradigm"].map(data) != "singleton")


def _of_kind(trials: pd.DataFrame, *kinds: str) -> pd.DataFrame:
    """Rows of some kinds; facts that no trial has are columns all the same, empty."""
    rows = trials[trials["kind"].isin(kinds)]
    return rows.reindex(
        columns=[*rows.columns, *(fact for fact in (*FACTS, "paradigm", "fit_on") if fact not in rows.columns)]
    )


def _alike(rows: pd.DataFrame, count: str) -> pd.DataFrame:
    """The rows of one protocol and one reading: that which most of `count` have, of the best protocol there is."""
    best = min(rows["protocol"].unique(), key=PROTOCOLS.index)
    read = rows[rows["protocol"] == best].assign(reading=reading)
    most = read.groupby("reading")[count].nunique().idxmax()
    same: pd.DataFrame = read[read["reading"] == most]
    return same


def reading(rows: pd.DataFrame) -> "pd.Series[str]":
    """What was evaluated and how it was read, in words that are equal where these are."""
    columns = [name for name in rows.columns if name in READING or name.startswith("source")]
    return pd.Series([" ".join(map(str, row)) for row in rows[columns].itertuples(index=False)], rows.index, dtype=str)


def sets_of(answers: Answers, rows: pd.DataFrame) -> list[str]:
    """The sets on which every one of these trials was evaluated."""
    asked = {trial: np.zeros(len(answers.sets), dtype=bool) for trial in rows.index}
    for trial, measure in answers.rows:
        if trial in asked:
            asked[trial] |= np.bincount(answers.set[answers.asked(trial, measure)], minlength=len(answers.sets)) > 0
    by_all = np.all([*asked.values()], axis=0) if asked else np.zeros(len(answers.sets), dtype=bool)
    return [name for name, here in zip(answers.sets, by_all, strict=True) if here]


def over(rows: pd.DataFrame, sets: Sequence[str], measure: str | None = None) -> Contrast | None:
    """Mean over some rows and sets, by a measure or by the one that is reported; None if there are none."""
    return mean(cells(rows, measure), sets) if len(rows) and sets else None


def matched(one: pd.DataFrame, other: pd.DataFrame, within: str, sets: Sequence[str]) -> Contrast | None:
    """Mean of some backbones minus that of others at the same value of a column, each value weighing the same.

    Of both only ARCHITECTURES. None if they have no value in common.
    """
    one, other = (rows[rows["architecture"].isin(ARCHITECTURES)] for rows in (one, other))
    both = sorted(set(one[within].dropna()) & set(other[within].dropna()))
    return average(
        mean(cells(one[one[within] == value]), sets) - mean(cells(other[other[within] == value]), sets)
        for value in (both if sets else ())
    )


def versus(rows: pd.DataFrame, plus: Collection[str], minus: Collection[str], sets: Sequence[str]) -> Contrast | None:
    """Mean over some paradigms minus that over others, of the same backbone fitted on the same data.

    Each set weighs the same; on it count the backbones that were fitted on it or on its release, and with all of these
    paradigms. None if there are none.
    """
    rows = rows[rows["paradigm"].isin([*plus, *minus])]
    which = rows["model"] + " " + rows["fit_on"].astype(str)
    rows = rows[rows.groupby(which)["paradigm"].transform("nunique") == len({*plus, *minus})]
    found = []
    for name in sets:
        here = rows[own(rows, name)]
        one, other = (cells(here[here["paradigm"].isin(side)]) for side in (plus, minus))
        if one and other:
            found.append(mean(one, [name]) - mean(other, [name]))
    return average(found)


def supervision_gap(rows: pd.DataFrame, sets: Sequence[str]) -> Contrast | None:
    """Fine-tuning on people's choices minus fine-tuning on images alone, of the same backbone and data (`versus`)."""
    people, images = (list(rows.loc[rows["people"] == side, "paradigm"].unique()) for side in (True, False))
    return versus(rows, people, images, sets)


def own(rows: pd.DataFrame, name: str) -> "pd.Series[bool]":
    """Which rows were fitted on data of an evaluation set, or on all data."""
    return rows["fit_on"].isna() | rows["fit_on"].isin([name, release(name)])


def average(contrasts: Iterable[Contrast | None]) -> Contrast | None:
    """The mean of contrasts; None if there is none, or if one of them could not be made."""
    found = list(contrasts)
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    total = known[0]
    for one in known[1:]:
        total = total + one
    return 1 / len(known) * total


def slope(scores: Mapping[int, Contrast]) -> Contrast | None:
    """By how much scores rise from one number to the next, by least squares; None of fewer than two."""
    middle = sum(scores) / max(1, len(scores))
    square = sum((x - middle) ** 2 for x in scores)
    return average(len(scores) * (x - middle) / square * score for x, score in scores.items()) if square else None


def minus(one: Contrast | None, other: Contrast | None) -> Contrast | None:
    """A contrast of two contrasts; None unless there are both."""
    return None if one is None or other is None else one - other


def weighed(answers: Answers, contrast: Contrast | None, smallest: float, direction: Direction = "greater") -> Evidence:
    """What is said of a contrast; of None, nothing."""
    found = Estimate.none() if contrast is None else estimate(answers, contrast)
    return evidence(found, smallest, direction)


def told(answers: Answers, contrasts: Mapping[str, Contrast | None]) -> dict[str, Estimate]:
    """Estimates beside a verdict, of those contrasts that there are."""
    return {name: estimate(answers, one) for name, one in contrasts.items() if one is not None}


def by_release(answers: Answers, contrast: Contrast | None) -> dict[str, Estimate]:
    """A contrast on the sets of each release."""
    names = {} if contrast is None else dict.fromkeys(name for _, _, name in contrast.weights)
    releases = {key: [name for name in names if release(name) == key] for key in map(release, names)}
    return told(answers, {f"on {key}": contrast and contrast.on(sets) for key, sets in releases.items()})


def within_backbones(trials: pd.DataFrame, answers: Answers, contrast: Contrast | None) -> Mixed | None:
    """A mixed model of a contrast within backbones: its mean, of which each backbone is off by something of its own.

    A row for each backbone and release. None where there are fewer than three backbones.
    """
    if contrast is None:
        return None
    score = answers.scores().groupby(["cell", "measure", "set"])["score"].mean()
    model = trials.drop_duplicates("cell").set_index("cell")["model"]
    sums: dict[tuple[str, str], list[float]] = {}
    for (cell, measure, name), weight in contrast.weights.items():
        both = sums.setdefault((model[cell], release(name)), [0.0, 0.0])
        both[0] += weight * score[cell, measure, name]
        both[1] += abs(weight)
    whole = sum(size for _, size in sums.values())
    table = pd.DataFrame(
        [(one, part, total / size * whole) for (one, part), (total, size) in sums.items()],
        columns=["model", "release", "difference"],
    )
    if table["model"].nunique() < 3:
        return None
    return mixed(table, "difference ~ 1", "Intercept", "model")


def between_backbones(answers: Answers, models: pd.DataFrame, side: "pd.Series[bool]") -> Mixed | None:
    """A mixed model of some pretrained backbones against the others, of the same family: each has its own level."""
    if models["model"].nunique() < 4 or side.nunique() < 2:
        return None
    facts = models.assign(side=side.astype(float)).reset_index()[["trial", "measure", "model", "family", "side"]]
    table = answers.scores().merge(facts, on=["trial", "measure"])
    family = " + C(family)" if table["family"].nunique() > 1 else ""
    return mixed(table, f"score ~ side{family} + C(set)", "side", "model")


def judged(
    claim: str,
    found: Evidence,
    rows: pd.DataFrame,
    answers: Answers,
    *,
    parts: Mapping[str, Estimate] | None = None,
    mixed: Mapping[str, Mixed | None] | None = None,
    partial: Iterable[str] = (),
) -> Verdict:
    """The verdict, with what it was tested on and what of the study was missing."""
    sets = sets_of(answers, rows) if len(rows) else []
    missing = [name for name in SETS if name not in sets] if sets else []
    told_of = []
    if len(rows):
        protocol = rows["protocol"].iloc[0]
        told_of = [counted(rows["model"].nunique(), "backbone"), counted(len(sets), "set"), f"protocol {protocol}"]
        if rows["contaminated"].any():
            partial = (*partial, "fitted on what it is evaluated on (protocol thesis): part of every gain is leakage")
    return judge(
        claim,
        found,
        parts=parts,
        mixed={name: one for name, one in (mixed or {}).items() if one is not None},
        tested_on=", ".join(told_of) if found.estimate.n else "nothing",
        partial=[*partial, *([f"not evaluated: {', '.join(missing)}"] if missing else [])],
        simulated=bool(len(rows)) and bool(rows["simulated"].any()),
    )


def without(rows: pd.DataFrame, column: str, wanted: Sequence[str], whose: str = "") -> list[str]:
    """For `partial`: which values of a column no row has."""
    lacking = [one for one in wanted if rows.empty or one not in set(rows[column])]
    return [f"not among the finished trials: {', '.join(lacking)}{whose}"] if lacking else []


def unmatched(models: pd.DataFrame) -> list[str]:
    """For `partial`: which of ARCHITECTURES which kind of pre-training lacks."""
    found: list[str] = []
    for kind in SUPERVISIONS:
        rows = models if models.empty else models[models["pretraining.supervision"] == kind]
        found += without(rows, "architecture", ARCHITECTURES, f", {kind}")
    return found


def unfinished(rows: pd.DataFrame) -> list[str]:
    """For `partial`: paradigms that are nowhere, and backbones that lack one of those that are somewhere."""
    found = without(rows, "paradigm", PARADIGMS)
    if rows.empty:
        return found
    fewer = rows.groupby(["model", "fit_on"], dropna=False)["paradigm"].nunique()
    fewer = fewer[fewer < rows["paradigm"].nunique()]
    some = [f"{model} on {fit_on}" for model, fit_on in fewer.index]
    return found + ([f"left out where a paradigm is not there: {', '.join(some)}"] if some else [])
