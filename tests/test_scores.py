"""Scores and ceilings against what one would write down naively, and against published numbers."""

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humansim.scores import bootstrap_interval, ceilings, credit, majority_accuracy, summary, two_afc

JUDGES = 5
# Few different distances, so that ties occur; shares as votes of five, and any.
distances = st.sampled_from([0.0, 0.1, 0.25, 1.0, 1e-30, 3e4]) | st.floats(0, 10)
votes = st.integers(0, JUDGES).map(lambda right: right / JUDGES)
answers = st.lists(st.tuples(distances, distances, votes | st.floats(0, 1)), min_size=1, max_size=30)
votes_of_few = st.lists(st.tuples(st.integers(2, 6), st.integers(0, 6)).filter(lambda v: v[1] <= v[0]), min_size=1)


def columns(rows: list[tuple]) -> list[np.ndarray]:
    return [np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)]


def naive_credit(left: float, right: float, choice: float) -> float:
    if right < left:
        return choice
    if left < right:
        return 1.0 - choice
    return 0.5


@settings(deadline=None)
@given(answers)
def test_the_score_is_the_mean_of_naively_counted_credit(rows: list[tuple]) -> None:
    earned = [naive_credit(*row) for row in rows]
    assert credit(*columns(rows)).tolist() == earned
    assert two_afc(*columns(rows)) == pytest.approx(math.fsum(earned) / len(earned), abs=1e-12)


@settings(deadline=None)
@given(answers)
def test_accuracy_is_the_naively_counted_agreement_with_the_majority(rows: list[tuple]) -> None:
    agreed = []
    for left, right, choice in rows:
        if abs(choice - 0.5) <= 6e-6:  # rounding of the share leaves an even split even
            continue
        agreed.append(0.5 if left == right else float((right < left) == (choice > 0.5)))
    accuracy = majority_accuracy(*columns(rows))
    if agreed:
        assert accuracy == pytest.approx(sum(agreed) / len(agreed), abs=1e-12)
    else:
        assert math.isnan(accuracy)


@settings(deadline=None)
@given(answers)
def test_ceilings_without_known_judges_are_naive_means_and_say_nothing_of_a_fresh_judge(rows: list[tuple]) -> None:
    choice = columns(rows)[2]
    found = ceilings(choice)
    assert found.plug_in == pytest.approx(math.fsum(p * p + (1 - p) * (1 - p) for p in choice) / len(choice))
    assert found.best == pytest.approx(math.fsum(max(p, 1 - p) for p in choice) / len(choice))
    assert math.isnan(found.fresh_judge)


@settings(deadline=None)
@given(votes_of_few)
def test_a_fresh_judge_is_the_mean_over_all_ordered_pairs_of_distinct_judges(rows: list[tuple[int, int]]) -> None:
    agreement = []
    for count, right in rows:
        people = [1] * right + [0] * (count - right)
        agreement.append(np.mean([one == other for one, other in itertools.permutations(people, 2)]))
    count, right = columns(rows)
    assert ceilings(right / count, count).fresh_judge == pytest.approx(np.mean(agreement), abs=1e-12)


def test_triplets_with_one_or_an_unknown_number_of_judges_say_nothing_of_a_fresh_judge() -> None:
    assert ceilings([0.5, 1.0, 0.3], [2, 1, 0]).fresh_judge == ceilings([0.5], 2).fresh_judge == 0.0


@settings(deadline=None)
@given(answers, st.randoms(use_true_random=False))
def test_order_does_not_matter_nor_does_saying_everything_twice(rows: list[tuple], shuffle) -> None:
    other = 2 * rows
    shuffle.shuffle(other)
    for measure in (two_afc, majority_accuracy):
        assert measure(*columns(other)) == pytest.approx(measure(*columns(rows)), abs=1e-12, nan_ok=True)
    one, two = (ceilings(columns(r)[2], JUDGES) for r in (rows, other))
    assert (two.plug_in, two.fresh_judge, two.best) == pytest.approx((one.plug_in, one.fresh_judge, one.best))


@settings(deadline=None)
@given(answers)
def test_swapping_left_and_right_changes_nothing(rows: list[tuple]) -> None:
    left, right, choice = columns(rows)
    assert two_afc(right, left, 1 - choice) == pytest.approx(two_afc(left, right, choice), abs=1e-12)
    assert majority_accuracy(right, left, 1 - choice) == pytest.approx(
        majority_accuracy(left, right, choice), nan_ok=True
    )
    one, two = ceilings(choice, JUDGES), ceilings(1 - choice, JUDGES)
    assert (two.plug_in, two.fresh_judge, two.best) == pytest.approx((one.plug_in, one.fresh_judge, one.best))


