"""Judgements keep their meaning however they are turned, joined and named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import any_judgements, judgements, own_images, study, unordered

from humansim.judgements import Judgements


def test_what_is_independent_is_the_trial_or_else_the_query() -> None:
    images = np.array([[0, 1, 2], [0, 2, 3], [1, 2, 3], [4, 2, 3], [0, 5, 6]])
    cluster = judgements(images, trial=np.array([-1, -1, -1, 0, 0])).triplets.cluster.tolist()
    assert cluster[0] == cluster[1] != cluster[2]
    assert cluster[3] == cluster[4]
    assert len(set(cluster)) == 3


@settings(deadline=None, max_examples=30)
@given(any_judgements(), st.randoms(use_true_random=False))
def test_swapping_sides_twice_changes_nothing_and_once_keeps_every_judgement(given: Judgements, random) -> None:
    triplets = given.triplets
    rows = np.array([random.random() < 0.5 for _ in range(len(triplets))])
    once = triplets.swapped(rows)
    assert (once.left[rows] == triplets.right[rows]).all()
    assert np.allclose(once.choice, np.where(rows, 1 - triplets.choice, triplets.choice))
    assert unordered(once) == unordered(triplets)
    back = once.swapped(rows)
    assert (back.images == triplets.images).all()
    assert np.allclose(back.choice, triplets.choice)


def test_a_fingerprint_sees_every_image_answer_and_name() -> None:
    given = own_images(5)
    contents = [f"hash {i}" for i in range(15)]
    other_choice = replace(given, triplets=replace(given.triplets, choice=np.zeros(5)))
    prints = [
        given.fingerprint(contents),
        given.fingerprint(contents[::-1]),
        other_choice.fingerprint(contents),
        replace(given, sets=("other",)).fingerprint(contents),
        replace(given, images=given.images[::-1]).fingerprint(contents),
    ]
    assert len(set(prints)) == 5
    assert replace(given, folder=Path("/elsewhere")).fingerprint(contents) == prints[0]


def test_no_triplet_shows_its_query_and_joined_names_are_apart() -> None:
    whole = study(3)
    a, b, c = whole.triplets.images.T
    assert (a != b).all()
    assert (a != c).all()
    assert (b != c).all()
    assert len(set(whole.images)) == len(whole.images)
    for part in whole.parts:
        assert [f"{part.name}/{name}" in whole.images for name in part.images[:5]] == [True] * 5
    assert len(np.unique(whole.triplets.trial[whole.triplets.trial >= 0])) == 2700 + 900
