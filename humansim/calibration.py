"""From distances to the probability that a person finds one image closer. numpy and scipy only; no torch.

P(right) = sigmoid((to_left - to_right) / temperature): Bradley and Terry's model of a choice (1952), with one number
to learn, found by maximum likelihood on people's votes. It moves no score: what is closer stays closer.
"""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit

from humansim.spec import Frozen

Floats = NDArray[np.float64]

BINS = 10  # of equal numbers of triplets
WIDE = 1e3  # times and parts of the differences' scale within which the temperature is looked for


class Bin(Frozen):
    """Triplets for which the metric is about as sure: how sure it is of its answer, and how many people agree."""

    n: int
    confidence: float
    agreement: float


class Reliability(Frozen):
    """How far probabilities can be trusted, on one part of the judgements.

    Attributes:
        n: triplets.
        brier: mean squared difference of P(right) and the share of people who chose right.
        brier_uncalibrated: the same at temperature 1, where the distances themselves are taken for logits.
        ece: expected calibration error (Guo et al. 2017): mean of |confidence - agreement| over the bins.
        ece_uncalibrated: the same at temperature 1.
        bins: of equal numbers of triplets, by confidence, max(P(right), 1 - P(right)).
    """

    part: Literal["validation", "test"]
    n: int
    brier: float
    brier_uncalibrated: float
    ece: float
    ece_uncalibrated: float
    bins: tuple[Bin, ...]

    def __str__(self) -> str:
        apart = sum(one.n * (one.confidence - one.agreement) for one in self.bins) / self.n
        rows = (f"{one.n:9,} {100 * one.confidence:9.1f} % {100 * one.agreement:9.1f} %" for one in self.bins)
        return "\n".join(
            (
                f"{self.n:,} triplets of the {self.part} part: Brier score {self.brier:.4f} "
                f"({self.brier_uncalibrated:.4f} before calibration), "
                f"expected calibration error {self.ece:.4f} ({self.ece_uncalibrated:.4f})",
                f"On average {100 * abs(apart):.1f} points {'surer' if apart > 0 else 'less sure'} than people agree:",
                " triplets  how sure it is  people who agree",
                *rows,
            )
        )


class Calibration(Frozen):
    """The temperature of one measure, in units of its distances, and what it is worth; `test` was not fitted on.

    `bounded`: the votes leave it open, at least on one side: the distances say nothing of them, or never err.
    """

    temperature: float
    bounded: bool
    validation: Reliability
    test: Reliability | None


def p_right(to_left: ArrayLike, to_right: ArrayLike, temperature: float) -> Floats:
    """The probability that a person finds the right image closer [n]."""
    apart = np.asarray(to_left, dtype=np.float64) - np.asarray(to_right, dtype=np.float64)
    return np.asarray(expit(apart / temperature))


def temperature_of(
    to_left: ArrayLike, to_right: ArrayLike, choice: ArrayLike, judges: ArrayLike | None = None
) -> tuple[float, bool]:
    """The temperature at which the votes are likeliest, and whether it lies at a bound.

    Args:
        to_left, to_right: distances [n].
        choice: share of people who chose right [n].
        judges: how many people [n]: each vote counts once; where unknown (0), the triplet counts as one.
    """
    apart = np.asarray(to_left, dtype=np.float64) - np.asarray(to_right, dtype=np.float64)
    share = np.asarray(choice, dtype=np.float64)
    votes = np.ones(len(apart)) if judges is None else np.maximum(np.asarray(judges, dtype=np.float64), 1)
    scale = float(np.sqrt(np.mean(apart**2))) or 1.0

    def surprise(log_slope: float) -> float:
        """Mean negative log-likelihood of a vote; log(1 + exp(-x)) is -log(sigmoid(x)). Convex in the slope."""
        logits = apart / scale * np.exp(log_slope)
        lost = share * np.logaddexp(0, -logits) + (1 - share) * np.logaddexp(0, logits)
        return float(np.average(lost, weights=votes))

    most = float(np.log(WIDE))
    found = float(minimize_scalar(surprise, bounds=(-most, most), method="bounded", options={"xatol": 1e-8}).x)
    bounded = abs(found) > most - 1e-3 or not np.any(apart)
    return scale / float(np.exp(found)), bounded


def reliability(
    part: Literal["validation", "test"], to_left: ArrayLike, to_right: ArrayLike, choice: ArrayLike, temperature: float
) -> Reliability:
    """How probabilities at a temperature, and at 1, agree with shares of people."""
    share = np.asarray(choice, dtype=np.float64)
    after, before = (p_right(to_left, to_right, t) for t in (temperature, 1.0))
    bins = _bins(after, share)
    return Reliability(
        part=part,
        n=len(share),
        brier=float(np.mean((after - share) ** 2)),
        brier_uncalibrated=float(np.mean((before - share) ** 2)),
        ece=_error(bins),
        ece_uncalibrated=_error(_bins(before, share)),
        bins=bins,
    )


def _bins(p: Floats, share: Floats) -> tuple[Bin, ...]:
    sure, agree = np.maximum(p, 1 - p), np.where(p > 0.5, share, np.where(p < 0.5, 1 - share, 0.5))
    order = np.argsort(sure, kind="stable")
    return tuple(
        Bin(n=len(some), confidence=float(sure[some].mean()), agreement=float(agree[some].mean()))
        for some in np.array_split(order, min(BINS, len(order)))
    )


def _error(bins: tuple[Bin, ...]) -> float:
    return sum(one.n * abs(one.confidence - one.agreement) for one in bins) / sum(one.n for one in bins)


def calibrated(answers: pd.DataFrame) -> dict[str, Calibration]:
    """Measure -> its calibration, from the answers of a trial (`train.score`); empty without a validation part."""
    parts = {name: answers[answers["part"] == name] for name in ("validation", "test")}
    if parts["validation"].empty:
        return {}
    found = {}
    for measure in (name.removeprefix("to_left_") for name in map(str, answers) if name.startswith("to_left_")):

        def columns(part: Literal["validation", "test"], measure: str = measure) -> tuple[Floats, Floats, Floats]:
            names = (f"to_left_{measure}", f"to_right_{measure}", "choice")
            left, right, choice = (parts[part][name].to_numpy(dtype=np.float64) for name in names)
            return left, right, choice

        temperature, bounded = temperature_of(*columns("validation"), parts["validation"]["judges"])
        test = None if parts["test"].empty else reliability("test", *columns("test"), temperature)
        validation = reliability("validation", *columns("validation"), temperature)
        found[measure] = Calibration(temperature=temperature, bounded=bounded, validation=validation, test=test)
    return found
