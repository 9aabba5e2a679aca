"""Parts from outside: a user's own file, module or installed package that registers backbones, paradigms and so on.

They are named by `--import`, by HUMANSIM_IMPORT (several as in PATH), or by an entry point of the group `humansim`, and
are loaded when a registry is first asked. Ray's workers load what the driver has loaded, which goes along (`carried`).
A sweep keeps a copy of the code of the parts that it uses, and where they came from: a name that is unknown is looked
for there too, so that a submitted sweep is understood without the flag.
"""

import ast
import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from humansim.errors import BadInput
from humansim.root import Root, replaced_whole
from humansim.spec import VARIANT_FIELDS, Trial

GROUP = "humansim"  # of entry points
ASKED = "HUMANSIM_IMPORT"
CARRIED = "HUMANSIM_CARRIED"  # set in Ray's workers: the modules that the driver has loaded, in place of all else
FOLDER, PARTS = "own", "parts.json"  # of a sweep's folder: copies of the code, and what is registered where

Part = tuple[str, str]  # kind and name

_registered: dict[Part, Callable[..., Any]] = {}
_loaded: dict[str, str] = {}  # module -> what asked for it
_asked: list[str] = []
_sweeps: list[Path] = []  # folders of sweeps in which unknown names are looked for
_missing: dict[str, str] = {}  # code that a sweep names and that could not be loaded: why
_state = {"begun": False}


@dataclass(frozen=True)
class Origin:
    """Where a part from outside comes from.

    Attributes:
        module: in which it is defined.
        path: the file, or the folder of the package around it.
        version: of the installed package; None of a file.
        code: digest of the part's code: of a file, the part's function and all that it names in the file, so that a
            second part beside it changes nothing; of a package, all its Python files.
    """

    module: str
    path: Path
    version: str | None
    code: str

    def plain(self) -> dict[str, str | None]:
        """What a result keeps of it."""
        return {"module": self.module, "version": self.version, "code": self.code}


def registering(kind: str, name: str, function: Callable[..., Any]) -> None:
    """Takes note that a part is registered."""
    _registered[kind, name] = function


def ask(imports: Iterable[str], root: str | None = None) -> None:
    """What the command line names: modules or files to be loaded, and the root whose sweeps know of more."""
    _asked[:] = imports
    _sweeps[:] = [Root.where(root) / "sweeps"]
    _state["begun"] = False


def know(root: Path) -> None:
    """A root whose sweeps know of parts, beside those that are known."""
    if (sweeps := root / "sweeps") not in _sweeps:
        _sweeps.append(sweeps)


def ready() -> None:
    """Loads what is asked for and what is installed, once.

    Raises:
        BadInput: a module is not found, raises, registers nothing, or takes a name that is taken.
    """
    if _state["begun"]:
        return
    _state["begun"] = True  # what is loaded may ask the registries itself
    try:
        if CARRIED in os.environ:
            for module in _several(os.environ[CARRIED]):
                load(module, "the driver's own part")
            return
        for given in _asked:
            load(given, f"--import {given}")
        for given in _several(os.environ.get(ASKED, "")):
            load(given, f"{ASKED}: {given}")
        from importlib.metadata import entry_points

        for point in entry_points(group=GROUP):
            package = f" of the package {point.dist.name}" if point.dist is not None else ""
            load(point.module, f"entry point {point.name!r}{package}")
    except BaseException:
        _state["begun"] = False
        raise


def _several(text: str) -> list[str]:
    return [one for one in text.split(os.pathsep) if one]


