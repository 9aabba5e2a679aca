"""Verdicts: the rule, and what it says of studies whose truth is known."""

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.planted import MEASURE, planted
from analysis.stats import Estimate, estimate, mean
from analysis.verdict import Direction, Evidence, decide, every, evidence, judge, some, within_family
from humansim.errors import BadInput

SMALLEST = 0.01


def compared(effect: float, queries: int, seed: int = 0, **shape: object) -> Estimate:
    """Two models whose true scores differ by `effect`, on so many triplets."""
    answers = planted({"a": 0.66 + effect, "b": 0.66}, np.random.default_rng(seed), queries=queries, **shape)
    return estimate(answers, mean([("a", MEASURE)], answers.sets) - mean([("b", MEASURE)], answers.sets))


RULE = {
    # interval in points: greater, less, different, same
    (1.2, 3.0): ("supported", "refuted", "supported", "refuted"),
    (0.2, 3.0): ("undecided", "refuted", "undecided", "undecided"),  # there is an effect; whether it matters is open
    (0.2, 0.8): ("refuted", "refuted", "refuted", "supported"),  # there is an effect, and it does not matter
    (-0.8, 0.8): ("refuted", "refuted", "refuted", "supported"),
    (-3.0, 0.8): ("refuted", "undecided", "undecided", "undecided"),
    (-3.0, 3.0): ("undecided", "undecided", "undecided", "undecided"),
    (-3.0, -1.2): ("refuted", "supported", "supported", "refuted"),
    (1.0, 3.0): ("undecided", "refuted", "undecided", "undecided"),  # the limit itself is in neither
    (-3.0, 1.0): ("undecided", "undecided", "undecided", "undecided"),
    (math.nan, math.nan): ("undecided", "undecided", "undecided", "undecided"),
}
DIRECTIONS: tuple[Direction, ...] = ("greater", "less", "different", "same")


@pytest.mark.parametrize("interval", RULE)
def test_the_rule(interval: tuple[float, float]) -> None:
    low, high = (end / 100 for end in interval)
    assert tuple(decide(low, high, SMALLEST, direction) for direction in DIRECTIONS) == RULE[interval]


def test_without_a_smallest_effect_the_rule_is_the_usual_test() -> None:
    assert [decide(0.001, 0.02, 0), decide(-0.02, -0.001, 0), decide(-0.01, 0.01, 0)] == [
        "supported",
        "refuted",
        "undecided",
    ]
    with pytest.raises(BadInput, match=r"smallest effect of interest is -0\.01"):
        decide(0.1, 0.2, -0.01)


def test_planted_effects_are_judged_as_they_should_be() -> None:
    said = {
        "known effect": judge("a is better", evidence(compared(0.03, 10_000), SMALLEST)),
        "none": judge("a is better", evidence(compared(0.0, 20_000), SMALLEST)),
        "too small to matter": judge("a is better", evidence(compared(0.006, 40_000), SMALLEST)),
        "too small to matter, few triplets": judge("a is better", evidence(compared(0.004, 1000), SMALLEST)),
        "none, few triplets": judge("a is better", evidence(compared(0.0, 500), SMALLEST)),
        "contrary": judge("a is better", evidence(compared(-0.03, 2000), SMALLEST)),
    }
    assert {name: verdict.outcome for name, verdict in said.items()} == {
        "known effect": "supported",
        "none": "refuted",
        "too small to matter": "refuted",
        "too small to matter, few triplets": "undecided",
        "none, few triplets": "undecided",
        "contrary": "refuted",
    }
    # No p-value against 0 makes an effect matter.
    assert said["too small to matter"].estimate.p() < 0.05


def test_no_difference_can_be_concluded() -> None:
    assert judge("they are alike", evidence(compared(0.0, 20_000), SMALLEST, "same")).outcome == "supported"
    assert judge("they are alike", evidence(compared(0.0, 300), SMALLEST, "same")).outcome == "undecided"
    assert judge("they are alike", evidence(compared(0.03, 10_000), SMALLEST, "same")).outcome == "refuted"
    assert judge("they differ", evidence(compared(-0.03, 10_000), SMALLEST, "different")).outcome == "supported"


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_p_value_is_that_of_the_decision(direction: Direction) -> None:
    seen = set()
    for seed, effect in enumerate(np.linspace(-0.04, 0.04, 20)):
        found = compared(float(effect), 6000, seed)
        outcome = judge("", evidence(found, SMALLEST, direction)).outcome
        p = evidence(found, SMALLEST, direction).p
        if abs(p - 0.05) > 0.002:  # the resamples' own step
            assert (outcome != "undecided") == (p < 0.05)
        seen.add(outcome)
    assert seen == {"supported", "refuted", "undecided"}


def several(effects: list[float], queries: int, seed: int = 0) -> dict[str, Evidence]:
    """Models that are so much above one of their own, each."""
    scores = {f"a{i}": 0.66 + effect for i, effect in enumerate(effects)} | {"b": 0.66}
    answers = planted(scores, np.random.default_rng(seed), queries=queries, alike=0.9)
    b = mean([("b", MEASURE)], answers.sets)
    differences = {a: mean([(a, MEASURE)], answers.sets) - b for a in scores if a != "b"}
    return {a: evidence(estimate(answers, one, resamples=2000), SMALLEST) for a, one in differences.items()}


