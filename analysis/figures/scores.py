"""Figures 5.1 and 5.3 of the thesis: scores of pretrained and of fine-tuned models, a panel for each group of sets."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.answers import Answers
from analysis.ceilings import answered, table
from analysis.figures.look import GREY, INK, MUTED, PALE, Picture, headed, key, sheet
from analysis.figures.subjects import (
    SUPERVISIONS,
    before,
    groups,
    model_looks,
    models_of,
    on_its_own,
    paradigm_looks,
    pretty,
    short,
    supervision,
    told_apart,
    tuned,
    unlike,
)
from analysis.joint import joint
from analysis.numerals import gained, scored
from analysis.stats import Contrast, ends, mean
from humansim.tables import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.transforms import Transform

MEASURES = ("cosine", "l2", "l1")
DASHES: dict[str, Any] = {"chance": ":", "pixels": (0, (1, 3)), "fresh judge": "--", "best possible": "-"}
BEST = (
    "Filled triangle: shown to be better than all others of its panel; open: not shown to be worse than any (95 %, "
    "corrected for all comparisons); none where fewer than half are shown to be worse."
)


def pretrained(trials: pd.DataFrame, answers: Answers) -> Picture | None:
    """Figure 5.1: a panel for each group of sets, one third for each measure."""
    rows = unlike(trials)
    if not len(rows):
        return None
    looks, of_groups = model_looks(rows), groups(answers)
    floors = trials[trials["backbone"] == "pixels"]
    # All measures of a panel are compared with each other: a model under another measure is another row.
    panels = {name: _by_measure(rows, answers, sets) for name, sets in of_groups.items()}
    panels = {name: panel for name, panel in panels.items() if len(panel)}
    if not panels:
        return None
    simulated = bool(trials["simulated"].any())
    height = 2.15 * -(-(len(panels) + 1) // 2) + 0.3
    figure, axes = sheet(height, -(-(len(panels) + 1) // 2), 2)
    shown = [m for m in MEASURES if any((panel["measure"] == m).any() for panel in panels.values())]
    shown += sorted({m for panel in panels.values() for m in panel["measure"]} - set(shown))
    said_of = []
    for ax, (name, panel) in zip(axes, panels.items(), strict=False):
        lines = table(floors, answers, groups={name: of_groups[name]}) if len(floors) else None
        order = {model: i for i, model in enumerate(rows["model"])}
        third = len(order) + 1
        for i, m in enumerate(shown):
            some = panel[panel["measure"] == m]
            x = np.array([third * i + order[model] for model in some["model"]], dtype=float)
            for where, (_, row) in zip(x, some.iterrows(), strict=True):
                _dot(ax, where, row, looks[row["model"]])
            _mark_best(ax, x, some, panel["best"])
            if i:
                ax.axvline(third * i - 1, color=PALE, linewidth=0.8)
        ax.set_xticks([third * (i + 0.5) - 1 for i in range(len(shown))], [m.upper() for m in shown])
        ax.set_xlim(-1, third * len(shown) - 1)
        ax.tick_params(axis="x", length=0)
        told = _held_against(ax, panel, None if lines is None or not len(lines) else float(lines["score"].iloc[0]))
        ax.set_title(name, pad=16)
        ax.text(0, 1.03, told, transform=ax.transAxes, ha="left", va="bottom", fontsize=7.5, color=MUTED)
        top = panel.iloc[int(panel["score"].argmax())]
        said_of.append(f"{name}: {_leaders(panel, top)}")
    for ax in axes[len(panels) :]:
        ax.axis("off")
    for i in range(0, len(panels), 2):
        axes[i].set_ylabel("2AFC score, %")
    _legend(axes[len(panels)], rows, looks)
    title = headed("Scores of models that were not fine-tuned", simulated)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    caption = (
        f"2AFC scores of {counted(len(rows), 'model')} on {len(panels)} "
        f"{'group' if len(panels) == 1 else 'groups'} of sets, by measure, with 95 % intervals. "
        "Colours tell what a model learnt from: labels, text, or images alone. Lines: chance, the "
        "floor of bare pixels, a fresh judge, and the best score that is "
        f"possible on these votes, where they lie in the panel; the numbers stand above it. {BEST}"
    )
    if simulated:
        caption += " Judges are simulated."
    alt = (
        f"{title}. {counted(len(panels), 'panel')}, each a group of sets, with thirds {', '.join(shown)}. "
        + " ".join(said_of)
    )
    return Picture("pretrained", title, caption, alt, figure)


def _by_measure(rows: pd.DataFrame, answers: Answers, sets: Sequence[str]) -> pd.DataFrame:
    """Scores of a panel, as `ceilings.table`; `best` among all models and measures of it."""
    found = [(row, m) for _, row in rows.iterrows() for m in _measures(answers, str(row["cell"]), sets)]
    if not found:
        return pd.DataFrame()
    contrasts = [mean([(str(row["cell"]), m)], sets) for row, m in found]
    ceilings = table(rows, answers, groups={"": sets}).set_index("cell")
    panel = pd.DataFrame([{"cell": row["cell"], "model": row["model"], "measure": m} for row, m in found])
    panel[["score", "low", "high"]] = [ends(answers, one) for one in contrasts]
    panel["best"] = joint(answers, contrasts).not_worse()
    return panel.join(ceilings[["fresh_judge", "best_possible", "chance"]], on="cell")


def _measures(answers: Answers, cell: str, sets: Sequence[str]) -> list[str]:
    trial = answers.repeats[cell][0]
    return [m for t, m in answers.rows if t == trial and answered(answers, cell, m, sets)]


def _dot(ax: "Axes", x: float, row: Mapping[str, float] | pd.Series, look: tuple[str, str]) -> None:
    colour, marker = look
    score, low, high = (100 * float(row[column]) for column in ("score", "low", "high"))
    if not np.isnan(low):
        ax.plot([x, x], [low, high], color=colour, linewidth=1.3, solid_capstyle="butt", zorder=2)
    ax.plot(
        [x],
        [score],
        marker,
        color=colour,
        markersize=6.2 if marker in "PX" else 5.2,
        markeredgecolor="white",
        markeredgewidth=0.3,
        zorder=3,
        gid="score",
    )


def _mark_best(ax: "Axes", x: NDArray[np.float64], some: pd.DataFrame, best: pd.Series) -> None:
    """Triangles over what is statistically best of a panel; none where little is told apart."""
    if not told_apart(best):
        return
    for where, (_, row) in zip(x, some.iterrows(), strict=True):
        if row["best"]:
            top = 100 * float(np.nanmax([row["high"], row["score"]]))
            ax.plot(
                [where],
                [top],
                marker=(3, 0, 180),
                color=INK,
                markersize=4.5,
                markerfacecolor=INK if best.sum() == 1 else "white",
                markeredgewidth=0.8,
                linestyle="none",
                clip_on=False,
                zorder=4,
                gid="best",
                transform=_above(ax),
            )


def _above(ax: "Axes") -> "Transform":
    """Data coordinates, five points up."""
    from matplotlib.transforms import ScaledTranslation

    assert ax.figure is not None
    return ax.transData + ScaledTranslation(0, 5 / 72, ax.figure.dpi_scale_trans)


def _held_against(ax: "Axes", panel: pd.DataFrame, floor: float | None, reach: float = 0.35) -> str:
    """Chance, floor and ceilings: as lines where they are near the scores, and as numbers, to stand above the panel.

    Args:
        reach: how near, in heights of what is drawn.
    """
    low, high = 100 * np.nanmin(panel[["low", "score"]]), 100 * np.nanmax(panel[["high", "score"]])
    people = panel[["chance", "fresh_judge", "best_possible"]].mean()
    lines = {"chance": people["chance"], "pixels": np.nan if floor is None else floor}
    lines |= {"fresh judge": people["fresh_judge"], "best possible": people["best_possible"]}
    reach *= max(high - low, 2)
    for name, share in lines.items():
        if low - reach <= 100 * share <= high + reach:
            ax.axhline(100 * share, color=GREY, linestyle=DASHES[name], linewidth=0.9, zorder=1, gid=name)
            low, high = min(low, 100 * share), max(high, 100 * share)
    pad = 0.08 * max(high - low, 2)
    ax.set_ylim(low - pad, high + pad)
    return "   ".join(f"{name} {100 * share:.1f}" for name, share in lines.items() if not np.isnan(share))


def _leaders(panel: pd.DataFrame, top: pd.Series) -> str:
    """What a panel shows, in a sentence."""
    name = f"{pretty(top['model'])} by {top['measure']}" if "measure" in top else pretty(top["model"])
    score = scored(top["score"], top["low"], top["high"])
    if panel["best"].all() and len(panel) > 1:
        return f"{name} scores highest, {score} per cent; nothing is told apart."
    others = int(panel["best"].sum()) - 1
    if others == 0:
        return f"{name} is best, {score} per cent."
    return f"{name} scores highest, {score} per cent; of {len(panel) - 1} others {others} not shown to be worse."


def _legend(ax: "Axes", rows: pd.DataFrame, looks: Mapping[str, tuple[str, str]]) -> None:
    handles, of = [], {str(row["model"]): supervision(row) for _, row in rows.iterrows()}
    for model, (colour, marker) in sorted(looks.items(), key=lambda item: list(SUPERVISIONS).index(of[item[0]])):
        handles.append(key(pretty(model), colour, marker=marker, linewidth=1.3))
    handles += [*_lines(), *_triangles()]
    ax.axis("off")
    ax.legend(handles=handles, loc="center left", ncols=2, handlelength=1.8, columnspacing=1.2, labelspacing=0.35)


def _lines(pixels: bool = True) -> list["Line2D"]:
    names = {"chance": "chance", "pixels": "floor: bare pixels", "fresh judge": "a fresh judge"}
    names["best possible"] = "best possible"
    return [
        key(name, GREY, linewidth=0.9, linestyle=DASHES[line])
        for line, name in names.items()
        if pixels or line != "pixels"
    ]


def _triangles() -> list["Line2D"]:
    names = {"best": INK, "not shown to be worse": "white"}
    return [
        key(name, INK, marker=(3, 0, 180), linestyle="none", markersize=4.5, markeredgewidth=0.8, markerfacecolor=face)
        for name, face in names.items()
    ]


def fine_tuned(trials: pd.DataFrame, answers: Answers, kind: str = "fine-tuned") -> Picture | None:
    """Figure 5.3: a panel for each group of sets, one cluster for each base model, the pretrained one as a line.

    Args:
        kind: "fine-tuned", or "contaminated": the two are not mixed in a figure.
    """
    rows = tuned(trials, kind)
    if not len(rows):
        return None
    models, looks = models_of(rows), paradigm_looks([str(p) for p in rows["paradigm"].unique()])
    panels = {
        name: panel
        for name, sets in groups(answers).items()
        if len(panel := _of_panel(trials, rows, answers, models, list(looks), sets))
    }
    if not panels:
        return None
    simulated = bool(trials["simulated"].any())
    figure, axes = sheet(1.45 * len(panels) + 0.8, len(panels), 1)
    each = len(looks) + 2
    said_of = []
    for ax, (name, panel) in zip(axes, panels.items(), strict=True):
        own = panel[panel["paradigm"] != ""]
        for i, model in enumerate(models):
            some = own[own["model"] == model]
            start = panel[(panel["model"] == model) & (panel["paradigm"] == "")]
            if len(start):
                _line(ax, each * i - 0.6, each * i + len(looks) - 0.4, start.iloc[0])
            x = np.array([each * i + list(looks).index(p) for p in some["paradigm"]], dtype=float)
            for where, (_, row) in zip(x, some.iterrows(), strict=True):
                _dot(ax, where, row, looks[row["paradigm"]])
            _mark_best(ax, x, some, panel["best"])
        ax.set_xticks([each * i + (len(looks) - 1) / 2 for i in range(len(models))], [short(m) for m in models])
        ax.set_xlim(-1.5, each * len(models) - 1.5)
        ax.tick_params(axis="x", length=0)
        ax.set_ylabel("2AFC score, %")
        ax.locator_params(axis="y", nbins=5)
        told = _held_against(ax, panel, None, reach=0.1)
        ax.set_title(name)
        ax.text(1, 1.04, told, transform=ax.transAxes, ha="right", va="bottom", fontsize=7.5, color=MUTED)
        said_of.append(f"{name}: {_gained(own)}")
    _legend_of_paradigms(figure, looks)
    what = "Scores after fine-tuning"
    if kind == "contaminated":
        what += ", fitted on what they are evaluated on"
    title = headed(what, simulated)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    caption = (
        f"2AFC scores of {counted(len(models), 'base model')} after {counted(len(looks), 'way')} to fine-tune "
        f"on data of the same release, "
        "with 95 % intervals. Thick grey lines: the same model "
        f"before, with its interval. {BEST}"
    )
    if kind == "contaminated":
        caption += " Fit and evaluation sets share triplets: gains are in part leakage."
    if simulated:
        caption += " Judges are simulated."
    alt = f"{title}. {counted(len(panels), 'panel')}, each a group of sets, a cluster for each base model. " + " ".join(
        said_of
    )
    return Picture(kind, title, caption, alt, figure)


def _of_panel(
    trials: pd.DataFrame,
    rows: pd.DataFrame,
    answers: Answers,
    models: Sequence[str],
    paradigms: Sequence[str],
    sets: Sequence[str],
) -> pd.DataFrame:
    """Scores of a panel: model, paradigm ("" before fine-tuning), score, its interval, best, ceilings; gain over the
    model before, with its interval, NaN where that is not there."""
    found: list[tuple[str, str, Contrast]] = []
    for model in models:
        of_model = rows[rows["model"] == model]
        cell = before(trials, of_model)
        if cell is not None and answered(answers, *cell, sets):
            found.append((model, "", mean([cell], sets)))
        for paradigm in paradigms:
            some = of_model[of_model["paradigm"] == paradigm]
            contrast = on_its_own(some, answers, sets) if len(some) else None
            if contrast is not None:
                found.append((model, paradigm, contrast))
    if not any(paradigm for _, paradigm, _ in found):
        return pd.DataFrame()
    start = {model: contrast for model, paradigm, contrast in found if not paradigm}
    panel = pd.DataFrame([(model, paradigm) for model, paradigm, _ in found], columns=["model", "paradigm"])
    panel[["score", "low", "high"]] = [ends(answers, contrast) for _, _, contrast in found]
    panel["best"] = joint(answers, [contrast for _, _, contrast in found]).not_worse()
    panel[["gain", "gain_low", "gain_high"]] = [
        ends(answers, contrast - start[model]) if paradigm and model in start else (np.nan,) * 3
        for model, paradigm, contrast in found
    ]
    people = answers.people().loc[list(sets)].mean()
    return panel.assign(chance=0.5, fresh_judge=people["fresh_judge"], best_possible=people["best"])


def _line(ax: "Axes", left: float, right: float, row: pd.Series) -> None:
    """The model before: its score as a line, its interval as a band."""
    score, low, high = (100 * float(row[column]) for column in ("score", "low", "high"))
    if not np.isnan(low):
        ax.fill_between([left, right], low, high, color=PALE, linewidth=0, alpha=0.6, zorder=0)
    ax.plot([left, right], [score, score], color=GREY, linewidth=2, solid_capstyle="butt", zorder=1, gid="before")


def _gained(own: pd.DataFrame) -> str:
    """What a panel shows, in a sentence."""
    up, down = int((own["gain_low"] > 0).sum()), int((own["gain_high"] < 0).sum())
    top = own.iloc[int(own["score"].argmax())]
    score = scored(top["score"], top["low"], top["high"])
    name = f"{pretty(top['model'])}, {top['paradigm']}, scores highest, {score} per cent"
    if np.isnan(top["gain"]):
        return f"{name}."
    gain = gained(top["gain"], top["gain_low"], top["gain_high"])
    others = (
        f"of {counted(len(own), 'model')} {up} lie above what they were before and {down} below, each by "
        f"its own interval"
    )
    return f"{name} ({gain} points); {others}."


def _legend_of_paradigms(figure: "Figure", looks: Mapping[str, tuple[str, str]]) -> None:
    handles = [key(name, colour, marker=marker, linewidth=1.3) for name, (colour, marker) in looks.items()]
    handles += [key("before", GREY, linewidth=2), *_triangles(), *_lines(pixels=False)]
    figure.legend(handles=handles, loc="outside lower center", ncols=7, handlelength=1.8)
