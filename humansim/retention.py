"""Which fine-tuned weights a sweep keeps: 616 networks of 100 to 400 MB each would fill a disk.

Results, answers and scores are small and always stay. Weights that were dropped come back only by training again.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from humansim import results
from humansim.results import Result
from humansim.root import Root


@dataclass
class Retention:
    """Drops weights as trials end: those beyond the best of their cell, and, over a budget, those least wanted.

    Attributes:
        best: how many trials of each cell keep their weights, in the order of `results.models`: those of the best
            model first, its lowest seed before its repeats; None for all.
        budget: bytes of all weights together; None for no limit. Over it go first the lowest ranks within their cells,
            of equal ranks the oldest.
    """

    root: Root
    best: int | None = None
    budget: int | None = None
    _cells: dict[str, list[Result]] = field(default_factory=dict)
    _sizes: dict[str, int] = field(default_factory=dict)

    def ended(self, result: Result, cells: Iterable[str]) -> list[Path]:
        """Takes note of a finished trial; returns the files that were removed.

        Args:
            cells: keys of the cells that it belongs to. What is among the best of any of them stays.
        """
        if self.best is None and self.budget is None:
            return []
        for cell in cells:
            others = [one for one in self._cells.get(cell, ()) if one.trial.id != result.trial.id]
            self._cells[cell] = list(chain.from_iterable(results.models([*others, result])))
        with contextlib.suppress(FileNotFoundError):  # a pretrained one has none; others went in an earlier submit
            self._sizes[result.trial.id] = self._file(result.trial.id).stat().st_size
        rank: dict[str, int] = {}
        finished: dict[str, int] = {}
        for ranked in self._cells.values():
            for place, one in enumerate(ranked):
                rank[one.trial.id] = min(place, rank.get(one.trial.id, place))
                finished[one.trial.id] = one.finished
        gone = [id_ for id_ in self._sizes if self.best is not None and rank[id_] >= self.best]
        if self.budget is not None:
            left = sum(size for id_, size in self._sizes.items() if id_ not in gone)
            for id_ in sorted((i for i in self._sizes if i not in gone), key=lambda i: (-rank[i], finished[i])):
                if left <= self.budget:
                    break
                gone.append(id_)
                left -= self._sizes[id_]
        for id_ in gone:
            self._file(id_).unlink(missing_ok=True)
            del self._sizes[id_]
        return [self._file(id_) for id_ in gone]

    def _file(self, id_: str) -> Path:
        return self.root.results / id_ / results.WEIGHTS


def in_bytes(text: str) -> int:
    """Bytes of "50GB", "1.5 TB", "800 MB" or a plain number of bytes, in powers of ten.

    Raises:
        ValueError: it is none of these.
    """
    units = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "B": 1}
    text = text.strip().upper()
    unit = next((unit for unit in units if text.endswith(unit)), "")
    size = float(text.removesuffix(unit)) * units.get(unit, 1)
    if not 0 <= size < float("inf"):
        raise ValueError(text)
    return int(size)
