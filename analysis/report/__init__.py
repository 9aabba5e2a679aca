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
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from analysis import ceilings
from analysis.answers import Answers, chosen
from analysis.compared import sets_of
from analysis.figures import Drawn, Embedded, draw
from analysis.gains import Gain, gains
from analysis.hypotheses import HYPOTHESES
from analysis.leakage import leakage
from analysis.report import tables
from analysis.report.tables import Table
from analysis.stats import estimate, mean
from analysis.verdict import Verdict
from humansim.scores import CHANCE
from humansim.sources.study import SETS
from humansim.tables import counted

FEW = 3  # backbones of which the summary tells in words
PAGE, TEXT, LATEX = "report.html", "report.md", "tables.tex"
FILES = (PAGE, TEXT, LATEX, "data", "figures")  # all that is written


@dataclass(frozen=True)
class Store:
    """A sweep in one tracking store.

    Attributes:
        uri: of the store.
        opens: the command or address that shows its runs.
        page: address of the sweep's experiment in MLflow's pages.
        runs: trial -> id of its run.
    """

    uri: str
    opens: str
    page: str
    runs: Mapping[str, str]


@dataclass(frozen=True)
class Swept:
    """A sweep, as the report tells of it.

    Attributes:
        name: of the sweep.
        question: what it is to find out.
        digest: SHA-256 of what it says, its first digits; empty if its definition is not at hand.
        command: that runs what is missing of it.
        planned: trials in all; None if its definition is not at hand.
        finished: trials that have.
        lacking: what is missing, and how many trials that is: ("resnet50 triplet, failed", 3).
        stores: where it was read.
    """

    name: str
    question: str
    digest: str
    command: str
    planned: int | None
    finished: int
    lacking: tuple[tuple[str, int], ...]
    stores: tuple[Store, ...]


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
    told = {number: one for number, one in judged.items() if of_study or _backbones(one, trials) > 1}
    held = ceilings.table(trials, answers)
    pages = {
        trial: f"{store.page}/runs/{run}" for one in sweeps for store in one.stores for trial, run in store.runs.items()
    }
    verdicts = tables.summary(judged, told)
    gained = gains(trials, answers)
    leaked = tables.leaked(leakage(trials, answers))
    untuned, tuned = tables.untuned(trials, answers, held), tables.tuned(trials, answers)
    measures, sets = tables.measures(trials, answers), tables.of_sets(answers)
    gain = tables.gained(gained, trials, untuned)
    every, runs = tables.every(trials, answers, held), tables.runs(trials, answers, judged, pages)
    parts = {number: tables.parts(number, verdict) for number, verdict in told.items()}
    shown = tables.in_order([verdicts, sets, leaked, untuned, gain, *tuned, measures, *parts.values(), every, runs])
    tell("figures")
    (folder / "figures").mkdir()
    drawn = draw(trials, answers, told, folder / "figures", maps)
    tell("pages")
    simulated = bool(trials["simulated"].any())
    context = {
        "title": "Which image model judges similarity as people do?",
        "date": datetime.datetime.now(datetime.UTC).strftime("%d %B %Y, %H:%M UTC"),
        "simulated": _simulated(trials),
        "of_study": of_study,
        "answer": [
            *([*_found(trials, answers, gained, untuned), *_seen(trials)] if trained and not of_study else []),
            *_answer(told, untuned if of_study or not trained else None),
        ],
        "untested": _untested({number: one for number, one in judged.items() if number not in told}),
        "partial": _partial(sweeps),
        "sweeps": sweeps,
        "trials": trials,
        "n_triplets": len(answers.choice),
        "hypotheses": [
            _told(one.number, one.name, one.file, told[one.number], parts, answers, sweeps)
            for one in HYPOTHESES
            if one.number in told
        ],
        "verdicts": verdicts,
        "sets": sets,
        "leaked": leaked,
        "untuned": untuned,
        "gain": gain,
        "tuned": tuned,
        "measures": measures,
        "every": every,
        "runs": runs,
        "tables": shown,
        "contaminated": int(trials["contaminated"].sum()),
        "audit": _audit(trials),
        "figures": drawn,
        "more": more,
        "made": _made(trials),
        "command": command,
        "missing": _missing(trials, told, left_out, of_study),
        "mark": " Simulated judges." if simulated else "",
    }
    for name in (PAGE, TEXT, LATEX):
        (folder / name).write_text(templates().get_template(name).render(context))
    (folder / "data").mkdir()
    judges = "simulated" if simulated else "people"
    for name, exact in [(one.name, one.exact) for one in shown] + [(one.name, one.exact) for one in more]:
        exact.assign(judges_are=judges).to_csv(folder / "data" / f"{name}.csv", index=False)


