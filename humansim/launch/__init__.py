"""Ways to run what a search asks for: `serial.launch` in this process, `on_ray.launch` as Ray Tune trials."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from humansim import results
from humansim.errors import BadInput
from humansim.results import Failure, Outcome, Result
from humansim.root import Root
from humansim.spec import Trial

Row = dict[str, float]


class Runner(Protocol):
    """`train.run`, or what stands in for it in a benchmark."""

    def __call__(self, trial: Trial, root: Root, *, report: Callable[[Row], None]) -> Result: ...


@dataclass(frozen=True)
class Follow:
    """Who is told what happens while trials run; all calls come from the driver."""

    epoch: Callable[[Trial, Row], None] = lambda trial, row: None
    ended: Callable[[Outcome], None] = lambda outcome: None


def attempt(trial: Trial, root: Root, runner: Runner, report: Callable[[Row], None]) -> Outcome:
    """Runs a trial to an outcome on disk: an exception becomes a `Failure`, so that it costs the others nothing."""
    try:
        return runner(trial, root, report=report)
    except Exception as error:
        return raised(trial, root, error)


def raised(trial: Trial, root: Root, error: Exception) -> Failure:
    """Records on disk that a trial raised an exception."""
    oom = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    reason = str(error) if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(error))
    return failed(trial, root, "oom" if oom else "error", reason.strip().partition("\n")[0], trace)


def failed(trial: Trial, root: Root, kind: Literal["error", "oom", "lost"], reason: str, trace: str = "") -> Failure:
    """Records on disk that a trial failed."""
    failure = Failure(trial=trial, kind=kind, reason=reason, traceback=trace, finished=results.now())
    with results.claimed(root, trial):
        results.save(root, failure)
    return failure
