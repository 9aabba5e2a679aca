"""What the figures are about: groups of sets, models and their names, which cells are compared with which."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.answers import Answers, Cell, chosen
from analysis.ceilings import answered
from analysis.figures.look import MARKERS, PALETTE
from analysis.stats import Contrast, mean
from humansim.published import BACKBONES, PARADIGMS
from humansim.spec import DEFAULTS

GROUPS = {  # the thesis's (5.1): sets whose results look alike are averaged
    "BAPPS: CNN, colour": ("bapps/cnn", "bapps/color"),
    "BAPPS: traditional": ("bapps/traditional",),
    "BAPPS: real algorithms": ("bapps/deblur", "bapps/frameinterp", "bapps/superres"),
    "ImageNet-HSJ: similar": ("hsj/8rank2_similar",),
    "ImageNet-HSJ: dissimilar": ("hsj/8rank2_dissimilar",),
    "Birds-16: similar": ("birds16/8rank2_similar",),
    "Birds-16: dissimilar": ("birds16/8rank2_dissimilar", "birds16/2rank1_dissimilar"),
}
RELEASES = {"bapps": "BAPPS", "hsj": "ImageNet-HSJ", "birds16": "Birds-16"}
NAMES = {
    "resnet50": "ResNet-50",
    "efficientnet_v2_m": "EfficientNetV2-M",
    "vit_b_16": "ViT-B/16",
    "alexnet": "AlexNet",
    "clip_vit_b_16": "CLIP ViT-B/16",
    "clip_resnet50": "CLIP ResNet-50",
    "dino_vit_b_16": "DINO ViT-B/16",
    "dino_resnet50": "DINO ResNet-50",
    "clip_resnet50x4": "CLIP RN50x4",
    "clip_resnet50x16": "CLIP RN50x16",
    "clip_resnet50x64": "CLIP RN50x64",
}
SUPERVISIONS = {  # colour of a model
    "supervised": "amber",
    "image-text": "purple",
    "self-supervised": "mint",
    "metric": "red",
    "untrained": "green",
    "other": "lavender",
}
LOOKS = dict(  # colour and marker of a paradigm
    zip(
        PARADIGMS,
        zip(("red", "amber", "purple", "green", "mint", "violet", "lavender"), MARKERS, strict=False),
        strict=True,
    )
)
READING = ("resolution", "resize", "layer", "pool")  # how an embedding is read


def groups(answers: Answers) -> dict[str, tuple[str, ...]]:
    """Name -> the sets of it that were answered; a set that the thesis did not have is a group by itself."""
    found = {name: tuple(s for s in sets if s in answers.sets) for name, sets in GROUPS.items()}
    known = {s for sets in GROUPS.values() for s in sets}
    return {name: sets for name, sets in found.items() if sets} | {s: (s,) for s in answers.sets if s not in known}


def pretty(model: str) -> str:
    """A model's name as people write it."""
    bare, _, rest = model.partition("(")
    stem = bare.rpartition(":")[2]
    inside = rest.removesuffix(")")
    name = NAMES.get(stem, stem)
    if bare.startswith("miniature:"):
        return f"mini {name}"
    return f"{name}, {inside.replace('weights=random', 'untrained')}" if inside else name


def short(model: str) -> str:
    """The same for tight places: in two lines where it is long."""
    name = pretty(model)
    return "\n".join(name.rsplit(" ", 1)) if len(name) > 16 else name


def told_apart(best: pd.Series) -> bool:
    """Whether marking the best says anything: at least half are shown to be worse."""
    return bool(2 * best.sum() <= len(best))


def unlike(trials: pd.DataFrame) -> pd.DataFrame:
    """Rows of cells that were not fine-tuned and are read at their end, a cell for each model.

    Of a model's several (another resolution, precision, protocol) the one that is nearest to what a trial is by
    default; of equals, the one that answered first.
    """
    rows = trials[trials["kind"].isin(["pretrained", "metric", "untrained"])]
    if "layer" in rows:
        rows = rows[rows["layer"].isna()]
    odd = sum(
        (rows[axis].notna() & (rows[axis] != DEFAULTS[axis])).astype(int)
        for axis in ("resize", "pool", "precision")
        if axis in rows
    )
    rows = rows.assign(odd=odd if len(rows) else []).sort_values(["odd", "finished"], kind="stable")
    rows = rows.drop_duplicates("model")
    return rows.loc[sorted(rows.index, key=lambda trial: _order(str(rows.at[trial, "model"])))]


