"""Submit a sweep, and submit it again: what is finished is kept, what is missing runs."""

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from humansim import audit, own, plan, probes, results, stage, stopping, submitted
from humansim.backbones.weights import fetch
from humansim.errors import BadInput
from humansim.judgements import Judgements
from humansim.ledger import Ledger
from humansim.lengths import Lengths
from humansim.material import Material, prepare, resize_of
from humansim.results import ENDED, Failure, Kind, Outcome, Result, State
from humansim.retention import Retention
from humansim.root import Root, locked
from humansim.spec import Cell, Sweep, Trial, Variant
from humansim.splits import Split
from humansim.tables import counted

if TYPE_CHECKING:
    from humansim.launch import Follow
    from humansim.search import Search

Row = dict[str, float]


class Watcher(Protocol):
    """Who shows a person what happens."""

    def step(self, what: str) -> None:
        """A stage begins: reading data, starting Ray."""

    def note(self, what: str) -> None:
        """Something a person should know while trials run on; from any thread."""

    def progress(self, what: str, done: int, total: int) -> None:
        """So much of something is done: decoding images, embedding them."""

    def started(self, total: int) -> None:
        """Trials begin to run; so many are in the sweep."""

    def epoch(self, trial: Trial, row: Row) -> None:
        """A trial has finished an epoch."""

    def ended(self, outcome: Outcome, known: bool) -> None:
        """A trial has ended, now or (known) in an earlier submit."""


@dataclass(frozen=True)
class Report:
    """How a submit ended.

    Attributes:
        best: each cell with its best trial's result by validation score, None where nothing has finished.
        outcomes: every trial of the sweep that has ended, now or earlier.
        missing: how many trials have not ended.
        interrupted: Ctrl-C or SIGTERM stopped it.
        hopeless: the reason for which the first trials all failed, so that no others were started.
        untracked: why results could not all be written to MLflow; the next submit makes up for it.
    """

    best: list[tuple[Cell, Result | None]]
    outcomes: list[Outcome] = field(default_factory=list)
    missing: int = 0
    interrupted: bool = False
    untracked: str | None = None
    hopeless: str | None = None

    @property
    def failures(self) -> list[Failure]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, Failure)]


