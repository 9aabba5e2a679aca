"""What a person sees in the terminal: progress on standard error, tables on standard output."""

import contextlib
import json
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.console import Group as RichGroup
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table as RichTable

from humansim.described import run_name
from humansim.results import ENDED, Failure, Outcome, Pruned, Result, State, on_all_sets
from humansim.spec import Trial
from humansim.stage import RUNNING
from humansim.status import Running, Status
from humansim.tables import Table

SIMULATED = "simulated judges"
MODELS = ("metric", "pretrained", "fine-tuned", "contaminated")  # what is held against the floor
MANY = 4  # sets that stand side by side with their intervals
WIDE = 9  # models that do
STATES = ("finished", "pruned", "running", "resumable", "to run", "failed")
HEAD = 11  # characters of a column's head, which is no wider than a score with its interval
MOST = 24  # fine-tuned models that are shown


def console(stderr: bool = False) -> Console:
    """A console as wide as the terminal; wide enough for a table where there is none."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else max(160, shutil.get_terminal_size().columns)
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=False)


def json_document(document: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False))


@contextlib.contextmanager
def transfer(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar for bytes, with rate and time left; gives a function of bytes done and bytes in all, if known."""
    columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with _bar(what, *columns) as update:
        yield update


@contextlib.contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for things that are counted; gives a function of how many are done and how many there are."""
    with _bar(what, MofNCompleteColumn(), TimeRemainingColumn()) as update:
        yield update


@contextlib.contextmanager
def _bar(what: str, *columns: Any) -> Iterator[Callable[[int, int | None], None]]:
    shown = console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), *columns, console=shown, disable=not shown.is_terminal
    )
    if not shown.is_terminal:
        shown.print(f"{what} ...", markup=False)
    with bar:
        task = bar.add_task(escape(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class Terminal:
    """Shows a submit while it runs: a bar with the time left where there is a terminal, else a line for each event."""

    def __init__(self, base: Trial, searched: Collection[str] = ()) -> None:
        self.base, self.searched = base, searched
        self.console = console(stderr=True)
        self.display = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.trials: TaskID | None = None
        self.bars: dict[str, TaskID] = {}
        self.begun = time.monotonic()
        self.ran = 0

    def __enter__(self) -> "Terminal":
        self.display.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.display.stop()

    def step(self, what: str) -> None:
        self.console.print(f"[dim]{what} ...[/dim]")

    def note(self, what: str) -> None:
        self.console.print(f"[yellow]{escape(what)}[/yellow]", soft_wrap=True)

    def progress(self, what: str, done: int, total: int) -> None:
        if what not in self.bars:
            self.bars[what] = self.display.add_task(what, total=total, left="")
        self.display.update(self.bars[what], completed=done, total=total, visible=done < total)

    def started(self, total: int) -> None:
        self.trials = self.display.add_task("trials", total=total, left="")
        self.begun = time.monotonic()

    def epoch(self, trial: Trial, row: dict[str, float]) -> None:
        if self.trials is not None:
            at = f"epoch {row['epoch']:.0f}/{trial.epochs} validation {100 * row['validation']:.1f}"
            self.display.update(self.trials, description=f"trials ({trial.id[:8]} {at})")

    def ended(self, outcome: Outcome, known: bool) -> None:
        if self.trials is not None:
            self.display.advance(self.trials)
            if not known:
                self.ran += 1
                task = self.display.tasks[self.trials]
                seconds = (time.monotonic() - self.begun) / self.ran * ((task.total or 0) - task.completed)
                self.display.update(self.trials, left=f"about {duration(seconds)} left")
        if known:
            return
        name = f"{outcome.trial.id[:8]}  {run_name(outcome.trial, self.base, self.searched)}"
        if isinstance(outcome, Failure):
            self.console.print(f"[red]failed[/red]    {escape(f'{name}: {outcome.reason}')}")
        elif isinstance(outcome, Pruned):
            after = f"after epoch {outcome.epoch} of {outcome.trial.epochs}"
            score = f"validation {_points(outcome.history[-1]['validation'])}"
            self.console.print(f"[yellow]pruned[/yellow]    {escape(name)}  {after}  {score}")
        else:
            took = duration(sum(outcome.seconds.values()))
            score = f"validation {_points(outcome.mean('validation'))}" if outcome.mean("validation") >= 0 else ""
            self.console.print(f"[green]finished[/green]  {escape(name)}  {score}  ({took})")


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.{int(minutes < 10)}f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _points(share: float | None) -> str:
    return "" if share is None or share != share else f"{100 * share:.2f}"


def _value(value: object) -> str:
    if isinstance(value, dict):  # a variant
        arguments = ", ".join(f"{key}={_value(given)}" for key, given in value["arguments"].items())
        return f"{value['name']}({arguments})"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def scores(table: Table, title: str, simulated: bool) -> list[RichTable]:
    """2AFC scores in per cent with their 95 % intervals: one column a set; of many sets, a table of their own.

    Of very many fine-tuned models those of the highest means are shown: a look, not a choice.
    """
    title = title + (f"  [{SIMULATED}]" if simulated else "")
    table, left_out = _highest(table)
    sets = list(dict.fromkeys(name for row in table for name in row["sets"]))
    axes = list(dict.fromkeys(axis for row in table for axis in row["axes"]))
    many = len(sets) > MANY
    models = RichTable(title=escape(title), title_justify="left", caption_justify="left")
    if many:
        models.add_column("", justify="right")
    models.add_column("", no_wrap=True)
    for axis in axes:
        models.add_column(escape(axis), overflow="fold")
    floor = {
        name: max(
            (row["sets"][name]["score"] for row in table if row["kind"] == "floor" and name in row["sets"]), default=0
        )
        for name in sets
    }

    def below(row: dict[str, Any], names: Sequence[str]) -> bool:
        scored = row["kind"] in MODELS and all(name in row["sets"] for name in names)
        return scored and sum(row["sets"][name]["score"] - floor[name] for name in names) < 0

    each_by_itself = [sets] if many else [[name] for name in sets]
    marked = any(below(row, names) for row in table for names in each_by_itself)
    validated = any("validation" in row for row in table)
    if validated:
        models.add_column("validation", justify="right", no_wrap=True)
    for name in [f"mean of {len(sets)} sets"] if many else sets:
        models.add_column(escape(name), justify="right", no_wrap=True)
    for number, row in enumerate(table, 1):
        cells = [str(number)] if many else []
        cells += [row["kind"], *(_value(row["axes"].get(axis, "")) for axis in axes)]
        if validated:
            cells.append(_points(row.get("validation")))
        if many:
            whole = all(name in row["sets"] for name in sets)
            mean = _points(sum(row["sets"][name]["score"] for name in sets) / len(sets)) if whole else ""
            cells.append(mean + (" ↓" if below(row, sets) else "  " * marked))
        else:
            for name in sets:
                score = row["sets"].get(name, {})
                low, high = score.get("low"), score.get("high")
                interval = f" [{100 * low:.1f}, {100 * high:.1f}]" if low is not None and high is not None else ""
                mark = " ↓" if below(row, [name]) else "  " * marked
                cells.append(_points(score.get("score")) + interval + mark)
        models.add_row(*map(escape, cells))
    about, note = "2AFC score in per cent, soft credit", "↓: below the floor"
    notes = [note] * marked
    if len({row["axes"].get("fit_on") for row in table if row.get("validation") is not None}) > 1:
        notes.append("validation: over the sets of fit_on; compare it where that is the same")
    if not many:
        told = f"{about}, [95 % interval, bootstrap over queries or judgement trials]"
        models.caption = escape("; ".join([told, *notes]))
        return [models]
    fewer = f"the {MOST} fine-tuned ones of the highest means; {left_out} others are left out"
    models.caption = "; ".join(notes + [fewer] * bool(left_out)) or None
    each = RichTable(title="each set", title_justify="left", caption_justify="left")
    wide = len(table) > WIDE
    half = "" if wide else ", ± half the 95 % interval, bootstrap over queries or judgement trials"
    each.caption = f"{about}{half}; --json gives all"
    each.add_column("", justify="right" if wide else "left", no_wrap=True)
    for column in sets if wide else _heads(table):
        each.add_column(escape(column).replace("/", "\n").replace("_", "\n"), justify="right", no_wrap=True)
    if wide:
        for number, row in enumerate(table, 1):
            each.add_row(str(number), *(_with_half(row["sets"].get(name, {}), wide) for name in sets))
    else:
        for name in sets:
            each.add_row(escape(name), *(_with_half(row["sets"].get(name, {}), wide) for row in table))
    return [models, each]


def _heads(table: Table) -> list[str]:
    """Heads for rows that stand as columns: number, kind, and the first short word that tells it from others of its
    kind."""
    heads = []
    for number, row in enumerate(table, 1):
        others = [other["axes"] for other in table if other["kind"] == row["kind"]]
        apart = [
            str(value)
            for axis, value in row["axes"].items()
            if isinstance(value, str) and len(value) <= HEAD and any(other.get(axis) != value for other in others)
        ]
        heads.append("\n".join([str(number), *re.split(r":? ", row["kind"]), *apart[:1]]))
    return heads


def _highest(table: Table) -> tuple[Table, int]:
    """The table with no more than `MOST` fine-tuned models, and how many were left out."""
    tuned = [row for row in table if row["kind"] in ("fine-tuned", "contaminated")]

    def mean(row: dict[str, Any]) -> float:
        return sum(float(score["score"]) for score in row["sets"].values()) / max(1, len(row["sets"]))

    out = {row["trial"] for row in sorted(tuned, key=mean, reverse=True)[MOST:]}
    return [row for row in table if row.get("trial") not in out], len(out)


def _with_half(score: dict[str, float | None], wide: bool) -> str:
    low, high = score.get("low"), score.get("high")
    if wide:
        return _points(score.get("score"))[:-1]
    half = f" ±{50 * (high - low):4.1f}" if low is not None and high is not None else ""
    return _points(score.get("score")) + half


def states(rows: list[tuple[str, Counter[str], str]], title: str, first: str, last: str = "") -> RichTable:
    """Trials by state, one row a cell or a sweep, and whatever is said of it at the end."""
    shown = RichTable(title=escape(title), title_justify="left")
    shown.add_column(first)
    for state in STATES:
        shown.add_column(state, justify="right")
    if last:
        shown.add_column(last)
    for name, counts, said in rows:
        cells = [escape(name), *(str(counts[state] or "") for state in STATES)]
        shown.add_row(*cells, *([escape(said)] if last else []))
    return shown


def stage(status: Status, again: str) -> str:
    """What is going on with a sweep, in a line; nothing where all has ended.

    Args:
        again: the command that submits it.
    """
    now, when = status.stage, f"submitted {duration(status.ago)} ago"
    if now is not None:
        many = f", {now.done:,} of {now.total:,}" if now.total else ""
        begun = any(status.states[state] for state in (State.RUNNING, *ENDED))
        none = "" if begun else ", none has begun yet" if now.what == RUNNING else ""
        return f"now: {now.what}{many}{none}  ({when}, process {now.process} on {now.node})"
    if any(count for state, count in status.states.items() if state not in ENDED):
        return f"nothing runs it now ({when}); to go on: {again}"
    return ""


def score(best: Result | None, tied: int = 1) -> str:
    """A result's scores on validation, of all sets, and on test; which it is, and of how many that are as good."""
    if best is None:
        return ""
    equals = f", first of {tied} equals" if tied > 1 else ""
    return f"{_points(on_all_sets(best))} (test {_points(best.mean('test'))}), {best.trial.id[:8]}{equals}"


