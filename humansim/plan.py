"""From a sweep to its cells and trials, checked before anything is paid for; and what is there of them already."""

import contextlib
import fnmatch
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from humansim import results
from humansim.backbones import backbone
from humansim.backbones.weights import WeightFile, files_of, find
from humansim.errors import BadInput
from humansim.fit_sets import members
from humansim.ledger import Asked, Ledger
from humansim.optimizers import optimizer
from humansim.paradigms import paradigm
from humansim.registry import Registry
from humansim.results import State
from humansim.root import Root
from humansim.sources import source
from humansim.spec import Cell, Sweep, Trial, Uniform, Variant, near
from humansim.tunings import tuning

# Optuna's own defaults.
STARTUP = 10  # samples of a cell drawn at random before the sampler learns
UNPRUNED = 5  # finished samples of a cell before the pruner compares with them
REGISTRIES: dict[str, Registry] = {
    "source": source,
    "backbone": backbone,
    "paradigm": paradigm,
    "tuning": tuning,
    "optimizer": optimizer,
}


def checked(trial: Trial) -> Trial:
    """The trial in its normal form: every part exists, arguments at their default are left out.

    Raises:
        BadInput: an unknown part or argument, or parts that do not go together.
    """
    variants: dict[str, Any] = {}
    for field, registry in REGISTRIES.items():
        given: Variant | None = getattr(trial, field)
        variants[field] = registry.normal(given) if given is not None else None
    facts = backbone.entry(trial.backbone).facts
    if "check" in facts:
        facts["check"](**trial.backbone.kwargs)
    if trial.paradigm is not None and not facts.get("trainable", True):
        why = "is a published metric, used as it is" if facts.get("pairwise") else "has nothing to train"
        raise BadInput(f"backbone {trial.backbone} {why}; leave it out of the cells with a paradigm")
    if facts.get("pairwise"):
        for field in ("layer", "pool", "precision"):
            if getattr(trial, field) != Trial.model_fields[field].default:
                raise BadInput(f"{field}: {trial.backbone} is a metric of pairs, used as published; leave {field} out")
    elif trial.layer is not None and trial.layer not in facts.get("layers", ()):
        from humansim.backbones.module import check_layer

        check_layer(variants["backbone"], trial.layer)
    if trial.paradigm is not None:
        tuned = tuning.entry(trial.tuning).facts
        if "check" in tuned:
            tuned["check"](trial, facts, **trial.tuning.kwargs)
        if trial.head == "kept" and paradigm.entry(trial.paradigm).facts.get("classifies"):
            raise BadInput(f"head 'kept': {trial.paradigm}'s outputs are classes of its own making, no embedding")
    if trial.fit_on is not None and "sets" in (known := source.entry(trial.source).facts):
        members(known["sets"], trial.fit_on)
    return trial.having(variants)


def cells(sweep: Sweep) -> list[Cell]:
    """The cells of a sweep's grid, in order, each once, every value of every axis checked.

    A cell without a paradigm trains nothing, so it is one trial and has no search.

    Raises:
        BadInput: an unknown axis, part or argument, or a value that does not fit.
    """
    found: dict[str, Cell] = {}
    given: set[str] = set()
    used: set[str] = set()
    for settings in sweep.settings():
        trial = checked(sweep.base.having(settings))
        search = sweep.search if trial.paradigm is not None else {}
        for axis, space in search.items():
            for end in space.ends():
                try:
                    checked(trial.having({axis: end}))
                except BadInput as error:
                    whole = isinstance(space, Uniform) and space.step is None and "valid integer" in str(error)
                    hint = "; step=1 draws whole numbers" if whole else ""
                    raise BadInput(f"search of {axis!r}: {error}{hint}") from None
        given |= {*settings, *search}
        used |= {axis for axis in given if getattr(trial, axis.partition(".")[0]) is not None}
        cell = Cell(settings=settings, trial=trial, search=search)
        found.setdefault(cell.key, cell)
    for axis in sorted(axis for axis in given - used if "." in axis):
        raise BadInput(f"grid: no cell has a {axis.partition('.')[0]}, so {axis!r} sets nothing")
    for axis in sweep.search:
        if axis.partition(".")[0] not in Trial.model_fields:
            raise BadInput(f"search: unknown axis {axis!r}{near(axis, list(Trial.model_fields))}")
    return list(found.values())


