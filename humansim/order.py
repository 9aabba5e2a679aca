"""In which order the cells of a sweep are asked. When a trial runs hangs on it, never which trials there are."""

import heapq
import math
from collections.abc import Callable, Sequence

from humansim.plan import in_a_row, stand_in, wanted
from humansim.spec import Cell, Sweep, Trial

AGAIN = 1.1  # times as many trials have ended: lengths are looked up again, some fifty times in a thousand

Length = Callable[[Trial], float | None]


def unknown(trial: Trial) -> None:
    """The length of a trial of which nothing is known."""


class Order:
    """Cells in the order in which they are asked: so that at the end no GPU waits for one long trial.

    First each kind of trial (backbone and paradigm) once: what cannot run is known early, and how long each kind takes.
    Then the cell with the longest way still to go: the seconds of those of its trials that have to wait for each other.
    Where none has to, these are the longest trials first (Graham 1969: at most 4/3 of the shortest schedule); else the
    critical path (Hu 1961). Of equals the one that was asked least: in turn, where no length is known.

    Args:
        sweep: whose cells these are.
        asked: how many trials each cell has asked for.
        length: seconds of a trial; None where that is not known: it is then taken for as long as the longest that is,
            since of those that run already the short ones have ended.

    Attributes:
        seconds: of a trial of each cell.
        assumed: seconds of one of which nothing is known.
    """

    def __init__(self, sweep: Sweep, cells: Sequence[Cell], asked: Sequence[int], length: Length = unknown) -> None:
        self.sweep, self.cells, self.asked, self.length = sweep, cells, list(asked), length
        self.wanted = [wanted(sweep, cell) for cell in cells]
        self._stand_ins = [stand_in(cell) for cell in cells]
        self._ended, self._look_at = 0, 1
        self._waiting: set[int] = set()
        self._line: list[tuple[bool, float, int, int]] = []
        self._look()
        longest_first = sorted(range(len(cells)), key=lambda cell: -self.seconds[cell])
        kinds = {(cells[i].trial.backbone, cells[i].trial.paradigm): i for i in reversed(longest_first)}
        self._first_of_kind = set(kinds.values())
        for cell in range(len(cells)):
            self._join(cell)

    def __bool__(self) -> bool:
        """Whether any cell has yet to ask."""
        return bool(self._line or self._waiting)

    def next(self) -> int | None:
        """Takes the next cell out of the line: its number; None if there is none, or none before others have ended."""
        return heapq.heappop(self._line)[-1] if self._line else None

    def ask(self, cell: int) -> None:
        """The cell has asked for a trial, and is in line for its next one."""
        self.asked[cell] += 1
        self._join(cell)

    def wait(self, cell: int) -> None:
        """The cell cannot ask before other trials have ended."""
        self._waiting.add(cell)

    def close(self, cell: int) -> None:
        """The cell asks for nothing more."""
        self.wanted[cell] = self.asked[cell]

    def end(self) -> None:
        """A trial has ended: cells that waited are in line again, and more may be known of lengths."""
        self._ended += 1
        waiting, self._waiting = self._waiting, set()
        for cell in waiting:
            self._join(cell)
        if self._ended >= self._look_at:
            self._look_at = math.ceil(AGAIN * self._ended)
            self._look()
            self._line = [self._place(cell) for *_, cell in self._line]
            heapq.heapify(self._line)

    def part(self, trial: Trial, others: int = 0) -> float:
        """How much of the work that is left is this trial's, which is about to start, in (0, 1].

        Args:
            others: trials that are to start and that no cell has yet to ask for.
        """
        own = self.length(trial) or self.assumed
        left = sum((w - a) * s for w, a, s in zip(self.wanted, self.asked, self.seconds, strict=True))
        return own / (own + left + others * self.assumed)

    def _look(self) -> None:
        """Looks up how long the trials of each cell take."""
        found = [self.length(trial) for trial in self._stand_ins]
        self.assumed = max((seconds for seconds in found if seconds), default=1.0)
        self.seconds = [seconds or self.assumed for seconds in found]

    def _join(self, cell: int) -> None:
        if self.asked[cell] < self.wanted[cell]:
            heapq.heappush(self._line, self._place(cell))

    def _place(self, cell: int) -> tuple[bool, float, int, int]:
        asked = self.asked[cell]
        way = in_a_row(self.sweep, self.cells[cell], asked) * self.seconds[cell]
        return asked > 0 or cell not in self._first_of_kind, -way, asked, cell
