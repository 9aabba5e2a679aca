"""Depth curves: how well each layer of a network agrees with people (the sweep `depth`)."""

import re
from typing import Any

import pandas as pd

from analysis.answers import Answers
from analysis.ceilings import table
from analysis.figures.look import INK, MARKERS, PALETTE, Picture, headed, key, sheet
from analysis.figures.subjects import groups, pretty, unlike
from analysis.numerals import scored
from humansim.backbones import backbone
from humansim.errors import BadInput
from humansim.spec import Variant
from humansim.tables import counted

END = 1.06  # where the feature of a network's end is drawn: past its last layer


def curves(trials: pd.DataFrame, answers: Answers) -> Picture | None:
    """A panel for each group of sets, a line for each network and way to pool, its end apart."""
    if "layer" not in trials:
        return None
    rows = trials[trials["kind"].isin(["pretrained", "untrained"]) & trials["layer"].notna()]
    models = [m for m in rows["model"].unique() if rows[rows["model"] == m]["layer"].nunique() > 1]
    rows = rows[rows["model"].isin(models)].drop_duplicates(["model", "layer", "pool"])
    if not len(rows):
        return None
    ends = unlike(trials)
    ends = ends[ends["model"].isin(models)]
    of_groups = groups(answers)
    found = table(pd.concat([rows, ends]), answers, groups=of_groups).set_index("cell")
    found = found.join(pd.concat([rows, ends]).set_index("cell")[["backbone", "layer", "pool"]]).reset_index()
    if not len(found):
        return None
    named = [name for name in of_groups if (found["set"] == name).any()]
    looks = {m: (list(PALETTE.values())[i % 7], MARKERS[i % len(MARKERS)]) for i, m in enumerate(sorted(models))}
    pools = sorted(rows["pool"].dropna().unique(), reverse=True)
    dashes: dict[str, Any] = dict(zip(pools, ("-", (0, (4, 1.5)), ":"), strict=False))
    simulated = bool(trials["simulated"].any())
    title = headed("Scores by depth", simulated)
    lines = -(-(len(named) + 1) // 3)
    figure, axes = sheet(2.05 * lines + 0.5, lines, 3)
    for ax, name in zip(axes, named, strict=False):
        panel = found[found["set"] == name]
        for model, (colour, marker) in looks.items():
            own = panel[panel["model"] == model]
            for pool in pools:
                line = own[(own["pool"] == pool) & own["layer"].notna()]
                line = line.assign(x=depths(line, rows)).sort_values("x")
                shares = 100 * line[["score", "low", "high"]]
                ax.fill_between(line["x"], shares["low"], shares["high"], color=colour, alpha=0.15, linewidth=0)
                ax.plot(
                    line["x"], shares["score"], marker, color=colour, linestyle=dashes[pool], markersize=3, gid="curve"
                )
            for _, end in own[own["layer"].isna()].iterrows():
                ax.plot([END, END], [100 * end["low"], 100 * end["high"]], color=colour, linewidth=1)
                ax.plot([END], [100 * end["score"]], marker, color=colour, markersize=5.5, gid="end")
        ax.set_title(name)
        ax.set_xlim(0, END + 0.04)
        ax.set_xticks([0, 0.5, 1], ["0", "half", "last"])
    for ax in axes[len(named) :]:
        ax.axis("off")
    for i in range(0, len(named), 3):
        axes[i].set_ylabel("2AFC score, %")
    handles = [key(pretty(model), colour, marker=marker) for model, (colour, marker) in looks.items()]
    handles += [key(f"pooled: {pool}", INK, linestyle=dashes[pool]) for pool in pools]
    axes[len(named)].legend(handles=handles, loc="center left")
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    caption = (
        f"2AFC scores of the layers of {len(looks)} networks, from their input to the last layer, with 95 % intervals "
        "as bands; the large marker past it is the feature of the network's end."
    )
    if simulated:
        caption += " Judges are simulated."
    layers = [found[(found["set"] == name) & found["layer"].notna()] for name in named]
    tops = [some.iloc[int(some["score"].argmax())] for some in layers if len(some)]
    alt = f"{title}: {counted(len(named), 'panel')}, each a group of sets. " + " ".join(
        f"{top['set']}: highest at {top['layer']} of {pretty(top['model'])}, "
        f"{scored(top['score'], top['low'], top['high'])} per cent."
        for top in tops
    )
    return Picture("depth", title, caption, alt, figure)


def depths(line: pd.DataFrame, rows: pd.DataFrame) -> list[float]:
    """How deep each row's layer lies: 1 is the last of those that curves are drawn over (`facts["layers"]`)."""
    found = []
    for _, row in line.iterrows():
        layers = _layers(str(row["backbone"]), rows)
        found.append((layers.index(row["layer"]) + 1) / len(layers))
    return found


def _layers(name: str, rows: pd.DataFrame) -> list[str]:
    """In order. Of a network that is not known here, those that were run, by the numbers in their names."""
    run = set(rows[rows["backbone"] == name]["layer"])
    try:
        known = list(backbone.entry(Variant(name)).facts.get("layers", ()))
    except BadInput:
        known = []
    by_number = sorted(run, key=lambda layer: [int(n) for n in re.findall(r"\d+", layer)])
    return known if run <= set(known) else by_number
