"""Which trial next, and what bar it is held to: one study for each cell, ask and tell.

What a search asks for is a function of the sweep and of outcomes alone, never of timing: sample i of a cell is drawn
by a sampler seeded with (cell, i) from a study that holds the outcomes of samples 0 .. i - parallel, and so is its bar,
below which it is given up. What an outcome is to a search hangs on that bar, whichever search it comes from. So a sweep
that was killed, resumed, or run on more machines asks for the same trials as one that ran through, and prunes the same.
"""

from collections import deque
from collections.abc import Callable, Sequence

from humansim import plan, studies
from humansim.ledger import Asked, Ledger
from humansim.order import Length, Order, unknown
from humansim.plan import STARTUP
from humansim.pruning import Bar
from humansim.results import Failure, Outcome, Result, held_to, rank
from humansim.spec import Cell, Sweep, Trial, digest

ALIKE = 5  # trials that fail alike, before any has finished, are enough to know that all will, if they differ


class _CellSearch:
    """One cell: its samples, then the repeats of its best."""

    def __init__(self, sweep: Sweep, cell: Cell, asked: Sequence[Asked]) -> None:
        self.sweep, self.cell, self.asked = sweep, cell, list(asked)
        self.samples = plan.samples(sweep, cell)
        self.wanted = plan.wanted(sweep, cell)

    def next(self, outcomes: dict[str, Outcome]) -> Asked | None:
        """The next trial of this cell; None while it has to wait for outcomes."""
        index = len(self.asked)
        if index < self.samples:
            if not self.cell.search:
                return Asked(self.cell.key, index, self.cell.trial)
            needed = self.asked[: plan.waits_for(self.sweep, self.cell, index)]
            ended = _ended(needed, outcomes)
            if ended is None:
                return None
            told = []
            if len(needed) >= STARTUP:
                settings = [studies.settings_of(self.cell, asked.trial) for asked in needed]
                told = [*zip(settings, map(studies.value_of, ended), strict=True)]
            bar = None
            if self.sweep.pruner is not None:
                bar = studies.bar_over(self.sweep.pruner, [one.history for one in ended if isinstance(one, Result)])
            seed = int(digest([self.cell.key, index], 8), 16)
            found = studies.suggest(self.cell.search, told, seed, self.sweep.sampler)
            return Asked(self.cell.key, index, plan.checked(self.cell.trial.having(found)), bar)
        if _ended(self.asked[: self.samples], outcomes) is None:
            return None
        best = self.best(outcomes)
        if best is None:  # every sample failed: there is nothing to repeat
            self.wanted = index
            return None
        return Asked(self.cell.key, index, best.having({"seed": best.seed + index - self.samples + 1}))

    def best(self, outcomes: dict[str, Outcome]) -> Trial | None:
        """The finished sample with the highest validation score (`results.rank`)."""
        ended = (held_to(outcomes.get(asked.trial.id), asked.bar) for asked in self.asked[: self.samples])
        scored = [one for one in ended if isinstance(one, Result)]
        return min(scored, key=rank).trial if scored else None


def _ended(every: Sequence[Asked], outcomes: dict[str, Outcome]) -> list[Outcome] | None:
    """How these ended; None if one has not."""
    ended = [held_to(outcomes.get(asked.trial.id), asked.bar) for asked in every]
    known = [one for one in ended if one is not None]
    return known if len(known) == len(ended) else None


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
        studies.check(sweep)  # what is wrong with it is known before anything runs
        every = plan.cells(sweep)
        before = plan.asked_before(sweep, every, ledger)
        self.cells = [_CellSearch(sweep, cell, before[cell.key]) for cell in every]
        self.outcomes: dict[str, Outcome] = {}
        self.hopeless: str | None = None  # why nothing is asked for any more: the first trials all failed alike
        self._alike: list[Failure] | None = []  # all that have ended, as long as all failed for the same reason
        self.running: dict[str, Asked] = {}
        self._twins: dict[str, list[Asked]] = {}  # of running trials: the same, held to other bars
        self._asked_by: dict[str, list[str]] = {}
        for cell in self.cells:
            for asked in cell.asked:
                self._asked_by.setdefault(asked.trial.id, []).append(cell.cell.key)
        self.order = Order(sweep, every, [len(cell.asked) for cell in self.cells], length)
        longest_first = sorted(range(len(every)), key=lambda i: -self.order.seconds[i])
        self._again = deque(asked for i in longest_first for asked in self.cells[i].asked)

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
        while self.hopeless is None and (asked := self._next()) is not None:
            trial = asked.trial
            if held_to(self.outcomes.get(trial.id), asked.bar) is not None:
                continue  # two cells, or two samples, that are the same trial
            if trial.id in self.running:
                self._twins.setdefault(trial.id, []).append(asked)
                continue
            outcome = held_to(self.known(trial), asked.bar)
            if outcome is None:
                self.running[trial.id] = asked
                return trial
            self._note(outcome)
            self.on_known(outcome)
        return None

    def bar(self, trial: Trial) -> Bar | None:
        """What a running trial is held to."""
        return self.running[trial.id].bar

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
        self._again.extend(self._twins.pop(outcome.trial.id, []))  # it may have ended for one and not for the other
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

    def _next(self) -> Asked | None:
        if self._again:
            return self._again.popleft()
        while (i := self.order.next()) is not None:
            cell = self.cells[i]
            asked = cell.next(self.outcomes)
            if asked is not None:
                self.ledger.append(asked)
                cell.asked.append(asked)
                self._asked_by.setdefault(asked.trial.id, []).append(cell.cell.key)
                self.order.ask(i)
                return asked
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
