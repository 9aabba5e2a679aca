"""What was parsed from a release's files, kept beside the results: thousands of files are read once, not by each trial.

One `.npz` a folder of files, with a key over the path, size and time of change of every file. Whatever is wrong with
it, the files are read anew: it can be deleted at any time.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from humansim.root import Root, written_whole

Arrays = dict[str, NDArray[Any]]
VERSION = 1  # raise it when what a reader gives for the same files changes


def parsed(root: Root | None, folder: Path, files: Iterable[Path], read: Callable[[], Arrays]) -> Arrays:
    """What `read` gives for these files: from the cache if they are the same files as when it was written.

    Args:
        root: where the cache lies; without one nothing is kept.
        folder: what the cache is called after; the files lie in it.
        files: all that is read.
        read: gives arrays of numbers and fixed-length texts by name.
    """
    if root is None:
        return read()
    name = hashlib.sha256(str(folder.absolute()).encode(errors="surrogateescape")).hexdigest()[:8]
    cache = root.path / "judgements" / f"{folder.name}-{name}.npz"
    try:
        key = _key(folder, files)
    except OSError:  # a file that cannot be read: the reader says which, and why
        return read()
    known = _load(cache, key)
    if known is not None:
        return known
    found = read()
    with contextlib.suppress(OSError), written_whole(cache) as temporary, open(temporary, "wb") as file:
        np.savez(file, key=np.array(key), sum=np.array(_sum(found)), **found)  # type: ignore[arg-type]
    return found


def _key(folder: Path, files: Iterable[Path]) -> str:
    total = hashlib.sha256(f"{VERSION}\0".encode())
    for file in files:
        known = file.stat()
        name = str(file.relative_to(folder)).encode(errors="surrogateescape")
        total.update(name + f"\0{known.st_size}\0{known.st_mtime_ns}\n".encode())
    return total.hexdigest()


def _sum(arrays: Arrays) -> str:
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _load(cache: Path, key: str) -> Arrays | None:
    try:
        with open(cache, "rb") as file, np.load(file, allow_pickle=False) as saved:
            if str(saved["key"]) != key:
                return None
            found = {name: saved[name] for name in saved.files if name not in ("key", "sum")}
            return found if str(saved["sum"]) == _sum(found) else None
    except Exception:  # not there, or damaged: numpy and zipfile raise nearly anything, and the files are there
        return None


def forget(root: Root) -> None:
    """Lets every file be read anew."""
    shutil.rmtree(root.path / "judgements", ignore_errors=True)