def patterns(given: Sequence[str]) -> dict[str, list[str]]:
    """AXIS=PATTERN texts of the command line, by axis.

    Raises:
        BadInput: one is not of that form.
    """
    found: dict[str, list[str]] = {}
    for one in given:
        axis, equals, pattern = one.partition("=")
        if not (axis and equals and pattern):
            raise BadInput(f"--only {one}: it is of the form AXIS=PATTERN, as in backbone='clip*'")
        found.setdefault(axis, []).append(pattern)
    return found


def only(sweep: Sweep, filters: Mapping[str, Sequence[str]]) -> Sweep:
    """The sweep with those of its cells that have, on each of these axes, a value like one of these patterns.

    Args:
        filters: axis -> patterns as of file names ("clip*"), compared with a value's text; of a part also its name.

    Raises:
        BadInput: an unknown axis, or no cell is left.
    """
    every = cells(sweep)
    known = dict.fromkeys(axis for cell in every for axis in cell.trial.settings())
    for axis in filters:
        if axis not in known:
            raise BadInput(f"--only {axis}: unknown axis{near(axis, list(known))}")

    def fits(cell: Cell) -> bool:
        settings = cell.trial.settings()
        texts = {axis: {str(settings.get(axis)), str(getattr(cell.trial, axis, None))} for axis in filters}
        return all(
            any(fnmatch.fnmatchcase(text, pattern) for text in texts[axis] for pattern in patterns)
            for axis, patterns in filters.items()
        )

    kept = [{axis: [value] for axis, value in cell.settings.items()} for cell in every if fits(cell)]
    if not kept:
        asked = " ".join(f"{axis}={pattern}" for axis, patterns in filters.items() for pattern in patterns)
        raise BadInput(f"--only {asked}: no cell of {sweep.name} is like that; humansim plan {sweep.name} lists them")
    return sweep.model_copy(update={"grid": kept})


def backbones(every: Iterable[Cell]) -> list[Variant]:
    """The backbones of these cells, each once, in order; what searches may choose among them too."""
    found: dict[Variant, None] = {}
    for cell in every:
        found[cell.trial.backbone] = None
        for end in cell.search["backbone"].ends() if "backbone" in cell.search else ():
            found[checked(cell.trial.having({"backbone": end})).backbone] = None
    return list(found)


def base_of(sweep: Sweep) -> Trial:
    """The trial from which those of a sweep differ, its parts in their normal form, as theirs are."""
    parts: dict[str, Any] = {}
    for field, registry in REGISTRIES.items():
        if (given := getattr(sweep.base, field)) is not None:
            with contextlib.suppress(BadInput):  # what no cell has may be wrong
                parts[field] = registry.normal(given)
    return sweep.base.having(parts)


def spelt_out(trial: Trial, axes: Iterable[str]) -> dict[str, Any]:
    """A trial's settings, and those arguments of its parts among these axes that are left out at their default."""
    settings = trial.settings()
    for axis in axes:
        field, _, argument = axis.partition(".")
        if argument and field in settings and axis not in settings:
            known = REGISTRIES[field].entry(getattr(trial, field)).arguments
            if argument in known:
                settings[axis] = known[argument].default
    return settings


def missing_weights(every: Iterable[Cell]) -> list[WeightFile]:
    """The files of pretrained weights that these cells need and that are not on this machine."""
    files = dict.fromkeys(file for variant in backbones(every) for file in files_of(variant))
    return [file for file in files if find(file) is None]


def samples(sweep: Sweep, cell: Cell) -> int:
    """How many trials the cell's search asks for, before repeats."""
    return sweep.samples if cell.search else 1


def repeats(sweep: Sweep, cell: Cell) -> int:
    """How often the cell's best trial is run in all; a pretrained evaluation has no randomness to repeat."""
    return sweep.repeats if cell.trial.paradigm is not None else 1


def wanted(sweep: Sweep, cell: Cell) -> int:
    """How many trials the cell has in all."""
    return samples(sweep, cell) + repeats(sweep, cell) - 1


