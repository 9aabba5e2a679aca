"""Contrasts: their value, interval and p-values against the plain way, scipy's and statsmodels' own, and the truth."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.power import normal_sample_size_one_tail
from statsmodels.stats.weightstats import ttost_paired

from analysis.answers import UNASKED, Answers
from analysis.planted import MEASURE, planted
from analysis.stats import Contrast, Estimate, Needed, estimate, holm, mean, mixed, needed
from humansim.errors import BadInput

A, B = [("a", MEASURE)], [("b", MEASURE)]
CLUSTERED = {"queries": 150, "triplets": 4, "within": 0.5}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def two(answers: Answers) -> Contrast:
    return mean(A, answers.sets) - mean(B, answers.sets)


def differences(answers: Answers, repeat: int = 0) -> np.ndarray:
    return answers.credit(f"a#{repeat}", MEASURE) - answers.credit(f"b#{repeat}", MEASURE)


def test_the_value_is_the_difference_of_mean_soft_credit() -> None:
    answers = planted({"a": 0.7, "b": 0.6}, rng())
    found = estimate(answers, two(answers))
    assert found.value == pytest.approx(differences(answers).mean())
    assert (found.n, found.clusters, found.repeats, found.unit) == (1000, 1000, None, "query image")


def test_sets_weigh_the_same_however_many_triplets_they_have() -> None:
    answers = planted({"a": 0.7, "b": 0.6}, rng(), sets=("one/x", "two/x"))
    few = np.r_[np.arange(30), np.arange(1000, 2000)]
    answers = replace(
        answers,
        nearer=answers.nearer[:, few],
        **{name: getattr(answers, name)[few] for name in ("set", "choice", "judges", "judgement", "query")},
    )
    by_set = [differences(answers)[answers.set == s].mean() for s in (0, 1)]
    assert estimate(answers, two(answers)).value == pytest.approx(np.mean(by_set))
    assert estimate(answers, two(answers).on(["one/x"])).value == pytest.approx(by_set[0])


def naive(answers: Answers, resamples: int) -> np.ndarray:
    """The plain way: whole queries drawn in a loop, their triplets put one after the other."""
    difference, draw, means = differences(answers), rng(1), []
    rows = [np.flatnonzero(answers.query == query) for query in np.unique(answers.query)]
    for _ in range(resamples):
        picked = np.concatenate([rows[i] for i in draw.integers(0, len(rows), len(rows))])
        means.append(np.mean([difference[picked][answers.set[picked] == s].mean() for s in range(len(answers.sets))]))
    return np.array(means)


@pytest.mark.parametrize("sets", [("one/x",), ("one/x", "one/y")], ids=["one set", "two sets share queries"])
def test_the_bootstrap_is_the_naive_loop(sets: tuple[str, ...]) -> None:
    answers = planted({"a": 0.7, "b": 0.66}, rng(), sets=sets, **CLUSTERED)
    found, plain = estimate(answers, two(answers)), naive(answers, 4000)
    assert found.se == pytest.approx(plain.std(), rel=0.04)  # the error of 4000 resamples is 1 %
    assert found.interval() == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.12 * found.se)
    assert found.interval(0.5) == pytest.approx(np.quantile(plain, [0.25, 0.75]), abs=0.08 * found.se)


def test_rows_drawn_and_kinds_drawn_are_one_bootstrap() -> None:
    """Contrasts of many kinds of clusters take the other way through `scores.resampled`."""
    answers = planted({"a": 0.7, "b": 0.66}, rng(), queries=3000)
    noise = rng(5).uniform(-1e-9, 1e-9, len(answers.choice))
    many = replace(answers, choice=np.clip(answers.choice + noise, 0, 1))
    few, all_kinds = (estimate(one, two(answers)) for one in (answers, many))
    assert all_kinds.se == pytest.approx(few.se, rel=0.04)
    assert all_kinds.interval() == pytest.approx(few.interval(), abs=0.12 * few.se)


def test_the_clustered_interval_is_the_analytic_one() -> None:
    answers = planted({"a": 0.7, "b": 0.66}, rng(), **CLUSTERED)
    plain = OLS(differences(answers), np.ones(600))
    robust = plain.fit(cov_type="cluster", cov_kwds={"groups": answers.query}, use_t=True)
    found = estimate(answers, two(answers))
    assert found.se == pytest.approx(robust.bse[0], rel=0.03)
    assert found.df == pytest.approx(149)
    assert found.interval() == pytest.approx(robust.conf_int()[0], abs=0.1 * found.se)
    assert found.p() == pytest.approx(robust.pvalues[0], abs=0.02)
    apart = estimate(answers, two(answers), unit="judgement")
    assert apart.se == pytest.approx(differences(answers).std(ddof=1) / np.sqrt(600), rel=0.03)
    assert apart.unit == "judgement trial"


def test_few_clusters_give_students_interval() -> None:
    answers = planted({"a": 0.7, "b": 0.66}, rng(), queries=8, triplets=40, within=0.5)
    by_query = np.array([differences(answers)[answers.query == q].mean() for q in range(8)])
    student = scipy_stats.t.interval(0.95, 7, by_query.mean(), scipy_stats.sem(by_query))
    found = estimate(answers, two(answers), resamples=40_000)
    # The bootstrap keeps the skewness of eight values, Student's t knows none.
    assert np.ptp(found.interval()) == pytest.approx(np.ptp(student), rel=0.08)


def test_p_values_are_those_of_the_paired_t_tests() -> None:
    answers = planted({"a": 0.7, "b": 0.69}, rng(2))
    a, b = answers.credit("a#0", MEASURE), answers.credit("b#0", MEASURE)
    found = estimate(answers, two(answers), resamples=40_000)
    assert found.p() == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue, abs=0.02)
    for margin in (0.01, 0.02, 0.03):
        schuirmann = ttost_paired(a, b, -margin, margin)[0]
        assert found.p_equivalent(margin) == pytest.approx(schuirmann, abs=0.01)


def test_a_p_value_goes_on_where_the_resamples_end() -> None:
    answers = planted({"a": 0.72, "b": 0.62}, rng(), queries=2000)
    a, b = answers.credit("a#0", MEASURE), answers.credit("b#0", MEASURE)
    found, student = estimate(answers, two(answers)), scipy_stats.ttest_rel(a, b).pvalue
    assert student < 1e-12
    assert np.log10(found.p()) == pytest.approx(np.log10(student), rel=0.1)
    limits = np.linspace(found.value - 8 * found.se, found.value, 200)
    p = [found.p_at_most(x) for x in limits]
    assert p == sorted(p)


def test_an_interval_and_its_p_value_agree() -> None:
    for seed in range(20):
        answers = planted({"a": 0.7, "b": 0.68}, rng(seed), queries=400)
        found = estimate(answers, two(answers), resamples=2000)
        low, high = found.interval()
        for effect, inside in ((low + 1e-4, True), (high - 1e-4, True), (low - 1e-3, False), (high + 1e-3, False)):
            assert (found.p(effect) >= 0.05) == inside


def test_models_that_answer_alike_do_not_differ() -> None:
    answers = planted({"a": 0.7}, rng())
    answers = replace(
        answers,
        rows={("a#0", MEASURE): 0, ("b#0", MEASURE): 1},
        nearer=np.repeat(answers.nearer, 2, axis=0),
        repeats={"a": ("a#0",), "b": ("b#0",)},
    )
    found = estimate(answers, two(answers))
    assert (found.value, found.se) == (0, pytest.approx(2 / found.n, rel=0.05))  # two answers yet unseen
    assert found.p() > 0.9
    assert found.p_equivalent(0.01) < 1e-4
    assert found.p_equivalent(0.001) > 0.05  # 1000 triplets do not show that


def test_of_models_that_were_asked_other_triplets_each_mean_is_over_its_own() -> None:
    """Two protocols: what they evaluate on is not the same."""
    answers = planted({"a": 0.7, "b": 0.66}, rng(), queries=3000)
    answers.nearer[0, 2000:] = UNASKED
    answers.nearer[1, :1200] = UNASKED
    a, b = answers.credit("a#0", MEASURE)[:2000], answers.credit("b#0", MEASURE)[1200:]
    found = estimate(answers, two(answers))
    assert found.value == pytest.approx(a.mean() - b.mean())
    both = np.cov(a[1200:], b[:800])[0, 1] * 800 / 2000 / 1800  # what they have in common is paired
    expected = a.var() / len(a) + b.var() / len(b) - 2 * both
    assert found.se == pytest.approx(np.sqrt(expected), rel=0.03)
    assert found.n == 3000


def test_repeats_are_a_random_factor_of_their_own() -> None:
    answers = planted({"a": 0.7, "b": 0.66}, rng(3), queries=4000, repeats=4, between=0.02)
    found = estimate(answers, two(answers), resamples=40_000)
    runs = np.array([[answers.credit(f"{m}#{r}", MEASURE).mean() for r in range(4)] for m in "ab"])
    averaged = np.mean([differences(answers, r) for r in range(4)], axis=0)
    assert found.variance["judgements"] == pytest.approx(averaged.var(ddof=1) / 4000, rel=0.05)
    assert found.variance["repeats"] == pytest.approx(runs.var(axis=1, ddof=1).sum() / 4, rel=0.05)
    assert found.repeats == 4
    welch = scipy_stats.ttest_ind(runs[0], runs[1], equal_var=False).confidence_interval(0.95)
    assert np.ptp(found.interval()) == pytest.approx(welch.high - welch.low, rel=0.1)


def test_repeats_that_only_err_on_other_triplets_add_nothing() -> None:
    """Their scores differ by what the judgements' part has counted already."""
    of_repeats = []
    for seed in range(40):
        answers = planted({"a": 0.7, "b": 0.66}, rng(seed), queries=500, repeats=5, flips=0.4)
        found = estimate(answers, two(answers), resamples=500)
        runs = np.array([[answers.credit(f"{m}#{r}", MEASURE).mean() for r in range(5)] for m in "ab"])
        of_repeats.append(found.variance["repeats"] / (runs.var(axis=1, ddof=1).sum() / 5))
    assert np.mean(of_repeats) < 0.4  # cut off at 0, so not 0 on average


