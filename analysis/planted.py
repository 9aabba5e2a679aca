"""Made-up studies whose truth is known: to test what is concluded from answers, and to plan."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from analysis.answers import LEFT, RIGHT, Answers

MEASURE = "cosine"
LOWEST, HIGHEST = 0.25, 0.75  # 2AFC score of a model that always answers as few, or as most, of all people would


def planted(
    scores: Mapping[str, float],
    rng: np.random.Generator,
    *,
    sets: Sequence[str] = ("one/set",),
    queries: int = 1000,
    triplets: int = 1,
    judges: int = 5,
    alike: float = 0.5,
    within: float = 0.0,
    flips: float = 0.0,
    repeats: int = 1,
    between: float = 0.0,
) -> Answers:
    """Answers of models whose true 2AFC scores are given.

    How many people prefer the popular image of a triplet is uniform between a half and all; `judges` of them vote. A
    model sides with the popular image if a normal variable, made up of the parts below, falls under a threshold.

    Args:
        scores: cell -> true 2AFC score on every set, from LOWEST to HIGHEST.
        sets: those with the same name before the slash have their queries in common.
        queries: in each set.
        triplets: of each query, each of a judgement trial of its own.
        alike: share of that variable's variance which models have in common: what is hard for one is for others.
        within: share that a model has in common over all triplets of a query: these are not independent.
        flips: share that is drawn anew in each repeat.
        repeats: trainings of each cell; more than one makes it a fine-tuned one.
        between: standard deviation of the true score between repeats.
    """
    names = tuple(sets)
    releases = list(dict.fromkeys(name.partition("/")[0] for name in names))
    release = np.array([releases.index(name.partition("/")[0]) for name in names])
    each = queries * triplets
    n, pool = each * len(names), queries * len(releases)
    of_set = np.repeat(np.arange(len(names)), each)
    query = release[of_set] * queries + np.tile(np.repeat(np.arange(queries), triplets), len(names))
    popular = rng.integers(0, 2, n)  # 0: left
    votes = rng.binomial(judges, rng.uniform(0.5, 1, n)) / judges
    common = rng.standard_normal(n)
    rows: dict[tuple[str, str], int] = {}
    nearer: list[NDArray[np.uint8]] = []
    cells: dict[str, tuple[str, ...]] = {}
    for cell, score in scores.items():
        own, of_query = rng.standard_normal(n), rng.standard_normal(pool)[query]
        fixed = np.sqrt(alike) * common + np.sqrt(within) * of_query + np.sqrt(1 - alike - within - flips) * own
        cells[cell] = tuple(f"{cell}#{r}" for r in range(repeats))
        for trial in cells[cell]:
            share = 2 * (score + between * rng.standard_normal()) - 0.5
            agrees = fixed + np.sqrt(flips) * rng.standard_normal(n) < norm.ppf(share)
            rows[trial, MEASURE] = len(nearer)
            nearer.append(np.where(agrees == popular, RIGHT, LEFT).astype(np.uint8))
    return Answers(
        sets=names,
        set=of_set,
        choice=np.where(popular == 1, votes, 1 - votes),
        judges=np.full(n, judges),
        judgement=np.arange(n),
        query=query,
        rows=rows,
        nearer=np.stack(nearer),
        repeats=cells,
        trained=frozenset(cells) if repeats > 1 else frozenset(),
    )
