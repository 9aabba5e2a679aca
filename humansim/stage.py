"""What a submit is doing, on whichever machine: kept in its sweep's folder, for `humansim status`.

sweeps/<name>/
    stage.json    what is being done; gone when the submit has ended
    stage.lock    held for as long: without it, what is written is what a killed one left

Not the lock by which a second submit is refused: who only looks must never be in the way of one who submits.
"""

import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterator

from pydantic import ValidationError

from humansim.results import now
from humansim.root import Root, locked, written_whole
from humansim.spec import Frozen

FILE, LOCK = "stage.json", "stage.lock"
RUNNING = "running trials"  # the stage in which they are
PACE = 1.0  # seconds between two notes of how far a stage has come


class Stage(Frozen):
    """What a submit is doing.

    Attributes:
        what: as a person reads it.
        done, total: how much of it, where it is counted; else 0.
        node, process: who is doing it.
        submitted, time: milliseconds since 1970 when it was submitted, and when this was written.
    """

    what: str
    done: int = 0
    total: int = 0
    node: str
    process: int
    submitted: int
    time: int


Note = Callable[[str, int, int], None]


@contextlib.contextmanager
def telling(root: Root, name: str) -> Iterator[Note]:
    """Gives a function of what, done and total, that keeps what a submit is doing until it has ended.

    A disk that is full costs the note and not the sweep.
    """
    folder, submitted = root.sweeps / name, now()
    file = folder / FILE
    last = ("", 0.0)

    def note(what: str, done: int, total: int) -> None:
        nonlocal last
        at = time.monotonic()
        if what == last[0] and at < last[1] + PACE:
            return
        last = what, at
        told = Stage(
            what=what,
            done=done,
            total=total,
            node=platform.node(),
            process=os.getpid(),
            submitted=submitted,
            time=now(),
        )
        with contextlib.suppress(OSError), written_whole(file) as temporary:
            temporary.write_text(told.model_dump_json())

    with locked(folder / LOCK, wait=True):
        file.unlink(missing_ok=True)  # of one that was killed
        try:
            yield note
        finally:
            file.unlink(missing_ok=True)


def current(root: Root, name: str) -> Stage | None:
    """What a submit of a sweep is doing now, on whichever machine; None if none is under way."""
    folder = root.sweeps / name
    try:
        told = Stage.model_validate_json((folder / FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    with locked(folder / LOCK, wait=False, shared=True) as free:
        return None if free else told


def ago(root: Root, name: str, stage: Stage | None) -> float:
    """Seconds since a sweep was submitted last; 0 if it was not."""
    if stage is not None:
        return (now() - stage.submitted) / 1000
    try:
        return max(0.0, time.time() - (root.sweeps / name / "sweep.json").stat().st_mtime)
    except FileNotFoundError:
        return 0.0
