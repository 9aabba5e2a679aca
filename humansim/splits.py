"""Honest splits of judgements into fit, validation and test."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from humansim.errors import BadInput
from humansim.judgements import Ints, Judgements, Triplets, mixed, text_key

SHARES = {"fit": 0.5, "validation": 0.2, "test": 0.3}  # of one's own judgements
# Of a published release: 1000 test triplets remain even in BAPPS's smallest set.
RELEASE = {"fit": 0.3, "validation": 0.1, "test": 0.6}
# Where images are dealt out, a triplet stays whole with the cube of a part's share: about 4, 2 and 6 % of all.
IMAGES = {"fit": 0.34, "validation": 0.26, "test": 0.40}
FEWEST = 20  # triplets a part must hold for a split by image to be of use
VALIDATION = 5  # of that many test triplets, one triplet of validation


@dataclass(frozen=True)
class Split:
    """Which triplets serve for what.

    Attributes:
        parts: "fit", "validation", "test" -> rows of the triplets, sorted; no row in two parts but under `thesis`,
            where fit is test.
        by: what no two parts share: "image" or "trial"; "nothing" under `thesis`.
        left_out: triplets in no part because their images fell into different ones.
        fit_images: images that fitting may see, sorted; None for all.
    """

    parts: dict[str, Ints]
    by: str
    left_out: int
    fit_images: Ints | None = None


def split(judgements: Judgements, protocol: str, same: Ints | None = None) -> Split:
    """The parts under a protocol.

    - `heldout`: fit, validation and test share no judgement trial, and no image where the source has enough of them
      (Birds-16 has not: it is split by trial).
    - `heldout_images`: they share no image, at the price of triplets left out.
    - `thesis`: as published: what is fitted on is what is evaluated on. Validation is apart where triplets remain.
    - `all`: every judgement is evaluated on, nothing is left to fit.

    A source that is evaluated at a size gives that many test triplets of each set (and a fifth for validation), drawn
    by its seed: a larger size holds the smaller.

    Args:
        same: a number for each image, equal for images of equal content: no part shares these either.

    Raises:
        BadInput: too few judgements for three parts.
    """
    if judgements.parts:
        return _joined(judgements, protocol, same)
    nothing, rows = np.arange(0), np.arange(len(judgements.triplets))
    size = judgements.size
    if protocol == "all":
        return Split({"fit": nothing, "validation": nothing, "test": drawn(judgements, rows, size)}, "image", 0)
    if protocol == "thesis":
        test = drawn(judgements, rows, size)
        rest = np.setdiff1d(rows, test)
        validation = drawn(judgements, rest, max(1, len(test) // VALIDATION // len(judgements.sets)))
        return Split({"fit": test, "validation": validation if len(rest) else test, "test": test}, "nothing", 0)
    found = split_heldout(judgements, same=same, by="image" if protocol == "heldout_images" else None)
    if size is None:
        return found
    test = drawn(judgements, found.parts["test"], size)
    validation = drawn(judgements, found.parts["validation"], max(1, size // VALIDATION))
    parts = {"fit": found.parts["fit"], "validation": validation, "test": test}
    return Split(parts, found.by, found.left_out, found.fit_images)


def _joined(judgements: Judgements, protocol: str, same: Ints | None) -> Split:
    """Each source split by itself."""
    rows, images, splits = 0, 0, []
    parts: dict[str, list[Ints]] = {name: [] for name in SHARES}
    allowed = []
    for one in judgements.parts:
        own = split(one, protocol, None if same is None else same[images : images + len(one.images)])
        for name, chosen in own.parts.items():
            parts[name].append(chosen + rows)
        mine = np.arange(len(one.images)) if own.fit_images is None else own.fit_images
        allowed.append(mine + images)
        splits.append(own)
        rows, images = rows + len(one.triplets), images + len(one.images)
    lost = _kept_apart(judgements, parts, allowed, same) if same is not None and protocol != "thesis" else 0
    by = ", ".join(f"{one.name} by {own.by}" for one, own in zip(judgements.parts, splits, strict=True))
    whole = {name: np.concatenate(chosen) for name, chosen in parts.items()}
    return Split(whole, by, lost + sum(own.left_out for own in splits), np.concatenate(allowed))


def _kept_apart(judgements: Judgements, parts: dict[str, list[Ints]], allowed: list[Ints], same: Ints) -> int:
    """Takes out of fit and validation what shows an image that another source evaluates on, or validates with.

    Sources are split each by itself, and two may have an image in common. What is evaluated on stays whole.

    Args:
        parts: name -> rows, a list for each source; changed.
        allowed: images that fitting may see, for each source; changed.
        same: a number for each image, equal for images of equal content.

    Returns:
        How many triplets were taken out.
    """
    content = same[judgements.triplets.images]
    origin = np.repeat(np.arange(len(judgements.parts)), [len(one.triplets) for one in judgements.parts])
    held, lost = np.concatenate(parts["test"]), 0
    for name in ("validation", "fit"):
        for i, rows in enumerate(parts[name]):
            shared = np.isin(content[rows], content[held[origin[held] != i]]).any(axis=1)
            parts[name][i], lost = rows[~shared], lost + int(shared.sum())
        if name == "validation":
            held = np.concatenate([held, *parts[name]])
    for i, images in enumerate(allowed):
        allowed[i] = images[~np.isin(same[images], content[held[origin[held] != i]])]
    return lost


def drawn(judgements: Judgements, rows: Ints, size: int | None) -> Ints:
    """At most `size` rows of each set, sorted, drawn by the source's seed; more hold fewer.

    Whether a triplet is drawn before another hangs on the two alone, not on the order of the files they came from.
    """
    if size is None:
        return rows
    order = _order(judgements, judgements.triplets[rows])
    member = judgements.triplets.set[rows]
    return np.sort(np.concatenate([_first(rows, order, member == s, size) for s in np.unique(member)] or [rows]))


def _first(rows: Ints, order: NDArray[np.uint64], some: NDArray[np.bool_], size: int) -> Ints:
    return rows[some][np.argsort(order[some], kind="stable")][:size]


def _order(judgements: Judgements, triplets: Triplets) -> NDArray[np.uint64]:
    names = np.array([text_key(name) for name in judgements.images], dtype=np.uint64)
    sets = np.array([text_key(name) for name in judgements.sets], dtype=np.uint64)
    left, right = names[triplets.left], names[triplets.right]
    key = (sets[triplets.set], names[triplets.query], np.minimum(left, right), np.maximum(left, right))
    # Equal triplets of different trials are told apart by how people chose and then by the trial's number.
    chose_low = np.where(left < right, 1 - triplets.choice, triplets.choice)
    first = mixed(judgements.seed, *key, (1000 * chose_low).astype(np.int64))
    order = np.lexsort((triplets.trial, first))
    again = np.zeros(len(first), dtype=np.int64)
    repeat = first[order][1:] == first[order][:-1]
    for i in np.flatnonzero(repeat) + 1:
        again[order[i]] = again[order[i - 1]] + 1
    return mixed(first, again)


def split_heldout(
    judgements: Judgements,
    seed: int = 0,
    *,
    same: Ints | None = None,
    by: Literal["image"] | None = None,
) -> Split:
    """Fit, validation and test (about 50, 20 and 30 %; of a release 30, 10 and 60 %) share no image where possible.

    Images that hang together through triplets stay together where there are many such groups (BAPPS: each triplet
    has its own images). Where most images hang together (each is compared with many), the images themselves are
    dealt out, and a triplet whose images fell into different parts is left out. If a part would then hold fewer
    than `FEWEST` triplets there are too few images, and judgement trials are dealt out instead.

    The parts depend on the names of images and sets and on the seed, not on the order of the rows.

    Args:
        same: a number for each image, equal for images of equal content.
        by: "image" to insist on it; else what the source says.

    Raises:
        BadInput: too few judgements for three parts.
    """
    triplets = judgements.triplets
    wanted = by or judgements.by
    shares = SHARES if judgements.by == "either" else RELEASE
    # One image stands for all of the same content.
    _, first, image = np.unique(
        np.arange(len(judgements.images)) if same is None else same, return_index=True, return_inverse=True
    )
    count, names = len(first), [judgements.images[i] for i in first]
    images = image[triplets.images]
    if wanted != "trial":
        group = _connected(np.repeat(images[:, 0], 2), images[:, 1:].ravel(), count)
        stratum = _least(triplets.set.repeat(3), images.ravel(), count)
        together = np.bincount(group).max(initial=0) <= count / 2
        alone = (np.arange(count), shares if judgements.by == "either" else IMAGES)
        for dealt, share in ((group, shares), alone) if together else (alone,):
            of_image = _deal(dealt, stratum, names, seed, share)
            parts = of_image[images]
            whole = (parts == parts[:, :1]).all(axis=1)
            rows = {name: np.flatnonzero(whole & (parts[:, 0] == i)) for i, name in enumerate(SHARES)}
            if min(len(part) for part in rows.values()) >= FEWEST:
                return Split(rows, "image", int((~whole).sum()), np.flatnonzero(of_image[image] == 0))
        if wanted == "image":
            raise BadInput(
                f"{judgements.name}: {len(triplets)} judgements of {count} images cannot be split into parts "
                f"that share no image: one would have fewer than {FEWEST} triplets; evaluate with protocol='all'"
                + (", or split by trial with protocol='heldout'" if judgements.by == "trial" else "")
            )

    # Too few images: deal out triplets, whichever way round, together with those that the same trials asked about.
    _, one, same_triplet = np.unique(triplets.unordered, return_index=True, return_inverse=True)
    known = np.flatnonzero(triplets.trial >= 0)
    trials, trial = np.unique(triplets.trial[known], return_inverse=True)
    group = _connected(same_triplet[known], len(one) + trial, len(one) + len(trials))
    shown, stratum = judgements.images, _least(triplets.set, same_triplet, len(one))
    labels = ["\0".join([shown[q], *sorted((shown[a], shown[b]))]) for q, a, b in triplets.images[one]]
    of_trial = part = _deal(group[: len(one)], stratum, labels, seed, shares)[same_triplet]
    if np.bincount(group[same_triplet]).max(initial=0) > len(triplets) / 2:
        # Most trials repeat each other's triplets: deal out both, and leave out what a trial asks of another part.
        part = _deal(np.arange(len(one)), stratum, labels, seed, shares)[same_triplet]
        of_trial = part.copy()
        stratum = _least(triplets.set[known], trial, len(trials))
        of_trial[known] = _deal(np.arange(len(trials)), stratum, [str(t) for t in trials], seed, shares)[trial]
    whole = part == of_trial
    rows = {name: np.flatnonzero(whole & (part == i)) for i, name in enumerate(SHARES)}
    if min(len(one) for one in rows.values()) == 0:
        raise BadInput(
            f"{judgements.name}: {len(triplets)} judgements are too few to be split into fit, validation and test; "
            "evaluate on all of them with protocol='all'"
        )
    return Split(rows, "trial", int((~whole).sum()))


def _connected(one: Ints, other: Ints, count: int) -> Ints:
    """The number of each node's component, [count], in a graph with edges from `one` to `other`, [edges] each."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(one)), (one, other)), shape=(count, count))
    _, group = connected_components(graph, directed=False)
    return np.asarray(group)


