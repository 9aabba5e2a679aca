"""What is fitted on: triplets, quadruplets or single images, chosen from the fit part of a split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from humansim.errors import BadInput
from humansim.judgements import Ints, Judgements, mixed, text_key
from humansim.spec import near
from humansim.splits import Split

Kind = Literal["triplet", "quadruplet", "singleton"]


@dataclass(frozen=True)
class FitSet:
    """What is fitted on: `size` data points of one kind.

    Attributes:
        images: [n, 3] query, positive, negative; [n, 4] and a further dissimilar image; or [n, 1] single images.
        rows: the triplets these come from [n], sorted; none for single images.
    """

    images: Ints
    rows: Ints

    def __len__(self) -> int:
        return len(self.images)


def choose_fit(
    judgements: Judgements, given: Split, kind: Kind, size: int, seed: int = 0, fit_on: str | None = None
) -> FitSet:
    """At most `size` data points from the fit part, balanced over the sets (thesis, 4.2, Table A.1).

    A triplet without a majority has no say. A quadruplet's fourth image is one of the same trial that the person did
    not choose, where the trial showed more than the triplet; else a random one of another trial of the same source
    that nobody of the fit part chose for that query. Single images are drawn from all images of the triplets.

    Args:
        fit_on: a set, or the first part of several sets' names ("bapps"); None for all.

    Raises:
        BadInput: no such set, or nothing to fit on.
    """
    triplets = judgements.triplets
    rows = given.parts["fit"]
    rows = rows[np.isin(triplets.set[rows], members(judgements.sets, fit_on))]
    rng = np.random.default_rng(seed)
    if kind == "singleton":
        sets = np.unique(triplets.set[rows])
        queues = [rng.permutation(np.unique(triplets[rows[triplets.set[rows] == s]].images)) for s in sets]
        if not queues:
            raise BadInput(f"{judgements.name}: no image is left to fit on")
        return FitSet(np.sort(_in_turn(queues, size))[:, None], np.arange(0))
    rows = rows[~np.isclose(triplets.choice[rows], 0.5, atol=1e-6)]
    if kind == "quadruplet":
        rows, fourth = _with_fourth(judgements, rows, given, seed)
    if len(rows) == 0:
        raise BadInput(f"{judgements.name}: people were evenly split on every triplet to fit on; nothing can be learnt")
    queues = [rng.permutation(rows[triplets.set[rows] == s]) for s in np.unique(triplets.set[rows])]
    chosen = np.sort(_in_turn(queues, size))
    some = triplets[chosen]
    right = some.choice > 0.5
    images = [some.query, np.where(right, some.right, some.left), np.where(right, some.left, some.right)]
    if kind == "quadruplet":
        images.append(fourth[np.searchsorted(rows, chosen)])
    return FitSet(np.stack(images, axis=1), chosen)


def count_fit(judgements: Judgements, given: Split, kind: Kind, size: int, fit_on: str | None = None) -> int:
    """How many data points `choose_fit` gives, without choosing them; for a plan, in a fraction of the time."""
    triplets = judgements.triplets
    rows = given.parts["fit"]
    rows = rows[np.isin(triplets.set[rows], members(judgements.sets, fit_on))]
    if kind == "singleton":
        return min(size, len(np.unique(triplets[rows].images)))
    rows = rows[~np.isclose(triplets.choice[rows], 0.5, atol=1e-6)]
    if kind == "quadruplet":  # whether a triplet has a fourth image hangs on no other one that is asked about
        found = 0
        for start in range(0, len(rows), 2 * size):
            found += len(_with_fourth(judgements, rows[start : start + 2 * size], given, 0)[0])
            if found >= size:
                break
        return min(size, found)
    return min(size, len(rows))


def members(sets: Sequence[str], fit_on: str | None) -> list[int]:
    """Numbers of the sets that `fit_on` means.

    Raises:
        BadInput: none of them.
    """
    found = [i for i, name in enumerate(sets) if fit_on is None or name == fit_on or name.startswith(f"{fit_on}/")]
    if not found:
        known = dict.fromkeys([*(name.rpartition("/")[0] for name in sets if "/" in name), *sets])
        raise BadInput(f"fit_on: no set is called {fit_on!r}{near(str(fit_on), list(known))}")
    return found


def _in_turn(queues: Sequence[Ints], size: int) -> Ints:
    """The j-th of each queue before the (j+1)-th of any, each value once: equal numbers until a queue runs dry."""
    turn = np.concatenate([np.arange(len(queue)) for queue in queues])
    values = np.concatenate(queues)[np.argsort(turn, kind="stable")]
    _, first = np.unique(values, return_index=True)
    return values[np.sort(first)][:size]


def _with_fourth(judgements: Judgements, rows: Ints, given: Split, seed: int) -> tuple[Ints, Ints]:
    """Rows that have a fourth, dissimilar image, and that image."""
    triplets = judgements.triplets
    some = triplets[rows]
    source = np.array([text_key(name.partition("/")[0]) % 2**62 for name in judgements.sets])
    draw = mixed(seed, some.query, some.left, some.right, np.maximum(some.trial, 0), some.set)
    fourth = np.full(len(rows), -1)
    others = some.others
    if given.fit_images is not None:
        others = np.where(np.isin(others, given.fit_images), others, -1)
    within = (some.others >= 0).any(axis=1)  # the trial showed more than the triplet: from there or not at all
    count = (others >= 0).sum(axis=1)
    pick = (draw % np.maximum(count, 1).astype(np.uint64)).astype(np.int64)
    packed = -np.sort(-others, axis=1) if others.shape[1] else others
    has = count > 0
    fourth[has] = packed[has, pick[has]]
    if within.all():
        return rows[has], fourth[has]
    # Elsewhere: what anyone of the fit part chose for the query, first or second, is no dissimilar image.
    every = triplets[given.parts["fit"]]
    chosen = every[np.isin(every.query, some.query[~within])]
    chosen = chosen[~np.isclose(chosen.choice, 0.5, atol=1e-6)]  # of an even split neither was
    near, far = np.where(chosen.choice > 0.5, [chosen.right, chosen.left], [chosen.left, chosen.right])
    second = np.isin(chosen.set, [i for i, name in enumerate(judgements.sets) if name.endswith("8rank2_similar")])
    liked = set(zip(chosen.query.tolist(), near.tolist(), strict=True))
    liked |= set(zip(chosen.query[second].tolist(), far[second].tolist(), strict=True))
    for origin in np.unique(source[some.set[~within]]):
        pool = np.unique(every[source[every.set] == origin].images)
        for i in np.flatnonzero(~within & (source[some.set] == origin)):
            shown = {int(some.query[i]), int(some.left[i]), int(some.right[i])}
            start = int(draw[i] % np.uint64(len(pool)))
            for step in range(len(pool)):
                image = int(pool[(start + step) % len(pool)])
                if image not in shown and (int(some.query[i]), image) not in liked:
                    fourth[i] = image
                    break
    keep = fourth >= 0
    return rows[keep], fourth[keep]
