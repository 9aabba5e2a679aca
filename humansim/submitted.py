"""What the command line means by a sweep's name, and what is known of sweeps that were submitted.

sweeps/<name>/
    sweep.json    the sweep, as it was submitted last
    data.txt      the data folder that it was submitted with, unless it is the root's own
    stage.json    what a submit is doing; gone when it has ended
    lock          held by the process that submits it

A data folder is circumstance, never part of a trial's identity: whether it holds the same data, fingerprints tell.
"""

import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from humansim import plan
from humansim.errors import BadInput
from humansim.results import now
from humansim.root import Root, locked, written_whole
from humansim.spec import Frozen, Sweep, near

STAGE = "stage.json"
RUNNING = "running trials"  # the stage in which they are
PACE = 1.0  # seconds between two notes of how far a stage has come


@dataclass(frozen=True)
class Found:
    """The sweep that a name means.

    Attributes:
        root: with the data folder that was named, else the one that the sweep was submitted with, else the root's own.
        notes: what whoever named it should know: which of two it is, and where its data is looked for.
    """

    sweep: Sweep
    root: Root
    notes: tuple[str, ...] = ()


def find(
    name: str, path: str | Path | None = None, data: str | Path | None = None, *, as_submitted: bool = False
) -> Found:
    """The sweep of a file, of those that come with humansim, or of those that were submitted under the root.

    Args:
        name: a path that ends in .py, or a sweep's name.
        path, data: of the root (`Root.at`).
        as_submitted: what was submitted goes before what comes with humansim; else the other way round.

    Raises:
        BadInput: no sweep has that name, or its file is wrong.
    """
    root, notes = Root.at(path, data), []
    submitted = None if name.endswith(".py") else plan.recalled(root, name)
    if submitted is None:
        sweep = plan.load_sweep(name, plan.submitted(root.path))
    elif name not in plan.packaged():
        sweep = submitted
        if Path(f"{name}.py").is_file():
            notes.append(f"{name} as it was submitted last; {name}.py is read if it is given with its ending")
    else:
        packaged = plan.load_sweep(name)
        sweep, other = (submitted, packaged) if as_submitted else (packaged, submitted)
        if sweep.model_dump_json() != other.model_dump_json():
            which = "as it was submitted last" if as_submitted else "as it comes with humansim"
            notes.append(f"{name} {which}: what was submitted under {root.path} and what comes with humansim differ")
    with_data = where_it_was(root, sweep.name, data)
    if with_data != root:
        notes.append(f"data from {with_data.data}, as it was submitted; --data names another")
    return Found(sweep, with_data, tuple(notes))


def the(name: str, root: Root) -> Sweep:
    """A sweep that was submitted, by its name or its file.

    Raises:
        BadInput: none of that name was.
    """
    name = plan.load_sweep(name).name if name.endswith(".py") else name
    if (sweep := plan.recalled(root, name)) is not None:
        return sweep
    submits = f"; humansim sweep {name} submits it"
    hint = submits if name in plan.packaged() else near(name, plan.submitted(root.path))
    raise BadInput(f"no sweep {name!r} was submitted under {root.path}{hint}")


def where_it_was(root: Root, name: str, data: str | Path | None = None) -> Root:
    """The root with the data folder that a sweep was submitted with, where neither `data` nor HUMANSIM_DATA says so."""
    if data or os.environ.get("HUMANSIM_DATA"):
        return root
    try:
        return replace(root, data=root.path / (root.sweeps / name / plan.DATA).read_text())
    except FileNotFoundError:
        return root


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
    """Gives a function of what, done and total, that keeps what a submit is doing for `stage` until it has ended."""
    file, submitted = root.sweeps / name / STAGE, now()
    last = ("", 0.0)

    def note(what: str, done: int, total: int) -> None:
        nonlocal last
        at = time.monotonic()
        if what == last[0] and at < last[1] + PACE and done < total:
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
        with written_whole(file) as temporary:
            temporary.write_text(told.model_dump_json())

    try:
        yield note
    finally:
        file.unlink(missing_ok=True)


def stage(root: Root, name: str) -> Stage | None:
    """What a submit of a sweep is doing now, on whichever machine; None if none is under way."""
    folder = root.sweeps / name
    try:
        told = Stage.model_validate_json((folder / STAGE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    with locked(folder / "lock", wait=False) as free:
        return None if free else told


def ago(root: Root, name: str, stage: Stage | None) -> float:
    """Seconds since a sweep was submitted last; 0 if it was not."""
    if stage is not None:
        return (now() - stage.submitted) / 1000
    try:
        return max(0.0, time.time() - (root.sweeps / name / "sweep.json").stat().st_mtime)
    except FileNotFoundError:
        return 0.0
