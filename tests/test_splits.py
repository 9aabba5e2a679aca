"""Splits share what they say they share and nothing else, whatever the triplets look like."""

from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import (
    among,
    any_judgements,
    judgements,
    origin,
    own_images,
    patches,
    ranked,
    split_or_reject,
    store_of,
    study,
    unordered,
)

from humansim.audit import shared
from humansim.errors import BadInput
from humansim.fit_sets import choose_fit
from humansim.judgements import Judgements, Triplets
from humansim.splits import FEWEST, SHARES, Split, drawn, split, split_heldout


def shared_between_parts(split: Split, things: list) -> set:
    """Things, one list a row, that are in more than one part."""
    parts = [{thing for row in rows for thing in things[row]} for rows in split.parts.values()]
    return (parts[0] & parts[1]) | (parts[0] & parts[2]) | (parts[1] & parts[2])


def as_sets(split: Split, triplets: Triplets) -> dict[str, Counter]:
    """The parts as bags of judgements, whatever their rows."""
    columns = [list(map(str, getattr(triplets, field.name))) for field in fields(Triplets)]
    rows = list(zip(*columns, strict=True))
    return {name: Counter(rows[row] for row in part) for name, part in split.parts.items()}


@settings(deadline=None, max_examples=150)
@given(any_judgements(), st.integers(0, 3))
def test_no_row_is_in_two_parts_and_none_is_lost(given: Judgements, seed: int) -> None:
    split = split_or_reject(given, seed)
    assert list(split.parts) == list(SHARES)
    rows = np.concatenate(list(split.parts.values()))
    assert len(np.unique(rows)) == len(rows)
    assert len(rows) + split.left_out == len(given.triplets)
    assert all((np.diff(part) > 0).all() for part in split.parts.values())
    assert all(len(part) > 0 for part in split.parts.values())


@settings(deadline=None, max_examples=150)
@given(any_judgements(), st.integers(0, 3))
def test_parts_share_nothing_of_what_they_are_split_by(given: Judgements, seed: int) -> None:
    split = split_or_reject(given, seed)
    triplets = given.triplets
    if split.by == "image":
        assert not shared_between_parts(split, triplets.images.tolist())
        assert min(map(len, split.parts.values())) >= FEWEST
    else:
        assert split.by == "trial"
        known = [[trial] if trial >= 0 else [] for trial in triplets.trial.tolist()]
        assert not shared_between_parts(split, known)
        assert not shared_between_parts(split, [[one] for one in unordered(triplets)])


@settings(deadline=None, max_examples=100)
@given(any_judgements(), st.integers(0, 3), st.randoms(use_true_random=False))
def test_a_split_depends_on_the_seed_and_not_on_the_order_of_the_rows(given: Judgements, seed: int, shuffle) -> None:
    order = list(range(len(given.triplets)))
    shuffle.shuffle(order)
    other = replace(given, triplets=given.triplets[np.array(order)])
    one, two = split_or_reject(given, seed), split_heldout(other, seed)
    assert (one.by, one.left_out) == (two.by, two.left_out)
    assert as_sets(one, given.triplets) == as_sets(two, other.triplets)


def test_the_same_seed_gives_the_same_split_and_another_another() -> None:
    given = own_images(300)
    one, same, other = split_heldout(given, 1), split_heldout(given, 1), split_heldout(given, 2)
    assert all((one.parts[part] == same.parts[part]).all() for part in SHARES)
    assert one.parts["fit"].tolist() != other.parts["fit"].tolist()


@settings(deadline=None, max_examples=30)
@given(st.integers(120, 400), st.integers(1, 3), st.integers(0, 9))
def test_shares_are_kept_in_every_set_where_each_triplet_has_its_own_images(count: int, sets: int, seed: int) -> None:
    given = own_images(count, sets)
    split = split_heldout(given, seed)
    assert split.by == "image"
    assert split.left_out == 0
    for name, share in SHARES.items():
        per_set = np.bincount(given.triplets.set[split.parts[name]], minlength=sets)
        wanted = share * np.bincount(given.triplets.set, minlength=sets)
        assert (np.abs(per_set - wanted) <= 1).all()


def test_many_images_that_hang_together_are_dealt_out_and_what_straddles_is_left_out() -> None:
    given = judgements(among(60, 4000, np.random.default_rng(0)))
    split = split_heldout(given)
    assert split.by == "image"
    assert split.left_out > 2000
    assert not shared_between_parts(split, given.triplets.images.tolist())


def test_few_images_are_shared_and_the_triplets_are_not() -> None:
    given = judgements(among(8, 500, np.random.default_rng(0)))
    split = split_heldout(given)
    assert split.by == "trial"
    assert split.left_out == 0
    fit = choose_fit(given, split, "triplet", 500)
    assert shared(given.triplets, fit, split.parts["test"], store_of(given))["images"] == 8