def templates() -> jinja2.Environment:
    """What pages are made from: HTML is escaped, a name that is missing is an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis.report", "templates"),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"svg": _inlined, "markdown": _in_markdown, "latex": in_latex, "raw_html": Markup}
    made.filters |= {"counted": counted}
    return made


def _inlined(figure: Drawn) -> str:
    """A figure's SVG as a data URI: an image of its own, whose ids and styles do not meet the page's."""
    return f"data:image/svg+xml;base64,{base64.b64encode(figure.svg.read_bytes()).decode()}"


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


def _simulated(trials: pd.DataFrame) -> str:
    """What to say of the judges; empty if they were people."""
    count = int(trials["simulated"].sum())
    if not count:
        return ""
    which = "The judges" if count == len(trials) else f"The judges of {count:,} of {len(trials):,} trials"
    return f"{which} were simulated: no number or verdict here says anything about people."


def _found(trials: pd.DataFrame, answers: Answers, gained: Sequence[Gain], untuned: Table | None) -> list[str]:
    """What somebody who brought judgements came for, in a few sentences: did fine-tuning help, and which is best."""
    named = tables.labels(trials)
    floors = untuned.exact[untuned.exact["kind"] == "floor"] if untuned is not None else pd.DataFrame({"score": []})
    highest = floors["score"].max()
    told = [
        f"Fine-tuned minus pretrained on test, {one.model}: {tables.points(one.difference.value)} points of 2AFC "
        f"{tables.between(one.difference.interval())}, p {tables.p_value(one.difference.p())}, on "
        f"{counted(one.difference.n, 'triplet')}: {one.means}. That is {named[one.cell]} "
        f"({tables.percent(one.score)} %{tables.BELOW if one.score < highest else ''}), "
        f"{_best_of(one.tied, 'fine-tuned models')} on validation, against the "
        f"backbone as it came ({tables.percent(one.came)} %)."
        for one in gained[:FEW]
    ]
    best = chosen(trials.assign(every=""), ["every"])
    first = best.sort_values("seed").iloc[0] if "seed" in best else best.iloc[0]
    if np.isnan(first["validation"]):
        return told
    cell, measure = str(first["cell"]), str(first["measure"])
    sets = sets_of(answers, best)
    score = estimate(answers, mean([(cell, measure)], sets))
    models = trials.sort_values("seed") if "seed" in trials else trials
    tied = int((models.drop_duplicates("cell")["validation"] == first["validation"]).sum())
    beside = [f"the floor {row['model']} {tables.percent(row['score'])}" for _, row in floors.iterrows()]
    came = [one for one in gained if one.model == first["model"] and one.before != cell]
    beside += [f"{one.model} as it came {tables.percent(one.came)}" for one in came]
    people = answers.people().loc[sets].mean(skipna=False)
    beside += [f"a fresh judge {tables.percent(people['fresh_judge'])}"] if people["fresh_judge"] >= 0 else []
    beside += [f"the best possible {tables.percent(people['best'])}, chance {tables.percent(CHANCE)}"]
    below = first["kind"] != "floor" and score.value < highest
    told.append(
        f"{_best_of(tied, 'models').capitalize()} on validation is {named[cell]} "
        f"({tables.percent(first['validation'])} %). On test it scores {tables.percent(score.value)} % "
        f"{tables.between(score.interval(), tables.percent)}; beside it: {', '.join(beside)}."
        f"{' It is below the floor.' if below else ''}"
        f"{' No model is above this floor on validation.' if first['kind'] == 'floor' else ''}"
    )
    return told


def _seen(trials: pd.DataFrame) -> list[str]:
    """Of what scores on test speak, where fine-tuning has seen the images of the test part."""
    if "paradigm" not in trials or "shared.test.images" not in trials:
        return []
    trained = trials[trials["paradigm"].notna() & ~trials["contaminated"]]
    if not (count := trained["shared.test.images"].max()) > 0:
        return []
    return [
        f"Fit and test share {_of_all(int(count), trained)} images: scores after fine-tuning are of new judgements on "
        "these images, and say nothing of images that nobody has seen."
    ]


def _best_of(tied: int, which: str) -> str:
    return "the best" if tied < 2 else f"the first to finish of {tied} {which} that are best"


def _backbones(verdict: Verdict, trials: pd.DataFrame) -> int:
    """How many backbones a verdict rests on."""
    return int(trials.loc[trials["cell"].isin(tables.rests_on(verdict)), "model"].nunique())


def _untested(left: Mapping[int, Verdict]) -> str:
    """One line for the study's hypotheses that somebody else's judgements cannot test; empty if there are none."""
    untested, one = (
        ", ".join(f"H{number}" for number, verdict in left.items() if (verdict.outcome == "untested") == side)
        for side in (True, False)
    )
    told = "The study's nine hypotheses compare many backbones and ways to fine-tune."
    told += f" Untested, because nothing that they compare was evaluated on these judgements: {untested}." * bool(
        untested
    )
    told += f" On one backbone alone, which tells nothing of others: {one}." * bool(one)
    return told * bool(left)


def _answer(judged: Mapping[int, Verdict], untuned: Table | None) -> list[str]:
    """The report in a few sentences."""
    by: dict[str, list[str]] = {"supported": [], "refuted": [], "undecided": [], "untested": []}
    for number, one in judged.items():
        by[one.outcome].append(f"H{number}")
    counts = [f"{len(which)} {outcome} ({', '.join(which)})" for outcome, which in by.items() if which]
    told = [f"Of the nine hypotheses: {'; '.join(counts)}."] if counts else []
    if by["untested"]:
        told[0] += " Untested are those for which nothing to compare has finished."
    if untuned is not None:
        exact = untuned.exact
        models = exact[exact["kind"].isin(["pretrained", "metric"])]
        floors = exact[exact["kind"].isin(["floor", "untrained"])]
        best = (models if len(models) else exact).iloc[0]
        people = {str(row[0]): str(row[2]) for row in untuned.rows[:2]}
        told.append(
            f"The best model as it comes is {best['model']}: {tables.percent(best['score'])} % 2AFC "
            f"{tables.between((best['low'], best['high']), tables.percent)}, mean over {counted(best['sets'], 'set')}"
            + (
                f"; the best floor, {floors.iloc[0]['model']}, {tables.percent(floors.iloc[0]['score'])} %"
                if len(floors) and len(models)
                else ""
            )
            + f"; the best possible is {people['People: best possible']} %, chance 50 %."
        )
    return told


def _partial(sweeps: Sequence[Swept]) -> list[str]:
    """What of the sweeps is missing, a sentence each."""
    told = []
    for one in sweeps:
        if one.planned is None:
            told.append(
                f"{one.name}: {counted(one.finished, 'trial')}; its definition is not at hand, so what is missing is "
                "not known."
            )
        elif one.finished < one.planned:
            told.append(f"{one.name}: {one.finished:,} of {one.planned:,} trials have finished.")
    return told


def _told(
    number: int,
    name: str,
    file: str,
    verdict: Verdict,
    parts: Mapping[int, Table | None],
    answers: Answers,
    sweeps: Sequence[Swept],
) -> dict[str, Any]:
    """A verdict as its section tells it."""
    on = {trial for cell in tables.rests_on(verdict) for trial in answers.repeats.get(cell, ())}
    level = f"{100 * verdict.level:g} %"
    return {
        "number": number,
        "name": name[:1].upper() + name[1:],
        "file": file,
        "verdict": verdict,
        "effect": tables.points(verdict.effect),
        "interval": tables.between(verdict.interval),
        "level": level,
        "claimed": tables.claimed(verdict),
        "p": tables.p_value(verdict.p),
        "mixed": [
            (what, tables.points(one.effect), tables.between((one.low, one.high)), one.groups, one.converged)
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


def _audit(trials: pd.DataFrame) -> list[tuple[str, int, str]]:
    """Protocol, its fine-tuned trials, and what their training data shared with their test data at most."""
    if "paradigm" not in trials:
        return []
    trained = trials[trials["paradigm"].notna()]
    found = []
    for protocol, own in trained.groupby("protocol"):
        shared = {
            what: int(own[f"shared.test.{what}"].max())
            for what in ("trials", "triplets", "images", "near_duplicates")
            if f"shared.test.{what}" in own and own[f"shared.test.{what}"].notna().any()
        }
        told = ", ".join(
            f"{_of_all(count, own) if what == 'images' else f'{count:,}'} {what.replace('_', ' ')}"
            for what, count in shared.items()
            if count
        )
        found.append((str(protocol), len(own), told or "nothing"))
    return found


def _of_all(count: int, own: pd.DataFrame) -> str:
    """Images that are shared, of how many on test: "40 of 40"; of older results that is not known."""
    most = own[own["shared.test.images"] == count]
    every = most["images.test"].min() if "images.test" in own else np.nan
    return f"{count:,}" if np.isnan(every) else f"{count:,} of {every:,.0f}"


def _made(trials: pd.DataFrame) -> list[tuple[str, str]]:
    """How it was made: what ran it, with which seeds, for how long."""
    versions = {
        str(column).removeprefix("version."): ", ".join(sorted({str(v) for v in trials[column].dropna()}))
        for column in trials
        if str(column).startswith("version.")
    }
    devices = trials.groupby(trials["device"].fillna("unknown").astype(str))["seconds"].agg(["sum", "count"])
    hours = [
        f"{name}: {row['sum'] / 3600:,.2f} h in {counted(int(row['count']), 'trial')}"
        for name, row in devices.iterrows()
    ]
    gpus = [name for name in devices.index if not name.startswith(("cpu", "unknown"))]
    spent = devices.loc[gpus or devices.index, "sum"].sum() / 3600
    kind = "GPU" if gpus else "CPU" if devices.index.str.startswith("cpu").any() else "device"
    seeds = sorted({int(seed) for seed in trials["seed"].dropna()}) if "seed" in trials else []
    when = [datetime.datetime.fromtimestamp(trials["finished"].agg(end) / 1000, datetime.UTC) for end in ("min", "max")]
    return [
        ("Trials finished", " to ".join(dict.fromkeys(f"{one:%d %B %Y}" for one in when))),
        ("Hardware", "; ".join(hours)),
        (f"{kind}-hours", f"{spent:,.2f}, each trial's own time summed; those that shared a {kind} count in full"),
        ("Seeds of the fine-tunings", ", ".join(map(str, seeds)) or "none: nothing was trained"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items()) or "not recorded"),
        ("Data, SHA-256", ", ".join(sorted({str(data)[:16] for data in trials["data"]}))),
        (
            "Judges",
            "simulated"
            if trials["simulated"].all()
            else "people"
            if not trials["simulated"].any()
            else "some simulated",
        ),
    ]


def _missing(trials: pd.DataFrame, judged: Mapping[int, Verdict], left_out: Sequence[str], of_study: bool) -> list[str]:
    """What the report lacks, in sentences."""
    told = []
    partial: dict[str, list[str]] = {}
    for number, verdict in judged.items():
        for what in verdict.partial:
            partial.setdefault(what, []).append(f"H{number}")
    told += [f"{', '.join(which)}: {what}" for what, which in partial.items()]
    if "paradigm" in trials and trials["paradigm"].notna().any():
        repeats = trials[trials["paradigm"].notna()].groupby("cell").size()
        if once := int((repeats == 1).sum()):
            told.append(
                f"Trained once: {once:,} of {counted(len(repeats), 'fine-tuned cell')}; what another seed would give "
                "cannot be told of such."
            )
    elif of_study:
        told.append("Nothing was fine-tuned: H7 to H9 and the leakage need it.")
    return [*told, *left_out]