def submit(
    sweep: Sweep,
    root: Root,
    watcher: Watcher,
    *,
    address: str | None = None,
    tracking: str | None = None,
    serial: bool = False,
    retry: Collection[Kind] = (),
    only: Mapping[str, Sequence[str]] | None = None,
    patience: float | None = None,
    keep: int | None = None,
    keep_bytes: int | None = None,
) -> Report:
    """Runs what is missing of a sweep, through Ray (or serially), every trial into MLflow.

    Args:
        address: of a Ray cluster; else `RAY_ADDRESS`, else Ray is started on this machine.
        tracking: MLflow tracking URI; else `MLFLOW_TRACKING_URI`, else SQLite under the root.
        serial: one trial after another in this process, without Ray.
        retry: kinds of failures that are run again. Trials whose process died always are.
        only: axis -> patterns: those of the sweep's cells (`plan.only`).
        keep, keep_bytes: how many trials of each cell keep their weights, and how much these may be
            (`retention.Retention`); None for all.
        patience: seconds without a sign of life after which a trial has hung; None for an hour.

    Raises:
        BadInput: anything the user can mend, before anything is trained where it can be known.
    """
    whole, sweep = sweep, plan.only(sweep, only) if only else sweep
    cells = plan.cells(sweep)
    with locked(root.sweeps / sweep.name / "lock", wait=False) as free, contextlib.ExitStack() as told:
        if not free:
            raise BadInput(f"sweep {sweep.name!r} is running already under {root.path}: humansim status {sweep.name}")
        note = told.enter_context(stage.telling(root, sweep.name))

        def step(what: str) -> None:
            note(what, 0, 0)
            watcher.step(what)

        def progress(what: str, done: int, total: int) -> None:
            note(what, done, total)
            watcher.progress(what, done, total)

        if submitted.recalled(root, whole.name) is None:  # `status` knows of it from here on; of its data later
            submitted.remember(whole, replace(root, data=root.path / "data"))
        step("reading images and judgements")
        data: dict[Variant, str] = {}
        warned: dict[str, None] = {}
        judgements: dict[tuple[Variant, str], tuple[Judgements, Split]] = {}
        for trial in _one_for_each_store(cells):
            material = prepare(trial, root, partial(progress, "decoding images"))
            data[trial.source] = material.fingerprint
            judgements[trial.source, trial.protocol] = material.judgements, material.split
            warned |= dict.fromkeys(_told(material))
        planned = plan.plan(sweep, root)
        for what in [*warned, *_interrupted(planned, root)]:
            watcher.note(what)
        before = [o for trial in planned.known if (o := results.load(root, trial)) is not None]
        check_unmixed(before, data)
        submitted.remember(whole, root)

        from humansim.launch import Follow
        from humansim.search import Search
        from humansim.tracking import Tracker, tracking_uri

        for file in plan.missing_weights(cells):
            step(f"downloading {file.name}")
            fetch(file, partial(_whole, progress, file.name))

        step("opening MLflow")
        tracker = Tracker(tracking_uri(root, tracking), root, whole, watcher.note)

        def known(trial: Trial) -> Outcome | None:
            outcome = results.last(root, trial)
            if isinstance(outcome, Failure) and (outcome.kind in retry or outcome.kind == "lost"):
                results.forget_failure(root, trial)
                return None
            if isinstance(outcome, Result):  # a kill just after the result can leave its checkpoint
                results.forget_checkpoint(root, trial)
            return outcome

        retention, peaks = Retention(root, keep, keep_bytes), probes.Peaks(root)
        lengths = Lengths(root, [cell.trial for cell in cells], judgements)
        for result in before:
            if isinstance(result, Result):
                lengths.learn(result)

        def ended(outcome: Outcome, known: bool = False) -> None:
            tracker.ended(outcome)
            if isinstance(outcome, Result):
                peaks.learn(outcome)
                retention.ended(outcome, search.cells_of(outcome.trial))
                if not known:
                    lengths.learn(outcome)
            watcher.ended(outcome, known)

        def epoch(trial: Trial, row: Row) -> None:
            tracker.epoch(trial, row)
            watcher.epoch(trial, row)

        known_ended = partial(ended, known=True)
        search = Search(sweep, Ledger(root, sweep.name), known, known_ended, lengths.seconds)
        ended_well, interrupted = False, False
        try:
            with stopping.stoppable():
                watcher.started(search.size)
                if search.anything_to_run():
                    follow = Follow(epoch, ended)
                    _launch(search, root, follow, sweep.name, step, address, serial, patience, peaks.of)
            ended_well = True
        except KeyboardInterrupt:
            interrupted = True
        finally:
            untracked = tracker.close(stopped=not ended_well)
        outcomes = list(search.outcomes.values())
        check_unmixed(outcomes, data)
        best = []
        for cell, chosen in search.best():
            outcome = search.outcomes[chosen.id] if chosen is not None else None
            best.append((cell, outcome if isinstance(outcome, Result) else None))
        states = plan.plan(sweep, root).counts()
        left = sum(count for state, count in states.items() if state not in ENDED)
        return Report(best, outcomes, left, interrupted, untracked, search.hopeless)


def run_here(trials: Sequence[Trial], sweep: Sweep, root: Root, watcher: Watcher, tracking: str) -> list[Outcome]:
    """Runs trials in this process, again if they failed before, and logs them to the sweep's experiment.

    Raises:
        BadInput: anything the user can mend.
    """
    watcher.step("reading images and judgements")
    data = {}
    warned: dict[str, None] = {}
    for trial in trials:
        material = prepare(trial, root, partial(watcher.progress, "decoding images"))
        data[trial.source] = material.fingerprint
        warned |= dict.fromkeys(_told(material))
    for what in warned:
        watcher.note(what)
    check_unmixed([o for trial in trials if (o := results.load(root, trial)) is not None], data)
    from humansim import train
    from humansim.launch import raised
    from humansim.tracking import Tracker

    watcher.step("opening MLflow")
    tracker = Tracker(tracking, root, sweep, watcher.note)

    def run(trial: Trial) -> Outcome:
        def epoch(row: Row) -> None:
            tracker.epoch(trial, row)
            watcher.epoch(trial, row)

        results.forget_failure(root, trial)
        embedding = partial(watcher.progress, f"embedding images: {trial.backbone}")
        try:
            return train.run(trial, root, report=epoch, progress=embedding)
        except BadInput:
            raise
        except Exception as error:
            return raised(trial, root, error)

    watcher.step("running trials")
    watcher.started(len(trials))
    ended: list[Outcome] = []
    try:
        with stopping.stoppable():
            for trial in trials:
                ended.append(run(trial))
                tracker.ended(ended[-1])
                watcher.ended(ended[-1], known=False)
    finally:
        untracked = tracker.close(stopped=len(ended) < len(trials))
    if untracked is not None:
        raise BadInput(f"the trials are under {root.results}, but MLflow did not take them: {untracked}")
    return ended