def load(given: str, said: str) -> None:
    """Imports a module, by its name or its file.

    Args:
        said: who asked for it, to begin an error with.

    Raises:
        BadInput: it is not found, raises, registers nothing, or takes a name that is taken.
    """
    file = Path(given).absolute() if given.endswith(".py") or os.sep in given else None
    name = file.stem if file is not None else given
    if name in _loaded and (file is None or _path_of(name) == file):
        return
    before = len(_registered)
    try:
        if file is not None:
            _import_file(file, name, said)
        else:
            _import_module(name, said)
    except ModuleNotFoundError as error:
        if file is None and error.name and f"{name}.".startswith(f"{error.name}."):
            raise BadInput(
                f"{said}: no module {error.name!r} is installed or in {Path.cwd()}; give a path that ends in .py, or "
                "install the package that has it"
            ) from None
        alone = "a file stands alone: what it needs is installed, or in one package with it"
        raise BadInput(f"{said}: {_at(error)}: {error}; {alone}") from None
    except BadInput as error:
        raise BadInput(str(error) if str(error).startswith(said) else f"{said}: {error}") from None
    except Exception as error:
        raise BadInput(f"{said}: {_at(error)}: {type(error).__name__}: {error}") from None
    if len(_registered) == before and not any(_within(function, name) for function in _registered.values()):
        raise BadInput(
            f"{said}: it registers nothing; a part is a function under a decorator, as @backbone(resolution=224) of "
            "humansim.backbones"
        )
    _loaded[name] = said


def _import_file(file: Path, name: str, said: str) -> None:
    if not file.is_file():
        raise BadInput(f"{said}: {file}: no such file")
    if not name.isidentifier():
        raise BadInput(f"{said}: {name!r} is no name for a module; rename the file: letters, digits, underscore")
    there = sys.modules.get(name)
    spec = None if there is not None else importlib.util.find_spec(name)
    other = there.__dict__.get("__file__") if there is not None else spec.origin if spec is not None else str(file)
    if other is None or Path(other).resolve() != file.resolve():
        raise BadInput(f"{said}: another module is called {name!r} ({other or 'part of Python'}); rename the file")
    if there is None:
        _execute(name, file, None)


def _import_module(name: str, said: str) -> None:
    top, here = name.partition(".")[0], Path.cwd()
    if top not in sys.modules and importlib.util.find_spec(top) is None:  # a console script does not look here
        if (here / top / "__init__.py").is_file():
            _execute(top, here / top / "__init__.py", [str(here / top)])
        elif (here / f"{top}.py").is_file():
            _execute(top, here / f"{top}.py", None)
    importlib.import_module(name)


def _execute(name: str, file: Path, folders: list[str] | None) -> None:
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _at(error: Exception) -> str:
    """File and line of the user's own code that an exception comes from."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    ours = ("<frozen importlib", importlib.__file__, __file__)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(ours)]
    return f"{frames[0].filename}, line {frames[0].lineno}" if frames else "it could not be imported"


def _within(function: Callable[..., Any], module: str) -> bool:
    return f"{function.__module__}.".startswith(f"{module}.")


def _top(module: str) -> ModuleType | None:
    return sys.modules.get(module.partition(".")[0])


def _path_of(module: str) -> Path | None:
    """The file of a module, or the folder of the package that it is in; None if it has none, or several."""
    top = _top(module)
    folders = list(getattr(top, "__path__", []))
    if folders:
        return Path(folders[0]) if len(folders) == 1 else None
    file = getattr(top, "__file__", None)
    return Path(file) if file else None


def origin(kind: str, name: str) -> Origin | None:
    """Where a registered part comes from; None if it is humansim's own, or not known."""
    function = _registered.get((kind, name))
    module = "humansim" if function is None else function.__module__
    if function is None or _within(function, "humansim") or (path := _path_of(module)) is None:
        return None
    code = _code_of_package(path) if path.is_dir() else _code_in_file(path, function.__name__)
    return Origin(module, path, _version(module.partition(".")[0]), code)


def origins(trial: Trial) -> dict[str, Origin]:
    """Of the parts of a trial that come from outside, by kind and name ("backbone random_filters")."""
    found: dict[str, Origin] = {}
    for kind, name in parts_of(trial):
        if (where := origin(kind, name)) is not None:
            found[f"{kind} {name}"] = where
    return found


def parts_of(trial: Trial) -> Iterator[Part]:
    """Kind and name of a trial's parts, and of the backbones that others of them are made of (an ensemble's)."""
    for kind in VARIANT_FIELDS:
        variant = getattr(trial, kind)
        if variant is None:
            continue
        yield kind, variant.name.partition(":")[0]
        for value in variant.kwargs.values():
            for one in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(one, str) and ("backbone", name := one.partition(":")[0]) in _registered:
                    yield "backbone", name


