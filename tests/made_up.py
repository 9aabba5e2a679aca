"""Made-up judgements for the tests of several modules: triplets of any shape, and the study's releases in small."""

from pathlib import Path

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from humansim.errors import BadInput
from humansim.images import Store
from humansim.judgements import Judgements, Triplets, joined, mixed
from humansim.sources.psiz import BIRDS16, HSJ, triplets_of
from humansim.sources.rankings import Rankings
from humansim.splits import Split, split_heldout

SETS = ("bapps/cnn", "bapps/color")


def judgements(images: np.ndarray, sets: np.ndarray | int = 0, **columns: np.ndarray) -> Judgements:
    """Judgements over triplets of image numbers [n, 3]."""
    n = len(images)
    triplets = Triplets(
        query=images[:, 0],
        left=images[:, 1],
        right=images[:, 2],
        choice=columns.get("choice", np.ones(n)),
        judges=columns.get("judges", np.zeros(n, dtype=np.int64)),
        set=np.broadcast_to(sets, n).astype(np.int64),
        trial=columns.get("trial", np.full(n, -1)),
        judge=columns.get("judge", np.full(n, -1)),
    )
    names = tuple(f"{i:05d}.png" for i in range(int(images.max(initial=-1)) + 1))
    return Judgements("made up", Path("/nowhere"), names, triplets, tuple(f"set {i}" for i in range(9)))


def store_of(given: Judgements) -> Store:
    """A store in which every image is another and none looks like another."""
    count = len(given.images)
    rows = np.arange(count)
    pixels = np.zeros((count, 1, 1, 3), dtype=np.uint8)
    return Store(pixels, rows, tuple(map(str, rows)), np.ones((count, 2)), mixed(rows))


def own_images(count: int, sets: int = 1) -> Judgements:
    """As in BAPPS: each triplet has three images of its own."""
    return judgements(np.arange(3 * count).reshape(-1, 3), np.arange(count) * sets // max(count, 1))


def among(images: int, count: int, rng: np.random.Generator, start: int = 0) -> np.ndarray:
    """Triplets of different images, drawn at random from a few [count, 3]."""
    return start + rng.permuted(np.tile(np.arange(images), (count, 1)), axis=1)[:, :3]


@st.composite
def any_judgements(draw: st.DrawFn) -> Judgements:
    """Own images, a few queries with many images, all among few or many images, several pools, sets, trials, judges."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(60, 250))
    shape = draw(st.sampled_from(["own", "queries", "few", "many", "pools"]))
    if shape == "own":
        images = np.arange(3 * count).reshape(-1, 3)
    elif shape == "queries":  # each query has many triplets, whose other images are its own
        query = np.sort(rng.integers(0, 30, count))
        images = np.stack([query, 30 + np.arange(count), 30 + count + np.arange(count)], axis=1)
    elif shape == "pools":
        images = np.concatenate([among(12, count // 3, rng, start) for start in (0, 12, 24)])
    else:
        images = among(draw(st.integers(4, 12)) if shape == "few" else 400, count, rng)
    images = np.unique(images, return_inverse=True)[1].reshape(-1, 3)  # every image is in use
    n = len(images)
    sets = rng.integers(0, draw(st.integers(1, 3)), n)
    # A trial asks about several triplets in a row; some are known, some not.
    trial = np.where(rng.uniform(size=n) < draw(st.sampled_from([0.0, 0.5, 1.0])), np.arange(n) // 4, -1)
    choice = rng.integers(0, 6, n) / 5
    return judgements(images, sets, trial=trial, judge=rng.integers(-1, 4, n), choice=choice)


def unordered(triplets: Triplets) -> list[tuple[int, int, int]]:
    """Each triplet, whichever way round it was shown."""
    return [(int(q), *sorted((int(a), int(b)))) for q, a, b in triplets.images]


def split_or_reject(given: Judgements, seed: int) -> Split:
    """The split, where there is one: trials that all repeat each other's triplets may be too few to be told apart."""
    try:
        return split_heldout(given, seed)
    except BadInput:
        assert (given.triplets.trial >= 0).any()
        reject()


def names_of(triplets: Triplets) -> tuple[str, ...]:
    return tuple(f"{i:05d}.png" for i in range(int(max(triplets.images.max(), triplets.others.max(initial=0))) + 1))


def patches(count: int, rng: np.random.Generator) -> Judgements:
    """As BAPPS: every triplet has images of its own."""
    rows = np.arange(count)
    triplets = Triplets(
        query=3 * rows,
        left=3 * rows + 1,
        right=3 * rows + 2,
        choice=rng.integers(0, 6, count) / 5,
        judges=np.full(count, 5),
        set=rows % 2,
        trial=np.full(count, -1),
        judge=np.full(count, -1),
    )
    return Judgements("bapps", Path("/nowhere"), names_of(triplets), triplets, SETS, by="image", size=40)


def ranked(name: str, images: int, trials: int, rng: np.random.Generator) -> Judgements:
    """As Birds-16 (few images) or ImageNet-HSJ (many)."""
    shown = np.stack([rng.permutation(images)[:9] for _ in range(trials)])
    references, selected = shown[:, 1:].copy(), np.full(trials, 2)
    if name == "birds16":
        selected[::3] = 1
        references[::3, 2:] = -1
    people = rng.integers(0, 20, trials)
    sets = BIRDS16 if name == "birds16" else HSJ
    triplets = triplets_of(Rankings(shown[:, 0], references, selected, people), sets)
    by = "trial" if name == "birds16" else "image"
    return Judgements(name, Path("/nowhere"), names_of(triplets), triplets, sets, by=by, size=40)


def study(seed: int, trials: int = 900) -> Judgements:
    rng = np.random.default_rng(seed)
    return joined("study", [patches(400, rng), ranked("hsj", 300, 3 * trials, rng), ranked("birds16", 60, trials, rng)])


def origin(given: Judgements, rows: np.ndarray) -> np.ndarray:
    names = np.array([name.partition("/")[0] for name in given.sets])
    return names[given.triplets.set[rows]]
