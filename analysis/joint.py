"""Many contrasts at once, from the same resamples: what a table of hundreds of cells takes.

Each comes out as by `stats.estimate`, in a small part of the time; and since their draws belong together, any two are
compared paired, and it can be said which of all are not shown to be worse than the best.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import norm, t

from analysis.answers import LEFT, RIGHT, UNASKED, Answers, Cell
from analysis.stats import Contrast, Unit
from humansim.errors import BadInput
from humansim.scores import Floats

# A judge who did not vote, in the place of a model: how often one would agree with one who did (`scores.ceilings`).
FRESH_JUDGE: Cell = ("people", "fresh judge")


@dataclass(frozen=True)
class Joint:
    """Contrasts as they were found. Shares, not points.

    Attributes:
        value: of each [k]; NaN where people's agreement cannot be told.
        judgements: deviations of the clustered bootstrap [resamples, k], a row the same resample for all.
        repeats: variance due to other seeds [k].
        seeds: standard normal draws, each contrast's own, that stand for other seeds [resamples, k].
        squares: terms of Satterthwaite's sum, due to judgements and to repeats [2, k].
        n, clusters: triplets that count, and independent groups of them [k].
        smallest: clusters of the smallest stratum.
    """

    value: Floats
    judgements: Floats = field(repr=False)
    repeats: Floats
    seeds: Floats = field(repr=False)
    squares: Floats
    n: NDArray[np.int64]
    clusters: NDArray[np.int64]
    smallest: int

    @property
    def variance(self) -> Floats:
        """Squared standard errors [k]."""
        return np.asarray(self.judgements.var(axis=0) + self.repeats)

    def interval(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Percentile intervals, low and high [k]; NaN where there are fewer than two clusters."""
        draws = self.judgements + np.sqrt(self.repeats) * self.seeds
        draws = draws / _students(self.variance, self.squares.sum(axis=0), len(draws))
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return self.value + low, self.value + high

    def of(self, some: NDArray[np.intp]) -> "Joint":
        """Some of the contrasts."""
        return Joint(
            self.value[some],
            self.judgements[:, some],
            self.repeats[some],
            self.seeds[:, some],
            self.squares[:, some],
            self.n[some],
            self.clusters[some],
            self.smallest,
        )

    def not_worse(self, rivals: NDArray[np.bool_] | None = None, level: float = 0.95) -> NDArray[np.bool_]:
        """Which contrasts are not shown to be below any other [k]: a confidence set for the best.

        Each is compared with all its rivals, paired, by the largest studentised difference, whose distribution is
        bootstrapped (multiple comparisons with the best: Hsu 1984). The truly best is left out in at most 1 - level of
        studies, however many there are and whichever comes out on top.

        Args:
            rivals: whom each is compared with [k, k]; None for all.
        """
        k = len(self.value)
        if self.smallest < 2 or k == 0:
            return np.ones(k, dtype=bool)
        rivals = np.ones((k, k), dtype=bool) if rivals is None else rivals
        covariance = np.atleast_2d(np.cov(self.judgements, rowvar=False, ddof=0))
        single, whole = np.diag(covariance), np.empty(k, dtype=bool)
        rng = np.random.default_rng(0)
        for i in range(k):
            others = np.flatnonzero(rivals[i] & (np.arange(k) != i))
            judged = np.maximum(single[i] + single[others] - 2 * covariance[i, others], 0)
            variance = judged + self.repeats[i] + self.repeats[others]
            gap = self.value[others] - self.value[i]
            same = variance <= 1e-18  # the same answers: the difference is certain
            if (gap[same] > 1e-12).any():
                whole[i] = False
                continue
            others, judged, variance, gap = others[~same], judged[~same], variance[~same], gap[~same]
            if not others.size:
                whole[i] = True
                continue
            squares = judged**2 / (self.smallest - 1) + self.squares[1, i] + self.squares[1, others]
            freedom, worst = float((variance**2 / squares).min()), float((gap / np.sqrt(variance)).max())
            if worst <= norm.ppf(level) or worst > t.isf((1 - level) / len(others), freedom):
                whole[i] = worst <= norm.ppf(level)  # between one comparison and Bonferroni's bound draws are needed
                continue
            draws = self.judgements[:, others] - self.judgements[:, [i]]
            draws += np.sqrt(self.repeats[others]) * self.seeds[:, others]
            draws -= np.sqrt(self.repeats[i]) * self.seeds[:, [i]]
            largest = (draws / np.sqrt(variance)).max(axis=1) / np.sqrt(rng.chisquare(freedom, len(draws)) / freedom)
            whole[i] = worst <= np.quantile(largest, level)
        return whole


