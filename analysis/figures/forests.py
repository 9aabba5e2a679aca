"""Forests of effects: what each hypothesis comes to, and what it is made of."""

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from analysis.figures.look import INK, MUTED, PALE, PALETTE, Picture, headed, key, sheet
from analysis.numerals import gained, points
from analysis.stats import Estimate
from analysis.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OUTCOMES = {  # colour, marker, filled
    "supported": (PALETTE["green"], "o", True),
    "refuted": (PALETTE["red"], "X", True),
    "undecided": (PALETTE["amber"], "D", False),
}
SHADED = "Shaded: effects too small to matter, up to the smallest effect of interest."


def of_hypotheses(verdicts: Mapping[int, Verdict]) -> Picture | None:
    """A row for each hypothesis that was tested."""
    numbers = [number for number, one in sorted(verdicts.items()) if one.estimate.n]
    if not numbers:
        return None
    simulated = any(one.simulated for one in verdicts.values())
    title = headed("Effects that the hypotheses claim", simulated)
    figure, [ax] = sheet(0.52 * len(numbers) + 0.9)
    for y, number in enumerate(numbers):
        one = verdicts[number]
        _row(ax, y + 0.2, one.estimate, one, large=True)
        _shade(ax, one, y - 0.45, y + 0.45)
        claim = textwrap.shorten(f"H{number}: {one.claim}", 120, placeholder=" ...")
        ax.text(0, y - 0.28, claim, transform=ax.get_yaxis_transform(), va="center", weight="bold", fontsize=8)
        told = f"{one.outcome}, {_effect(one)}"
        ax.text(1.01, y + 0.2, told, transform=ax.get_yaxis_transform(), va="center", gid="told")
    ax.set_yticks([])
    _finish(ax, len(numbers), 0.5)
    _legend(figure)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    caption = (
        f"Effects in points of 2AFC, with their {100 * verdicts[numbers[0]].level:.0f} % intervals; verdicts are "
        f"corrected for the family of {verdicts[numbers[0]].family}. Of a claim that has several parts, the one that "
        f"settles it, or is the farthest from settled. {SHADED}"
    )
    if untested := ", ".join(f"H{number}" for number in sorted(verdicts) if number not in numbers):
        caption += f" Untested: {untested}."
    if simulated:
        caption += " Judges are simulated."
    alt = f"{title}. " + " ".join(
        f"H{number}, {one.outcome}: {_effect(one)}{f' points ({one.of})' if one.of and one.estimate.n else ''}."
        for number, one in sorted(verdicts.items())
    )
    return Picture("effects", title, caption, alt, figure)


def of_parts(number: int, verdict: Verdict) -> Picture | None:
    """One hypothesis and the parts of its data."""
    if not any(one.n for one in verdict.parts.values()):
        return None
    title = headed(f"H{number} and its parts: {verdict.outcome}", verdict.simulated)
    told_apart = {name: one for name, one in verdict.parts.items() if one.n and name != verdict.of}
    rows: list[tuple[str, Estimate]] = [(verdict.of or "all", verdict.estimate), *told_apart.items()]
    lines = textwrap.wrap(verdict.claim, 95)
    figure, [ax] = sheet(0.24 * len(rows) + 1.05 + 0.15 * len(lines))
    for y, (_, one) in enumerate(rows):
        _row(ax, y, one, verdict, large=y == 0)
        low, high = one.interval(verdict.level)
        told = f"{gained(one.value, low, high)}  n = {one.n:,}"
        ax.text(1.01, y, told, transform=ax.get_yaxis_transform(), va="center", gid="told")
    _shade(ax, verdict, -0.5, len(rows) - 0.5)
    ax.set_yticks(range(len(rows)), [textwrap.shorten(name, 48, placeholder=" ...") for name, _ in rows])
    ax.get_yticklabels()[0].set_fontweight("bold")
    ax.axhline(0.5, color=PALE, linewidth=0.8)
    _finish(ax, len(rows), 0.5)
    ax.set_title("\n".join(lines), weight="normal", fontsize=8)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    caption = (
        f"{verdict.claim.rstrip('.')}: the effect, in points of 2AFC, that the verdict hangs on, and beneath it parts "
        f"of the claim or of the data, with {100 * verdict.level:.0f} % intervals, which are not corrected. {SHADED}"
    )
    if verdict.simulated:
        caption += " Judges are simulated."
    ends = {name: one.value for name, one in rows}
    most, least = max(ends, key=lambda name: ends[name]), min(ends, key=lambda name: ends[name])
    alt = (
        f"{title}. {verdict.claim.rstrip('.')}: {_effect(verdict)} points ({rows[0][0]}); of {len(ends)} rows from "
        f"{points(ends[least])} ({least}) to {points(ends[most])} ({most})."
    )
    return Picture(f"effects-h{number}", title, caption, alt, figure)


def _effect(one: Verdict) -> str:
    return gained(one.effect, *one.interval) if one.estimate.n else "no data yet"


def _row(ax: "Axes", y: float, one: Estimate, verdict: Verdict, large: bool) -> None:
    if not one.n:
        return
    colour, marker, filled = OUTCOMES[verdict.outcome] if large else (INK, "o", True)
    low, high = (100 * end for end in one.interval(verdict.level))
    if not np.isnan(low):
        ax.plot(
            [low, high], [y, y], color=colour, linewidth=2.2 if large else 1.2, solid_capstyle="butt", gid="interval"
        )
    ax.plot(
        [100 * one.value],
        [y],
        marker=marker,
        color=colour,
        markerfacecolor=colour if filled else "white",
        markersize=7 if large else 4.5,
        markeredgewidth=1.0 if not filled else 0.4,
        markeredgecolor=colour if not filled else "white",
        linestyle="none",
        zorder=3,
        gid="effect",
    )


def _shade(ax: "Axes", verdict: Verdict, low: float, high: float) -> None:
    smallest = 100 * verdict.smallest
    ax.fill_betweenx([low, high], -smallest, smallest, color=PALE, linewidth=0, alpha=0.7, zorder=0, gid="smallest")


def _finish(ax: "Axes", rows: int, margin: float) -> None:
    ax.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
    ax.set_ylim(rows - 1 + margin, -margin)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("effect, points of 2AFC")


def _legend(figure: "Figure") -> None:
    from matplotlib.patches import Patch

    handles = [
        key(name, colour, marker=marker, markersize=6, markerfacecolor=colour if filled else "white")
        for name, (colour, marker, filled) in OUTCOMES.items()
    ]
    shade = Patch(color=PALE, label="too small to matter")
    figure.legend(handles=[*handles, shade], loc="outside lower center", ncols=4)
