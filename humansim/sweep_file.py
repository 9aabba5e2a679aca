"""Sweeps as Python files: a user's own, and those that come with humansim."""

import runpy
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

import humansim
from humansim.errors import BadInput
from humansim.plan import cells
from humansim.spec import Sweep, explain, near


def folder_of_sweeps() -> Path:
    """Where the sweeps that come with humansim lie: beside the package in a checkout, inside it when installed."""
    package = Path(humansim.__file__).parent
    return next((place for place in (package / "sweeps", package.parent / "sweeps") if place.is_dir()), package)


def packaged() -> dict[str, Path]:
    """The files of the sweeps that come with humansim, by name."""
    return {path.stem: path for path in sorted(folder_of_sweeps().glob("[!_]*.py"))}


def load_sweep(name: str, others: Sequence[str] = ()) -> Sweep:
    """A sweep from a Python file with `SWEEP = Sweep(...)`, or one that comes with humansim by its name, checked.

    Args:
        others: further names that may have been meant, for the error's sake.

    Raises:
        BadInput: no such sweep, or its file is wrong; the message names file and field.
    """
    file = Path(name)
    if file.suffix != ".py":
        known = packaged()
        if name not in known:
            there = Path(f"{name}.py").is_file()
            meant = f"; did you mean {name}.py?" if there else near(name, list(dict.fromkeys([*known, *others])))
            raise BadInput(f"unknown sweep {name!r}{meant}; or give a path that ends in .py")
        file = known[name]
    sweep = read_sweep(file)
    try:
        cells(sweep)
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from None
    return sweep


def read_sweep(file: Path) -> Sweep:
    """The sweep of a file; without a question of its own it has the first line of the file's docstring.

    Raises:
        BadInput: there is none, or it is wrong by itself; whether its parts exist is not looked at.
    """
    if not file.is_file():
        beside = [str(file.with_name(one.name)) for one in file.parent.glob("*.py")]
        raise BadInput(f"{file}: no such file{near(str(file), beside, 3)}")
    try:
        told = runpy.run_path(str(file))
    except ValidationError as error:
        field = f"{error.title}.{explain(error)}".replace(".value: ", ": ", 1)
        raise BadInput(f"{file}{_line_in(file, error)}: {field}") from None
    except BadInput as error:
        raise BadInput(f"{file}{_line_in(file, error)}: {error}") from None
    except Exception as error:
        why = error.msg if isinstance(error, SyntaxError) else error
        raise BadInput(f"{file}{_line_in(file, error)}: {type(error).__name__}: {why}") from None
    sweep = told.get("SWEEP")
    if not isinstance(sweep, Sweep):
        raise BadInput(f"{file}: it must set SWEEP = Sweep(...)")
    if not sweep.question and (doc := told.get("__doc__")):
        sweep = sweep.model_copy(update={"question": doc.strip().partition("\n")[0]})
    return sweep


def _line_in(file: Path, error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}"
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f", line {lines[-1]}" if lines else ""