def _students(variance: Floats, squares: Floats, resamples: int) -> Floats:
    """What makes Student's t of normal deviations [resamples, k], by Satterthwaite's degrees of freedom."""
    made = np.ones((resamples, len(variance)))
    some = (variance > 0) & (squares > 0)
    freedom = variance[some] ** 2 / squares[some]
    made[:, some] = np.sqrt(np.random.default_rng(1).chisquare(freedom, (resamples, int(some.sum()))) / freedom)
    return made


Column = tuple[str, str, str]  # a trial (or FRESH_JUDGE's cell), a measure, a set


def joint(
    answers: Answers, contrasts: Sequence[Contrast], *, unit: Unit = "query", resamples: int = 2000, seed: int = 0
) -> Joint:
    """Contrasts from the same resamples.

    What fine-tuned cells' other seeds would change is drawn for each contrast apart: two that have a cell in common are
    taken for further apart than they are.

    Raises:
        BadInput: a cell that is not there, or that has no answers on a set.
    """
    columns, weights, repeated = _columns(answers, contrasts)
    used = sorted({answers.sets.index(name) for _, _, name in columns})
    cluster: NDArray[np.integer] = {"query": answers.query, "judgement": answers.judgement}[unit]
    k = len(contrasts)
    value, deviations = np.zeros(len(columns)), np.zeros((resamples, k))
    squares, n, clusters = np.zeros((2, k)), np.zeros(k, dtype=np.int64), np.zeros(k, dtype=np.int64)
    influence: list[tuple[NDArray[np.intp], Floats]] = []
    smallest, rng = np.iinfo(np.int64).max, np.random.default_rng(seed)
    for names in _strata(answers, used, cluster):
        here = np.array([c for c, (_, _, name) in enumerate(columns) if answers.sets.index(name) in names])
        rows = np.flatnonzero(np.isin(answers.set, list(names)))
        rows = rows[np.argsort(cluster[rows], kind="stable")]
        credit = np.stack([_credit(answers, columns[c], rows) for c in here], axis=1)
        asked = ~np.isnan(credit)
        told = asked.any(axis=1)
        rows, credit, asked = rows[told], credit[told], asked[told]
        masks, which = np.unique(asked, axis=1, return_inverse=True)
        starts = np.flatnonzero(np.r_[True, np.diff(cluster[rows]) != 0])
        groups, part = len(starts), weights[here]
        sums = np.add.reduceat(np.where(asked, credit, 0.0), starts, axis=0)
        counts = np.add.reduceat(masks.astype(np.float64), starts, axis=0)
        total = np.maximum(counts.sum(axis=0), 1)[which]
        value[here] = np.where(asked.any(axis=0), sums.sum(axis=0) / total, np.nan)
        influence.append((here, (sums - np.nan_to_num(value[here]) * counts[:, which]) / total))
        drawn = np.full((resamples, k), np.nan)
        if groups > 1:
            drawn = np.concatenate(
                [
                    _means(often @ sums, often @ counts, which, value[here]) @ part
                    for often in _resamples(groups, resamples, rng)
                ]
            )
        drawn[:, ~part.any(axis=0)] = 0.0
        deviations += drawn
        smallest = min(smallest, groups)
        squares[0] += drawn.var(axis=0) ** 2 / max(1, groups - 1)
        touched = (masks.astype(np.float64) @ _by_mask(which, part != 0)) > 0  # [rows, k]
        n += touched.sum(axis=0)
        clusters += np.add.reduceat(touched, starts, axis=0).astype(bool).sum(axis=0)
    variance = np.zeros(k)
    for one, cells in enumerate(repeated):
        for trials in cells:
            differ, elsewhere = _between(trials, weights[:, one], value, influence)
            variance[one] += max(0.0, differ - elsewhere) / len(trials)
            squares[1, one] += (differ / len(trials)) ** 2 / (len(trials) - 1)
    found = np.array([np.nansum([value[c] * weights[c, i] for c in np.flatnonzero(weights[:, i])]) for i in range(k)])
    unknown = ((weights != 0) & np.isnan(value)[:, None]).any(axis=0)
    found[unknown], deviations[:, unknown] = np.nan, np.nan
    return Joint(found, deviations, variance, rng.standard_normal((resamples, k)), squares, n, clusters, smallest)


