"""A small simulated release of BAPPS in its raw form: readers run without a network.

Nothing in it is of the real study but the form and the names of the sets. Pictures are cut from scikit-image's
photographs and judged as `sample` is: by the known strengths of distortions. The same arguments write the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from humansim.errors import BadInput
from humansim.sources.sample import DISTORTIONS, PATCH, Distortion, Pixels, _crop, _patches


def _resample(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """What enlarging a small picture leaves."""
    picture = Image.fromarray(image.astype(np.uint8))
    side = round(len(image) / (1 + 4 * strength))
    small = picture.resize((side, side), Image.Resampling.BOX)
    return _crop(np.asarray(small.resize(picture.size, Image.Resampling.BICUBIC), dtype=np.float64))


def _sharpen(image: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """What sharpening too much leaves."""
    picture = Image.fromarray(image.astype(np.uint8))
    filtered = picture.filter(ImageFilter.UnsharpMask(radius=2, percent=round(400 * strength), threshold=0))
    return _crop(np.asarray(filtered, dtype=np.float64))


KINDS: dict[str, tuple[Distortion, float]] = {  # as sample's: the distortion, and how much it matters
    **DISTORTIONS,
    "resample": (_resample, 1.0),
    "sharpen": (_sharpen, 0.6),
}
VAL = {
    "traditional": ("blur", "noise", "colour", "shift"),
    "cnn": ("blur", "noise", "resample"),
    "superres": ("resample",),
    "deblur": ("blur", "sharpen"),
    "color": ("colour",),
    "frameinterp": ("shift",),
}
TRAIN = {"traditional": VAL["traditional"], "cnn": VAL["cnn"], "mix": tuple(KINDS)}
NOISE = 0.05  # of the judges, in units of dissimilarity: shifts matter 0.15, and some are to be told apart


def write_bapps(folder: Path, *, per_set: int = 60, train: int = 0, seed: int = 0) -> None:
    """Writes 2afc/val, six sets judged by 5 people, and 2afc/train, three sets judged by 2, if there is any.

    No two triplets share a patch, and patches do not overlap.

    Args:
        folder: where `2afc` is written.
        per_set: triplets of each set of val.
        train: triplets of each set of train.
        seed: of the patches, the distortions and the judges.

    Raises:
        BadInput: the photographs have not that many patches.
    """
    if per_set < 1 or train < 0 or seed < 0:
        raise BadInput("simulated BAPPS: per_set goes from 1, train and seed from 0")
    rng = np.random.default_rng(seed)
    sets = [("val", name, VAL[name], per_set, 5) for name in VAL]
    sets += [("train", name, TRAIN[name], train, 2) for name in TRAIN if train]
    count = sum(size for *_, size, _ in sets)
    patches = _patches(count, rng)
    if len(patches) < count:
        raise BadInput(f"simulated BAPPS: {count} triplets need {count} patches; the photographs have {len(patches)}")
    # The last patches are all of the largest photographs: mixed, every set has its share of each.
    mixed = iter([patches[i][1] for i in rng.permutation(count)])
    for part, name, kinds, size, judges in sets:
        place = folder / "2afc" / part / name
        for which in ("ref", "p0", "p1", "judge"):
            (place / which).mkdir(parents=True, exist_ok=True)
        for number in range(size):
            _write_triplet(place, number, next(mixed), kinds, judges, rng)


def _write_triplet(
    place: Path, number: int, patch: Pixels, kinds: Sequence[str], judges: int, rng: np.random.Generator
) -> None:
    _save(_crop(patch), place / "ref" / f"{number:06d}.png")
    dissimilarity = []
    for side in ("p0", "p1"):
        distort, matters = KINDS[kinds[int(rng.integers(len(kinds)))]]
        strength = float(rng.uniform(0.1, 1.0))
        _save(distort(patch, strength, rng), place / side / f"{number:06d}.png")
        dissimilarity.append(matters * strength)
    chance = 1 / (1 + np.exp((dissimilarity[1] - dissimilarity[0]) / NOISE))
    share = rng.binomial(judges, chance) / judges
    np.save(place / "judge" / f"{number:06d}.npy", np.array([share], dtype=np.float32))


def _save(pixels: Pixels, file: Path) -> None:
    assert pixels.shape == (PATCH, PATCH, 3)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file)
