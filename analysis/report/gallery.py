"""The gallery: triplets on which models and people disagree most, side by side, as a section of the page."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from analysis.report import Section, templates
from analysis.report.form import UNKNOWN, percent
from humansim.errors import BadInput
from humansim.pictures import upright

SIDE = 160  # pixels of a thumbnail's longer side
BUDGET = 1_500_000  # bytes that all thumbnails may take in the page
QUALITIES = (95, 85, 70, 50, 30)  # of WebP: the first within the budget
PER_CENT = "\N{NO-BREAK SPACE}%"

TITLES = {
    "pretrained": "The best model as it comes",
    "tuned": "The fine-tuned model that is best on validation",
    "all": "What all good models get wrong",
}


@dataclass(frozen=True)
class Wall:
    """The triplets of one group of models, and where their images lie.

    Attributes:
        name: of the group (`gallery.Group`).
        models: what to call its models, best first.
        asked: triplets of which people have a majority; `against`: those on which all models side against it.
        shown: `gallery.disagreements`, some of these.
        files: image name -> file, for every image of these triplets.
        simulated: its judges were.
    """

    name: str
    models: tuple[str, ...]
    asked: int
    against: int
    shown: pd.DataFrame
    files: dict[str, Path]
    simulated: bool


def section(walls: Sequence[Wall]) -> Section:
    """The gallery; it holds its thumbnails, as WebP of the best quality with which they fit the budget.

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
            "models": wall.models,
            "against": f"{wall.against:,} of {wall.asked:,}",
            "share": percent(wall.against / wall.asked) if wall.asked else UNKNOWN,
            "simulated": wall.simulated,
            "triplets": [_told(row, wall, inlined) for row in wall.shown.to_dict("records")],
        }
        for wall in walls
    ]
    exact = pd.concat([wall.shown.assign(group=wall.name, compared="; ".join(wall.models)) for wall in walls])
    html = templates().get_template("gallery.html").render(walls=told)
    return Section("gallery", "Where models and people disagree most", html, exact)


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
    share = row["choice"] if row["people"] == "right" else 1 - row["choice"]
    judges = "simulated judges" if wall.simulated else "people"
    if row["judges"] == 0:
        people = f"{percent(share)}{PER_CENT} of {judges}"
    elif row["judges"] == 1:
        people = f"the only {'simulated judge' if wall.simulated else 'person'} asked"
    else:
        people = f"{round(share * row['judges'])} of {row['judges']} {judges}"
    least, most = f"{100 * row['margin']:.0f}", f"{100 * row['margin_most']:.0f}"
    who = "the model" if len(wall.models) == 1 else f"all {len(wall.models)} models"
    images = []
    for side in ("left", "query", "right"):
        by = people if side == row["people"] else who if side == row["models"] else ""
        images.append(
            {
                "side": side,
                "src": inlined[wall.files[row[side]]],
                "alt": f"{side.capitalize()}{f', chosen by {by}' if by else ''}: {row[side]}",
                "by": "people" if side == row["people"] else "model" if side == row["models"] else "",
            }
        )
    return {
        "set": row["set"],
        "images": images,
        "people": people[:1].upper() + people[1:],
        "people_side": row["people"],
        "who": who[:1].upper() + who[1:],
        "model_side": row["models"],
        "margin": f"{least if least == most else f'{least} to {most}'}{PER_CENT}",
        "surer": f"{100 * row['surer']:.0f}{PER_CENT}",
    }