def _columns(
    answers: Answers, contrasts: Sequence[Contrast]
) -> tuple[list[Column], Floats, list[list[list[list[int]]]]]:
    """What has a mean of its own; the weight of each in each contrast [columns, k]; and of each contrast, the cells
    with several trials: of each trial, its columns."""
    number: dict[Column, int] = {}
    entries: list[tuple[int, int, float]] = []
    repeated: list[list[list[list[int]]]] = []
    for one, contrast in enumerate(contrasts):
        cells: dict[str, list[list[int]]] = {}
        for (cell, measure, name), weight in contrast.weights.items():
            if weight == 0:
                continue
            if name not in answers.sets:
                raise BadInput(f"set {name!r} was not answered; known: {', '.join(answers.sets)}")
            people = (cell, measure) == FRESH_JUDGE
            if not people and cell not in answers.repeats:
                raise BadInput(f"cell {cell}: no trial of it has finished")
            trials = (cell,) if people else answers.repeats[cell]
            for r, trial in enumerate(trials):
                column = number.setdefault((trial, measure, name), len(number))
                entries.append((column, one, weight / len(trials)))
                if len(trials) > 1:
                    cells.setdefault(cell, [[] for _ in trials])[r].append(column)
        repeated.append(list(cells.values()))
    weights = np.zeros((len(number), len(contrasts)))
    for column, one, weight in entries:
        weights[column, one] += weight
    return list(number), weights, repeated


def _credit(answers: Answers, column: Column, rows: NDArray[np.intp]) -> Floats:
    """Credit on some triplets [rows]; NaN where they are of another set, were not asked, or have too few judges."""
    trial, measure, name = column
    p, of_set = answers.choice[rows], answers.set[rows] == answers.sets.index(name)
    if (trial, measure) == FRESH_JUDGE:
        k = answers.judges[rows].astype(np.float64)
        known = of_set & (k >= 2)
        agree = p * (p * k - 1) + (1 - p) * ((1 - p) * k - 1)
        return np.where(known, agree / np.where(known, k - 1, 1), np.nan)
    if not answers.asked(trial, measure)[rows][of_set].any():
        raise BadInput(f"trial {trial} has no answers on {name}")
    nearer = answers.nearer[answers.rows[trial, measure], rows]
    credit = np.where(nearer == RIGHT, p, np.where(nearer == LEFT, 1 - p, 0.5))
    return np.where(of_set & (nearer != UNASKED), credit, np.nan)


def _strata(answers: Answers, used: Sequence[int], cluster: NDArray[np.integer]) -> list[set[int]]:
    """Sets that have clusters in common, together."""
    rows = np.flatnonzero(np.isin(answers.set, used))
    size = len(answers.sets) + int(cluster.max(initial=-1)) + 1
    edges = (np.ones(len(rows)), (answers.set[rows], len(answers.sets) + cluster[rows]))
    _, label = connected_components(coo_array(edges, shape=(size, size)), directed=False)
    strata: dict[int, set[int]] = {}
    for s in used:
        strata.setdefault(int(label[s]), set()).add(s)
    return list(strata.values())


def _resamples(groups: int, resamples: int, rng: np.random.Generator) -> list[Floats]:
    """How often each of G clusters is drawn, of G - 1 that are: blocks [some resamples, G]."""
    block = max(1, 4_000_000 // groups)
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    found = []
    for size in sizes:
        drawn = rng.integers(0, groups, (size, groups - 1)) + groups * np.arange(size)[:, None]
        found.append(np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups).astype(np.float64))
    return found


def _means(sums: Floats, counts: Floats, which: NDArray[np.intp], value: Floats) -> Floats:
    """Deviations of resampled means [resamples, columns]; none where a small set came out empty."""
    count = counts[:, which]
    mean = np.divide(sums, count, out=np.broadcast_to(value, sums.shape).copy(), where=count > 0)
    return np.nan_to_num(mean - value)


def _by_mask(which: NDArray[np.intp], used: NDArray[np.bool_]) -> Floats:
    """How many columns of each mask each contrast uses [masks, k]."""
    found = np.zeros((int(which.max()) + 1, used.shape[1]))
    np.add.at(found, which, used.astype(np.float64))
    return found


def _between(
    trials: Sequence[Sequence[int]],
    weight: Floats,
    value: Floats,
    influence: Sequence[tuple[NDArray[np.intp], Floats]],
) -> tuple[float, float]:
    """Variance of a cell's part of a contrast between its trials, and what of it the judgements explain."""
    share = weight * len(trials)
    scores = [sum(share[c] * value[c] for c in columns) for columns in trials]
    elsewhere = 0.0
    for here, of_cluster in influence:
        place = {int(c): i for i, c in enumerate(here)}
        parts = [sum(share[c] * of_cluster[:, place[c]] for c in columns if c in place) for columns in trials]
        if not all(isinstance(part, int) for part in parts):
            elsewhere += float(np.var(np.stack(parts), axis=0, ddof=1).sum())
    return float(np.var(scores, ddof=1)), elsewhere
