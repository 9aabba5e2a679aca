"""psiz trials as people answered them, and what their two forms on disk have in common."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from humansim.errors import BadInput
from humansim.judgements import Ints, text_key

KINDS = {"8rank2": (8, 2), "2rank1": (2, 1)}  # references shown, references selected


@dataclass(frozen=True)
class Rankings:
    """psiz trials as people answered them, whichever form they were released in.

    Attributes:
        query: stimulus of each trial [n], counted from 0.
        references: [n, m]; the selected ones in the order of choice, then the others by number; -1 where none.
        selected: how many were selected [n].
        judge: who answered [n]; -1 where unknown.
        failed: people whose release says that they failed, whatever the catch trials among the rows.
        files: where the trials come from, for error messages.
        place: number of each trial's file and where in it [n, 2 or 3]: row; or sequence and position.
        base: the number of the first stimulus in these files.
    """

    query: Ints
    references: Ints
    selected: Ints
    judge: Ints
    failed: Ints = field(default_factory=lambda: np.arange(0))
    files: tuple[str, ...] = ()
    place: Ints = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))
    base: int = 1

    def __len__(self) -> int:
        return len(self.query)

    @property
    def catch(self) -> NDArray[np.bool_]:
        """Whether the query is among its own references [n]."""
        return np.asarray((self.references == self.query[:, None]).any(axis=1))

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether a catch trial's copy was selected [n]; False for other trials (psiz's lenient grade)."""
        chosen = np.arange(self.references.shape[1]) < self.selected[:, None]
        return np.asarray(((self.references == self.query[:, None]) & chosen).any(axis=1))

    @property
    def attentive(self) -> NDArray[np.bool_]:
        """Trials that count [n]: no catch trials, and none of a person who failed one."""
        wrong = self.judge[self.catch & ~self.right]
        out = np.union1d(wrong[wrong >= 0], self.failed)
        return ~self.catch & ~np.isin(self.judge, out)

    def of_kind(self, kind: str) -> NDArray[np.bool_]:
        """Whether a trial is 8rank2, or 2rank1 [n]."""
        shown, selected = KINDS[kind]
        return np.asarray(((self.references >= 0).sum(axis=1) == shown) & (self.selected == selected))

    def locate(self, row: int) -> str:
        """Where a trial comes from: file, and row or sequence and position."""
        file, *at = self.place[row].tolist()
        where = f"row {at[0]}" if len(at) == 1 else f"data[{at[0]}].sequence[{at[1]}]"
        return f"{self.files[file]}: {where}"


def plain_name(path: str, where: str) -> str:
    """A path of a catalogue without the prefix that differs from release to release."""
    name = path.replace("\\", "/").lstrip("/")
    for prefix in ("birds_16/", "Bird/", "ilsvrc_2012_val/"):
        name = name.removeprefix(prefix)
    if not name or any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise BadInput(f"{where}: {path!r} is not a path inside a folder of images")
    return name


def in_order(names: dict[int, str], base: int, file: Path) -> list[str]:
    """Names in the order of their ids.

    Raises:
        BadInput: an id is missing between the others, or a name is there twice.
    """
    for number in range(base, base + len(names)):
        if number not in names:
            raise BadInput(f"{file}: stimulus {number} is missing; the ids go from {base} to {max(names)} with a gap")
    twice = [name for name, often in Counter(names.values()).items() if often > 1]
    if twice:
        raise BadInput(f"{file}: {twice[0]} is the file of two stimuli")
    return [names[number] for number in range(base, base + len(names))]


def person(name: str) -> int:
    """An id of somebody, the same on every machine."""
    return text_key(name) >> 1  # fits a signed number


def reason(error: Exception) -> str:
    """What an exception says, as one line."""
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing"
    return str(error).strip().replace("\n", " ") or type(error).__name__
