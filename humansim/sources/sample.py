"""A small study with simulated judges, for the demo and the tests: real photographs, distortions of known strength.

Patches are cut from scikit-image's photographs. Left and right are the query's patch distorted; the true
dissimilarity of a distortion is its strength times how much it matters. Each simulated judge chooses right with
probability 1 / (1 + exp((d_right - d_left) / noise)), so the best attainable score is known. In the set
`sample/strength` both sides bear the same kind of distortion; in `sample/kind` different ones, and a model has to know
which kinds people mind: blur and noise much, a change of colour or a shift little.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from humansim.errors import BadInput
from humansim.judgements import Judgements
from humansim.root import Root, made_whole
from humansim.sources import source
from humansim.sources.table import read_table
from humansim.spec import digest

PATCH = 64  # pixels
MARGIN = 8  # pixels around a patch, for shifts
PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "coffee.png", "coins.png", "grass.png",
    "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "page.png", "retina.jpg",
    "rocket.jpg", "text.png",
)  # fmt: skip
MADE_BY = 1  # raise it when the folder that these lines write changes

Pixels = NDArray[np.float64]  # [size, size, 3], 0 to 255
Distortion = Callable[[Pixels, float, np.random.Generator], Pixels]


def _crop(image: Pixels) -> Pixels:
    return image[MARGIN:-MARGIN, MARGIN:-MARGIN]


def _blur(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    picture = Image.fromarray(image.astype(np.uint8)).filter(ImageFilter.GaussianBlur(4 * strength))
    return _crop(np.asarray(picture, dtype=np.float64))


def _noise(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    return _crop(image) + rng.normal(0, 60 * strength, (PATCH, PATCH, 3))


def _colour(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    tint = rng.normal(size=3)
    return _crop(image) + 80 * strength * tint / np.linalg.norm(tint)


def _shift(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    angle, far = rng.uniform(0, 2 * np.pi), MARGIN * strength
    down, along = round(far * np.sin(angle)), round(far * np.cos(angle))
    return image[MARGIN + down : MARGIN + down + PATCH, MARGIN + along : MARGIN + along + PATCH]


DISTORTIONS: dict[str, tuple[Distortion, float]] = {  # and how much each matters to the simulated judges
    "blur": (_blur, 1.0),
    "noise": (_noise, 0.8),
    "colour": (_colour, 0.3),
    "shift": (_shift, 0.15),
}


@source(simulated=True)
def sample(
    root: Root, /, *, queries: int = 160, pairs: int = 3, judges: int = 5, noise: float = 0.1, seed: int = 0
) -> Judgements:
    """Embedded photographs, distortions of known strength, simulated judges; two sets.

    Args:
        queries: patches in each of the two sets, 4 to 200.
        pairs: triplets of each patch.
        judges: simulated judges of each triplet.
        noise: the scale of their uncertainty, in units of dissimilarity (0 to 1).
    """
    if not (4 <= queries <= 200 and pairs >= 1 and judges >= 1 and noise > 0 and seed >= 0):
        raise BadInput(
            "source sample: queries go from 4 to 200, pairs and judges from 1, noise is above 0, seed from 0"
        )
    made_of = digest([MADE_BY, queries, pairs, judges, noise, seed], 8)
    folder = root.path / "sample" / made_of
    with made_whole(folder) as aside:
        if aside is not None:
            _write(aside, queries, pairs, judges, noise, seed)
    return replace(read_table(folder), name="sample", simulated=True)


def _write(folder: Path, queries: int, pairs: int, judges: int, noise: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    patches = _patches(2 * queries, rng)
    rows = []
    (folder / "images").mkdir()

    def save(name: str, pixels: Pixels) -> str:
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{name}.png")
        return f"images/{name}.png"

    for i, (photograph, patch) in enumerate(patches):
        name = f"{i:03d}_{photograph}"
        query = save(name, _crop(patch))
        for pair in range(pairs):
            kinds = rng.choice(list(DISTORTIONS), 2, replace=False)
            if i < queries:
                kinds[1] = kinds[0]
            strengths = rng.uniform(0.1, 1.0, 2).tolist()
            sides, dissimilarity = [], []
            for side, kind, strength in zip(("left", "right"), kinds, strengths, strict=True):
                distort, matters = DISTORTIONS[str(kind)]
                sides.append(save(f"{name}_{pair}_{side}_{kind}_{strength:.2f}", distort(patch, strength, rng)))
                dissimilarity.append(matters * strength)
            chance = 1 / (1 + np.exp((dissimilarity[1] - dissimilarity[0]) / noise))
            choice = rng.binomial(judges, chance) / judges
            rows.append((query, *sides, choice, judges, "sample/strength" if i < queries else "sample/kind"))
    import pandas as pd

    frame = pd.DataFrame(rows, columns=["query", "left", "right", "choice", "judges", "set"])
    frame.to_csv(folder / "judgements.csv", index=False)


def _patches(count: int, rng: np.random.Generator) -> list[tuple[str, Pixels]]:
    """Patches that do not overlap, from all photographs in turn, with their margins."""
    import skimage

    size = PATCH + 2 * MARGIN
    found: list[list[tuple[str, Pixels]]] = []
    for file in PHOTOGRAPHS:
        with Image.open(Path(skimage.__file__).parent / "data" / file) as picture:
            pixels = np.asarray(picture.convert("RGB"), dtype=np.float64)
        corners = [
            (y, x)
            for y in range(0, pixels.shape[0] - size + 1, size)
            for x in range(0, pixels.shape[1] - size + 1, size)
        ]
        cut = [pixels[y : y + size, x : x + size] for y, x in (corners[i] for i in rng.permutation(len(corners)))]
        found.append([(Path(file).stem, patch) for patch in cut if patch.std() > 12])
    turns = [one[turn] for turn in range(max(map(len, found))) for one in found if turn < len(one)]
    return turns[:count]
