"""Which trials a sweep has asked for, as a file."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from humansim.errors import BadInput
from humansim.pruning import Bar
from humansim.root import Root
from humansim.spec import Trial


@dataclass(frozen=True)
class Asked:
    """A trial that a cell's search has asked for, and the bar that it holds it to."""

    cell: str
    index: int
    trial: Trial
    bar: Bar | None = None


@cache
def _asked(line: bytes) -> Asked:
    """A line of a ledger; what is looked at again and again is read once."""
    row = json.loads(line)
    bar = dict(row["bar"]) if "bar" in row else None
    return Asked(row["cell"], row["index"], Trial.model_validate(row["trial"]), bar)


class Ledger:
    """Which trials a sweep has asked for, in order: `sweeps/<name>/asked.jsonl`, appended before a trial starts.

    It makes a search the same after a restart even where an outcome that a trial or its bar was drawn from has changed
    since (a failed trial that was run again). A line torn by a crash is dropped: its trial had not started.
    """

    def __init__(self, root: Root, sweep: str) -> None:
        self.file = root.sweeps / sweep / "asked.jsonl"

    def read(self) -> list[Asked]:
        """All that was asked, oldest first."""
        if not self.file.exists():
            return []
        asked = []
        *lines, _ = self.file.read_bytes().split(b"\n")  # after the last line's end: nothing, or what a crash tore
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            try:
                asked.append(_asked(line))
            except (ValueError, KeyError, TypeError) as error:
                raise BadInput(f"{self.file}, line {number}: damaged ({error}); delete that line") from None
        return asked

    def append(self, asked: Asked) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        row = {"cell": asked.cell, "index": asked.index, "trial": asked.trial.model_dump(mode="json")}
        line = json.dumps(row if asked.bar is None else row | {"bar": [*asked.bar.items()]})
        with open(self.file, "ab+") as file:
            torn = file.tell() > 0 and not _ends_a_line(file)
            if torn:
                whole = self.file.read_bytes().rpartition(b"\n")[0]
                file.truncate(len(whole) + 1 if whole else 0)
            file.write(line.encode() + b"\n")
            file.flush()


def _ends_a_line(file: Any) -> bool:
    file.seek(-1, 2)
    return bool(file.read(1) == b"\n")
