"""What a hypothesis comes to: supported, refuted or undecided, by one rule for all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from analysis.stats import Estimate, holm, needed
from humansim.errors import BadInput

Direction = Literal["greater", "less", "different", "same"]
Outcome = Literal["supported", "refuted", "undecided"]


def decide(low: float, high: float, smallest: float, direction: Direction = "greater") -> Outcome:
    """The rule. A claim says that an effect matters: that it is at least `smallest`, the smallest that would.

    It is supported if the whole interval lies where the claim says, beyond `smallest` and not only beyond 0, and
    refuted if none of it does; else it is undecided. So no effect, and an effect too small to matter, both refute a
    claim once the data are enough to show it, and however small a p-value against 0 is, it supports none. Either
    verdict is wrong in at most (1 - level) / 2 of studies, and more data decide in the end, unless the effect is just
    `smallest`.

    Args:
        low, high: the effect's interval; NaN where it cannot be told.
        smallest: the smallest effect of interest, 0 or more; at 0 this is the usual test of a difference.
        direction: what is claimed: "greater" (effect > smallest), "less" (effect < -smallest), "different" (either),
            "same" (neither: equivalence, by two one-sided tests).

    Raises:
        BadInput: `smallest` is negative.
    """
    if not smallest >= 0:
        raise BadInput(f"the smallest effect of interest is {smallest}: give 0 or more, and say the direction apart")
    if direction == "less":
        return decide(-high, -low, smallest)
    if direction == "same":
        opposite = decide(low, high, smallest, "different")
        return {"supported": "refuted", "refuted": "supported"}.get(opposite, "undecided")  # type: ignore[return-value]
    if direction == "different":
        if low > smallest or high < -smallest:
            return "supported"
        return "refuted" if -smallest < low and high < smallest else "undecided"
    if low > smallest:
        return "supported"
    return "refuted" if high < smallest else "undecided"


def p_of_decision(found: Estimate, smallest: float, direction: Direction) -> float:
    """p-value that goes with `decide`: at most 1 - level where the interval at that level decides, either way."""
    if direction in ("greater", "less"):
        return found.p(smallest if direction == "greater" else -smallest)
    outside = min(found.p_at_most(smallest), found.p_at_least(-smallest))
    return min(1.0, 2 * min(outside, found.p_equivalent(smallest)))


@dataclass(frozen=True)
class Verdict:
    """What a hypothesis comes to. Effects are shares: 0.01 is one point of 2AFC.

    Attributes:
        claim: in a sentence.
        outcome: supported, refuted or undecided (`decide`), after correction for the family.
        estimate: the contrast: value, interval, n, clusters, repeats, unit of resampling.
        smallest: the smallest effect of interest.
        direction: what the claim says of the effect.
        p: of the decision, corrected (`within_family`); two-sided.
        family: how many claims it was corrected for.
        level: of the interval.
        parts: the same contrast on parts of the data (a release, a set, a paradigm), not corrected.
        partial: what is missing, in words: trials that have not finished, sets that were not evaluated.
        simulated: the judges were; whatever shows the verdict says so.
    """

    claim: str
    outcome: Outcome
    estimate: Estimate
    smallest: float
    direction: Direction
    p: float
    family: int = 1
    level: float = 0.95
    parts: Mapping[str, Estimate] = field(default_factory=dict)
    partial: tuple[str, ...] = ()
    simulated: bool = False

    @property
    def effect(self) -> float:
        return self.estimate.value

    @property
    def interval(self) -> tuple[float, float]:
        return self.estimate.interval(self.level)

    @property
    def unit(self) -> str:
        """What was resampled, and whether other seeds are spoken for."""
        repeats = self.estimate.repeats
        if repeats is None:
            return self.estimate.unit
        return f"{self.estimate.unit}, " + (
            f"{repeats} or more repeats" if repeats > 1 else "one training of each cell"
        )

    @property
    def would_decide(self) -> str:
        """What would decide it with a power of 80 %; empty if it is decided.

        First if the effect is what was estimated, which nothing decides soon that lies near the limit; then if there
        is no effect, or one of twice the smallest.
        """
        if self.outcome != "undecided":
            return ""
        if np.isnan(self.estimate.se):
            return "more triplets: a set has fewer than two that are independent"
        limits = {"greater": (self.smallest,), "less": (-self.smallest,)}
        near = min(abs(self.effect - x) for x in limits.get(self.direction, (self.smallest, -self.smallest)))
        cases = [(near, f"if the effect is {100 * self.effect:+.2f} points")]
        if self.smallest > 0:
            cases.append((self.smallest, f"if it is 0 or {200 * self.smallest:.2f}"))
        found = "; ".join(f"{self._needed(distance)} {case}" for distance, case in cases)
        if self.estimate.repeats == 1:
            found += "; and repeats with other seeds: of one training it cannot be told what the seed does"
        return found

    def _needed(self, distance: float) -> str:
        # The strictest that Holm's correction asks of any of the family.
        level = 1 - (1 - self.level) / self.family
        need = needed(self.estimate, distance, level=level)
        ways = []
        if need.triplets is not None:
            ways.append(f"{need.triplets:,} triplets (there are {self.estimate.n:,})")
        if need.repeats is not None:
            ways.append(f"{need.repeats:,} repeats of each cell (there are {self.estimate.repeats})")
        if not ways:
            ways = [f"{need.times:.1f} times as many triplets and repeats" if need.times < np.inf else "nothing"]
        return " or ".join(ways)

    def __str__(self) -> str:
        low, high = self.interval
        told = (
            f"{self.outcome}: {self.claim}\n"
            f"  {100 * self.effect:+.2f} points of 2AFC [{100 * low:+.2f}, {100 * high:+.2f}], "
            f"smallest of interest {100 * self.smallest:.2f} ({self.direction}), p = {self.p:.3g}, "
            f"{self.estimate.n:,} triplets, resampled by {self.unit}"
        )
        notes = [
            *([f"would decide: {self.would_decide}"] if self.would_decide else []),
            *(f"partial: {what}" for what in self.partial),
            *(["judges simulated"] if self.simulated else []),
        ]
        return "\n  ".join([told, *notes])


def judge(
    claim: str,
    estimate: Estimate,
    smallest: float,
    direction: Direction = "greater",
    *,
    level: float = 0.95,
    parts: Mapping[str, Estimate] | None = None,
    partial: Sequence[str] = (),
    simulated: bool = False,
) -> Verdict:
    """The verdict on one claim by itself; `within_family` corrects several.

    Raises:
        BadInput: `smallest` is negative.
    """
    outcome = decide(*estimate.interval(level), smallest, direction)
    p = p_of_decision(estimate, smallest, direction)
    return Verdict(
        claim, outcome, estimate, smallest, direction, p, 1, level, dict(parts or {}), tuple(partial), simulated
    )


def within_family(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts on claims that are made together: p corrected by Holm; what is then above 1 - level is undecided.

    Their intervals stay what they are, each by itself.
    """
    corrected = holm([one.p for one in verdicts])
    return [
        replace(one, p=float(p), family=len(verdicts), outcome=one.outcome if p <= 1 - one.level else "undecided")
        for one, p in zip(verdicts, corrected, strict=True)
    ]
