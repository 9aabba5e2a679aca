"""The report: one page that a supervisor can read, the same as Markdown, and its tables for LaTeX and as CSV.

From a verdict on the page one gets to its file (`analysis/h3_...py`), to its row (`data/verdicts.csv`), to the runs
that it rests on (marked in `data/runs.csv` and in the page's last table) and to these in MLflow.
"""

import base64
import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from analysis import ceilings
from analysis.answers import Answers
from analysis.figures import Drawn, Embedded, draw
from analysis.gains import Gain, gains, leaders, pairs, varied
from analysis.hypotheses import HYPOTHESES
from analysis.leakage import leakage
from analysis.report import made, summary, tables, verdicts
from analysis.report.form import in_order
from analysis.report.made import Swept
from analysis.verdict import Verdict
from humansim.sources.study import SETS
from humansim.tables import counted

PAGE, TEXT, LATEX = "report.html", "report.md", "tables.tex"
FILES = (PAGE, TEXT, LATEX, "data", "figures")  # all that is written


@dataclass(frozen=True)
class Section:
    """One more section of the page, such as the gallery; put between the figures and how it was made.

    Attributes:
        name: its place in the page.
        title: its heading.
        html: its content, complete in itself: what it shows is inlined.
        exact: the numbers behind, written as `data/<name>.csv`.
    """

    name: str
    title: str
    html: str
    exact: pd.DataFrame


def write(
    trials: pd.DataFrame,
    answers: Answers,
    judged: Mapping[int, Verdict],
    folder: Path,
    *,
    sweeps: Sequence[Swept] = (),
    command: str = "humansim report",
    maps: Mapping[str, Embedded] | None = None,
    left_out: Sequence[str] = (),
    more: Sequence[Section] = (),
    tell: Callable[[str], None] = lambda what: None,
) -> None:
    """Writes the report into a folder that is there: `FILES`.

    Args:
        judged: number of the hypothesis -> verdict (`hypotheses.verdicts`).
        command: that makes this report again.
        maps: embeddings for maps of the birds, by backbone (`figures.draw`).
        left_out: what else the report lacks, and why, in sentences.
        more: sections to add.
        tell: called with what is done next.
    """
    tell("tables")
    of_study = bool(set(answers.sets) & set(SETS))
    trained = "paradigm" in trials and bool(trials["paradigm"].notna().any())
    told = {number: one for number, one in judged.items() if of_study or summary.backbones(one, trials) > 1}
    held = ceilings.table(trials, answers)
    pages = {
        trial: f"{store.page}/runs/{run}?workflowType=machine_learning"
        for one in sweeps
        for store in one.stores
        for trial, run in store.runs.items()
    }
    claims = verdicts.table(judged, told)
    named = tables.labels(trials)
    gained = told_of(trials, answers, of_study)
    leaked = tables.leaked(leakage(trials, answers))
    untuned, tuned = tables.untuned(trials, answers, held), tables.tuned(trials, answers)
    measures, sets = tables.measures(trials, answers, gained), tables.of_sets(answers)
    gain = tables.gained(gained, named)
    searched = {axis for one in sweeps for axis in one.searched}
    each = tables.varied(varied(trials, answers, searched), named) if gained else None
    every, runs = tables.every(trials, answers, held), tables.runs(trials, answers, judged, pages)
    parts = {number: verdicts.parts(number, verdict) for number, verdict in told.items()}
    shown = in_order([claims, sets, leaked, untuned, gain, each, *tuned, measures, *parts.values(), every, runs])
    tell("figures")
    (folder / "figures").mkdir()
    drawn = draw(trials, answers, told, folder / "figures", maps)
    tell("pages")
    simulated = bool(trials["simulated"].any())
    context = {
        "title": "Which image model judges similarity as people do?",
        "date": datetime.datetime.now(datetime.UTC).strftime("%d %B %Y, %H:%M UTC"),
        "simulated": summary.simulated(trials),
        "of_study": of_study,
        "answer": [
            *summary.gained(gained, named),
            *(
                [
                    *summary.leading(leaders(trials, answers), named),
                    *summary.seen(trials),
                ]
                if trained and not of_study
                else []
            ),
            *summary.answer(told, untuned if of_study or not trained else None),
        ],
        "partial": made.partial(sweeps),
        "sweeps": sweeps,
        "trials": trials,
        "n_triplets": len(answers.choice),
        "hypotheses": [
            verdicts.section(one.number, one.name, one.file, told[one.number], parts, answers, sweeps)
            for one in HYPOTHESES
            if one.number in told
        ],
        "verdicts": claims,
        "sets": sets,
        "leaked": leaked,
        "untuned": untuned,
        "gain": gain,
        "varied": each,
        "tuned": tuned,
        "measures": measures,
        "every": every,
        "runs": runs,
        "tables": shown,
        "contaminated": int(trials["contaminated"].sum()),
        "audit": made.audit(trials),
        "figures": drawn,
        "more": more,
        "made": made.made(trials),
        "opens": made.opens(sweeps),
        "command": command,
        "missing": [
            *made.missing(trials, told, left_out, of_study),
            *summary.untested({number: one for number, one in judged.items() if number not in told}),
        ],
        "mark": " Simulated judges." if simulated else "",
    }
    for name in (PAGE, TEXT, LATEX):
        (folder / name).write_text(templates().get_template(name).render(context))
    (folder / "data").mkdir()
    judges = "simulated" if simulated else "people"
    for name, exact in [(one.name, one.exact) for one in shown] + [(one.name, one.exact) for one in more]:
        exact.assign(judges_are=judges).to_csv(folder / "data" / f"{name}.csv", index=False)


def told_of(trials: pd.DataFrame, answers: Answers, of_study: bool) -> list[Gain]:
    """What fine-tuning gained, as far as it is told one by one: a study of many has tables and verdicts for it."""
    return [] if of_study and len(pairs(trials, answers)) > summary.FEW else gains(trials, answers)


def templates() -> jinja2.Environment:
    """What pages are made from: HTML is escaped, a name that is missing is an error."""
    pages = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis.report", "templates"),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    pages.filters |= {"svg": _inlined, "markdown": _in_markdown, "latex": in_latex, "raw_html": Markup}
    pages.filters |= {"counted": counted, "unbroken": _unbroken}
    return pages


def _inlined(figure: Drawn) -> str:
    """A figure's SVG as a data URI: an image of its own, whose ids and styles do not meet the page's."""
    return f"data:image/svg+xml;base64,{base64.b64encode(figure.svg.read_bytes()).decode()}"


def _unbroken(text: str) -> str:
    """Text in which no line begins with a per cent sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _in_markdown(text: object) -> str:
    """Text that Markdown shows as it is, also in a table."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", str(text)).replace("\n", " ")


LATEX_MEANS = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": "$<$", ">": "$>$", "±": r"$\pm$", "\n": " "},
    **{"\N{MINUS SIGN}": "$-$", "\N{EN DASH}": "--", "\N{MULTIPLICATION SIGN}": r"$\times$"},
}


def in_latex(text: object) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(LATEX_MEANS.get(mark, mark) for mark in str(text))
