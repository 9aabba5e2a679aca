"""The 2AFC score of a model, the human ceilings beside it, and its interval. numpy only; shares, not per cent.

A triplet's `choice` is the share of people who chose right, in [0, 1]. A model answers by distance: right if the
right image is nearer to the query than the left one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

CHANCE = 0.5


def credit(to_left: ArrayLike, to_right: ArrayLike, choice: ArrayLike) -> Floats:
    """Soft credit of each answer: the share of people who chose the same; a tie of distances earns one half.

    Zhang et al. 2018 (LPIPS), `(d0<d1)(1-p) + (d1<d0)p + (d0==d1)/2`.

    Args:
        to_left, to_right: distances [n] from the query, finite.
        choice: share of people who chose right [n], in [0, 1].

    Returns:
        Credit [n] in [0, 1]; its mean is the 2AFC score.
    """
    left, right, share = (np.asarray(x, dtype=np.float64) for x in (to_left, to_right, choice))
    return np.where(right < left, share, np.where(left < right, 1.0 - share, 0.5))


def two_afc(to_left: ArrayLike, to_right: ArrayLike, choice: ArrayLike) -> float:
    """2AFC score: mean soft credit, in [0, 1]; 0.5 is chance. NaN for no triplets."""
    return _mean(credit(to_left, to_right, choice))


def majority_accuracy(to_left: ArrayLike, to_right: ArrayLike, choice: ArrayLike) -> float:
    """Share of answers that agree with the majority; ties of distance count one half.

    Triplets on which people are evenly split have no majority and are left out. NaN if none remains.
    """
    share = np.asarray(choice, dtype=np.float64)
    some = ~np.isclose(share, 0.5, atol=1e-6)
    left, right = np.asarray(to_left)[some], np.asarray(to_right)[some]
    return two_afc(left, right, share[some] > 0.5)


@dataclass(frozen=True)
class Ceilings:
    """What people themselves reach on a set of triplets, in [0, 1]; NaN where it cannot be told.

    Attributes:
        plug_in: mean p^2 + (1-p)^2: a voter drawn from those who voted, scored against the votes that include
            their own (the "human" row of LPIPS, Table 5). Too high for few judges.
        fresh_judge: unbiased: how often two distinct judges of the same triplet agree. A person who did not
            vote would score this.
        best: mean max(p, 1-p): the majority's own score; no model can be better on these votes.
    """

    plug_in: float
    fresh_judge: float
    best: float


def ceilings(choice: ArrayLike, judges: ArrayLike | None = None) -> Ceilings:
    """Human ceilings from votes.

    Args:
        choice: share who chose right [n].
        judges: how many people judged each triplet: [n], or one number for all; 0 where unknown. Triplets with
            fewer than two known judges say nothing about a fresh judge and are left out of that mean.

    Returns:
        `Ceilings`. With p the share and k the judges, two distinct ones agree with probability
        (kp(kp-1) + k(1-p)(k(1-p)-1)) / (k(k-1)).
    """
    p = np.asarray(choice, dtype=np.float64)
    k = np.broadcast_to(np.asarray(0 if judges is None else judges, dtype=np.float64), p.shape)
    known = k >= 2
    right, left, count = (p * k)[known], ((1 - p) * k)[known], k[known]
    agree = (right * (right - 1) + left * (left - 1)) / (count * (count - 1))
    return Ceilings(_mean(p**2 + (1 - p) ** 2), _mean(agree), _mean(np.maximum(p, 1 - p)))


def bootstrap_interval(
    values: ArrayLike,
    cluster: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron and Tibshirani 1993, ch. 13), whole clusters resampled.

    Args:
        values: [n].
        cluster: [n], equal for values that are not independent (the same judgement trial, the same query); None
            if all are.
        level: coverage, in (0, 1).
        resamples: number of resamples.

    Returns:
        (low, high); (NaN, NaN) for fewer than two clusters.
    """
    x = np.asarray(values, dtype=np.float64)
    size, total = np.ones_like(x), x
    if cluster is not None:
        _, inverse = np.unique(np.asarray(cluster), return_inverse=True)
        size = np.asarray(np.bincount(inverse), dtype=np.float64)
        total = np.asarray(np.bincount(inverse, weights=x), dtype=np.float64)
    if len(size) < 2:
        return float("nan"), float("nan")
    drawn = resampled(np.stack([size, total], axis=1), len(size), resamples, np.random.default_rng(seed))
    low, high = np.quantile(drawn[:, 1] / drawn[:, 0], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resampled(values: ArrayLike, count: int, resamples: int, rng: np.random.Generator) -> Floats:
    """Sums over rows drawn with replacement: the bootstrap's inner loop.

    Only how often each kind of row is drawn matters. Soft credit takes few values, so kinds are few, and drawing
    their numbers is exact and fast; where they are many, the rows themselves are drawn.

    Args:
        values: [n, columns].
        count: how many rows are drawn for each resample.

    Returns:
        Sums [resamples, columns].
    """
    rows = np.asarray(values, dtype=np.float64)
    kinds, often = np.unique(rows.round(12), axis=0, return_counts=True)
    few = len(kinds) <= max(500, len(rows) // 20)
    if not few:
        kinds = np.repeat(kinds, often, axis=0)
    sums = np.empty((resamples, rows.shape[1]))
    block = max(1, 4_000_000 // len(kinds))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        if few:
            drawn = rng.multinomial(count, often / len(rows), size=size)
        else:
            drawn = rng.integers(0, len(rows), size=(size, count))
        for column, value in enumerate(np.ascontiguousarray(kinds.T)):
            sums[start : start + size, column] = drawn @ value if few else value[drawn].sum(axis=1)
    return sums


def summary(
    to_left: ArrayLike, to_right: ArrayLike, choice: ArrayLike, cluster: ArrayLike | None = None
) -> dict[str, Any]:
    """Score, accuracy against the majority, interval of the score and number of triplets, by name."""
    earned = credit(to_left, to_right, choice)
    low, high = bootstrap_interval(earned, cluster)
    return {
        "n": len(earned),
        "score": _mean(earned),
        "low": low,
        "high": high,
        "accuracy": majority_accuracy(to_left, to_right, choice),
    }


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else float("nan")
