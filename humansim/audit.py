"""The leakage audit: what the data that a model was fitted on share with the data it is evaluated on.

Images are the same if their files are (SHA-256), whatever they are called. Near duplicates (another size, another
compression) are found by perceptual hash and confirmed on the pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from humansim.fit_sets import FitSet
from humansim.images import Store
from humansim.judgements import Ints, Judgements, Triplets
from humansim.splits import FEWEST, Split

BITS = 10  # of 64 in which the hashes of near duplicates may differ
APART = 0.06  # root mean square difference, of 1, that two near duplicates may have at THUMB x THUMB pixels
THUMB = 16

# What the publishers say of where their images come from, as far as it meets what networks are pre-trained on.
ORIGINS = {
    "hsj": "images of ImageNet's validation set: the classes of pre-training, images not trained on",
    "birds16": "CUB-200 images from the web; their publisher warns that some are in ImageNet",
    "bapps": "not known to share images, except that the set color may be drawn from ImageNet",
}
USES = {"fit": "fit", "validation": "validate", "test": "test"}


def stamp(judgements: Judgements, split: Split, fit: FitSet | None, store: Store, protocol: str) -> dict[str, Any]:
    """What fit shares with validation and with test, counted, and how many images there are; part of every Result."""
    found: dict[str, Any] = {
        "split": split.by,
        "left_out": split.left_out,
        "contaminated": protocol == "thesis" and fit is not None,
    }
    same = same_images(store.contents)
    found["images"] = {
        part: len(np.unique(same[judgements.triplets.images[split.parts[part]]])) for part in ("validation", "test")
    }
    nothing = FitSet(np.empty((0, 1), dtype=np.int64), np.arange(0))
    for part in ("validation", "test"):
        found[part] = shared(judgements.triplets, fit or nothing, split.parts[part], store)
    return found


def of_images(shared: Mapping[str, Any], part: str = "test") -> str:
    """How many of a part's images fit shares, by a stamp: "40 of 40"; an older stamp says no more than "40"."""
    count, every = shared[part]["images"], shared.get("images", {}).get(part)
    return f"{count:,}" if every is None else f"{count:,} of {every:,}"


def same_images(contents: Sequence[str]) -> Ints:
    """A number for each image, equal for images of equal content."""
    return np.unique(np.asarray(contents), return_inverse=True)[1].astype(np.int64)


FEW = 400  # judgements to test, below which a score is known to ±5 points or worse


def counted_parts(judgements: Judgements, split: Split) -> str:
    """How many judgements of one's own there are to fit, to validate and to test; empty of a published release.

    Where those to test are few, also how little their score can tell: half the 95 % interval of a share near a half.
    """
    if judgements.by != "either" or judgements.parts:
        return ""
    counts = [f"{len(split.parts[part]):,} to {does}" for part, does in USES.items()]
    told = f"{judgements.name}: of {len(judgements.triplets):,} judgements {', '.join(counts)}"
    test = len(split.parts["test"])
    return f"{told}, which tells a score to about ±{98 / test**0.5:.0f} points" if 0 < test < FEW else told


def warned(judgements: Judgements, split: Split, same: Ints | None = None) -> str:
    """What one should know before anything is trained on judgements of one's own whose parts show the same images.

    Empty where fit and test share none; of a published release, whose protocols are told of; and under `thesis`, whose
    results are marked.

    Args:
        same: a number for each image, equal for images of equal content; None to go by their names.
    """
    if judgements.by != "either" or judgements.parts or split.by != "trial":
        return ""
    same = np.arange(len(judgements.images)) if same is None else same
    fit, test = (np.unique(same[judgements.triplets.images[split.parts[part]]]) for part in ("fit", "test"))
    if not (both := len(np.intersect1d(fit, test))):
        return ""
    which = f"all {both:,}" if both == len(test) else f"{both:,} of {len(test):,}"
    return (
        f"{judgements.name}: fit and test share {which} images of test, for {len(judgements.triplets):,} judgements "
        f"are too few for parts that share none (each needs {FEWEST}): scores on test are of new judgements on these "
        "images, not of new images"
    )


def shared(triplets: Triplets, fit: FitSet, rows: Ints, store: Store) -> dict[str, int]:
    """Counts of what a fit set and some triplets have in common.

    Returns:
        triplets (same three images, whichever way round), trials, images (of equal content), near_duplicates (images
        of `rows` that look like one of the fit set without being it), judges.
    """
    same = same_images(store.contents)
    image = np.append(same, -1)
    a, b = triplets[fit.rows], triplets[rows]
    ours, theirs = np.unique(fit.images), np.unique(b.images)
    other = theirs[~np.isin(same[theirs], same[ours])]
    return {
        "images": len(np.intersect1d(same[ours], same[theirs])),
        "near_duplicates": len(np.unique(near_duplicates(store, ours, other)[:, 1])),
        "triplets": len(np.intersect1d(a.relabelled(image).unordered, b.relabelled(image).unordered)),
        "trials": len(np.intersect1d(a.trial[a.trial >= 0], b.trial[b.trial >= 0])),
        "judges": len(np.intersect1d(a.judge[a.judge >= 0], b.judge[b.judge >= 0])),
    }


def near_duplicates(store: Store, a: Ints, b: Ints) -> NDArray[np.int64]:
    """Pairs [k, 2] of an image of `a` and one of `b` that look the same."""
    pairs = []
    block = max(1, 4_000_000 // max(1, len(b)))
    for start in range(0, len(a), block):
        some = a[start : start + block]
        bits = np.bitwise_count(store.phash[some][:, None] ^ store.phash[b][None, :])
        i, j = np.nonzero(bits <= BITS)
        pairs.append(np.stack([some[i], b[j]], axis=1))
    found = np.concatenate(pairs) if pairs else np.empty((0, 2), dtype=np.int64)
    if len(found) == 0:
        return found
    images, row = np.unique(found, return_inverse=True)
    small = np.concatenate([_thumbs(store[images[i : i + 512]]) for i in range(0, len(images), 512)])
    row = row.reshape(-1, 2)
    keep = [
        np.sqrt(np.mean((small[row[i : i + 4096, 0]] - small[row[i : i + 4096, 1]]) ** 2, axis=(1, 2, 3))) <= APART
        for i in range(0, len(row), 4096)
    ]
    return np.asarray(found[np.concatenate(keep)])


def _thumbs(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images [n, r, r, 3] as means over THUMB x THUMB fields, 0 to 1."""
    side = pixels.shape[1]
    edges = np.linspace(0, side, min(THUMB, side) + 1).astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(pixels.astype(np.float32), edges, axis=1), edges, axis=2)
    width = np.diff([*edges, side]).astype(np.float32)
    return np.asarray(sums / (255 * width[:, None] * width)[..., None], dtype=np.float32)


def pretraining(facts: Mapping[str, Any], sets: tuple[str, ...]) -> dict[str, str]:
    """What the data of pre-training may share with the sets, in words, by source; empty where nothing is known.

    Args:
        facts: of the backbone; none for random weights.
    """
    known = facts.get("pretraining")
    if known is None or known.images == 0:
        return {}
    origins = sorted({one.partition("/")[0] for one in sets} & ORIGINS.keys())
    if "ImageNet" in known.data:
        return {"data": known.data} | {origin: ORIGINS[origin] for origin in origins}
    return {"data": known.data} | dict.fromkeys(origins, "images from the web: what is shared is not known")
