"""Contrasts of models on paired answers: effect, interval, p-value, equivalence, and what would decide.

A contrast is a weighted sum of mean scores, each of a cell under a measure on a set. Two things in it are random and
are resampled or estimated apart:

- the judgements. Triplets that share a query image (or a judgement trial) are not independent, so whole clusters are
  drawn, the same for all models: answers stay paired. Sets that share no cluster are drawn apart, each its own number,
  as they were collected. Of G clusters G - 1 are drawn, which makes the variance unbiased (Rao, Wu and Yue 1992).
- the repeats of a fine-tuning. Two to five seeds cannot be resampled; their variance is estimated in each cell, less
  what the judgements have counted already (the usual estimate for two crossed random factors), and added.

Few clusters or repeats make an estimated variance uncertain: deviations are divided by the root of a chi-square draw,
which makes Student's t of the normal, with Satterthwaite's (1946) degrees of freedom.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import norm, t

from analysis.answers import Answers, Cell
from humansim.errors import BadInput
from humansim.scores import Floats, resampled

Unit = Literal["query", "judgement"]
FEW = 25  # resamples: a tail that holds fewer is read off Student's t


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of mean scores; made by `mean`, `+`, `-` and `*`.

    Attributes:
        weights: (cell, measure, set) -> weight of that mean 2AFC score. A cell's score is the mean over its repeats.
    """

    weights: Mapping[tuple[str, str, str], float]

    def __add__(self, other: "Contrast") -> "Contrast":
        keys = dict.fromkeys((*self.weights, *other.weights))
        return Contrast({key: self.weights.get(key, 0.0) + other.weights.get(key, 0.0) for key in keys})

    def __mul__(self, factor: float) -> "Contrast":
        return Contrast({key: factor * weight for key, weight in self.weights.items()})

    __rmul__ = __mul__

    def __sub__(self, other: "Contrast") -> "Contrast":
        return self + -1.0 * other

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the most that it can be: a mean score lies in [0, 1], a difference of two in [-1, 1]."""
        weights = self.weights.values()
        return sum(min(0.0, one) for one in weights), sum(max(0.0, one) for one in weights)

    def on(self, sets: Sequence[str]) -> "Contrast":
        """The same on some of its sets, which together get the weight of all."""
        kept = {key: weight for key, weight in self.weights.items() if key[2] in sets}
        whole, part = (sum(map(abs, weights.values())) for weights in (self.weights, kept))
        if part == 0:
            raise BadInput(f"none of the contrast's sets is among {', '.join(sets)}")
        return whole / part * Contrast(kept)


def mean(cells: Sequence[Cell], sets: Sequence[str]) -> Contrast:
    """The mean score of some cells over some sets, all weighing the same.

    Raises:
        BadInput: there is no cell, or no set.
    """
    if not cells or not sets:
        raise BadInput(f"a mean over {len(cells)} cells and {len(sets)} sets: nothing to compare has finished")
    weight = 1 / len(cells) / len(sets)
    terms: dict[tuple[str, str, str], float] = {}
    for cell, measure in cells:
        for name in sets:
            terms[cell, measure, name] = terms.get((cell, measure, name), 0.0) + weight
    return Contrast(terms)


@dataclass(frozen=True)
class Estimate:
    """A contrast as it was found. Shares, not points: 0.01 is one point of 2AFC.

    Attributes:
        value: the contrast itself.
        se: its standard error.
        draws: the bootstrap distribution around it, repeats and degrees of freedom included.
        df: Satterthwaite's degrees of freedom.
        variance: what of se**2 is due to "judgements" and to "repeats".
        n: triplets that count.
        clusters: independent groups of them.
        repeats: the fewest trainings of a fine-tuned cell; 1 says nothing of how another seed would do; None if
            nothing was trained.
        unit: what was resampled.
        cells: whose scores it is made of.
    """

    value: float
    se: float
    draws: Floats = field(repr=False, compare=False)
    df: float
    variance: Mapping[str, float]
    n: int
    clusters: int
    repeats: int | None
    unit: str
    cells: tuple[str, ...] = ()

    @classmethod
    def none(cls) -> "Estimate":
        """Of a contrast of which nothing has finished: NaN, n = 0."""
        nothing = {"judgements": np.nan, "repeats": np.nan}
        return cls(np.nan, np.nan, np.full(1, np.nan), np.inf, nothing, 0, 0, None, "nothing")

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval; (NaN, NaN) where a set has fewer than two clusters."""
        low, high = np.quantile(self.draws, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def p_at_most(self, limit: float) -> float:
        """One-sided p-value of "the effect is at most `limit`": small if it is greater."""
        return self._tail(int(np.count_nonzero(self.draws <= limit)), limit - self.value)

    def p_at_least(self, limit: float) -> float:
        """One-sided p-value of "the effect is at least `limit`": small if it is less."""
        return self._tail(int(np.count_nonzero(self.draws >= limit)), self.value - limit)

    def p(self, effect: float = 0.0) -> float:
        """Two-sided p-value of "the effect is `effect`": below 1 - level where the interval does not hold it."""
        return min(1.0, 2 * min(self.p_at_most(effect), self.p_at_least(effect)))

    def p_equivalent(self, margin: float) -> float:
        """p-value of "it differs from 0 by `margin` or more": small if it is shown to be smaller.

        Two one-sided tests (Schuirmann 1987), of which the worse counts.
        """
        return max(self.p_at_least(margin), self.p_at_most(-margin))

    def _tail(self, beyond: int, distance: float) -> float:
        """The share of draws beyond a limit, which the estimate exceeds by -`distance`."""
        if np.isnan(self.se):
            return 1.0
        share = beyond / len(self.draws)
        if beyond >= FEW or self.se == 0:
            return max(share, 1 / len(self.draws))
        return float(min(FEW / len(self.draws), t.cdf(distance / self.se, self.df)))


def estimate(
    answers: Answers, contrast: Contrast, *, unit: Unit = "query", resamples: int = 10_000, seed: int = 0
) -> Estimate:
    """A contrast's value, and its distribution by a clustered bootstrap (see above): the same whatever else is asked.

    Every interval of a score or of a difference of scores is made here, so that it is one wherever it is shown.

    Models that were asked the same triplets are compared on these, triplet by triplet; of models that were not (two
    protocols), only what they have in common is paired, and each mean is over its own.

    Args:
        unit: what is independent: "query": new images; "judgement": new trials on the same images. In the published
            releases a trial has one query, so the first is the wider claim and the wider interval.
        resamples: of the bootstrap.

    Raises:
        BadInput: a cell that is not there, or that has no answers on a set.
    """
    cluster: NDArray[np.integer] = {"query": answers.query, "judgement": answers.judgement}[unit]
    sheets, repeats = _sheets(answers, contrast, cluster)
    rng = np.random.default_rng(seed)
    value, deviations, squares, n, clusters = 0.0, np.zeros(resamples), repeats.squares, 0, 0
    for triplets, sums in _strata(answers, sheets, cluster):
        groups, found = len(sums), float(_value(sums.sum(axis=0)))
        value, n, clusters = value + found, n + triplets, clusters + groups
        if groups < 2:
            drawn = np.full(resamples, np.nan)
        else:
            totals = resampled(sums.reshape(groups, -1), groups - 1, resamples, rng).reshape(-1, *sums.shape[1:])
            told = (totals[:, 1] > 0).all(axis=1)  # where a small set shares queries with others, it may come out empty
            drawn = _value(totals[told] if told.all() else rng.choice(totals[told], resamples)) - found
        deviations += drawn
        squares += float(drawn.var()) ** 2 / max(1, groups - 1)
    if n and deviations.var() == 0:
        unseen = _unseen(answers, contrast, sheets)
        deviations += unseen * rng.standard_normal(resamples)
        squares += unseen**4 / max(1, clusters - 1)
    variance = {"judgements": float(deviations.var()), "repeats": repeats.variance}
    total = variance["judgements"] + variance["repeats"]
    df = total**2 / squares if total > 0 else np.inf
    deviations += np.sqrt(repeats.variance) * rng.standard_normal(resamples)
    if np.isfinite(df):
        deviations /= np.sqrt(rng.chisquare(df, resamples) / df)
    return Estimate(
        value=value,
        se=float(np.sqrt(total)),
        draws=np.clip(value + deviations, *contrast.bounds),
        df=float(df),
        variance=variance,
        n=n,
        clusters=clusters,
        repeats=repeats.fewest,
        unit={"query": "query image", "judgement": "judgement trial"}[unit],
        cells=tuple(dict.fromkeys(cell for (cell, _, _), weight in contrast.weights.items() if weight)),
    )


def ends(answers: Answers, contrast: Contrast, level: float = 0.95) -> tuple[float, float, float]:
    """A contrast's value, and where its interval begins and ends."""
    one = estimate(answers, contrast)
    return (one.value, *one.interval(level))


def _value(sums: Floats) -> Floats:
    """The contrast from sums [..., 2, columns] of weighted credit and of triplets: each column is a mean of its own."""
    return np.asarray((sums[..., 0, :] / sums[..., 1, :]).sum(axis=-1))


def _unseen(answers: Answers, contrast: Contrast, sheets: Sequence["_Sheet"]) -> float:
    """Standard error of a contrast that is the same on every cluster: what resamples cannot show, more would.

    Two answers on the set where one counts most: 1.96 times that is about the exact bound for what was never seen,
    -log(0.025) / n of the triplets ("rule of three"; Hanley and Lippman-Hand 1983).
    """
    asked = np.any([sheet.asked for sheet in sheets], axis=0)
    count = dict(zip(answers.sets, np.bincount(answers.set[asked], minlength=len(answers.sets)), strict=True))
    weight: dict[str, float] = {}
    for (_, _, name), of_cell in contrast.weights.items():
        weight[name] = weight.get(name, 0.0) + max(0.0, of_cell)
    return max(float(2 * of_set / count[name]) for name, of_set in weight.items() if count[name])


@dataclass
class _Sheet:
    """Weighted credit, summed over the cells that were asked the same triplets.

    Attributes:
        asked: which triplets [n].
        credit: weighted by cell and set [n], 0 where not asked.
        sets: numbers of the sets on which any of these cells has a weight.
    """

    asked: NDArray[np.bool_]
    credit: Floats
    sets: set[int]


@dataclass
class _Repeats:
    """What other seeds would change: variance, summed over cells, and the terms of Satterthwaite's sum."""

    variance: float = 0.0
    squares: float = 0.0
    fewest: int | None = None


def _sheets(answers: Answers, contrast: Contrast, cluster: NDArray[np.integer]) -> tuple[list[_Sheet], _Repeats]:
    sheets: dict[bytes, _Sheet] = {}
    repeats = _Repeats()
    groups = int(cluster.max(initial=-1)) + 1
    for cell, weights in _by_cell(answers, contrast).items():
        trials = answers.repeats[cell]
        scores, influence = np.zeros(len(trials)), np.zeros((len(trials), groups if len(trials) > 1 else 0))
        for r, trial in enumerate(trials):
            for measure, weight in weights.items():
                asked = answers.asked(trial, measure)
                count = np.bincount(answers.set[asked], minlength=len(answers.sets))
                for s in np.flatnonzero((weight != 0) & (count == 0)):
                    raise BadInput(f"trial {trial} has no answers on {answers.sets[s]}")
                credit = np.where(asked, answers.credit(trial, measure), 0.0)
                sheet = sheets.setdefault(asked.tobytes(), _Sheet(asked, np.zeros(len(asked)), set()))
                sheet.credit += (weight / len(trials))[answers.set] * credit
                sheet.sets.update(np.flatnonzero(weight).tolist())
                if len(trials) > 1:
                    score = np.bincount(answers.set, credit, len(answers.sets)) / np.maximum(count, 1)
                    scores[r] += weight @ score
                    share = (weight / np.maximum(count, 1))[answers.set]
                    influence[r] += np.bincount(cluster, share * asked * (credit - score[answers.set]), groups)
        if cell in answers.trained:
            repeats.fewest = min(len(trials), repeats.fewest or len(trials))
        if len(trials) > 1:
            # What scores of repeats differ by includes that they err on other judgements, which is counted there.
            differ, elsewhere = float(scores.var(ddof=1)), float(influence.var(axis=0, ddof=1).sum())
            repeats.variance += max(0.0, differ - elsewhere) / len(trials)
            repeats.squares += (differ / len(trials)) ** 2 / (len(trials) - 1)
    return list(sheets.values()), repeats


def _by_cell(answers: Answers, contrast: Contrast) -> dict[str, dict[str, Floats]]:
    """cell -> measure -> weight of each set."""
    found: dict[str, dict[str, Floats]] = {}
    for (cell, measure, name), weight in contrast.weights.items():
        if weight == 0:
            continue
        if cell not in answers.repeats:
            raise BadInput(f"cell {cell}: no trial of it has finished")
        if name not in answers.sets:
            raise BadInput(f"set {name!r} was not answered; known: {', '.join(answers.sets)}")
        weights = found.setdefault(cell, {}).setdefault(measure, np.zeros(len(answers.sets)))
        weights[answers.sets.index(name)] += weight
    if not found:
        raise BadInput("the contrast is empty: what it adds and what it subtracts are the same")
    return found


def _strata(answers: Answers, sheets: Sequence[_Sheet], cluster: NDArray[np.integer]) -> Iterable[tuple[int, Floats]]:
    """For sets that have clusters in common: how many triplets, and sums [clusters, 2, columns] of weighted credit and
    of triplets. A column is a set of a sheet.
    """
    used = np.array(sorted(set().union(*(sheet.sets for sheet in sheets))))
    number = np.full(len(answers.sets), -1)
    number[used] = np.arange(len(used))
    counted = np.any([sheet.asked for sheet in sheets], axis=0) & (number[answers.set] >= 0)
    groups = int(cluster.max(initial=-1)) + 1
    edges = (np.ones(counted.sum()), (number[answers.set[counted]], len(used) + cluster[counted]))
    _, stratum = connected_components(coo_array(edges, shape=(len(used) + groups,) * 2), directed=False)
    for one in np.unique(stratum[: len(used)]):
        names = used[stratum[: len(used)] == one]
        columns = [(sheet, s) for sheet in sheets for s in sheet.sets & set(names.tolist())]
        rows = np.flatnonzero(counted & np.isin(answers.set, names))
        kept, code = np.unique(cluster[rows], return_inverse=True)
        sums = np.empty((len(kept), 2, len(columns)))
        for i, (sheet, s) in enumerate(columns):
            here = sheet.asked[rows] & (answers.set[rows] == s)
            sums[:, 0, i] = np.bincount(code[here], sheet.credit[rows][here], len(kept))
            sums[:, 1, i] = np.bincount(code[here], minlength=len(kept))
        yield len(rows), sums


def holm(p: ArrayLike) -> Floats:
    """p-values of a family, corrected so that the chance of any false finding in it stays below alpha (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    given = np.asarray(p, dtype=np.float64)
    return np.asarray(multipletests(given, method="holm")[1]) if given.size else given


@dataclass(frozen=True)
class Needed:
    """What would be enough.

    Attributes:
        triplets: evaluated in all, with as many repeats; None if no number is enough.
        repeats: of each fine-tuned cell, on as many triplets; None if no number is, or nothing is known of them.
        times: or so many times as many of both.
    """

    triplets: int | None
    repeats: int | None
    times: float

    def __str__(self) -> str:
        ways = [f"{n:,} {what}" for n, what in ((self.triplets, "triplets"), (self.repeats, "repeats")) if n]
        return " or ".join(ways) or "more triplets and more repeats"


def needed(found: Estimate, distance: float, *, level: float = 0.95, power: float = 0.8) -> Needed:
    """How many triplets, or how many repeats, would tell an effect from a limit that lies `distance` away.

    The usual formula for a two-sided test, (z_alpha/2 + z_power)^2 variance / distance^2, in which the judgements' part
    of the variance falls with the triplets, and the repeats' part with the repeats.
    """
    allowed = (distance / (norm.isf((1 - level) / 2) + norm.ppf(power))) ** 2
    judgements, seeds = found.variance["judgements"], found.variance["repeats"]

    def enough(there: int, own: float, other: float) -> int | None:
        return int(np.ceil(there * own / (allowed - other))) if allowed > other else None

    repeats = found.repeats or 0
    return Needed(
        triplets=enough(found.n, judgements, seeds),
        repeats=enough(repeats, seeds, judgements) if repeats > 1 else None,
        times=(judgements + seeds) / allowed if allowed > 0 else np.inf,
    )


def would_tell(found: Estimate) -> Needed | None:
    """What would tell an effect of the size that was found from none; None where that is told, or cannot be."""
    low, high = found.interval()
    return needed(found, abs(found.value)) if found.value != 0 and low <= 0 <= high else None


@dataclass(frozen=True)
class Mixed:
    """A fixed effect of a mixed model, with its Wald interval.

    Attributes:
        groups: levels of the random factor.
        converged: the fit did; else the numbers are worth nothing.
    """

    effect: float
    se: float
    low: float
    high: float
    p: float
    groups: int
    converged: bool


def mixed(table: pd.DataFrame, formula: str, effect: str, group: str, *, level: float = 0.95) -> Mixed:
    """A linear mixed model with a random intercept for each level of `group`: statsmodels' MixedLM, by REML.

    A check beside `estimate`, where many cells are compared: it generalises to other backbones, say, and not only to
    other judgements. `mixed(scores, "score ~ large + C(set)", "large", "backbone")`.

    Args:
        table: such as `Answers.scores`, joined with columns of `trials`; a row a mean score.
        formula: of the fixed effects; a name with a dot is written Q("pretraining.language").
        effect: the term that is asked about, as statsmodels names it.

    Raises:
        BadInput: the formula has no such term.
    """
    import warnings

    import statsmodels.formula.api as smf

    groups = int(table[group].nunique())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: it is said in the outcome
        try:
            fit = smf.mixedlm(formula, table, groups=group).fit(reml=True)
        except np.linalg.LinAlgError:  # the scores do not vary
            return Mixed(*(np.nan,) * 5, groups=groups, converged=False)
    if effect not in fit.fe_params.index:
        raise BadInput(f"the model has no term {effect!r}; it has {', '.join(fit.fe_params.index)}")
    low, high = fit.conf_int(alpha=1 - level).loc[effect]
    return Mixed(
        effect=float(fit.params[effect]),
        se=float(fit.bse[effect]),
        low=float(low),
        high=float(high),
        p=float(fit.pvalues[effect]),
        groups=groups,
        converged=bool(fit.converged),
    )
