"""What is still to be written to MLflow, while it takes it and while it does not answer. No mlflow here."""

import contextlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from humansim import results
from humansim.results import Outcome, Pruned, Result
from humansim.spec import Trial

Row = dict[str, float]

PATIENCE = 60.0  # seconds that the end of a sweep waits for an MLflow that does not answer
BRIEFLY = 5.0  # seconds that it waits where a person has stopped it; without an answer after which a person is told
LONGEST = 10.0  # seconds from one try to the next
TRIES = 3  # of a trial that MLflow refuses, or fails at while it takes others


@dataclass
class Waiting:
    """What of a trial is to be written.

    Attributes:
        faults: how often it was refused, or failed while others were taken.
        failed_at: how much had been taken when it last failed; None if it never did.
    """

    trial: Trial
    rows: list[Row] = field(default_factory=list)
    outcome: Outcome | None = None
    faults: int = 0
    failed_at: int | None = None

    @property
    def start(self) -> int:
        """When the trial began, in milliseconds since 1970."""
        if isinstance(self.outcome, Result | Pruned):
            return self.outcome.finished - int(1000 * sum(self.outcome.seconds.values()))
        if self.rows:
            return int(self.rows[0]["time"] - 1000 * self.rows[0]["seconds"])
        return results.now() if self.outcome is None else self.outcome.finished


class Backlog:
    """Epochs and outcomes on their way to MLflow: one trial at a time to each writer, the oldest first.

    An error makes everything wait, half a second at first and longer each time, until something is taken again. What
    waits is small: epochs of trials that run, and outcomes, which a search keeps in memory anyway. A trial that is
    refused, or that fails again and again while others are taken, is given up.
    """

    def __init__(
        self,
        write: Callable[[Waiting], bool],
        refused: Callable[[Exception], bool],
        tell: Callable[[str], None],
        writers: int,
    ) -> None:
        """Begins to write.

        Args:
            write: writes what waits of a trial; gives whether MLflow was asked for anything.
            refused: whether an exception of it is a refusal, which waiting will not change.
            tell: called with what a person should know: MLflow is lost, or back.
            writers: how many threads write, each with its own trial; they call all of the above.
        """
        self._write, self._is_refused, self._tell = write, refused, tell
        self._news = threading.Condition()  # of all that follows
        self._waiting: dict[str, Waiting] = {}  # by trial id, in the order of writing
        self._busy: set[str] = set()  # ids of the trials that are being written
        self._taken, self._taken_at = 0, time.monotonic()  # how much MLflow has taken, and when it last did
        self._failing_since: float | None = None
        self._try_at = 0.0
        self._lost, self._refused = "", ""  # why nothing is taken at present; why something was given up
        self._told = self._over = False
        self._writers = [
            threading.Thread(target=self._write_all, name=f"mlflow-{number}", daemon=True) for number in range(writers)
        ]
        for writer in self._writers:
            writer.start()

    def epoch(self, trial: Trial, row: Row) -> None:
        """A training epoch."""
        with self._news:
            self._waiting.setdefault(trial.id, Waiting(trial)).rows.append(row)
            self._news.notify_all()

    def ended(self, outcome: Outcome) -> None:
        """How a trial ended."""
        with self._news:
            self._waiting.setdefault(outcome.trial.id, Waiting(outcome.trial)).outcome = outcome
            self._news.notify_all()

    def close(self, stopped: bool) -> str | None:
        """Waits until all is written, for as long as something is taken.

        Args:
            stopped: a person waits for the end. Ctrl-C meanwhile ends it at once.

        Returns:
            Why not all of it was written; None if it was.
        """
        begun, patience, said = time.monotonic(), BRIEFLY if stopped else PATIENCE, False
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                with self._news:
                    failing = self._failing_since is not None
                    silent = time.monotonic() - max(begun, self._taken_at)
                    if not (self._waiting or self._busy) or ((failing or stopped) and silent > patience):
                        break
                if not any(writer.is_alive() for writer in self._writers):
                    break
                if failing and not (stopped or said):
                    self._tell(f"MLflow does not answer ({self._lost}); waiting for it, at most {patience:.0f} s")
                    said = True
                with self._news:
                    self._news.wait(0.2)
        with self._news:
            self._over = True
            self._news.notify_all()
            left = bool(self._waiting or self._busy)
        return (self._lost or self._refused or "it does not answer") if left else self._refused or None

    def _write_all(self) -> None:
        while (one := self._next()) is not None:
            try:
                asked = self._write(one)
            except Exception as error:
                self._failed(one, error)
            else:
                self._wrote(one, asked)

    def _next(self) -> Waiting | None:
        """What to write next, of a trial that no other thread writes; waits for it. None when all is over."""
        with self._news:
            while not self._over:
                pause = self._try_at - time.monotonic()
                trial = next((one for one in self._waiting if one not in self._busy), None) if pause <= 0 else None
                if trial is not None:
                    self._busy.add(trial)
                    return self._waiting.pop(trial)
                self._news.wait(pause if pause > 0 else None)
            return None

    def _wrote(self, one: Waiting, asked: bool) -> None:
        back = False
        with self._news:
            self._busy.discard(one.trial.id)
            if asked:
                self._taken, self._taken_at = self._taken + 1, time.monotonic()
                self._failing_since, self._try_at, self._lost = None, 0.0, ""
                back, self._told = self._told, False
            self._news.notify_all()
        if back:
            self._tell("MLflow answers again and is given what it missed")

    def _failed(self, one: Waiting, error: Exception) -> None:
        """Puts back what could not be written, and lets all wait; what has no hope is given up."""
        trial, refused, why, lost = one.trial.id, self._is_refused(error), briefly(error), False
        with self._news:
            now = time.monotonic()
            self._busy.discard(trial)
            if refused or (one.failed_at is not None and one.failed_at < self._taken):
                one.faults += 1
            one.failed_at = self._taken
            if not refused:
                self._lost = why
                self._failing_since = self._failing_since or now
                self._try_at = now + min(LONGEST, max(0.5, now - self._failing_since))
                lost = not self._told and now - self._failing_since >= BRIEFLY
                self._told = self._told or lost
            later = self._waiting.pop(trial, None)
            if one.faults < TRIES:
                if later is not None:
                    one.rows, one.outcome = one.rows + later.rows, later.outcome or one.outcome
                self._waiting[trial] = one
            else:
                self._refused = self._refused or why
            self._news.notify_all()
        if lost:
            self._tell(f"MLflow does not answer ({why}); trials go on, and it is tried again")


# Of a program, not of a server or the way to it.
SLIPS = (LookupError, TypeError, AttributeError, NameError, AssertionError, ArithmeticError)


def briefly(error: Exception) -> str:
    """What went wrong, without the libraries through which it was said."""
    kind = type(error).__name__
    text = str(error).strip().partition("\n")[0] or kind
    if isinstance(error, SLIPS):
        return f"{kind}: {text}"[:300]
    found = re.search(r"\[Errno -?\d+\] ([^'\")\]]+)", text)
    return found[1] if found else text[:300]
