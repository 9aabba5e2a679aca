"""The report's tables of scores: what is printed of them, and the exact numbers behind."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.answers import Answers, axes, cells, chosen
from analysis.gains import Gain
from analysis.numerals import UNKNOWN, between, p_value, percent, points
from analysis.report.form import Cell, Column, Link, Table, exactly
from analysis.report.verdicts import rests_on
from analysis.stats import estimate, mean
from analysis.verdict import Verdict
from humansim.published import PARADIGMS
from humansim.scores import CHANCE

UNTUNED = ("floor", "untrained", "metric", "pretrained")
BELOW = ", below the floor"


def of_sets(answers: Answers) -> Table:
    """The evaluation sets and what people reach on them."""
    people = answers.people()
    rows: list[tuple[Cell, ...]] = []
    exact = []
    together = len(np.unique(answers.judgement)) != len(np.unique(answers.query))  # where nobody said, they are queries
    for s, name in enumerate(answers.sets):
        here = answers.set == s
        judges = np.unique(answers.judges[here])
        queries, trials = (len(np.unique(of[here])) for of in (answers.query, answers.judgement))
        told = "unknown" if judges[-1] == 0 else UNKNOWN.join(str(n) for n in dict.fromkeys((judges[0], judges[-1])))
        fresh, best = (people[what].to_dict()[name] for what in ("fresh_judge", "best"))
        n = int(here.sum())
        rows.append((name, f"{n:,}", f"{queries:,}", *[f"{trials:,}"] * together, told, percent(fresh), percent(best)))
        exact.append({"set": name, "queries": queries, "judgement_trials": trials, "judges": told, **people.loc[name]})
    columns = (
        *(Column("Set"), Column("Triplets", "number"), Column("Query images", "number")),
        *([Column("Judgement trials", "number")] * together),
        Column("Judges each", "number"),
        *(Column("A fresh judge", "number"), Column("Best possible", "number")),
    )
    caption = (
        "The evaluation sets. Scores in per cent: of a fresh judge, held to the others; and the best possible, always "
        f"with the majority. Chance is {percent(CHANCE)}; a fresh judge is unknown where each triplet has one. "
        f"Triplets of one query image{', or of one judgement trial,' * together} are not independent."
    )
    return Table("sets", caption, columns, tuple(rows), pd.DataFrame(exact))


def labels(trials: pd.DataFrame) -> dict[str, str]:
    """cell -> a name that tells it from all others: the model, the paradigm, and the axes in which its likes differ."""
    first = trials.sort_index().drop_duplicates("cell").set_index("cell")
    told = {axis: _values(first[axis]) for axis in axes(first)}
    names = {str(cell): str(model) for cell, model in first["model"].items()}
    for axis, values in told.items():
        alike: dict[str, set[str]] = {}
        for cell, name in names.items():
            alike.setdefault(name, set()).add(values[cell])
        for cell, name in names.items():
            if values[cell] and axis == "paradigm":
                names[cell] = f"{name} {values[cell]}"
            elif values[cell] and len(alike[name]) > 1:
                names[cell] = f"{name}, {_told(axis)} {values[cell]}"
    return names


def _told(axis: str) -> str:
    """An axis in a name that has its paradigm and tuning already: `paradigm.margin` is the margin."""
    return axis.removeprefix("paradigm.").removeprefix("tuning.").replace("_", " ")


def _values(column: pd.Series) -> dict[str, str]:
    """Cell -> its value as a person reads it: numbers in three digits if that tells them apart."""
    for digits in (3, 6):
        told = {str(cell): _value(value, digits) for cell, value in column.items()}
        if len(set(told.values())) == column.nunique(dropna=False):
            break
    return told


def _value(value: object, digits: int) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def untuned(trials: pd.DataFrame, answers: Answers, held: pd.DataFrame) -> Table | None:
    """Models as they come, best first, between chance and people.

    Args:
        held: `ceilings.table`.
    """
    some = trials[trials["kind"].isin(UNTUNED)]
    if some.empty:
        return None
    named, people = labels(some), answers.people()
    scored = answers.scores()
    releases = list(dict.fromkeys(_release(name) for name in answers.sets))
    found = []
    for (cell, measure), (_, row) in zip(cells(some), some.drop_duplicates("cell").iterrows(), strict=True):
        own = scored[(scored["cell"] == cell) & (scored["measure"] == measure)]
        sets = list(dict.fromkeys(own["set"]))
        one = estimate(answers, mean([(cell, measure)], sets))
        low, high = one.interval()
        of_release = own.groupby(own["set"].map(_release))["score"].mean()
        explained = held.loc[held["cell"] == cell, "explained"].astype(float).mean() if len(held) else np.nan
        told = {"model": named[cell], "kind": row["kind"], "cell": cell, "measure": measure, "sets": len(sets)}
        told |= {"n": one.n, "score": one.value, "low": low, "high": high, "explained": explained}
        found.append(told | {name: of_release.get(name, np.nan) for name in releases})
    exact = pd.DataFrame(found).sort_values("score", ascending=False, kind="stable")
    floor = exact.loc[exact["kind"] == "floor", "score"].max()
    exact["below_floor"] = exact["kind"].isin(["metric", "pretrained"]) & (exact["score"] < floor)
    ceilings: dict[str, dict[str, float]] = {
        what: {"score": people[what].mean(skipna=False), **people[what].groupby(people.index.map(_release)).mean()}
        for what in ("best", "fresh_judge")
    }
    rows: list[tuple[Cell, ...]] = [
        (f"People: {label}", "ceiling", percent(of["score"]), "", "", *(percent(of[name]) for name in releases))
        for label, of in (("best possible", ceilings["best"]), ("a fresh judge", ceilings["fresh_judge"]))
    ]
    rows += [
        (
            *(row["model"], row["kind"] + (BELOW if row["below_floor"] else ""), percent(row["score"])),
            between((row["low"], row["high"]), percent),
            percent(row["explained"]),
            *(percent(row[name]) for name in releases),
        )
        for _, row in exact.iterrows()
    ]
    rows.append(("Chance", "floor", percent(CHANCE), "", "", *(percent(CHANCE) for _ in releases)))
    columns = (
        *(Column("Model"), Column("Kind"), Column("All sets", "number"), Column("95 % interval", "number")),
        *(Column("Explained", "number"), *(Column(name, "number") for name in releases)),
    )
    caption = (
        "Models as they come, best first: mean 2AFC score over the sets, in per cent, with its interval; explained, "
        "how much of the way from chance to the best possible that is, in per cent; the mean over each release's sets."
    )
    return Table("models", caption, columns, tuple(rows), exact, frozenset({0, 1, len(rows) - 1}))


def gained(found: Sequence[Gain], named: Mapping[str, str]) -> Table | None:
    """What fine-tuning gained over each backbone as it came, paired; what is below the floor is marked.

    Args:
        named: cell -> its name (`labels`).
    """
    if not found:
        return None
    rows = tuple(
        (
            *(named[one.cell] + (BELOW if one.score < one.floor else ""), one.means),
            *(points(one.difference.value), between(one.difference.interval())),
            *(p_value(one.difference.p()), percent(one.score), percent(one.came), percent(one.validation)),
            f"{one.difference.n:,}",
        )
        for one in found
    )
    exact = pd.DataFrame(
        {
            **{"model": one.model, "fine_tuned": named[one.cell], "cell": one.cell, "came_cell": one.before},
            **{"protocol": one.protocol, "contaminated": one.contaminated},
            **{"validation": one.validation, "tied_on_validation": one.tied, "score": one.score, "came": one.came},
            **exactly(one.difference, 0.95),
            **{"p": one.difference.p(), "sets": len(one.sets), "says": one.means},
        }
        for one in found
    )
    columns = (
        *(Column("Fine-tuned"), Column("What it says"), Column("Gain", "number"), Column("95 % interval", "number")),
        *(Column("p", "number"), Column("On test", "number"), Column("As it came", "number")),
        *(Column("Validation", "number"), Column("Triplets", "number")),
    )
    caption = (
        "What fine-tuning gained: of each backbone and what it was fitted on the model that is best on validation, and "
        "the backbone as it came, on the same test triplets, mean over all sets. Scores in per cent; gains in points "
        "of 2AFC, paired, each by itself, not corrected."
    )
    return Table("gains", caption, columns, rows, exact)


def varied(found: Sequence[Gain], named: Mapping[str, str]) -> Table | None:
    """What each combination of what a grid varied gained; None where nothing was varied.

    Args:
        named: cell -> its name (`labels`).
    """
    if not found:
        return None
    rows = tuple(
        (
            *(named[one.cell] + (BELOW if one.score < one.floor else ""), f"{one.tried:,}", percent(one.validation)),
            *(percent(one.score), points(one.difference.value), between(one.difference.interval())),
            f"{one.difference.repeats:,}",
        )
        for one in found
    )
    exact = pd.DataFrame(
        {
            **{"fine_tuned": named[one.cell], "cell": one.cell, "came_cell": one.before, "protocol": one.protocol},
            **{"tried": one.tried, "validation": one.validation, "score": one.score, "came": one.came},
            **exactly(one.difference, 0.95),
        }
        for one in found
    )
    columns = (
        *(Column("Fine-tuned"), Column("Best of", "number"), Column("Validation", "number")),
        *(Column("On test", "number"), Column("Gain", "number"), Column("95 % interval", "number")),
        Column("Trainings", "number"),
    )
    caption = (
        "What the grid varied: of each combination the setting that its search found best on validation, of how many, "
        "and how often it was trained. Scores in per cent; gains over the backbone as it came in points of 2AFC, "
        "paired, each by itself, not corrected: choose by validation, where the best stands first."
    )
    return Table("varied", caption, columns, rows, exact)


def tuned(trials: pd.DataFrame, answers: Answers) -> list[Table]:
    """Fine-tuned models, a table for each protocol: the score, and what was gained over the model as it came."""
    if "paradigm" not in trials:
        return []
    found = []
    scored = answers.scores()
    for protocol, some in trials.groupby("protocol"):
        trained = some[some["paradigm"].notna()]
        if trained.empty:
            continue
        by = [name for name in ("model", "paradigm", "fit_on") if name in trained]
        best = chosen(trained.astype({"fit_on": object}).fillna({"fit_on": ""}) if "fit_on" in by else trained, by)
        of_cell = _means(scored, best)
        before = _means(scored, some[some["paradigm"].isna() & (some["kind"] != "floor")])
        known = [*(name for name in PARADIGMS if name in set(best["paradigm"]))]
        known += sorted(set(best["paradigm"]) - set(known))
        rows: list[tuple[Cell, ...]] = []
        exact = []
        for model, own in best.drop_duplicates("cell").groupby("model"):
            base = before[before.index.isin(some.loc[some["model"] == model, "cell"])].mean()
            row: list[Cell] = [str(model), percent(base)]
            for name in known:
                score = of_cell[own.loc[own["paradigm"] == name, "cell"]].mean()
                gain = "" if np.isnan(base - score) else f" ({points(score - base)})"
                row.append(percent(score) + gain)
                exact.append({"model": model, "paradigm": name, "protocol": protocol, "score": score, "before": base})
            rows.append(tuple(row))
        leaky = " What it fits on, it is evaluated on: these scores are contaminated." if protocol == "thesis" else ""
        caption = (
            f"Fine-tuned under protocol {protocol}: mean 2AFC score over sets and fine-tuning data, in per cent, and "
            f"the gain in points over the model as it came, scored on the same triplets.{leaky}"
        )
        columns = (Column("Model"), Column("As it came", "number"), *(Column(name, "number") for name in known))
        found.append(Table(f"tuned_{protocol}", caption, columns, tuple(rows), pd.DataFrame(exact)))
    return found


def _means(scored: pd.DataFrame, some: pd.DataFrame) -> pd.Series:
    """cell -> mean score over its sets and repeats, by the measure that it reports."""
    reported = dict(zip(some["cell"], some["measure"], strict=True))
    own = scored[scored["cell"].isin(list(reported)) & (scored["measure"] == scored["cell"].map(reported))]
    return own.groupby("cell")["score"].mean()


def measures(trials: pd.DataFrame, answers: Answers, gained: Sequence[Gain]) -> Table | None:
    """Models under each similarity measure: as they come, and those that gains are told of."""
    tuned = [one.cell for one in gained]
    some = trials[trials["kind"].isin(UNTUNED) | trials["cell"].isin(tuned)]
    scored = answers.scores()
    own = scored[scored["cell"].isin(some["cell"]) & (scored["measure"] != "own")]
    if own["measure"].nunique() < 2:
        return None
    exact = own.pivot_table(index="cell", columns="measure", values="score").rename_axis(columns=None)
    named = labels(trials) if tuned else labels(some)
    exact = exact.assign(model=[named[str(cell)] for cell in exact.index]).sort_values("model")
    names = [name for name in ("cosine", "l2", "l1") if name in exact]
    rows = tuple((row["model"], *(percent(row[name]) for name in names)) for _, row in exact.iterrows())
    also = ", and fine-tuned the best on validation of each backbone," if tuned else ""
    caption = (
        f"Models as they come{also} under each similarity measure: mean 2AFC score over the sets, in per cent. "
        f"All else on this page is by {' or '.join(sorted(set(trials['measure'])))}."
    )
    columns = (Column("Model"), *(Column(name, "number") for name in names))
    return Table("measures", caption, columns, rows, exact.reset_index())


def leaked(found: pd.DataFrame) -> Table | None:
    """How much of what fine-tuning gained was leakage."""
    if found.empty:
        return None
    rows = tuple(
        (
            *(str(row["paradigm"]), points(row["gain_thesis"]), points(row["gain_heldout"]), points(row["leaked"])),
            *(between((row["low"], row["high"])), f"{int(row['n']):,}"),
        )
        for _, row in found.iterrows()
    )
    columns = (
        *(Column("Paradigm"), Column("Gain, as published", "number"), Column("Gain, held out", "number")),
        *(Column("Leaked", "number"), Column("95 % interval", "number"), Column("Triplets", "number")),
    )
    caption = (
        "What fine-tuning gained where it fits on what it is evaluated on (protocol thesis), and where it does not; "
        "the difference is leakage. Points of 2AFC score."
    )
    return Table("leakage", caption, columns, rows, found)


def every(trials: pd.DataFrame, answers: Answers, held: pd.DataFrame) -> Table:
    """Every cell on every set."""
    named = labels(trials)
    scored = answers.scores()
    reported = dict(zip(trials["cell"], trials["measure"], strict=True))
    own = scored[scored["measure"] == scored["cell"].map(reported)]
    wide = own.pivot_table(index="cell", columns="set", values="score").reindex(columns=list(answers.sets))
    wide = wide.loc[sorted(wide.index, key=lambda cell: named[cell])]
    rows = tuple(
        (named[str(cell)], *(percent(row[name]) for name in answers.sets), percent(row.mean()))
        for cell, row in wide.iterrows()
    )
    exact = held if len(held) else own.assign(model=own["cell"].map(named))
    columns = (Column("Cell"), *(Column(name, "number") for name in answers.sets), Column("Mean", "number"))
    caption = "Every cell on every set: 2AFC score in per cent, mean over its repeats."
    return Table("scores", caption, columns, rows, exact)


def runs(trials: pd.DataFrame, answers: Answers, judged: Mapping[int, Verdict], pages: Mapping[str, str]) -> Table:
    """Every run, with the hypotheses that rest on it.

    Args:
        pages: trial -> address of its run in MLflow.
    """
    named = labels(trials)
    rests = {number: rests_on(verdict) for number, verdict in judged.items()}
    reported = dict(zip(trials["cell"], trials["measure"], strict=True))
    scored = answers.scores()
    score = scored[scored["measure"] == scored["cell"].map(reported)].groupby("trial")["score"].mean()
    marks = {
        cell: " ".join(f"H{number}" for number, on in rests.items() if cell in on) for cell in trials["cell"].unique()
    }
    rows = []
    for trial, row in trials.iterrows():
        seed = row.get("seed", np.nan)
        rows.append(
            (
                Link(str(trial), pages[str(trial)]) if str(trial) in pages else str(trial),
                *(named[row["cell"]], row["kind"], UNKNOWN if pd.isna(seed) else f"{seed:g}"),
                *(percent(score.get(trial, np.nan)), f"{row['seconds']:.0f}", marks[row["cell"]]),
            )
        )
    columns = (
        *(Column("Trial"), Column("Cell"), Column("Kind"), Column("Seed", "number")),
        *(Column("2AFC, %", "number"), Column("Seconds", "number"), Column("Hypotheses")),
    )
    exact = trials.assign(label=trials["cell"].map(named), score=score, hypotheses=trials["cell"].map(marks))
    exact["run"] = [pages.get(str(trial), "") for trial in trials.index]
    caption = "Every run, and the hypotheses that rest on it; the trial's id leads to its run in MLflow."
    return Table("runs", caption, columns, tuple(rows), exact.reset_index())


def _release(name: str) -> str:
    return str(name).partition("/")[0]