def _least(values: Ints, group: Ints, groups: int) -> Ints:
    """The least value in each group; 0 for an empty one."""
    least = np.full(groups, np.iinfo(np.int64).max)
    np.minimum.at(least, group, values)
    return np.where(np.bincount(group, minlength=groups) > 0, least, 0)


def _deal(group: Ints, stratum: Ints, names: Sequence[str], seed: int, shares: dict[str, float]) -> Ints:
    """Deals whole groups out to the parts by their shares, within each stratum, in an order set by hashed names.

    Returns:
        For each item the number of its part [n], equal within a group.
    """
    hashed = (hashlib.sha256(f"{seed}\0{name}".encode()).digest() for name in names)
    order = np.array([int.from_bytes(h[:8], "big") for h in hashed], dtype=np.uint64)
    groups = int(group.max(initial=-1)) + 1
    size = np.bincount(group, minlength=groups)
    leader = np.full(groups, len(names))
    np.minimum.at(leader, group, np.arange(len(names)))
    edges = np.cumsum(list(shares.values()))[:-1]
    part = np.empty(groups, dtype=np.int64)
    for s in np.unique(stratum[leader]):
        members = np.flatnonzero(stratum[leader] == s)
        members = members[np.argsort(order[leader[members]], kind="stable")]
        middle = (np.cumsum(size[members]) - size[members] / 2) / size[members].sum()
        part[members] = np.searchsorted(edges, middle, side="right")
    return part[group]
