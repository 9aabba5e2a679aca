"""The one form of all tables, the same in HTML, Markdown and LaTeX, and how numbers are written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.stats import Estimate

MINUS, UNKNOWN = "\N{MINUS SIGN}", "\N{EN DASH}"


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


def points(share: float) -> str:
    """A difference in points of 2AFC, with its sign: "+1.25"."""
    return UNKNOWN if np.isnan(share) else f"{100 * share:+.2f}".replace("-", MINUS)


def percent(share: float) -> str:
    """A score in per cent: "71.3"."""
    return UNKNOWN if np.isnan(share) else f"{100 * share:.1f}"


def between(ends: tuple[float, float], told: Any = points) -> str:
    """An interval: "[+0.10, +2.41]"."""
    return UNKNOWN if np.isnan(ends[0]) else f"[{told(ends[0])}, {told(ends[1])}]"


def p_value(p: float) -> str:
    return UNKNOWN if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def in_order(found: Sequence[Table | None]) -> list[Table]:
    return [one for one in found if one is not None]


def exactly(one: Estimate, level: float) -> dict[str, Any]:
    """An estimate's numbers, as columns of what is written as CSV."""
    low, high = one.interval(level)
    told = {"effect": one.value, "low": low, "high": high, "level": level, "se": one.se}
    return told | {"n": one.n, "clusters": one.clusters, "repeats": one.repeats, "unit": one.unit}
