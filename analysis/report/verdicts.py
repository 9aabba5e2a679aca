"""The verdicts: their table, the same contrasts on parts of the data, and what a section tells of each."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.answers import Answers
from analysis.hypotheses import HYPOTHESES
from analysis.numerals import MINUS, UNKNOWN, between, p_value, points
from analysis.report.form import Cell, Column, Link, Table, exactly
from analysis.report.made import Store, Swept
from analysis.verdict import Verdict
from humansim.published import VERDICTS


def claimed(verdict: Verdict) -> str:
    """What the claim says of the effect: "> 1.00"."""
    least = f"{100 * verdict.smallest:.2f}"
    return {
        "greater": f"> {least}",
        "less": f"< {MINUS}{least}",
        "different": f"beyond ±{least}",
        "same": f"within ±{least}",
    }[verdict.direction]


def table(judged: Mapping[int, Verdict], told: Collection[int]) -> Table:
    """The nine verdicts, a row for each that is to be told of; the exact numbers have all."""
    rows: list[tuple[Cell, ...]] = []
    exact = []
    for one in HYPOTHESES:
        verdict = judged[one.number]
        low, high = verdict.interval
        exact.append(
            {
                "hypothesis": one.number,
                "claim": verdict.claim,
                "outcome": verdict.outcome,
                **exactly(verdict.estimate, verdict.level),
                "smallest": verdict.smallest,
                "direction": verdict.direction,
                "p": verdict.p,
                "family": verdict.family,
                "would_decide": verdict.would_decide,
                "of": verdict.of,
                "tested_on": verdict.tested_on,
                "partial": "; ".join(verdict.partial),
                "file": one.file,
                "thesis": VERDICTS[one.number - 1],
            }
        )
        if one.number not in told:
            continue
        rows.append(
            (
                Link(f"H{one.number}", f"#h{one.number}"),
                verdict.outcome,
                verdict.claim,
                points(verdict.effect),
                between((low, high)),
                claimed(verdict),
                p_value(verdict.p) if verdict.estimate.n else UNKNOWN,
                f"{verdict.estimate.n:,}",
                VERDICTS[one.number - 1],
            )
        )
    level = {one.level for one in judged.values()}
    shown = f"{100 * max(level):g} % interval"
    columns = (
        *(Column("No."), Column("Outcome", "outcome"), Column("Claim"), Column("Effect", "number")),
        *(Column(shown, "number"), Column("Supported if", "number"), Column("p, corrected", "number")),
        *(Column("Triplets", "number"), Column("Thesis")),
    )
    which = "The nine hypotheses" if len(rows) == len(HYPOTHESES) else "The hypotheses that could be tested, of nine"
    caption = (
        f"{which}. Effects in points of 2AFC score; p is of the decision, corrected for all nine (Holm). "
        "Thesis: what the thesis that this study repeats concluded, by eye."
    )
    return Table("verdicts", caption, columns, tuple(rows), pd.DataFrame(exact))


def parts(number: int, verdict: Verdict) -> Table | None:
    """The same contrast on parts of the data."""
    if not verdict.parts:
        return None
    rows = tuple(
        (name, points(one.value), between(one.interval(verdict.level)), f"{one.n:,}")
        for name, one in verdict.parts.items()
    )
    exact = pd.DataFrame([{"part": name, **exactly(one, verdict.level)} for name, one in verdict.parts.items()])
    caption = f"H{number} on parts of the data: effects in points of 2AFC score, each by itself, not corrected."
    columns = (Column("Part"), Column("Effect", "number"), Column("Interval", "number"), Column("Triplets", "number"))
    return Table(f"h{number}_parts", caption, columns, rows, exact)


def rests_on(verdict: Verdict) -> frozenset[str]:
    """The cells that a verdict was made of."""
    return frozenset(verdict.estimate.cells).union(*(one.cells for one in verdict.parts.values()))


def section(
    number: int,
    name: str,
    file: str,
    verdict: Verdict,
    parts: Mapping[int, Table | None],
    answers: Answers,
    sweeps: Sequence[Swept],
) -> dict[str, Any]:
    """A verdict as its section tells it."""
    on = {trial for cell in rests_on(verdict) for trial in answers.repeats.get(cell, ())}
    level = f"{100 * verdict.level:g} %"
    return {
        "number": number,
        "name": name[:1].upper() + name[1:],
        "file": file,
        "verdict": verdict,
        "effect": points(verdict.effect),
        "interval": between(verdict.interval),
        "level": level,
        "claimed": claimed(verdict),
        "p": p_value(verdict.p),
        "mixed": [
            (what, points(one.effect), between((one.low, one.high)), one.groups, one.converged)
            for what, one in verdict.mixed.items()
        ],
        "parts": parts[number],
        "runs": len(on),
        "searches": [
            (one.name, _search(store, ids))
            for one in sweeps
            for store in one.stores
            if (ids := [run for trial, run in store.runs.items() if trial in on])
        ],
    }


MOST = 150  # runs that an address can name


def _search(store: Store, ids: Sequence[str]) -> str:
    """The address of these runs in MLflow; of the whole experiment where they are all of it, or too many to name."""
    from urllib.parse import quote

    page = f"{store.page}/runs?workflowType=machine_learning"  # the page without it is one of traces, and drops filters
    if len(ids) == len(store.runs) or len(ids) > MOST:
        return page
    named = ", ".join(f"'{run}'" for run in ids)
    return f"{page}&searchFilter={quote(f'attributes.run_id IN ({named})')}"