def _launch(
    search: "Search",
    root: Root,
    follow: "Follow",
    name: str,
    step: Callable[[str], None],
    address: str | None,
    serial: bool,
    patience: float | None,
    peak: Callable[[Trial], int | None],
) -> None:
    if serial:
        from humansim import train
        from humansim.launch import serial as one_by_one

        step(stage.RUNNING)
        one_by_one.launch(search, root, train.run, follow)
        return
    step("starting Ray")
    from humansim.launch import cluster, on_ray, trainable

    with cluster.connected(address):
        stopping.retake()
        place = cluster.first_place(partial(step, "waiting for a node that can run trials"))
        step(stage.RUNNING)
        on_ray.launch(search, root, trainable.run_here, follow, name, place, peak, patience or on_ray.PATIENCE)


def _told(material: Material) -> list[str]:
    """What one should know of one's own judgements before anything is fitted on them."""
    if material.fit is None:
        return []
    judgements, split = material.judgements, material.split
    warned = audit.warned(judgements, split, audit.same_images(material.store.contents))
    return [one for one in (audit.counted_parts(judgements, split), warned) if one]


def _interrupted(planned: plan.Plan, root: Root) -> list[str]:
    """Which trials go on from the middle, in a line; none if there is none."""
    trials = dict.fromkeys(t for of in planned.trials.values() for t, state in of if state is State.RESUMABLE)
    epochs = sorted(int(row["epoch"]) for trial in trials if (row := results.epoch(root, trial)) is not None)
    if not epochs:
        return []
    which = ", ".join(map(str, dict.fromkeys(epochs)))
    return [f"{counted(len(epochs), 'trial')} {'goes' if len(epochs) == 1 else 'go'} on after epoch {which}"]


def _whole(progress: Callable[[str, int, int], None], name: str, done: int, total: int | None) -> None:
    progress(f"downloading {name}", done, total or done)


def _one_for_each_store(cells: Iterable[Cell]) -> list[Trial]:
    """A trial for each set of images that the cells need at some resolution, those that fit on them first."""
    found: dict[Any, Trial] = {}
    for cell in sorted(cells, key=lambda cell: cell.trial.paradigm is None):
        trial = cell.trial
        found.setdefault((trial.source, trial.protocol, resize_of(trial)), trial)
    return list(found.values())


def check_unmixed(outcomes: Iterable[Outcome], data: dict[Variant, str]) -> None:
    """Refuses to put results side by side that were made from different data, weights or code under the same name.

    Args:
        data: fingerprint of each source as it is now.

    Raises:
        BadInput: naming a trial and what differs.
    """
    weights: dict[Variant, tuple[str, str]] = {}
    outcomes = list(outcomes)
    _check_code(outcomes)
    for outcome in outcomes:
        if isinstance(outcome, Failure) or not outcome.provenance:
            continue
        trial, made = outcome.trial, outcome.provenance
        now = data.get(trial.source)
        if now is not None and made["data"] != now:
            raise BadInput(
                f"trial {trial.id}: {trial.source} has changed since it was run (data {made['data'][:12]} then, "
                f"{now[:12]} now); put the changed data under another name, or use another --root"
            )
        own = made["weights"]["fingerprint"]
        first, other = weights.setdefault(trial.backbone, (own, trial.id))
        if own != first:
            raise BadInput(
                f"trials {other} and {trial.id} started from different weights of {trial.backbone} ({first[:12]} and "
                f"{own[:12]}: another version of a package?); delete the folder of the older one, or use another --root"
            )


def _check_code(outcomes: Iterable[Outcome]) -> None:
    """Refuses results of parts from outside whose code has changed since."""
    changed: dict[str, tuple[str, str, Path]] = {}
    trials: dict[str, list[str]] = {}
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            continue
        for part, made in outcome.provenance.get("own", {}).items():
            there = own.origins(outcome.trial).get(part)
            if there is not None and there.code != made["code"]:
                changed[part] = made["code"], there.code, there.path
                trials.setdefault(part, []).append(outcome.trial.id)
    for part, (then, now, path) in changed.items():
        some, more = ", ".join(trials[part][:20]), len(trials[part]) - 20
        raise BadInput(
            f"{part} has changed since these trials were run: {some}{f' and {more} more' if more > 0 else ''} (code "
            f"{then} then, {now} now, in {path}); give what you changed another name, use another --root, or delete "
            "their folders under results/, and they run again"
        )
