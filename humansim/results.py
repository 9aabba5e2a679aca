"""Results on disk. The folder of a trial is its checkpoint, its commit and its record; no torch needed to read it.

results/<trial id>/
    trial.json            what is run here
    lock                  held by the process that runs it
    checkpoint.pt         after each epoch; gone when the trial has finished
    begun.json            which node began it last, when, with how much of a GPU, for `status`; gone with the checkpoint
    epoch.json            the last row of its history, likewise
    hung.txt              where its threads stood when it gave no sign of life for too long
    answers.parquet       the distances of every evaluated triplet
    weights.safetensors   the fine-tuned backbone
    result.json           written last, at once: its presence is what "finished" means
    failure.json          instead of it, why the trial failed
    pruned.json           instead of it, how far the trial came before a search gave it up
"""

import contextlib
import datetime
import enum
import json
import math
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError

from humansim.errors import BadInput
from humansim.pruning import Bar, pruned_at
from humansim.root import Root, locked, written_whole
from humansim.spec import Frozen, Trial, explain

RESULT, FAILURE, PRUNED, CHECKPOINT, BEGUN, EPOCH, ANSWERS, WEIGHTS, HUNG = (
    "result.json",
    "failure.json",
    "pruned.json",
    "checkpoint.pt",
    "begun.json",
    "epoch.json",
    "answers.parquet",
    "weights.safetensors",
    "hung.txt",
)


class Score(Frozen):
    """One backbone on one set under one measure; shares in [0, 1], None where it cannot be told.

    `measure` is cosine, l2 or l1, or "own" of a published metric;
    `score` is the 2AFC score with its 95 % interval `low`, `high` (bootstrap, clustered by judgement trial or query);
    `accuracy` is against the majority; `plug_in`, `fresh_judge` and `best` are the human ceilings of the set.
    """

    set: str
    part: Literal["validation", "test"]
    measure: str
    n: int
    score: float
    low: float | None
    high: float | None
    accuracy: float | None
    plug_in: float
    fresh_judge: float | None
    best: float


class Result(Frozen):
    """A finished trial.

    Attributes:
        history: one row an epoch: epoch, loss, validation (2AFC, cosine, mean over the sets fitted on), lr, seconds
            (of its steps), validation_seconds, images_per_second, and time (milliseconds since 1970).
        provenance: versions, device, fingerprints of data and weights, whether judges were simulated, the leakage
            stamp `shared`, and of the `backbone` family, size and pre-training.
        seconds: read (the data), make (the network), train, embed, score.
        peak_memory: bytes: of the device's memory on a GPU, of the process's on a CPU.
        finished: milliseconds since 1970.
    """

    trial: Trial
    scores: tuple[Score, ...]
    history: tuple[dict[str, float], ...]
    provenance: dict[str, Any]
    seconds: dict[str, float]
    peak_memory: int
    finished: int

    @property
    def measure(self) -> str:
        """The measure that is reported where there is room for one: cosine; a published metric's own."""
        measures = [score.measure for score in self.scores]
        return measures[0] if measures and "cosine" not in measures else "cosine"

    def mean(self, part: str, measure: str | None = None) -> float:
        """The 2AFC score, mean over the sets; in validation over those that were fitted on.

        Args:
            measure: None for the one that is reported (`measure`).
        """
        measure = measure or self.measure
        on = self.trial.fit_on if part == "validation" else None
        scores = [
            s.score
            for s in self.scores
            if s.part == part and s.measure == measure and (on is None or f"{s.set}/".startswith(f"{on}/"))
        ]
        return sum(scores) / len(scores) if scores else math.nan


def rank(result: Result) -> tuple[float, float, str]:
    """Sorts finished trials of one cell, the best first.

    By the 2AFC score in validation on what was fitted on, by which a search chooses; of equals by that on all sets, of
    these by id, whatever the order in which they finished.
    """
    own, every = result.mean("validation"), on_all_sets(result)
    return (math.inf if math.isnan(own) else -own, math.inf if math.isnan(every) else -every, result.trial.id)


