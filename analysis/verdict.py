"""What a hypothesis comes to: supported, refuted or undecided, by one rule for all of them; untested without data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from analysis.numerals import between, points
from analysis.stats import Estimate, Mixed, holm, needed
from humansim.errors import BadInput
from humansim.tables import counted

Direction = Literal["greater", "less", "different", "same"]
Outcome = Literal["supported", "refuted", "undecided", "untested"]


def decide(low: float, high: float, smallest: float, direction: Direction = "greater") -> Outcome:
    """The rule. A claim says that an effect matters: that it is at least `smallest`, the smallest that would.

    It is supported if the whole interval lies where the claim says, beyond `smallest` and not only beyond 0, and
    refuted if none of it does; else it is undecided. So no effect, and an effect too small to matter, both refute a
    claim once the data are enough to show it, and however small a p-value against 0 is, it supports none. Either
    verdict is wrong in at most (1 - level) / 2 of studies ("different", and against "same": in 1 - level, where
    `smallest` is small beside the interval), and more data decide in the end, unless the effect is just `smallest`.

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


@dataclass(frozen=True)
class Evidence:
    """What the data say of a claim: of one contrast (`evidence`), or of several together (`every`, `some`).

    Attributes:
        estimate: of one contrast; of several, of the one that settles it, or else that is the farthest from settled.
        smallest: the smallest effect of interest.
        direction: what is claimed of the effect.
        holds: one-sided p-value of "the claim is false": small where it is supported.
        fails: one-sided p-value of "the claim is true": small where it is refuted.
        of: which contrast the estimate is of; empty if there is only one.
        parts: all of which anything has finished.
    """

    estimate: Estimate
    smallest: float
    direction: Direction
    holds: float
    fails: float
    of: str = ""
    parts: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def p(self) -> float:
        """Two-sided: at most 1 - level where it is decided at that level, either way."""
        return min(1.0, 2 * min(self.holds, self.fails))

    def outcome(self, level: float) -> Outcome:
        """What comes of it at a level: undecided where the data are too few to tell, untested where there are none."""
        if not self.estimate.n:
            return "untested"
        if not self.of:
            return decide(*self.estimate.interval(level), self.smallest, self.direction)
        if self.p > 1 - level:
            return "undecided"
        return "supported" if self.holds < self.fails else "refuted"


def evidence(found: Estimate, smallest: float, direction: Direction = "greater") -> Evidence:
    """What one contrast says: the p-values that go with `decide`."""
    above, below = found.p_at_most(smallest), found.p_at_least(-smallest)
    holds, fails = {
        "greater": (above, found.p_at_least(smallest)),
        "less": (below, found.p_at_most(-smallest)),
        "different": (min(above, below), found.p_equivalent(smallest)),
        "same": (found.p_equivalent(smallest), min(above, below)),
    }[direction]
    return Evidence(found, smallest, direction, holds, fails)


def every(claims: Mapping[str, Evidence]) -> Evidence:
    """What is said of the claim that all of these hold.

    An intersection-union test (Berger 1982): supported where each of them is, at its own level, without correction;
    refuted where one of them is, after Bonferroni's correction for having looked at all. A claim on which there are no
    data stands in the way of support, and does not save the others.

    Args:
        claims: by what tells them apart.
    """
    holds, fails = (np.array([getattr(one, side) for one in claims.values()]) for side in ("holds", "fails"))
    joint = float(holds.max()), float(min(1.0, len(claims) * fails.min()))
    told = [np.isfinite(one.estimate.value) for one in claims.values()]
    at = int(fails.argmin()) if joint[1] < joint[0] else int(np.where(told, holds, -1).argmax())
    return _joint(claims, at, *joint)


def some(claims: Mapping[str, Evidence]) -> Evidence:
    """What is said of the claim that at least one of these holds: `every` turned round.

    Supported where one is, after Bonferroni's correction (so that the one may be picked by the data); refuted where
    each is.
    """
    holds, fails = (np.array([getattr(one, side) for one in claims.values()]) for side in ("holds", "fails"))
    told = [np.isfinite(one.estimate.value) for one in claims.values()]
    return _joint(
        claims, int(np.where(told, holds, 2).argmin()), float(min(1.0, len(claims) * holds.min())), float(fails.max())
    )


def _joint(claims: Mapping[str, Evidence], at: int, holds: float, fails: float) -> Evidence:
    name, one = list(claims.items())[at]
    known = {key: found for own, each in claims.items() for key, found in (each.parts or {own: each.estimate}).items()}
    parts = {key: found for key, found in known.items() if found.n}
    return Evidence(one.estimate, one.smallest, one.direction, holds, fails, one.of or name, parts)