def running(trials: Sequence[Running], base: Trial, searched: Collection[str] = ()) -> RichTable:
    """Trials under way, those that were silent for longest last."""
    shown = RichTable(title="running", title_justify="left")
    for name in ("trial", "", "epoch", "validation", "images/s", "last epoch", "on", "GPU"):
        shown.add_column(name, justify="left" if name in ("trial", "", "on") else "right")
    for one in sorted(trials, key=lambda one: one.age or 0):
        epochs = f"{one.epoch}/{one.trial.epochs}" if one.trial.paradigm is not None else ""
        rate = "" if one.images_per_second is None else f"{one.images_per_second:.0f}"
        ago = "" if one.age is None else f"{duration(max(0.0, one.age))} ago"
        if one.age is None and one.begun is not None:
            ago = f"begun {duration(max(0.0, one.begun))} ago"
        name = escape(run_name(one.trial, base, searched))
        gpu = f"{one.gpu:g}" if one.gpu else ""
        shown.add_row(one.trial.id[:8], name, epochs, _points(one.validation), rate, ago, one.node or "", gpu)
    return shown


def again_and_again(parts: Callable[[], list[Any]], seconds: float) -> None:
    """Shows what a function gives, anew every so many seconds, until Ctrl-C."""
    with Live(console=console(), auto_refresh=False, screen=False) as live, contextlib.suppress(KeyboardInterrupt):
        while True:
            live.update(RichGroup(*parts()), refresh=True)
            time.sleep(seconds)