def test_an_interaction_is_a_difference_of_differences() -> None:
    answers = planted({"a": 0.7, "b": 0.6}, rng(), sets=("one/x", "two/x"))
    easy, hard = ((mean(A, [name]) - mean(B, [name])) for name in answers.sets)
    found = estimate(answers, easy - hard)
    by_set = [differences(answers)[answers.set == s] for s in (0, 1)]
    assert found.value == pytest.approx(by_set[0].mean() - by_set[1].mean())
    assert found.se == pytest.approx(np.sqrt(sum(d.var(ddof=1) / 1000 for d in by_set)), rel=0.03)


def test_contrasts_add_up() -> None:
    half = 0.5 * mean([*A, *B], ["x"])
    assert half.weights == {("a", MEASURE, "x"): 0.25, ("b", MEASURE, "x"): 0.25}
    assert (half - half).weights == {("a", MEASURE, "x"): 0, ("b", MEASURE, "x"): 0}
    assert mean([*A, *A], ["x", "y"]).on(["y"]).weights == {("a", MEASURE, "y"): 1}


def test_what_cannot_be_estimated_is_said() -> None:
    answers = planted({"a": 0.7, "b": 0.6}, rng())
    with pytest.raises(BadInput, match="the contrast is empty"):
        estimate(answers, mean(A, answers.sets) - mean(A, answers.sets))
    with pytest.raises(BadInput, match="cell c: no trial of it has finished"):
        estimate(answers, mean([("c", MEASURE)], answers.sets))
    with pytest.raises(BadInput, match="set 'other' was not answered; known: one/set"):
        estimate(answers, mean(A, ["other"]))
    with pytest.raises(BadInput, match="trial a#0 has no answers by 'l1'; it was scored by cosine"):
        estimate(answers, mean([("a", "l1")], answers.sets))
    with pytest.raises(BadInput, match="nothing to compare has finished"):
        mean([], answers.sets)
    answers.nearer[0] = UNASKED
    with pytest.raises(BadInput, match="trial a#0 has no answers on one/set"):
        estimate(answers, mean(A, answers.sets))