@cache
def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, packages_distributions, version

    try:
        return version(packages_distributions().get(package, [package])[0])
    except PackageNotFoundError:
        return None


@cache
def _code_of_package(folder: Path) -> str:
    found = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        found.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes() + b"\0")
    return found.hexdigest()[:16]


@cache
def _code_in_file(file: Path, function: str) -> str:
    """Digest of the statements at the top of a file that a function is defined by, and those that they name."""
    text = file.read_text()
    lines, defined = text.splitlines(), list[tuple[str, set[str], set[str]]]()
    for node in ast.parse(text).body:
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
        names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
        defined.append(("\n".join(lines[first - 1 : node.end_lineno]), _binds(node), names))
    wanted, kept = {function}, set[int]()
    while more := {i for i, (_, binds, _) in enumerate(defined) if not binds or binds & wanted} - kept:
        kept |= more
        for i in more:
            wanted |= defined[i][2]
    return hashlib.sha256("\n".join(defined[i][0] for i in sorted(kept)).encode()).hexdigest()[:16]


def _binds(node: ast.stmt) -> set[str]:
    """The names that a statement at the top of a file sets; none if it does something else (it always counts)."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(name.asname or name.name).partition(".")[0] for name in node.names}
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return {"__doc__"}
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


def carried() -> tuple[list[Path], list[str]]:
    """What Ray's workers need of the code loaded here: its files and package folders, and the modules to import."""
    paths = {path: None for module in _loaded if (path := _path_of(module)) is not None}
    return list(paths), list(_loaded)


def remember(folder: Path, parts: Iterable[Part]) -> None:
    """Keeps, in a sweep's folder, a copy of the code of those of its parts that come from outside."""
    used: dict[Path, dict[str, list[str]]] = {}
    for kind, name in dict.fromkeys(parts):
        if (where := origin(kind, name)) is not None:
            module = next((one for one in _loaded if _path_of(one) == where.path), where.module)
            used.setdefault(where.path, {}).setdefault(module, []).append(f"{kind} {name}")
    if not used:
        return
    rows = [{"module": m, "path": str(path), "parts": p} for path, modules in used.items() for m, p in modules.items()]
    with replaced_whole(folder / FOLDER) as made:
        for path in used:
            if path.is_dir():
                shutil.copytree(path, made / path.name, ignore=_no_code)
            else:
                shutil.copy(path, made / path.name)
        (made / PARTS).write_text(json.dumps(rows, indent=1))


def _no_code(folder: str, names: Sequence[str]) -> list[str]:
    place = Path(folder)
    return [n for n in names if n == "__pycache__" or not (n.endswith(".py") or (place / n).is_dir())]


def recall(kind: str, name: str) -> bool:
    """Loads the code of a part that a submitted sweep names; whether there was any.

    It is taken from where it came, or, if that is gone, from the sweep's copy.
    """
    for sweeps in _sweeps:
        for kept in sorted(sweeps.glob(f"*/{FOLDER}/{PARTS}")):
            for row in json.loads(kept.read_text()):
                if f"{kind} {name}" not in row["parts"]:
                    continue
                path = Path(row["path"])
                said = f"the sweep {kept.parent.parent.name}, submitted with {path}"
                try:
                    _load_from(path if path.exists() else kept.parent / path.name, row["module"], said)
                except BadInput as error:
                    _missing[str(path)] = str(error)
                if (kind, name) in _registered:
                    return True
    return False


def _load_from(path: Path, module: str, said: str) -> None:
    if path.is_dir() and (path / "__init__.py").is_file() and path.name not in sys.modules:
        _execute(path.name, path / "__init__.py", [str(path)])
    load(module if path.is_dir() else str(path), said)


def why_missing() -> str:
    """To end an error about an unknown name: what sweeps name and could not be loaded, and how to name more."""
    return (
        "".join(f"; {why}" for why in _missing.values()) or f". One of your own is named by --import FILE.py or {ASKED}"
    )