def planned(rows: list[dict[str, Any]], title: str, on_gpu: bool) -> RichTable:
    """What is to come: one row a cell or a kind of trial, its trials by state and, where known, what they will take.

    Args:
        rows: what names it first; then `states`, and `seconds` of a trial, `memory` in bytes, `share` of a GPU,
            `in_all` in seconds of all that are to run; None where unknown.
    """
    shown = RichTable(title=escape(title), title_justify="left")
    names = [key for key in rows[0] if key not in ("states", "seconds", "memory", "share", "in_all")]
    for name in names:
        shown.add_column(name)
    states = [state for state in STATES if any(row["states"][state] for row in rows)]
    known = any(row["seconds"] is not None for row in rows)
    figures = ["a trial", "memory", *(["GPU"] if on_gpu else []), "in all"] if known else []
    for column in (*states, *figures):
        shown.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        cells = [escape(str(row[name])) for name in names] + [str(row["states"][state] or "") for state in states]
        if known and row["seconds"] is not None:
            share = [f"1/{1 / row['share']:.0f}" if row["share"] < 1 else "1"] if on_gpu else []
            cells += [duration(row["seconds"]), size(row["memory"]), *share, duration(row["in_all"])]
        shown.add_row(*cells)
    return shown


def size(bytes_: float) -> str:
    """Bytes, for people."""
    return f"{bytes_ / 1e6:.0f} MB" if bytes_ < 999.5e6 else f"{bytes_ / 1e9:.1f} GB"


def plain(rows: list[dict[str, Any]], title: str) -> RichTable:
    """Any rows of text, one column a key."""
    shown = RichTable(title=escape(title), title_justify="left")
    for key in rows[0] if rows else ["(none)"]:
        shown.add_column(key)
    for row in rows:
        shown.add_row(*(escape(str(value)) for value in row.values()))
    return shown