def test_one_cluster_tells_no_interval() -> None:
    answers = planted({"a": 0.7, "b": 0.6}, rng(), queries=1, triplets=50)
    found = estimate(answers, two(answers))
    assert found.value == pytest.approx(differences(answers).mean())
    assert np.isnan(found.interval()).all()
    assert (found.p(), found.p_equivalent(0.5)) == (1, 1)


def test_models_that_never_differed_may_differ_yet() -> None:
    """88 triplets without a difference do not show that there is none; the bound is the exact one."""
    answers = planted({"a": 0.7, "b": 0.6}, rng(), queries=88)
    answers.nearer[:] = answers.nearer[0]
    found = estimate(answers, two(answers), resamples=100_000)
    assert found.value == 0
    exact = scipy_stats.beta.ppf(0.975, 1, 88)  # Clopper and Pearson's, for none of 88
    assert found.interval() == pytest.approx((-exact, exact), rel=0.12)


def test_a_small_set_that_a_resample_may_miss_takes_no_sense_away() -> None:
    """Sets of two triplets each, of queries that they share with a large one."""
    answers = planted({"a": 0.7, "b": 0.66}, rng(), sets=("one/x", "one/y"), queries=200)
    few = np.r_[np.arange(200), 200, 201, 202]
    answers = replace(
        answers,
        nearer=answers.nearer[:, few],
        **{name: getattr(answers, name)[few] for name in ("set", "choice", "judges", "judgement", "query")},
    )
    found = estimate(answers, two(answers))
    assert np.isfinite(found.draws).all()
    small = differences(answers)[200:]
    assert found.se == pytest.approx(np.hypot(0.5 * small.std() / np.sqrt(3), 0.5 * 0.35 / np.sqrt(200)), rel=0.25)