@settings(deadline=None)
@given(answers)
def test_turning_every_answer_round_earns_the_rest(rows: list[tuple]) -> None:
    left, right, choice = columns(rows)
    assert two_afc(right, left, choice) == pytest.approx(1 - two_afc(left, right, choice), abs=1e-12)


@settings(deadline=None)
@given(answers)
def test_no_score_is_above_the_best_ceiling(rows: list[tuple]) -> None:
    left, right, choice = columns(rows)
    best = ceilings(choice).best
    assert two_afc(left, right, choice) <= best + 1e-12
    assert two_afc(1 - choice, choice, choice) <= best + 1e-12
    assert two_afc(choice, 1 - choice, choice) == pytest.approx(best)  # the majority's own answers reach it


@settings(deadline=None)
@given(votes_of_few)
def test_a_fresh_judge_is_below_plug_in_which_is_below_best(rows: list[tuple[int, int]]) -> None:
    count, right = columns(rows)
    found = ceilings(right / count, count)
    assert found.fresh_judge <= found.plug_in + 1e-12
    assert found.plug_in <= found.best + 1e-12


def test_ties_earn_one_half_whatever_people_said() -> None:
    assert credit([1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.5, 1.0]).tolist() == [0.5, 0.5, 0.5]
    assert majority_accuracy([1.0, 2.0], [1.0, 2.0], [0.0, 1.0]) == 0.5


def test_nothing_scores_nothing() -> None:
    assert math.isnan(two_afc([], [], []))
    assert math.isnan(majority_accuracy([1.0], [2.0], [0.5]))
    assert math.isnan(ceilings([]).best)


def test_distances_of_float32_are_compared_as_they_are() -> None:
    tie = np.float32(0.1)
    assert credit([tie], [np.nextafter(tie, np.float32(1))], [0.2]).tolist() == [0.8]


@settings(deadline=None, max_examples=30)
@given(st.lists(votes, min_size=2, max_size=200), st.integers(0, 5))
def test_an_interval_holds_the_mean_lies_within_the_values_and_is_deterministic(values: list, seed: int) -> None:
    low, high = bootstrap_interval(values, resamples=2000, seed=seed)
    assert min(values) - 1e-9 <= low <= np.mean(values) + 1e-9
    assert np.mean(values) - 1e-9 <= high <= max(values) + 1e-9
    assert (low, high) == bootstrap_interval(values, resamples=2000, seed=seed)


@settings(deadline=None, max_examples=30)
@given(st.lists(votes, min_size=2, max_size=60), st.randoms(use_true_random=False))
def test_rows_in_clusters_of_their_own_are_just_rows(values: list, shuffle) -> None:
    names = list(range(len(values)))
    shuffle.shuffle(names)
    assert bootstrap_interval(values, names, resamples=500) == bootstrap_interval(values, resamples=500)


@settings(deadline=None, max_examples=20)
@given(st.lists(votes, min_size=10, max_size=60).filter(lambda values: len(set(values)) > 1), st.integers(2, 6))
def test_saying_everything_again_in_the_same_cluster_adds_no_certainty(values: list, times: int) -> None:
    again, cluster = np.repeat(values, times), np.repeat(np.arange(len(values)), times)
    as_clusters = bootstrap_interval(again, cluster, resamples=4000)
    as_rows = bootstrap_interval(again, resamples=4000)
    assert as_clusters == pytest.approx(bootstrap_interval(values, resamples=4000), abs=1e-9)
    assert np.ptp(as_clusters) > np.ptp(as_rows)


def test_clusters_of_unequal_size_are_resampled_whole() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 8, 40)
    cluster = np.repeat(np.arange(40), sizes)
    values = np.repeat(rng.uniform(size=40), sizes) + rng.normal(0, 0.01, len(cluster))
    means = []
    for _ in range(4000):
        drawn = rng.integers(0, 40, 40)
        means.append(np.concatenate([values[cluster == c] for c in drawn]).mean())
    assert bootstrap_interval(values, cluster) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)


