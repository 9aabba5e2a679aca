"""How numbers are written, the same in sentences, tables and figures."""

from typing import Any

import numpy as np

MINUS, UNKNOWN = "\N{MINUS SIGN}", "\N{EN DASH}"


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


def scored(value: float, low: float, high: float) -> str:
    """A score with its interval: "71.2 [69.9, 72.4]"."""
    return f"{percent(value)} {between((low, high), percent)}"


def gained(value: float, low: float, high: float) -> str:
    """A difference with its interval: "+1.25 [-0.10, +2.41]"."""
    return f"{points(value)} {between((low, high))}"
