"""Which trial next: one Optuna study for each cell, ask and tell. Only here: optuna.

What a search asks for is a function of the sweep and of outcomes alone, never of timing: sample i of a cell is drawn
by a sampler seeded with (cell, i) from a study that holds the outcomes of samples 0 .. i - parallel. So a sweep that
was killed, resumed, or run on more machines asks for the same trials as one that ran through.
"""

import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import optuna

from humansim import plan
from humansim.errors import BadInput
from humansim.order import Length, Order, unknown
from humansim.plan import STARTUP, Asked, Ledger
from humansim.results import Failure, Outcome, Result
from humansim.spec import Cell, Choice, Space, Sweep, Trial, Variant, digest, near

ALIKE = 5  # trials that fail alike, before any has finished, are enough to know that all will, if they differ
SAMPLERS = ("TPESampler", "GPSampler", "RandomSampler")

Told = tuple[dict[str, Any], float | None]


def suggest(
    space: dict[str, Space],
    history: Sequence[Told],
    seed: int,
    sampler: Variant = Sweep.model_fields["sampler"].default,
) -> dict[str, Any]:
    """The next point of a search, maximising.

    Args:
        space: axis -> range.
        history: settings and value of each sample told so far, in order; None for a failed one.
        seed: of the sampler.
        sampler: Optuna's, by its class's name.

    Raises:
        BadInput: there is no such sampler, or it cannot be made so.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {axis: _distribution(space[axis]) for axis in sorted(space)}
    study = _study(_sampler(sampler, seed), history, distributions)
    return study.ask(distributions).params


def _study(
    sampler: optuna.samplers.BaseSampler,
    history: Sequence[Told],
    distributions: dict[str, optuna.distributions.BaseDistribution],
) -> optuna.Study:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for settings, value in history:
        state = optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE
        study.add_trial(
            optuna.trial.create_trial(params=settings, distributions=distributions, value=value, state=state)
        )
    return study


def _sampler(given: Variant, seed: int) -> optuna.samplers.BaseSampler:
    if given.name not in SAMPLERS:
        others = [name for name in optuna.samplers.__all__ if name.endswith("Sampler")]
        why = "carries more from sample to sample than their outcomes, which is all that a search is rebuilt from"
        problem = why if given.name in others else "is no sampler of Optuna's"
        raise BadInput(f"sampler: {given.name} {problem}{near(given.name, SAMPLERS)}")
    arguments = {"seed": seed, **given.kwargs}
    if given.name == "TPESampler":  # Bergstra et al. 2011; the multivariate one is the better one
        arguments = {"n_startup_trials": STARTUP, "multivariate": True, **arguments}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            made: optuna.samplers.BaseSampler = getattr(optuna.samplers, given.name)(**arguments)
        except (TypeError, ValueError, ImportError) as error:
            raise BadInput(f"sampler {given}: {str(error).strip().partition(chr(10))[0]}") from None
    return made


def _distribution(space: Space) -> optuna.distributions.BaseDistribution:
    if isinstance(space, Choice):
        return optuna.distributions.CategoricalDistribution(space.values)
    if space.step is not None:
        low, high = space.ends()
        return optuna.distributions.IntDistribution(low, high - (high - low) % space.step, step=space.step)
    return optuna.distributions.FloatDistribution(space.low, space.high, log=space.log)


class _CellSearch:
    """One cell: its samples, then the repeats of its best."""

    def __init__(self, sweep: Sweep, cell: Cell, asked: Sequence[Trial]) -> None:
        self.sweep, self.cell, self.asked = sweep, cell, list(asked)
        self.samples = plan.samples(sweep, cell)
        self.wanted = plan.wanted(sweep, cell)

    def next(self, outcomes: dict[str, Outcome]) -> Trial | None:
        """The next trial of this cell; None while it has to wait for outcomes."""
        index = len(self.asked)
        if index < self.samples:
            if not self.cell.search:
                return self.cell.trial
            needed = self.asked[: plan.waits_for(self.sweep, self.cell, index)]
            if any(trial.id not in outcomes for trial in needed):
                return None
            history = [(self._settings(trial), _value(outcomes[trial.id])) for trial in needed]
            seed = int(digest([self.cell.key, index], 8), 16)
            found = suggest(self.cell.search, history, seed, self.sweep.sampler)
            return plan.checked(self.cell.trial.having(found))
        samples = self.asked[: self.samples]
        if any(trial.id not in outcomes for trial in samples):
            return None
        best = self.best(outcomes)
        if best is None:  # every sample failed: there is nothing to repeat
            self.wanted = index
            return None
        return best.having({"seed": best.seed + index - self.samples + 1})

    def best(self, outcomes: dict[str, Outcome]) -> Trial | None:
        """The finished sample with the highest validation score, the earliest of equals."""
        scored = [
            (value, -i, trial)
            for i, trial in enumerate(self.asked[: self.samples])
            if trial.id in outcomes and (value := _value(outcomes[trial.id])) is not None
        ]
        return max(scored, key=lambda one: one[:2])[2] if scored else None

    def _settings(self, trial: Trial) -> dict[str, Any]:
        """The searched values of a trial; an argument at its default was left out of the trial and is put back."""
        found = {}
        for axis in self.cell.search:
            field, dot, argument = axis.partition(".")
            value = getattr(trial, field)
            if dot:
                entry = plan.REGISTRIES[field].entry(value)
                value = value.kwargs.get(argument, entry.arguments[argument].default)
            found[axis] = value.name if isinstance(value, Variant) else value
        return found


def _value(outcome: Outcome) -> float | None:
    """What a search maximises: the validation 2AFC score, cosine, mean over sets."""
    return outcome.mean("validation") if isinstance(outcome, Result) else None


class Search:
    """All cells of a sweep: `ask` for trials until `done`, `tell` how each ended.

    Args:
        sweep: what to search.
        ledger: what was asked earlier, and where to note what is asked now.
        known: looks up how a trial ended earlier, None if it has not; such a trial is not asked for again.
        on_known: called with each such trial's outcome, once.
        length: how long a trial takes, as far as that is known: what takes longest is asked for first (`order`).
    """

    def __init__(
        self,
        sweep: Sweep,
        ledger: Ledger,
        known: Callable[[Trial], Outcome | None] = lambda trial: None,
        on_known: Callable[[Outcome], None] = lambda outcome: None,
        length: Length = unknown,
    ) -> None:
        self.ledger, self.known, self.on_known = ledger, known, on_known
        _sampler(sweep.sampler, 0)  # what is wrong with it is known before anything runs
        every = plan.cells(sweep)
        before = plan.asked_before(sweep, every, ledger)
        self.cells = [_CellSearch(sweep, cell, before[cell.key]) for cell in every]
        self.outcomes: dict[str, Outcome] = {}
        self.hopeless: str | None = None  # why nothing is asked for any more: the first trials all failed alike
        self._alike: list[Failure] | None = []  # all that have ended, as long as all failed for the same reason
        self.running: dict[str, Trial] = {}
        self._asked_by: dict[str, list[str]] = {}
        for cell in self.cells:
            for trial in cell.asked:
                self._asked_by.setdefault(trial.id, []).append(cell.cell.key)
        self.order = Order(sweep, every, [len(cell.asked) for cell in self.cells], length)
        longest_first = sorted(range(len(every)), key=lambda i: -self.order.seconds[i])
        self._again = deque(trial for i in longest_first for trial in self.cells[i].asked)

    @property
    def size(self) -> int:
        """How many trials the sweep has in all."""
        return sum(cell.wanted for cell in self.cells)

    @property
    def done(self) -> bool:
        """Nothing is left to ask for or to wait for."""
        if self.hopeless is not None:
            return not self.running
        return not (self._again or self.running or self.order)

    def ask(self) -> Trial | None:
        """The next trial to run, now the caller's to tell; None if there is none, or none before others are told."""
        while self.hopeless is None and (trial := self._next()) is not None:
            if trial.id in self.outcomes or trial.id in self.running:
                continue  # two cells, or two samples, that are the same trial
            outcome = self.known(trial)
            if outcome is None:
                self.running[trial.id] = trial
                return trial
            self._note(outcome)
            self.on_known(outcome)
        return None

    def anything_to_run(self) -> bool:
        """Whether `ask` has a trial to give; takes note of all outcomes that are known before it."""
        trial = self.ask()
        if trial is not None:
            self._again.appendleft(self.running.pop(trial.id))
        return trial is not None

    def tell(self, outcome: Outcome) -> None:
        """How a trial ended."""
        self.running.pop(outcome.trial.id, None)
        self._note(outcome)
        if self._alike is None:
            return
        if not (isinstance(outcome, Failure) and outcome.kind == "error"):
            self._alike = None
            return
        self._alike.append(outcome)
        if len({failure.reason for failure in self._alike}) > 1:
            self._alike = None
        elif len(self._alike) >= ALIKE and all(self._tried_more_than_one(field) for field in ("backbone", "paradigm")):
            self.hopeless = outcome.reason

    def _tried_more_than_one(self, field: str) -> bool:
        """Whether what failed so far differs in a field of a trial, if the sweep does: one of many may be broken."""
        there = {getattr(cell.cell.trial, field) for cell in self.cells}
        tried = {getattr(failure.trial, field) for failure in self._alike or ()}
        return len(tried) > 1 or len(there) == 1

    def _note(self, outcome: Outcome) -> None:
        self.outcomes[outcome.trial.id] = outcome
        self.order.end()

    def _next(self) -> Trial | None:
        if self._again:
            return self._again.popleft()
        while (i := self.order.next()) is not None:
            cell = self.cells[i]
            trial = cell.next(self.outcomes)
            if trial is not None:
                self.ledger.append(Asked(cell.cell.key, len(cell.asked), trial))
                cell.asked.append(trial)
                self._asked_by.setdefault(trial.id, []).append(cell.cell.key)
                self.order.ask(i)
                return trial
            if len(cell.asked) < cell.wanted:
                self.order.wait(i)
            else:
                self.order.close(i)
        return None

    def part(self, trial: Trial) -> float:
        """How much of the work that is left is this trial's, which has just been asked for, in (0, 1]."""
        return self.order.part(trial, len(self._again))

    def cells_of(self, trial: Trial) -> list[str]:
        """Keys of the cells that have asked for a trial."""
        return self._asked_by.get(trial.id, [])

    def best(self) -> list[tuple[Cell, Trial | None]]:
        """Each cell with its best trial by validation score, None where none has finished."""
        return [(cell.cell, cell.best(self.outcomes)) for cell in self.cells]