def test_one_cluster_says_nothing_about_certainty() -> None:
    assert all(map(math.isnan, bootstrap_interval([0.2, 0.4, 0.9], [7, 7, 7])))
    assert all(map(math.isnan, bootstrap_interval([0.2])))
    assert all(map(math.isnan, bootstrap_interval([])))


def test_a_wider_level_gives_a_wider_interval() -> None:
    values = np.random.default_rng(0).uniform(size=50)
    assert np.ptp(bootstrap_interval(values, level=0.99)) > np.ptp(bootstrap_interval(values, level=0.8))


@pytest.mark.parametrize("clustered", [False, True])
def test_an_interval_covers_the_truth_about_as_often_as_it_says(clustered: bool) -> None:
    # 300 data sets: the share that is covered has a standard error of 1.3 points; few clusters cost a little more.
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        chance = rng.beta(4, 2, size=60)  # mean 2/3
        values = rng.binomial(JUDGES, chance) / JUDGES
        cluster = None
        if clustered:
            values = np.concatenate([rng.binomial(JUDGES, chance) / JUDGES for _ in range(3)])
            cluster = np.tile(np.arange(60), 3)
        low, high = bootstrap_interval(values, cluster, resamples=1000)
        covered += low <= 2 / 3 <= high
    assert 0.90 <= covered / 300 <= 0.985


@settings(deadline=None, max_examples=20)
@given(answers)
def test_the_summary_is_made_of_its_parts(rows: list[tuple]) -> None:
    found = summary(*columns(rows))
    low, high = bootstrap_interval(credit(*columns(rows)))
    assert found == pytest.approx(
        {
            "n": len(rows),
            "score": two_afc(*columns(rows)),
            "low": low,
            "high": high,
            "accuracy": majority_accuracy(*columns(rows)),
        },
        nan_ok=True,
    )


# Published or recomputed by others, in per cent; shared/data/README.md has the same table.
SETS = ("traditional", "cnn", "superres", "deblur", "color", "frameinterp")
COUNTS = (4720, 4720, 10856, 9440, 4720, 1888)
TIES = (0, 11, 56, 4, 0, 0)
NETWORKS = {
    "alex_vanilla": (77.4788, 82.8708, 71.1883, 61.0381, 65.2331, 62.4258),
    "vgg_shift_tolerant": (78.8347, 83.5275, 71.0667, 61.2013, 64.5763, 63.0297),
}
PLUG_IN = (80.84, 84.35, 73.60, 66.09, 68.83, 68.61)
FRESH_JUDGE = (76.1, 80.4, 67.0, 57.6, 61.0, 60.8)
BEST = (85.78, 88.47, 80.12, 74.00, 76.41, 75.97)


def bapps(folder: Path, network: str, name: str) -> pd.DataFrame:
    file = folder / "bapps_votes" / network / f"{name}.csv.gz"
    return pd.read_csv(file, header=None, names=["path", "left", "right", "score", "choice"])


@pytest.mark.parametrize("network", NETWORKS)
def test_bapps_scores_are_the_published_ones(shared_data: Path, network: str) -> None:
    for name, count, published in zip(SETS, COUNTS, NETWORKS[network], strict=True):
        frame = bapps(shared_data, network, name)
        assert len(frame) == count
        earned = credit(frame.left, frame.right, frame.choice)
        assert 100 * two_afc(frame.left, frame.right, frame.choice) == pytest.approx(published, abs=0.001), name
        # Each triplet's credit as its authors' own program wrote it down, ties included.
        np.testing.assert_allclose(earned, frame.score, atol=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
def test_bapps_has_ties_and_each_earns_one_half(shared_data: Path, network: str) -> None:
    for name, ties in zip(SETS, TIES, strict=True):
        frame = bapps(shared_data, network, name)
        tied = (frame.left == frame.right).to_numpy()
        assert credit(frame.left, frame.right, frame.choice)[tied].tolist() == ties * [0.5]


def test_bapps_ceilings_are_the_published_ones(shared_data: Path) -> None:
    found = [ceilings(bapps(shared_data, "alex_vanilla", name).choice, JUDGES) for name in SETS]
    assert [100 * c.plug_in for c in found] == pytest.approx(PLUG_IN, abs=0.0051)
    assert [100 * c.fresh_judge for c in found] == pytest.approx(FRESH_JUDGE, abs=0.051)
    assert 100 * np.mean([c.fresh_judge for c in found]) == pytest.approx(67.2, abs=0.051)
    assert [100 * c.best for c in found] == pytest.approx(BEST, abs=0.0051)