@dataclass(frozen=True)
class Verdict:
    """What a hypothesis comes to. Effects are shares: 0.01 is one point of 2AFC.

    Attributes:
        claim: in a sentence.
        outcome: supported, refuted or undecided (`decide`), after correction for the family; untested where nothing
            has finished that it could be tested on.
        estimate: the contrast: value, interval, n, clusters, repeats, unit of resampling. NaN, with n = 0, where
            nothing has finished that it could be tested on.
        smallest: the smallest effect of interest.
        direction: what the claim says of the effect.
        p: of the decision, corrected (`within_family`); two-sided.
        family: how many claims it was corrected for.
        level: of the interval.
        of: which of several contrasts the estimate is of, if the claim is about several (`Evidence`).
        parts: these contrasts, and what else is to be told: on a release, with other rows. Not corrected.
        mixed: by name, mixed models that speak of other backbones too: a second opinion.
        tested_on: which rows: how many models, sets, which protocol; "nothing" where it is untested.
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
    of: str = ""
    parts: Mapping[str, Estimate] = field(default_factory=dict)
    mixed: Mapping[str, Mixed] = field(default_factory=dict)
    tested_on: str = ""
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
        """What would decide it with a power of 80 %; empty if it is decided, or untested.

        First if the effect is what was estimated, which nothing decides soon that lies near the limit; then if there
        is no effect, or one of twice the smallest.
        """
        if self.outcome != "undecided":
            return ""
        if np.isnan(self.estimate.se):
            return "more triplets: a set has fewer than two that are independent"
        limits = {"greater": (self.smallest,), "less": (-self.smallest,)}
        near = min(abs(self.effect - x) for x in limits.get(self.direction, (self.smallest, -self.smallest)))
        cases = [(near, f"if the effect is {points(self.effect)} points")]
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
        corrected = f" (corrected for {self.family} claims)" if self.family > 1 else ""
        notes = [
            f"{self.outcome}: {self.claim}",
            f"{f'{self.of}: ' if self.of else ''}{self._points(self.effect, self.interval)}, smallest of interest "
            f"{100 * self.smallest:.2f} ({self.direction}), p = {self.p:.3g}{corrected}, "
            f"{counted(self.estimate.n, 'triplet')}, resampled by {self.unit}"
            if self.estimate.n
            else "nothing to test it on is among the finished trials",
            *([f"tested on: {self.tested_on}"] if self.tested_on and self.estimate.n else []),
            *(f"{name}: {self._points(one.value, one.interval(self.level))}" for name, one in self.parts.items()),
            *(
                f"over backbones, {name}: {self._points(one.effect, (one.low, one.high))}, {one.groups} backbones"
                + ("" if one.converged else "; the fit did not converge")
                for name, one in self.mixed.items()
            ),
            *([f"would decide: {self.would_decide}"] if self.would_decide else []),
            *(f"partial: {what}" for what in self.partial),
            *(["judges simulated"] if self.simulated else []),
        ]
        return "\n  ".join(notes)

    @staticmethod
    def _points(effect: float, interval: tuple[float, float]) -> str:
        return f"{points(effect)} points of 2AFC {between(interval)}"


def judge(
    claim: str,
    found: Evidence,
    *,
    level: float = 0.95,
    parts: Mapping[str, Estimate] | None = None,
    mixed: Mapping[str, Mixed] | None = None,
    tested_on: str = "",
    partial: Sequence[str] = (),
    simulated: bool = False,
) -> Verdict:
    """The verdict on one claim by itself; `within_family` corrects several.

    Raises:
        BadInput: the smallest effect of interest is negative.
    """
    return Verdict(
        claim=claim,
        outcome=found.outcome(level),
        estimate=found.estimate,
        smallest=found.smallest,
        direction=found.direction,
        p=found.p,
        level=level,
        of=found.of,
        parts={**found.parts, **(parts or {})},
        mixed=dict(mixed or {}),
        tested_on=tested_on,
        partial=tuple(partial),
        simulated=simulated,
    )


def within_family(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts on claims that are made together: p corrected by Holm; what is then above 1 - level is undecided,
    unless there was nothing to test it on.

    Their intervals stay what they are, each by itself.
    """
    corrected = holm([one.p for one in verdicts])
    return [
        replace(one, p=float(p), family=len(verdicts), outcome=one.outcome if kept else "undecided")
        for one, p in zip(verdicts, corrected, strict=True)
        for kept in [p <= 1 - one.level or one.outcome == "untested"]
    ]
