"""How all figures look, and how they are written: the same tables give the same bytes.

Sizes are those of a report: 9 inches across, shown 900 pixels wide, so that 8 points are 11 pixels. Colours are told
apart with every kind of colour vision (a test simulates it); each series has a marker of its own besides.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from humansim.root import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

WIDTH = 9.0  # inches
DPI = 200

# Found by search for the largest least distance (CAM02-UCS) over normal vision and full deuteran-, protan- and
# tritanopia (Machado 2009), among colours that stand out from white: 24. The palette of Okabe and Ito has 11.
PALETTE = {
    "red": "#b10000",
    "amber": "#d88914",
    "purple": "#762789",
    "green": "#007662",
    "mint": "#00c49d",
    "violet": "#b14eff",
    "lavender": "#c4b1ff",
}
INK, MUTED, GREY, PALE = "#222222", "#595959", "#777777", "#dddddd"
MARKERS = ("o", "s", "D", "^", "P", "X", "p", "<", ">", "h", "*", "d", "8")


@dataclass(frozen=True)
class Picture:
    """A figure that is not written yet; see `Drawn`."""

    name: str
    title: str
    caption: str
    alt: str
    figure: "Figure"


@dataclass(frozen=True)
class Drawn:
    """A figure on disk.

    Attributes:
        name: of its files, without an ending.
        title: what it shows, in a few words.
        caption: how to read it.
        alt: what is seen, in words, for who does not see it.
    """

    name: str
    title: str
    caption: str
    alt: str
    png: Path
    svg: Path


@contextmanager
def style() -> Iterator[None]:
    """matplotlib as the figures want it, while they are drawn and written."""
    import matplotlib

    ours: Any = {
        "font.size": 8,
        "axes.titlesize": 9,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 8,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GREY,
        "axes.axisbelow": True,
        "lines.markersize": 4.5,
        "svg.fonttype": "none",
        "svg.hashsalt": "humansim",
        "text.parse_math": False,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(ours)
        yield


def sheet(height: float, rows: int = 1, columns: int = 1, *, share_y: bool = False) -> tuple["Figure", list["Axes"]]:
    """A figure as wide as a report's page, and its panels, row by row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=share_y)
    return figure, list(axes.ravel())


def key(label: str, colour: str, **look: Any) -> "Line2D":
    """An entry of a legend: `look` as of a line."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, color=colour, **look)


def headed(picture_title: str, simulated: bool) -> str:
    """A title that says so where judges are simulated."""
    return f"{picture_title} (simulated judges)" if simulated else picture_title


def written(picture: Picture, folder: Path) -> Drawn:
    """Writes NAME.png and NAME.svg."""
    png, svg = folder / f"{picture.name}.png", folder / f"{picture.name}.svg"
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(png) as temporary:
        about = {"Software": None, "Title": picture.title, "Description": picture.alt}
        picture.figure.savefig(temporary, format="png", dpi=DPI, metadata=about)
    text = io.StringIO()
    picture.figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    with written_whole(svg) as temporary:
        temporary.write_text(_told(text.getvalue(), picture), encoding="utf-8")
    return Drawn(picture.name, picture.title, picture.caption, picture.alt, png, svg)


def _told(svg: str, picture: Picture) -> str:
    """With a title and a description, which screen readers read out."""
    ids = f"{picture.name}-title {picture.name}-desc"
    title, description = (
        f'<{tag} id="{picture.name}-{tag}">{escape(text)}</{tag}>'
        for tag, text in (("title", picture.title), ("desc", picture.alt))
    )
    start = re.search(r"<svg\b[^>]*>", svg)
    assert start is not None
    opening = f'{start.group()[:-1]} role="img" aria-labelledby="{ids}">'
    return f"{svg[: start.start()]}{opening}\n {title}\n {description}{svg[start.end() :]}"
