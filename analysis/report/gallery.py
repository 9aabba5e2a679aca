"""The gallery: triplets to look at, side by side with who chose what, as a section of the page."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from analysis import gallery as triplets
from analysis.numerals import percent
from analysis.report import Section, templates
from humansim.errors import BadInput
from humansim.pictures import upright
from humansim.tables import counted

Files = Callable[[pd.DataFrame], dict[str, Path]]  # of triplets: image name -> file

SIDE = 160  # pixels of a thumbnail's longer side
BUDGET = 1_500_000  # bytes that all thumbnails may take in the page
QUALITIES = (95, 85, 70, 50, 30)  # of WebP: the first within the budget
PER_CENT = "\N{NO-BREAK SPACE}%"

TITLES = {
    "against": "Where the best model is sure and judges say otherwise",
    "mended": "What fine-tuning mended",
    "broken": "What fine-tuning broke",
}


@dataclass(frozen=True)
class Wall:
    """Triplets of one kind, and where their images lie.

    Attributes:
        name: of the kind, one of TITLES.
        told: what is said above them.
        who: the models that are asked, as `gallery.judged` names them -> what to call each: "the model".
        shown: rows of `gallery.taken`.
        files: image name -> file, for every image of these triplets.
        simulated: its judges were.
    """

    name: str
    told: str
    who: Mapping[str, str]
    shown: pd.DataFrame
    files: dict[str, Path]
    simulated: bool


def of_best(found: pd.DataFrame, model: str, files: Files, simulated: bool) -> Wall:
    """Where the best model is sure and people say otherwise.

    Args:
        found: `gallery.judged` of it, as `model`.
        model: its name and score.
    """
    some = triplets.against(found)
    shown = triplets.taken(some)
    clear = triplets.clear(found)
    against = int((clear["model_margin"] < 0).sum())
    told = f"{model}. {_clear(found, simulated)}. On {_of(against)} it takes the other side"
    told += f", and is sure on {_of(len(some))}{_some(shown, some)}" if against else "."
    return Wall("against", told, {"model": "the model"}, shown, files(shown), simulated)


def of_change(
    found: pd.DataFrame, came: str, tuned: str, files: Files, simulated: bool, besides: Sequence[Wall] = ()
) -> list[Wall]:
    """What fine-tuning mended, and what it broke.

    Args:
        found: `gallery.judged` of the backbone, as `came`, and of what was fine-tuned from it, as `tuned`.
        came, tuned: their names and scores.
        besides: what is shown above.
    """
    who = {"came": "as it came", "tuned": "fine-tuned"}
    mended, broken = triplets.mended(found), triplets.broken(found)
    above = [wall.shown for wall in besides]
    shown = [triplets.taken(triplets.firm(some), above) for some in (mended, broken)]
    told = (
        f"{came}, as it came, beside {tuned}. {_clear(found, simulated)}; a close call is an answer among the "
        f"{100 * triplets.CLOSE:.0f} % of which a model is least sure. On {_of(len(mended))} it was "
        f"against them as it came and is with them after fine-tuning{_changed(shown[0], mended)}",
        f"On {_of(len(broken), 'the same')} it was with them as it came and is against them after fine-tuning"
        f"{_changed(shown[1], broken)}",
    )
    return [
        Wall(name, said, who, some, files(some), simulated)
        for name, said, some in zip(("mended", "broken"), told, shown, strict=True)
    ]


def _clear(found: pd.DataFrame, simulated: bool) -> str:
    n, clear = len(found), len(triplets.clear(found))
    return f"{'Simulated judges' if simulated else 'People'} are clear on {clear:,} of {counted(n, 'test triplet')}"


def _of(count: int, which: str = "these") -> str:
    return f"{count:,} of {which}" if count else f"none of {which}"


def _some(shown: pd.DataFrame, every: pd.DataFrame) -> str:
    if len(shown) == len(every):
        return ":" if len(shown) else "."
    return f"; {len(shown):,} of them:" if len(shown) else ", all shown above."


def _changed(shown: pd.DataFrame, every: pd.DataFrame) -> str:
    firm = triplets.firm(every)
    if firm.empty:
        return ", each time by a close call." if len(every) else "."
    return f", on {len(firm):,} of them by no close call{_some(shown, firm)}"


def section(walls: Sequence[Wall], unchanged: str = "") -> Section:
    """The gallery; it holds its thumbnails, as WebP of the best quality with which they fit the budget.

    Args:
        unchanged: why it does not show what fine-tuning changed.

    Raises:
        BadInput: an image that is missing or cannot be read.
    """
    files = {wall.files[name] for wall in walls for name in _names(wall)}
    pictures = {file: _small(file) for file in sorted(files)}
    counted = [wall.files[name] for wall in walls for name in _names(wall)]
    for quality in QUALITIES:
        inlined = {file: _inlined(picture, quality) for file, picture in pictures.items()}
        if sum(len(inlined[file]) for file in counted) <= BUDGET:
            break
    told = [
        {
            "name": wall.name,
            "title": TITLES[wall.name],
            "told": wall.told,
            "triplets": [_told(row, wall, inlined) for row in wall.shown.to_dict("records")],
        }
        for wall in walls
    ]
    exact = pd.concat([wall.shown.assign(kind=wall.name) for wall in walls])
    html = templates().get_template("gallery.html").render(walls=told, unchanged=unchanged)
    return Section("gallery", "Gallery", html, exact)


def _names(wall: Wall) -> list[str]:
    return [name for side in ("left", "query", "right") for name in wall.shown[side]]


def _small(file: Path) -> Image.Image:
    try:
        picture = upright(file.read_bytes())
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror or 'it is not an image that can be read'}") from None
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return picture


def _inlined(picture: Image.Image, quality: int) -> str:
    kept = io.BytesIO()
    picture.save(kept, "WEBP", quality=quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(kept.getvalue()).decode()}"


def _told(row: dict[Any, Any], wall: Wall, inlined: dict[Path, str]) -> dict[str, Any]:
    """A triplet as its figure tells it."""
    judges = "simulated judges" if wall.simulated else "people"
    if row["judges"] == 0:
        people = f"{percent(row['agree'])}{PER_CENT} of {judges}"
    elif row["judges"] == 1:
        people = f"the only {'simulated judge' if wall.simulated else 'person'} asked"
    else:
        people = f"{round(row['agree'] * row['judges'])} of {row['judges']} {judges}"
    other = {"left": "right", "right": "left"}[row["people"]]
    sides = {name: row["people"] if row[f"{name}_margin"] > 0 else other for name in wall.who}
    images = []
    for side in ("left", "query", "right"):
        models = [wall.who[name] for name, own in sides.items() if own == side]
        with_people = ["judges" if wall.simulated else "people"] if side == row["people"] else []
        by = " and ".join([people] * bool(with_people) + models)
        images.append(
            {
                "side": side,
                "src": inlined[wall.files[row[side]]],
                "alt": f"{side.capitalize()}{f', chosen by {by}' if by else ''}: {row[side]}",
                "kind": "people" if with_people else "model" if models else "",
                "by": ", ".join(with_people + [name.removeprefix("the ") for name in models]),
            }
        )
    return {
        "set": row["set"],
        "images": images,
        "people": f"{people[:1].upper() + people[1:]} chose {row['people']}",
        "models": [
            f"{label[:1].upper() + label[1:]}: {sides[name]}, margin {_margin(abs(row[f'{name}_margin']))}, surer than "
            f"in {100 * row[f'{name}_surer']:.0f}{PER_CENT} of its answers"
            for name, label in wall.who.items()
        ],
    }


def _margin(share: float) -> str:
    """In per cent, two digits that count: "25 %", "0.42 %"."""
    if share < 1e-4:
        return f"less than 0.01{PER_CENT}"
    return f"{100 * share:.{0 if share >= 0.1 else 2}{'f' if share >= 0.1 else 'g'}}{PER_CENT}"