def waits_for(sweep: Sweep, cell: Cell, index: int) -> int:
    """How many of the cell's first trials have to have ended before it can ask for this one."""
    count = samples(sweep, cell)
    if index >= count:
        return count  # a repeat is of the best of all samples
    learnt_from = max(0, index - sweep.parallel + 1) if cell.search else 0
    pruner = sweep.pruner
    compared = STARTUP if pruner is None else max(1, int(pruner.kwargs.get("n_startup_trials", UNPRUNED)))
    return learnt_from if learnt_from >= min(STARTUP, compared) else 0  # neither sampler nor pruner looks at fewer


def in_a_row(sweep: Sweep, cell: Cell, asked: int) -> int:
    """How many of the trials that a cell has yet to ask for run one after the other, however many there is room for."""
    count, index = 0, wanted(sweep, cell) - 1
    while index >= asked:
        count, index = count + 1, waits_for(sweep, cell, index) - 1
    return count


def stand_in(cell: Cell) -> Trial:
    """For a trial that the cell's search has yet to choose: the cell's own, half way where the epochs are searched."""
    space = cell.search.get("epochs")
    if not isinstance(space, Uniform):
        return cell.trial
    return checked(cell.trial.having({"epochs": round((space.low + space.high) / 2)}))


def asked_before(sweep: Sweep, every: Iterable[Cell], ledger: Ledger) -> dict[str, list[Asked]]:
    """Cell key -> the trials it has asked for, as far as they hold for the sweep as it is now.

    Another sampler or pruner holds for what is asked from now on; without a pruner, no bar holds any more. With more or
    fewer samples than before, what was a repeat would stand where a sample belongs, or the other way round: from there
    on the cell asks anew, and the newer line counts.
    """
    found: dict[str, list[Asked]] = {cell.key: [] for cell in every}
    for asked in ledger.read():
        before = found.get(asked.cell, [])
        if asked.index <= len(before):
            before[asked.index :] = [asked if sweep.pruner is not None else replace(asked, bar=None)]
    for cell in every:
        before = found[cell.key]
        for i, asked in enumerate(before):
            repeat = max(0, i + 1 - samples(sweep, cell))
            if "seed" not in cell.search and asked.trial.seed != cell.trial.seed + repeat:
                del before[i:]
                break
        del before[wanted(sweep, cell) :]
    return found


def known_trials(sweep: Sweep, every: Iterable[Cell], root: Root) -> dict[str, list[Asked]]:
    """Cell key -> the trials that are known: what it has asked for, and, without a search, what it will ask for."""
    before = asked_before(sweep, every, Ledger(root, sweep.name))
    return {cell.key: before[cell.key] or ([] if cell.search else [Asked(cell.key, 0, cell.trial)]) for cell in every}


@dataclass(frozen=True)
class Plan:
    """A sweep and what is there of it.

    Attributes:
        trials: cell key -> the trials known so far, with their state: grid cells without a search, and what their
            searches have asked for.
    """

    sweep: Sweep
    cells: list[Cell]
    trials: dict[str, list[tuple[Trial, State]]]

    @property
    def known(self) -> list[Trial]:
        """The trials that are known by now: the grid's, and what its searches have asked for."""
        return [trial for trials in self.trials.values() for trial, _ in trials]

    def left(self, cell: Cell) -> int:
        """How many trials the cell has yet to ask for."""
        known = self.trials[cell.key]
        states = [state for _, state in known[: samples(self.sweep, cell)]]
        if len(states) == samples(self.sweep, cell) and set(states) == {State.FAILED}:
            return 0  # there is no best to repeat
        return wanted(self.sweep, cell) - len(known)

    @property
    def to_ask(self) -> int:
        """How many trials the searches and repeats will add."""
        return sum(self.left(cell) for cell in self.cells)

    def counts(self) -> Counter[str]:
        """State -> number of trials, those still to be asked for among "to run"."""
        states: dict[str, State] = {}
        for trial, state in (known for trials in self.trials.values() for known in trials):
            if states.get(trial.id, State.PRUNED) is State.PRUNED:  # two samples, of which one may have to go on
                states[trial.id] = state
        found = Counter(str(state) for state in states.values())
        found[str(State.TO_RUN)] += self.to_ask
        return found


def plan(sweep: Sweep, root: Root) -> Plan:
    """What a sweep would run, and what of it is there; reads the disk only."""
    every = cells(sweep)
    trials = {
        key: [(one.trial, results.state(root, one.trial, one.bar)) for one in asked]
        for key, asked in known_trials(sweep, every, root).items()
    }
    return Plan(sweep, every, trials)
