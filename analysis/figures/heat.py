"""A heat map of models by sets, with what people reach in its first rows."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.answers import Answers
from analysis.ceilings import explained, table
from analysis.figures.look import INK, MUTED, Picture, headed, sheet
from analysis.figures.subjects import GROUPS, RELEASES, pretty, told_apart, unlike
from analysis.numerals import scored
from humansim.scores import CHANCE
from humansim.tables import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHADES = "cividis"  # made for colour-blind readers: lightness alone tells it (Nuñez, Anderton and Renslow 2018)


def models_by_sets(trials: pd.DataFrame, answers: Answers) -> Picture | None:
    """Numbers are 2AFC scores, shades how much of what can be explained of the votes is."""
    rows = unlike(trials)
    floors = trials[trials["backbone"] == "pixels"].drop_duplicates("model")
    found = table(pd.concat([rows, floors]), answers) if len(rows) else pd.DataFrame()
    if not len(found):
        return None
    order = [s for sets in GROUPS.values() for s in sets]
    sets = sorted(answers.sets, key=lambda s: (order.index(s) if s in order else len(order), s))
    by_set = found.drop_duplicates("set").set_index("set").reindex(sets)
    people = {
        "best possible": by_set["best_possible"],
        "a fresh judge": by_set["fresh_judge"],
        "chance": pd.Series(CHANCE, index=sets),
    }
    of_models = {str(row["model"]): str(row["cell"]) for _, row in pd.concat([rows, floors]).iterrows()}
    scores = pd.DataFrame(people).T
    best = pd.DataFrame(False, index=scores.index, columns=sets)
    apart = found.groupby("set")["best"].agg(told_apart).reindex(sets, fill_value=False)
    for model, cell in of_models.items():
        own = found[found["cell"] == cell].set_index("set").reindex(sets)
        scores.loc[pretty(model)] = own["score"]
        best.loc[pretty(model)] = (own["best"] == True) & apart  # noqa: E712
    shades = pd.DataFrame(
        [[explained(v, b) for v, b in zip(row, by_set["best_possible"], strict=True)] for row in scores.to_numpy()],
        index=scores.index,
        columns=sets,
    )
    simulated = bool(trials["simulated"].any())
    title = headed("Scores by model and set", simulated)
    figure, [ax] = sheet(0.235 * len(scores) + 1.35)
    image = ax.imshow(shades.to_numpy(), cmap=SHADES, vmin=0, vmax=1, aspect="auto", gid="explained")
    for i, model in enumerate(scores.index):
        for j, name in enumerate(sets):
            _cell(ax, i, j, scores.loc[model, name], shades.loc[model, name], bool(best.loc[model, name]))
    ax.set_yticks(range(len(scores)), list(scores.index))
    ax.set_xticks(range(len(sets)), [_set_name(name) for name in sets])
    ax.tick_params(length=0, top=True, bottom=False, labeltop=True, labelbottom=False)
    ax.axhline(len(people) - 0.5, color="white", linewidth=4)
    for side in ax.spines.values():
        side.set_visible(False)
    bar = figure.colorbar(image, ax=ax, fraction=0.025, pad=0.01)
    bar.set_label("explained, of what can be", color=MUTED)
    bar.outline.set_visible(False)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    caption = (
        f"2AFC scores, %, of {counted(len(of_models), 'model')} on {counted(len(sets), 'set')} by the measure "
        f"that each reports. Shade: "
        "share of what can be explained of these votes, 0 at chance and 1 for the majority's own answers. First rows: "
        "what people reach. Framed: not shown to be worse than any other model on the set (95 %, corrected for all "
        "comparisons), where at least half are. Blank: has not finished, or cannot be told."
    )
    if simulated:
        caption += " Judges are simulated."
    mean = found.groupby("model")["explained"].mean()
    top = found[found["cell"] == of_models[str(mean.idxmax())]]
    peak = top.iloc[int(top["score"].argmax())]
    beyond = int(found["beyond_fresh_judge"].sum())
    alt = (
        f"{title}: {counted(len(of_models), 'model')} by {counted(len(sets), 'set')}. Over all sets "
        f"{pretty(str(mean.idxmax()))} explains "
        f"most, {100 * mean.max():.0f} per cent of what can be; it scores highest on {peak['set']}, "
        f"{scored(peak['score'], peak['low'], peak['high'])}. In {beyond} of {counted(len(found), 'case')} a "
        f"model is shown to be "
        "beyond a fresh judge."
    )
    return Picture("scores-by-set", title, caption, alt, figure)


def _cell(ax: "Axes", i: int, j: int, score: float, shade: float, best: bool) -> None:
    from matplotlib.patches import Rectangle

    if np.isnan(score):
        return
    dark = np.isnan(shade) or shade < 0.55
    colour = "white" if dark and not np.isnan(shade) else INK
    weight = "bold" if best else "normal"
    ax.text(j, i, f"{100 * score:.1f}", ha="center", va="center", color=colour, weight=weight, gid="score")
    if best:
        frame = Rectangle((j - 0.46, i - 0.43), 0.92, 0.86, fill=False, edgecolor=colour, linewidth=1.2, gid="best")
        ax.add_patch(frame)


def _set_name(name: str) -> str:
    release, _, own = name.partition("/")
    return f"{RELEASES.get(release, release).removeprefix('ImageNet-')}\n{own.replace('_', chr(10))}"