def test_a_claim_of_several_parts_is_as_good_as_its_worst_and_one_of_alternatives_as_its_best() -> None:
    high, low, between = several([0.05, 0.05], 3000), several([0.05, -0.03], 3000), several([0.05, 0.01], 3000)
    assert [judge("", every(claims)).outcome for claims in (high, low, between)] == [
        "supported",
        "refuted",
        "undecided",
    ]
    assert (every(low).of, every(between).of) == ("a1", "a1")  # what stands in the way
    assert every(low).parts == {name: one.estimate for name, one in low.items()}
    none, unsure = several([-0.03, -0.03], 3000), several([-0.03, 0.01], 3000)
    assert [judge("", some(claims)).outcome for claims in (low, none, unsure)] == ["supported", "refuted", "undecided"]
    assert some(low).of == "a0"
    assert judge("", some({"x": every(low), "y": every(high)})).outcome == "supported"


def test_what_could_not_be_tested_stands_in_the_way_of_support_and_saves_nothing() -> None:
    nothing = {"nothing": evidence(Estimate.none(), SMALLEST)}
    high, low = several([0.05], 3000), several([-0.03], 3000)
    assert judge("", every(nothing | high)).outcome == "undecided"
    assert judge("", every(nothing | low)).outcome == "refuted"
    assert judge("", some(nothing | high)).outcome == "supported"
    assert judge("", some(nothing | low)).outcome == "undecided"
    assert list(every(nothing | high).parts) == ["a0"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("joint", "effects", "wrong"),
    [
        (every, [0.05, 0.05, 0.01], "supported"),  # true of all but one, which is at the limit
        (every, [0.01, 0.01, 0.01], "refuted"),
        (some, [0.01, 0.01, 0.01], "supported"),  # the best of three is picked by the data
        (some, [-0.03, -0.03, 0.01], "refuted"),
    ],
)
def test_joint_verdicts_are_wrong_no_more_often_than_single_ones(joint, effects, wrong) -> None:
    studies = 400
    said = [joint(several(effects, 400, seed)).outcome(0.95) for seed in range(studies)]
    assert said.count(wrong) / studies <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / studies)


def test_a_family_is_corrected_and_what_does_not_hold_is_undecided() -> None:
    alone = [judge(f"claim {i}", evidence(compared(0.02, 3000, seed=i), SMALLEST)) for i in range(8)]
    alone.append(judge("sure", evidence(compared(0.06, 3000), SMALLEST)))
    together = within_family(alone)
    assert [one.family for one in together] == [9] * 9
    assert all(after.p >= before.p for before, after in zip(alone, together, strict=True))
    lost = [i for i, one in enumerate(together) if alone[i].outcome == "supported" and one.outcome == "undecided"]
    assert lost
    assert together[-1].outcome == "supported"
    assert [one.interval for one in together] == [one.interval for one in alone]
    assert within_family([]) == []


def test_an_undecided_verdict_says_what_would_decide() -> None:
    sure, open_ = (judge("a is better", evidence(compared(effect, 1000), SMALLEST)) for effect in (0.08, 0.02))
    assert sure.would_decide == ""
    assert open_.would_decide.count("triplets (there are 1,000)") == 2
    assert "if it is 0 or 2.00" in open_.would_decide
    trained = judge("a is better", evidence(compared(0.02, 10_000, repeats=3, between=0.02), SMALLEST))
    assert trained.outcome == "undecided"
    assert trained.unit == "query image, 3 or more repeats"
    assert "repeats of each cell (there are 3) if it is 0 or 2.00" in trained.would_decide
    both = judge("a is better", evidence(compared(0.02, 500, seed=1, repeats=3, between=0.02), SMALLEST))
    assert "times as many triplets and repeats if it is 0 or 2.00" in both.would_decide


def test_what_no_number_decides_is_said() -> None:
    lone = judge("a is better", evidence(compared(0.02, 1, triplets=30), SMALLEST))
    assert (lone.outcome, lone.p) == ("undecided", 1)
    assert lone.would_decide == "more triplets: a set has fewer than two that are independent"
    alike = judge("a is better", evidence(compared(0.0, 300), 0.0))
    twins = replace(alike, estimate=replace(alike.estimate, value=0.0))
    assert twins.would_decide == "nothing if the effect is +0.00 points"


def test_a_verdict_says_all_that_a_reader_needs() -> None:
    found = compared(0.03, 10_000)
    verdict = judge(
        "a is better",
        evidence(found, SMALLEST),
        parts={"one": found},
        partial=["c has not finished"],
        simulated=True,
    )
    low, high = found.interval()
    assert str(verdict).splitlines() == [
        "supported: a is better",
        f"  {100 * found.value:+.2f} points of 2AFC [{100 * low:+.2f}, {100 * high:+.2f}], smallest of interest 1.00 "
        f"(greater), p = {verdict.p:.3g}, 10,000 triplets, resampled by query image",
        f"  one: {100 * found.value:+.2f} points of 2AFC [{100 * low:+.2f}, {100 * high:+.2f}]",
        "  partial: c has not finished",
        "  judges simulated",
    ]
    assert (verdict.effect, verdict.interval, verdict.unit) == (found.value, (low, high), "query image")
