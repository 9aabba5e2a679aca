"""What the command line means by a sweep's name, and what is known of sweeps that were submitted.

sweeps/<name>/
    sweep.json    the sweep, as it was submitted last
    data.txt      the data folder that it was submitted with, unless it is the root's own

A data folder is circumstance, never part of a trial's identity: whether it holds the same data, fingerprints tell.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from humansim import own
from humansim.errors import BadInput
from humansim.plan import cells
from humansim.root import Root, written_whole
from humansim.spec import VARIANT_FIELDS, Cell, Sweep, Trial, explain, near
from humansim.sweep_file import load_sweep, packaged

DATA = "data.txt"


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
    submitted = None if name.endswith(".py") else recalled(root, name)
    if submitted is None:
        sweep = load_sweep(name, names(root.path))
    elif name not in packaged():
        sweep = submitted
        if Path(f"{name}.py").is_file():
            notes.append(f"{name} as it was submitted last; {name}.py is read if it is given with its ending")
    else:
        ours = load_sweep(name)
        sweep, other = (submitted, ours) if as_submitted else (ours, submitted)
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
    name = load_sweep(name).name if name.endswith(".py") else name
    if (sweep := recalled(root, name)) is not None:
        return sweep
    submits = f"; humansim sweep {name} submits it"
    hint = submits if name in packaged() else near(name, names(root.path))
    raise BadInput(f"no sweep {name!r} was submitted under {root.path}{hint}")


def where_it_was(root: Root, name: str, data: str | Path | None = None) -> Root:
    """The root with the data folder that a sweep was submitted with, where neither `data` nor HUMANSIM_DATA says so."""
    if data or os.environ.get("HUMANSIM_DATA"):
        return root
    try:
        return replace(root, data=root.path / (root.sweeps / name / DATA).read_text())
    except FileNotFoundError:
        return root


def remember(sweep: Sweep, root: Root) -> None:
    """Keeps the sweep, the code of its parts from outside, and where its data lies: its file is not needed again."""
    trials = (trial for cell in cells(sweep) for trial in _searched(cell))
    own.remember(root.sweeps / sweep.name, (part for trial in trials for part in own.parts_of(trial)))
    with written_whole(root.sweeps / sweep.name / "sweep.json") as file:
        file.write_text(sweep.model_dump_json(indent=1))
    kept = root.sweeps / sweep.name / DATA
    if root.data == root.path / "data":
        kept.unlink(missing_ok=True)
        return
    inside = root.data.is_relative_to(root.path)  # such a root can be moved
    with written_whole(kept) as file:
        file.write_text(str(root.data.relative_to(root.path) if inside else root.data))


def names(root: Path) -> list[str]:
    """The names of the sweeps that were submitted under the root of this path."""
    return sorted(file.parent.name for file in (root / "sweeps").glob("*/sweep.json"))


def recalled(root: Root, name: str) -> Sweep | None:
    """A sweep as it was submitted last under this root; None if none of that name was.

    Raises:
        BadInput: its file is damaged.
    """
    if name not in names(root.path):
        return None
    file = root.sweeps / name / "sweep.json"
    try:
        return Sweep.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise BadInput(f"{file}: damaged ({explain(error)}); delete it and submit the sweep again") from None


def remembered(root: Root) -> Iterator[Sweep]:
    """The sweeps that were submitted under this root, by name.

    Raises:
        BadInput: a file is damaged.
    """
    for name in names(root.path):
        if (sweep := recalled(root, name)) is not None:
            yield sweep


def _searched(cell: Cell) -> Iterator[Trial]:
    """The cell's trial, and one for each part that its search may choose."""
    yield cell.trial
    for axis, space in cell.search.items():
        if axis in VARIANT_FIELDS:
            yield from (cell.trial.having({axis: end}) for end in space.ends())