def models(finished: Iterable[Result]) -> list[list[Result]]:
    """The repeats of each model, its lowest seed first; the best model first (`rank`).

    A model counts by its lowest seed, by which a search chose it: the luckiest of many seeds would pass for a better
    model.
    """
    found: dict[str, list[Result]] = {}
    for one in finished:
        found.setdefault(one.trial.having({"seed": 0}).id, []).append(one)
    repeats = (sorted(one, key=lambda result: result.trial.seed) for one in found.values())
    return sorted(repeats, key=lambda one: rank(one[0]))


def best(cells: Iterable[Iterable[Result]]) -> tuple[Result | None, int]:
    """The best model of several cells on validation, and how many are just as good, itself among them.

    Within a cell it is the one that its search chose and whose weights are kept the longest (`rank`). Cells may have
    been fitted on other sets: between them counts the mean over all sets, for only what they have in common compares.
    Of equals, and where nothing has a validation score, it is the first by its id.

    Args:
        cells: finished trials of each.

    Returns:
        None and 0 of no results.
    """
    known = [list(cell) for cell in cells]
    lowest = {repeats[0].trial.id for repeats in models(one for cell in known for one in cell)}
    first: list[Result] = []
    for cell in known:
        ranked = sorted((one for one in cell if one.trial.id in lowest), key=rank)
        first += [one for one in ranked if rank(one)[:2] == rank(ranked[0])[:2]]
    top = max((score for score in map(on_all_sets, first) if not math.isnan(score)), default=None)
    equals = {one.trial.id: one for one in first if top is None or on_all_sets(one) == top}
    chosen = equals[min(equals)] if equals else None
    return chosen, len(equals) if top is not None else len(first[:1])


def on_all_sets(result: Result) -> float:
    """The 2AFC score in validation, mean over all sets, whatever was fitted on; NaN without a validation part."""
    scores = [s.score for s in result.scores if s.part == "validation" and s.measure == result.measure]
    return sum(scores) / len(scores) if scores else math.nan


