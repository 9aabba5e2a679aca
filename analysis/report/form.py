"""The one form of all tables, the same in HTML, Markdown and LaTeX."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from analysis.stats import Estimate


@dataclass(frozen=True)
class Link:
    """A cell that leads somewhere: a part of the page ("#h3") or a run in MLflow."""

    text: str
    href: str

    def __str__(self) -> str:
        return self.text


Cell = str | Link


@dataclass(frozen=True)
class Column:
    title: str
    kind: Literal["text", "number", "outcome"] = "text"


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        name: of its place in the page, its label in LaTeX, its file of exact numbers.
        caption: what it shows and in which unit.
        rows: printed; the first cell of each is its heading.
        exact: the numbers behind, shares in [0, 1], written as CSV.
        marked: rows that stand apart: chance, people.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    exact: pd.DataFrame
    marked: frozenset[int] = field(default=frozenset())


def in_order(found: Sequence[Table | None]) -> list[Table]:
    return [one for one in found if one is not None]


def exactly(one: Estimate, level: float) -> dict[str, Any]:
    """An estimate's numbers, as columns of what is written as CSV."""
    low, high = one.interval(level)
    told = {"effect": one.value, "low": low, "high": high, "level": level, "se": one.se}
    return told | {"n": one.n, "clusters": one.clusters, "repeats": one.repeats, "unit": one.unit}