def test_pools_of_images_are_split_by_image_however_few_the_pools() -> None:
    # Each pool alone is split by image; that there are three of them must not make their parts share images.
    rng = np.random.default_rng(0)
    pools = np.concatenate([among(60, 2000, rng, start) for start in (0, 60, 120)])
    split = split_heldout(judgements(pools, np.repeat([0, 1, 2], 2000)))
    assert split.by == "image"
    assert min(map(len, split.parts.values())) >= FEWEST


def test_trials_that_do_not_repeat_each_other_are_kept_whole() -> None:
    rng = np.random.default_rng(0)
    each_once = np.array([(q, a, b) for q in range(8) for a in range(8) for b in range(a) if q not in (a, b)])
    given = judgements(rng.permutation(each_once), trial=np.arange(len(each_once)) // 3)
    split = split_heldout(given)
    assert (split.by, split.left_out) == ("trial", 0)


def test_a_triplet_that_several_trials_asked_about_is_in_one_part() -> None:
    rng = np.random.default_rng(0)
    images = np.repeat(among(8, 60, rng), 2, axis=0)  # everything was asked twice, in different trials
    given = judgements(images, trial=np.arange(120))
    split = split_heldout(given)
    assert not shared_between_parts(split, [[one] for one in unordered(given.triplets)])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_judgements_for_three_parts_are_bad_input(count: int) -> None:
    with pytest.raises(BadInput, match=rf"made up: {count} judgements are too few.*protocol='all'"):
        split_heldout(own_images(count))


def test_one_triplet_asked_often_is_too_few_judgements() -> None:
    with pytest.raises(BadInput, match="too few"):
        split_heldout(judgements(np.tile([[0, 1, 2], [0, 2, 1]], (50, 1))))


def test_protocol_all_tests_on_everything() -> None:
    found = split(own_images(7), "all")
    assert {name: len(rows) for name, rows in found.parts.items()} == {"fit": 0, "validation": 0, "test": 7}


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_heldout_parts_share_no_trial_and_outside_birds_no_image(seed: int) -> None:
    whole = study(seed)
    parts = split(whole, "heldout").parts
    for a, b in (("fit", "validation"), ("fit", "test"), ("validation", "test")):
        one, two = whole.triplets[parts[a]], whole.triplets[parts[b]]
        assert not set(one.trial[one.trial >= 0]) & set(two.trial[two.trial >= 0])
        assert not set(one.unordered) & set(two.unordered)
        for name in ("bapps", "hsj"):
            ours = whole.triplets[parts[a][origin(whole, parts[a]) == name]].images
            theirs = whole.triplets[parts[b][origin(whole, parts[b]) == name]].images
            assert not set(ours.ravel()) & set(theirs.ravel())
    assert np.bincount(whole.triplets.set[parts["test"]], minlength=7).max() == 40
    assert np.bincount(whole.triplets.set[parts["validation"]], minlength=7).max() <= 8


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_the_image_disjoint_variant_shares_no_image_even_of_birds(seed: int) -> None:
    birds = ranked("birds16", 208, 12_000, np.random.default_rng(seed))
    found = split(birds, "heldout_images")
    images = [set(birds.triplets[rows].images.ravel()) for rows in found.parts.values()]
    assert not images[0] & images[1]
    assert not images[0] & images[2]
    assert not images[1] & images[2]
    assert found.left_out > 0
    few = ranked("birds16", 12, 100, np.random.default_rng(seed))
    with pytest.raises(BadInput, match=r"share no image.*protocol='heldout'"):
        split(few, "heldout_images")


def test_the_thesis_fits_on_what_it_evaluates_on_and_validates_apart() -> None:
    whole = study(0)
    parts = split(whole, "thesis").parts
    assert (parts["fit"] == parts["test"]).all()
    assert not set(parts["validation"]) & set(parts["test"])


def test_images_of_equal_content_are_one_image() -> None:
    whole = patches(400, np.random.default_rng(0))
    same = np.arange(len(whole.images))
    same[3 * np.arange(0, 400, 2)] = same[3 * np.arange(1, 400, 2)]  # every second query is a copy of its neighbour
    found = split(whole, "heldout", same)
    contents = [set(same[whole.triplets[rows].images].ravel()) for rows in found.parts.values()]
    assert not contents[0] & contents[1]
    assert not contents[0] & contents[2]
    assert not contents[1] & contents[2]


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.randoms(use_true_random=False))
def test_a_larger_size_holds_the_smaller_whatever_the_order_of_the_rows(seed: int, size: int, shuffle) -> None:
    whole = ranked("birds16", 30, 200, np.random.default_rng(seed))
    rows = np.arange(len(whole.triplets))
    small, large = drawn(whole, rows, size), drawn(whole, rows, size + 20)
    assert set(small) <= set(large)
    assert np.bincount(whole.triplets.set[small], minlength=3).max() <= size
    assert (drawn(whole, rows, None) == rows).all()
    order = list(range(len(rows)))
    shuffle.shuffle(order)
    other = replace(whole, triplets=whole.triplets[np.array(order)])
    assert sorted(np.array(order)[drawn(other, rows, size)]) == small.tolist()
