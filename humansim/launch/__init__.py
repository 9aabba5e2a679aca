"""Ways to run what a search asks for: `serial.launch` in this process, `on_ray.launch` as Ray Tune trials.

Only here: ray, and not before it is used.
"""

import errno
import os
import shutil
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from humansim import results
from humansim.errors import BadInput
from humansim.launch.packing import READY
from humansim.pruning import Bar
from humansim.results import Failure, Kind, Outcome, Pruned, Result
from humansim.root import Root
from humansim.spec import Trial

# Read by Ray when it is imported. Workers use the environment that is there instead of building one with uv; Tune's own
# loggers and reports stay quiet; several trials are kept ready, so that no slot waits for the driver.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", str(READY))

Row = dict[str, float]


class Runner(Protocol):
    """`train.run`, or what stands in for it in a benchmark."""

    def __call__(
        self,
        trial: Trial,
        root: Root,
        *,
        report: Callable[[Row], None],
        progress: Callable[[int, int], None] | None = None,
        bar: Bar | None = None,
    ) -> Result | Pruned: ...


@dataclass(frozen=True)
class Follow:
    """Who is told what happens while trials run; all calls come from the driver."""

    epoch: Callable[[Trial, Row], None] = lambda trial, row: None
    ended: Callable[[Outcome], None] = lambda outcome: None


NO_SPACE = 10 << 20  # bytes: with less left on the disk, whatever goes wrong is put down to it


def attempt(trial: Trial, root: Root, runner: Runner, report: Callable[[Row], None]) -> Outcome:
    """Runs a trial to an outcome on disk: an exception becomes a `Failure`, so that it costs the others nothing.

    Raises:
        OSError: the disk is full. No trial is to blame, and none could be recorded: the sweep stops.
    """
    history: list[Row] = []

    def noted(row: Row) -> None:
        history.append(row)
        report(row)

    try:
        return runner(trial, root, report=noted)
    except Exception as error:
        if is_full(error, root):
            raise OSError(errno.ENOSPC, "no space is left on the disk", str(root.path)) from error
        return raised(trial, root, error, history)


def is_full(error: Exception, root: Root) -> bool:
    """Whether an exception comes of a full disk; torch, for one, does not say so."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return isinstance(error, (OSError, RuntimeError)) and shutil.disk_usage(root.path).free < NO_SPACE


def raised(trial: Trial, root: Root, error: BaseException, history: Sequence[Row] = ()) -> Failure:
    """Records on disk that a trial raised an exception."""
    kind: Kind = "error"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        kind = "oom"
    elif isinstance(error, FloatingPointError):
        kind = "diverged"
    reason = str(error) if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(error))
    return failed(trial, root, kind, reason.strip().partition("\n")[0], trace, history)


def failed(trial: Trial, root: Root, kind: Kind, reason: str, trace: str = "", history: Sequence[Row] = ()) -> Failure:
    """Records on disk that a trial failed, and how far it ever came: that another search gave it up stays known."""
    with results.claimed(root, trial):
        before = results.last(root, trial)
        furthest = max(history, before.history if isinstance(before, Pruned) else (), key=len)
        failure = Failure(
            trial=trial, kind=kind, reason=reason, traceback=trace, finished=results.now(), history=tuple(furthest)
        )
        results.save(root, failure)
    return failure