def test_holm_is_holms() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Wright 1992's rule by hand
    assert holm([0.6, 0.7]).tolist() == [1, 1]
    assert holm([]).size == 0


def an_estimate(judgements: float, repeats: float, n: int = 1000, trainings: int | None = 3) -> Estimate:
    se = float(np.sqrt(judgements + repeats))
    variance = {"judgements": judgements, "repeats": repeats}
    return Estimate(0.01, se, 0.01 + se * rng().standard_normal(10_000), 99, variance, n, n, trainings, "query image")


def test_the_number_of_triplets_needed_is_the_usual_one() -> None:
    found = an_estimate(0.2**2 / 1000, 0.0, trainings=None)
    usual = normal_sample_size_one_tail(0.01, 0.8, 0.025, 0.2)
    assert needed(found, 0.01).triplets == pytest.approx(usual, abs=1)
    assert needed(found, 0.01).repeats is None


def test_repeats_are_needed_where_triplets_do_not_help() -> None:
    seeds = an_estimate(1e-6, 1e-4)
    assert needed(seeds, 0.02).triplets is None  # the repeats alone are more than is allowed
    repeats = needed(seeds, 0.02).repeats
    assert repeats is not None
    allowed = (0.02 / (scipy_stats.norm.isf(0.025) + scipy_stats.norm.ppf(0.8))) ** 2
    assert 1e-6 + 1e-4 * 3 / repeats <= allowed < 1e-6 + 1e-4 * 3 / (repeats - 1)
    times = 2e-4 / (allowed / 20**2)
    assert needed(an_estimate(1e-4, 1e-4), 0.001) == Needed(None, None, pytest.approx(times))  # neither alone


def test_as_many_triplets_as_are_said_to_be_needed_do_decide() -> None:
    first = estimate(answers := planted({"a": 0.69, "b": 0.67}, rng(), queries=400), two(answers))
    enough = needed(first, 0.02).triplets
    assert enough is not None
    decided = 0
    for seed in range(100):
        answers = planted({"a": 0.69, "b": 0.67}, rng(seed), queries=enough)
        decided += estimate(answers, two(answers), resamples=1000).p() < 0.05
    assert 0.65 <= decided / 100 <= 0.95  # 80 %, the error of 100 studies and of the first estimate's variance


def test_the_mixed_model_speaks_of_other_backbones() -> None:
    names = [f"m{i}" for i in range(10)]
    shift = rng(1).normal(0, 0.02, 10)
    truth = {name: 0.62 + 0.06 * (i % 2) + shift[i] for i, name in enumerate(names)}
    answers = planted(truth, rng(), sets=("one/x", "two/x", "three/x"))
    table = answers.scores()
    table["large"] = table["cell"].str[1:].astype(int) % 2
    found = mixed(table, "score ~ large + C(set)", "large", "cell")
    assert found.converged
    assert found.groups == 10
    assert found.low < 0.06 < found.high
    odd, even = ([(n, MEASURE) for n in names[i::2]] for i in (1, 0))
    these = estimate(answers, mean(odd, answers.sets) - mean(even, answers.sets))
    assert found.effect == pytest.approx(these.value, abs=1e-6)
    assert found.se > 2 * these.se  # the same backbones on other triplets are surer than other backbones
    with pytest.raises(BadInput, match="no term 'larger'; it has Intercept"):
        mixed(table, "score ~ large + C(set)", "larger", "cell")


def test_planted_scores_are_the_true_ones() -> None:
    answers = planted({"a": 0.7, "b": 0.55}, rng(), queries=50_000, alike=0.3, within=0.2, flips=0.2, repeats=2)
    found = answers.scores().groupby("cell")["score"].mean()
    assert found.to_dict() == pytest.approx({"a": 0.7, "b": 0.55}, abs=0.005)
    people = answers.people().loc["one/set"]
    assert people["fresh_judge"] == pytest.approx(2 / 3, abs=0.005)  # E[q^2 + (1-q)^2], q uniform from 1/2 to 1