Kind = Literal["error", "diverged", "oom", "hung", "lost"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Failure(Frozen):
    """A trial that did not finish.

    `kind`: `error` (it raised), `diverged` (its loss or distances are no numbers), `oom` (out of memory, with all the
    memory that could be given), `hung` (no sign of life for too long), `lost` (its process died again and again).
    `history`: its epochs before that, as far as they are known.
    """

    trial: Trial
    kind: Kind
    reason: str
    traceback: str
    finished: int
    history: tuple[dict[str, float], ...] = ()


class Pruned(Frozen):
    """A trial that a search gave up because it lay below its bar (`humansim.pruning`).

    Attributes:
        history: its epochs, the last one that after which it was given up.
        provenance: versions, device, fingerprints of data and weights, as a result's; nothing of what failed later.
        seconds: read, make, train; of what was run further, all that it took.
        finished: milliseconds since 1970.
    """

    trial: Trial
    history: Annotated[tuple[dict[str, float], ...], Field(min_length=1)]
    provenance: dict[str, Any]
    seconds: dict[str, float]
    finished: int

    @property
    def epoch(self) -> int:
        """After which it was given up."""
        return int(self.history[-1]["epoch"])


Outcome = Result | Failure | Pruned


def held_to(outcome: Outcome | None, bar: Bar | None) -> Outcome | None:
    """What an outcome is in a search that holds the trial to a bar, whichever search it comes from.

    What finished, or failed, below the bar counts as pruned: other searches have run it further than this one would
    have. What was pruned, but not by this bar, is no outcome: it has to go on.
    """
    epoch = None if outcome is None else pruned_at(outcome.history, bar)
    if outcome is None or epoch is None:
        return None if isinstance(outcome, Pruned) else outcome
    provenance, seconds = ({}, {}) if isinstance(outcome, Failure) else (outcome.provenance, outcome.seconds)
    return Pruned(
        trial=outcome.trial,
        history=outcome.history[:epoch],
        provenance=provenance,
        seconds=seconds,
        finished=outcome.finished,
    )


class State(enum.StrEnum):
    """What the disk says of a trial."""

    FINISHED = "finished"
    PRUNED = "pruned"
    FAILED = "failed"
    RUNNING = "running"
    RESUMABLE = "resumable"
    TO_RUN = "to run"


ENDED = (State.FINISHED, State.PRUNED, State.FAILED)


def folder(root: Root, trial: Trial) -> Path:
    return root.results / trial.id


def load(root: Root, trial: Trial, bar: Bar | None = None) -> Outcome | None:
    """How a trial ended in a search that holds it to this bar, if to any; None if it has not.

    Raises:
        BadInput: its file is damaged.
    """
    return held_to(last(root, trial), bar)


def last(root: Root, trial: Trial) -> Outcome | None:
    """How a trial ended the last time, in whichever search; None if it has not."""
    for name, kind in ((RESULT, Result), (FAILURE, Failure), (PRUNED, Pruned)):
        file = folder(root, trial) / name
        try:
            return kind.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            continue
        except ValidationError as error:
            raise BadInput(f"{file}: damaged ({explain(error)}); delete the folder and the trial runs again") from None
    return None


def save(root: Root, outcome: Outcome) -> None:
    """Commits how a trial ended: from here on it is finished, failed or pruned."""
    name = {Result: RESULT, Failure: FAILURE, Pruned: PRUNED}[type(outcome)]
    with written_whole(folder(root, outcome.trial) / name) as file:
        file.write_text(outcome.model_dump_json(indent=1))
    for other in {FAILURE, PRUNED} - {name}:
        (folder(root, outcome.trial) / other).unlink(missing_ok=True)


class Begun(Frozen):
    """Where a trial was begun last: the node's name, milliseconds since 1970, the share of GPUs that it was given."""

    node: str
    time: int
    gpu: float = 0.0


def begin(root: Root, trial: Trial, gpu: float) -> None:
    """Takes note that a trial begins here; says nothing of whether it still runs."""
    folder(root, trial).mkdir(parents=True, exist_ok=True)
    with written_whole(folder(root, trial) / BEGUN) as file:
        file.write_text(Begun(node=platform.node(), time=now(), gpu=gpu).model_dump_json())


def begun(root: Root, trial: Trial) -> Begun | None:
    """Where a trial was begun last; None if it was run without Ray, or has ended."""
    try:
        return Begun.model_validate_json((folder(root, trial) / BEGUN).read_bytes())
    except FileNotFoundError:
        return None


def epoch(root: Root, trial: Trial) -> dict[str, float] | None:
    """The last row of the history of a trial that has not ended; None before its first epoch is over."""
    try:
        row: dict[str, float] = json.loads((folder(root, trial) / EPOCH).read_bytes())
    except FileNotFoundError:
        return None
    return row


def forget_checkpoint(root: Root, trial: Trial) -> None:
    """Removes what an interrupted trial would go on from."""
    for name in (CHECKPOINT, BEGUN, EPOCH):
        (folder(root, trial) / name).unlink(missing_ok=True)


def forget_failure(root: Root, trial: Trial) -> None:
    """Lets a failed trial run again, from its checkpoint if it has one."""
    (folder(root, trial) / FAILURE).unlink(missing_ok=True)


def state(root: Root, trial: Trial, bar: Bar | None = None) -> State:
    """What the disk says of a trial, to a search that holds it to this bar; needs neither Ray nor MLflow."""
    place = folder(root, trial)
    if bar and isinstance(load(root, trial, bar), Pruned):
        return State.PRUNED
    if (place / RESULT).exists():
        return State.FINISHED
    if (place / "lock").exists():
        with locked(place / "lock", wait=False) as free:
            if not free:
                return State.RUNNING
    if (place / FAILURE).exists():
        return State.FAILED
    return State.RESUMABLE if (place / CHECKPOINT).exists() else State.TO_RUN


@contextlib.contextmanager
def claimed(root: Root, trial: Trial) -> Iterator[Path]:
    """The trial's folder, for one process at a time; waits while another has it."""
    place = folder(root, trial)
    with locked(place / "lock", wait=True):
        # What a killed process had half-written.
        for name in (RESULT, FAILURE, PRUNED, CHECKPOINT, BEGUN, EPOCH, ANSWERS, WEIGHTS):
            for left in place.glob(f".{name}-*"):
                left.unlink(missing_ok=True)
        if not (place / "trial.json").exists():
            with written_whole(place / "trial.json") as file:
                file.write_text(trial.model_dump_json(indent=1))
        yield place


def now() -> int:
    """Milliseconds since 1970."""
    return int(datetime.datetime.now(datetime.UTC).timestamp() * 1000)
