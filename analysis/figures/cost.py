"""What a gain costs: points over the pretrained model against minutes of training."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.answers import Answers
from analysis.ceilings import answered
from analysis.figures.look import MUTED, PALE, Picture, headed, key, sheet
from analysis.figures.subjects import before, models_of, paradigm_looks, pretty, short, tuned
from analysis.numerals import gained
from analysis.stats import Contrast, ends, mean
from humansim.tables import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def gains(trials: pd.DataFrame, answers: Answers, kind: str = "fine-tuned") -> pd.DataFrame:
    """A row for each model and paradigm: minutes of training of one cell, and gain with its interval.

    The gain is over the same model before, on the sets of the release (or the set) that it was fitted on, the mean over
    those.
    """
    rows = tuned(trials, kind) if "seconds.train" in trials else trials.iloc[:0]
    found: list[tuple[str, str, float, Contrast]] = []
    for (model, paradigm), some in rows.groupby(["model", "paradigm"], sort=False) if len(rows) else ():
        cell = before(trials, some)
        if cell is None:
            continue
        each = [gain for _, row in some.drop_duplicates("cell").iterrows() if (gain := _gain(answers, row, cell))]
        if each:
            first, *others = each
            minutes = float(some["seconds.train"].mean()) / 60
            found.append((str(model), str(paradigm), minutes, (1 / len(each)) * sum(others, first)))
    if not found:
        return pd.DataFrame(columns=["model", "paradigm", "minutes", "gain", "low", "high"])
    made = [(*named, *ends(answers, contrast)) for *named, contrast in found]
    return pd.DataFrame(made, columns=["model", "paradigm", "minutes", "gain", "low", "high"])


def _gain(answers: Answers, row: pd.Series, cell: tuple[str, str]) -> Contrast | None:
    own, fitted = (str(row["cell"]), str(row["measure"])), row.get("fit_on")
    everything = not isinstance(fitted, str)
    sets = [s for s in answers.sets if everything or s == fitted or s.partition("/")[0] == fitted]
    sets = [s for s in sets if answered(answers, *own, [s]) and answered(answers, *cell, [s])]
    return mean([own], sets) - mean([cell], sets) if sets else None


def against_gain(trials: pd.DataFrame, answers: Answers, kind: str = "fine-tuned") -> Picture | None:
    """A panel for each base model, a point for each paradigm."""
    found = gains(trials, answers, kind)
    if not len(found):
        return None
    models, looks = models_of(found), paradigm_looks(list(found["paradigm"].unique()))
    simulated = bool(trials["simulated"].any())
    what = "Gain and cost of fine-tuning"
    title = headed(what + (", fitted on what they are evaluated on" if kind == "contaminated" else ""), simulated)
    columns = min(4, len(models))
    lines = -(-len(models) // columns)
    figure, axes = sheet(2.0 * lines + 0.75, lines, columns, share_y=True)
    for ax, model in zip(axes, models, strict=False):
        ax.axhline(0, color=MUTED, linewidth=0.8, zorder=0)
        for _, row in found[found["model"] == model].iterrows():
            colour, marker = looks[row["paradigm"]]
            x, gain, low, high = row["minutes"], 100 * row["gain"], 100 * row["low"], 100 * row["high"]
            if not np.isnan(low):
                ax.plot([x, x], [low, high], color=colour, linewidth=1.3, solid_capstyle="butt")
            ax.plot(
                [x],
                [gain],
                marker,
                color=colour,
                markersize=5.5,
                markeredgecolor="white",
                markeredgewidth=0.3,
                gid="gain",
            )
        ax.set_xscale("log")
        ax.set_xlim(0.8 * found["minutes"].min(), 1.25 * found["minutes"].max())
        ax.grid(color=PALE, linewidth=0.5)
        ax.set_title(short(model))
        _minutes(ax)
    for ax in axes[len(models) :]:
        ax.axis("off")
    for i, ax in enumerate(axes[: len(models)]):
        if i % columns == 0:
            ax.set_ylabel("gain, points of 2AFC")
        if i + columns >= len(models):
            ax.set_xlabel("minutes of training")
    handles = [key(name, colour, marker=marker, linewidth=1.3) for name, (colour, marker) in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(7, len(handles)))
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    devices = sorted({str(d) for d in tuned(trials, kind).get("device", pd.Series(dtype=str)).dropna()})
    where = f" on {devices[0]}" if len(devices) == 1 else ""
    caption = (
        "Gain over the same model before, on the data it was fitted on, with its 95 % interval, against the minutes"
        f"{where} that one training took."
    )
    if len(devices) > 1:
        caption += f" Minutes are of {len(devices)} kinds of device and do not compare."
    if simulated:
        caption += " Judges are simulated."
    top = found.iloc[int(found["gain"].argmax())]
    alt = (
        f"{title}. {counted(len(models), 'panel')}, each a base model, with {counted(len(looks), 'paradigm')}. "
        f"The largest gain has "
        f"{pretty(top['model'])} by {top['paradigm']}: {gained(top['gain'], top['low'], top['high'])} points for "
        f"{top['minutes']:.3g} minutes; {int((found['low'] > 0).sum())} of {len(found)} lie above 0, each by its own "
        "interval."
    )
    return Picture("gain-and-cost" if kind == "fine-tuned" else f"gain-and-cost-{kind}", title, caption, alt, figure)


def _minutes(ax: "Axes") -> None:
    """Plain numbers at 1, 2 and 5, where they are few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 30 else (1,)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