def _order(model: str) -> tuple[int, str]:
    stem = model.partition("(")[0].rpartition(":")[2]
    return (BACKBONES.index(stem) if stem in BACKBONES else len(BACKBONES), model)


def supervision(row: pd.Series) -> str:
    """A row's key in SUPERVISIONS."""
    if row["kind"] in ("untrained", "metric"):
        return str(row["kind"])
    known = row.get("pretraining.supervision")
    return known if isinstance(known, str) and known in SUPERVISIONS else "other"


def model_looks(rows: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Model -> colour, by what it learnt from, and marker, its own among those of that colour."""
    count: dict[str, int] = {}
    found = {}
    for _, row in rows.iterrows():
        of = supervision(row)
        found[str(row["model"])] = (PALETTE[SUPERVISIONS[of]], MARKERS[count.get(of, 0) % len(MARKERS)])
        count[of] = count.get(of, 0) + 1
    return found


def paradigm_looks(paradigms: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Paradigm -> colour and marker: the thesis's seven always the same, others what is left."""
    colours, found = list(PALETTE), {}
    for i, name in enumerate(sorted(paradigms, key=_paradigm_order)):
        colour, marker = LOOKS.get(name, (colours[i % len(colours)], MARKERS[(7 + i) % len(MARKERS)]))
        found[name] = (PALETTE[colour], marker)
    return found


def _paradigm_order(name: str) -> tuple[int, str]:
    return (PARADIGMS.index(name) if name in PARADIGMS else len(PARADIGMS), name)


def tuned(trials: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Rows of fine-tuned cells of a kind, one of each model, paradigm and data: what its search chose."""
    rows = trials[trials["kind"] == kind]
    return chosen(rows, ["model", "paradigm", "fit_on"]) if len(rows) else rows


def models_of(rows: pd.DataFrame) -> list[str]:
    return sorted(rows["model"].unique(), key=_order)


def on_its_own(rows: pd.DataFrame, answers: Answers, sets: Sequence[str]) -> Contrast | None:
    """The score on a group of sets of what was fitted on data of the same release: some cells of `tuned`.

    That is the cell fitted on the release; else, for each set of the group, the one fitted on it (the sweep `full`);
    else what was fitted on all there is. None where that has not finished, or was not evaluated there.
    """
    release = sets[0].partition("/")[0]
    where = {value if isinstance(value, str) else None: cells for value, cells in _by_data(rows).items()}
    for value in (release, None):
        if value in where and answered(answers, where[value][0], where[value][1], sets):
            return mean([where[value]], sets)
    each = [(where[name], name) for name in sets if name in where]
    if len(each) < len(sets) or not all(answered(answers, *cell, [name]) for cell, name in each):
        return None
    first, *others = [mean([cell], [name]) for cell, name in each]
    return (1 / len(each)) * sum(others, first)


def _by_data(rows: pd.DataFrame) -> dict[object, Cell]:
    return {row["fit_on"]: (str(row["cell"]), str(row["measure"])) for _, row in rows.iterrows()}


def before(trials: pd.DataFrame, rows: pd.DataFrame) -> Cell | None:
    """The same model, not fine-tuned and read in the same way; on the same data, under the same protocol where it is
    there."""
    like = rows.iloc[0]
    found = trials[(trials["model"] == like["model"]) & trials["kind"].isin(["pretrained", "untrained"])]
    found = found[_alike(found, like, READING)]
    for axis in ("protocol", "data"):
        if _alike(found, like, [axis]).any():
            found = found[_alike(found, like, [axis])]
    return (str(found["cell"].iloc[0]), str(like["measure"])) if len(found) else None


def _alike(found: pd.DataFrame, like: pd.Series, axes: Sequence[str]) -> NDArray[np.bool_]:
    same = np.ones(len(found), dtype=bool)
    for axis in axes:
        if axis in found:
            same &= (found[axis] == like[axis]).to_numpy(bool) | (found[axis].isna() & pd.isna(like[axis])).to_numpy(
                bool
            )
    return same
