"""The one folder under which everything lies that humansim writes, and how files there are written."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from humansim.errors import BadInput


@dataclass(frozen=True)
class Root:
    """Where things lie. Circumstance, never part of a trial's identity: a root may be moved or shared.

    Attributes:
        path: absolute path of the root.
        data: folder in which the `table` source looks its folders up by name.
    """

    path: Path
    data: Path

    @classmethod
    def at(cls, path: str | Path | None = None, data: str | Path | None = None) -> "Root":
        """The root at a path, else `HUMANSIM_ROOT`, else ./humansim-runs; made if it does not exist.

        Data folders are looked up in `data`, else `HUMANSIM_DATA`, else `<root>/data`.

        Raises:
            BadInput: the folder cannot be made or written to.
        """
        root = cls.where(path)
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=root):
                pass
        except OSError as error:
            raise BadInput(
                f"root {root}: not a folder that can be written to ({error.strerror}); give another with --root"
            ) from None
        return cls(root, Path(data or os.environ.get("HUMANSIM_DATA") or root / "data").absolute())

    @staticmethod
    def where(path: str | Path | None = None) -> Path:
        """The folder of the root at a path, whether it is there or not."""
        return Path(path or os.environ.get("HUMANSIM_ROOT") or "humansim-runs").absolute()

    @property
    def results(self) -> Path:
        return self.path / "results"

    @property
    def images(self) -> Path:
        return self.path / "images"

    @property
    def sweeps(self) -> Path:
        return self.path / "sweeps"

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.path / 'mlflow.db'}"


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write a file to, then puts it in place at once, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def made_whole(folder: Path) -> Iterator[Path | None]:
    """Gives a temporary folder to fill, then puts it in place at once, or not at all; None if it is there already.

    One process makes it, others wait. What a killed process left half-made is cleared away.
    """
    with locked(folder.with_suffix(".lock"), wait=True):
        if folder.is_dir():
            yield None
            return
        for left in folder.parent.glob(f".{folder.name}-*"):
            shutil.rmtree(left, ignore_errors=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            yield aside
            aside.chmod(0o777 & ~_umask())
            aside.rename(folder)
            folder.with_suffix(".lock").unlink(missing_ok=True)  # who waits for it finds the folder
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def replaced_whole(folder: Path) -> Iterator[Path]:
    """Gives a temporary folder to fill, then puts it in the place of the folder, or leaves that as it was."""
    with locked(folder.with_name(f"{folder.name}.lock"), wait=True):
        for left in folder.parent.glob(f".{folder.name}-*"):
            shutil.rmtree(left, ignore_errors=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            yield aside
            aside.chmod(0o777 & ~_umask())
            if folder.exists():
                folder.rename(aside.with_name(f"{aside.name}-old"))
            aside.rename(folder)
            folder.with_suffix(".lock").unlink(missing_ok=True)  # who waits for it finds the folder
        finally:
            for left in folder.parent.glob(f"{aside.name}*"):
                shutil.rmtree(left, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def locked(path: Path, *, wait: bool, shared: bool = False) -> Iterator[bool]:
    """Holds a lock file, alone or shared with others who share. Yields whether it was had: always True when waiting.

    The kernel gives the lock back when its process ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
