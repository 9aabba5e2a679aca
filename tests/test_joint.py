"""Many contrasts at once are what each is by itself, and the best are those that cannot be told from the best."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.answers import UNASKED, Answers
from analysis.joint import FRESH_JUDGE, joint
from analysis.planted import MEASURE, planted
from analysis.stats import Contrast, estimate, mean
from humansim.errors import BadInput

SETS = ("one/x", "one/y", "two/z")  # the first two share their queries


def models(scores: dict[str, float], seed: int = 0, **more: object) -> Answers:
    return planted(scores, np.random.default_rng(seed), **{"sets": SETS, "queries": 150, **more})  # type: ignore[arg-type]


def of(cell: str, *sets: str) -> Contrast:
    return mean([(cell, MEASURE)], sets or SETS)


@pytest.mark.parametrize("repeats", [1, 3])
def test_each_is_what_it_is_by_itself(repeats: int) -> None:
    answers = models({"a": 0.7, "b": 0.66, "c": 0.6}, triplets=3, within=0.3, flips=0.1, repeats=repeats, between=0.01)
    contrasts = [of("a"), of("b", "one/x"), of("a") - of("b"), of("a", "one/x", "two/z") - of("c", "one/y")]
    together, alone = joint(answers, contrasts, resamples=6000), [estimate(answers, one) for one in contrasts]
    low, high = together.interval()
    for i, one in enumerate(alone):
        assert together.value[i] == pytest.approx(one.value, abs=1e-12)
        assert together.variance[i] ** 0.5 == pytest.approx(one.se, rel=0.04)
        assert together.repeats[i] == pytest.approx(one.variance["repeats"], rel=1e-9, abs=1e-15)
        assert (low[i], high[i]) == pytest.approx(one.interval(), abs=0.15 * one.se)
        assert together.n[i] == one.n


def test_triplets_that_were_not_asked_do_not_count() -> None:
    answers = models({"a": 0.7, "b": 0.66})
    nearer = answers.nearer.copy()
    nearer[answers.rows["b#0", MEASURE], ::3] = UNASKED
    answers = replace(answers, nearer=nearer)
    contrasts = [of("a"), of("b"), of("a") - of("b")]
    found, alone = joint(answers, contrasts, resamples=6000), [estimate(answers, one) for one in contrasts]
    assert found.value == pytest.approx([one.value for one in alone])
    assert np.sqrt(found.variance) == pytest.approx([one.se for one in alone], rel=0.04)
    assert found.n.tolist() == [450, 300, 450]


def test_a_fresh_judge_is_the_ceiling_of_that_name() -> None:
    answers = models({"a": 0.7})
    found = joint(answers, [mean([FRESH_JUDGE], [name]) for name in SETS])
    assert found.value == pytest.approx(answers.people()["fresh_judge"].to_numpy())
    alone = replace(answers, judges=np.ones_like(answers.judges))
    assert np.isnan(joint(alone, [of("a") - mean([FRESH_JUDGE], SETS)]).interval()).all()


def test_differences_are_paired() -> None:
    """Two models that answer alike differ by much less than two intervals would say."""
    answers = models({"a": 0.7, "b": 0.7}, alike=0.98)
    found = joint(answers, [of("a"), of("b"), of("a") - of("b")])
    assert found.variance[2] < 0.3 * (found.variance[0] + found.variance[1])
    assert (found.judgements[:, 0] - found.judgements[:, 1]) == pytest.approx(found.judgements[:, 2])


def test_what_is_clearly_worse_is_not_among_the_best() -> None:
    answers = models({"a": 0.60, "b": 0.72, "c": 0.72, "d": 0.55}, alike=0.9)
    assert joint(answers, [of(cell) for cell in "abcd"]).not_worse().tolist() == [False, True, True, False]


def test_what_answers_the_same_is_told_apart_by_nothing() -> None:
    answers = models({"a": 0.7, "b": 0.6})
    twin = replace(answers, repeats={**answers.repeats, "c": answers.repeats["a"]})
    assert joint(twin, [of(cell) for cell in "abc"]).not_worse().tolist() == [True, False, True]


def test_rivals_alone_count() -> None:
    answers = models({"a": 0.6, "b": 0.72, "c": 0.66})
    rivals = np.array([[1, 0, 1], [1, 1, 1], [1, 0, 1]], dtype=bool)  # b is nobody's
    assert joint(answers, [of(cell) for cell in "abc"]).not_worse(rivals).tolist() == [False, True, True]


@pytest.mark.slow
def test_the_truly_best_is_left_out_in_few_studies() -> None:
    """Ten models that are the same, so that any of them is truly the best: the first is kept in 95 % of studies.

    Which of them comes out on top by luck has no part in it. Three standard errors of 400 studies are 3.3 %.
    """
    kept = [
        bool(joint(answers, [mean([(cell, MEASURE)], ["one/x"]) for cell in answers.repeats]).not_worse()[0])
        for seed in range(400)
        for answers in [models({f"m{i}": 0.65 for i in range(10)}, seed, sets=("one/x",), queries=200)]
    ]
    assert 0.917 <= np.mean(kept) <= 0.983, np.mean(kept)


def test_what_is_not_there_is_refused() -> None:
    answers = models({"a": 0.7})
    for wrong, message in (
        (of("z"), "cell z: no trial"),
        (of("a", "one/q"), "set 'one/q' was not answered"),
        (mean([("a", "l1")], SETS), "no answers by 'l1'"),
    ):
        with pytest.raises(BadInput, match=message):
            joint(answers, [wrong])
