"""The 11 evaluation and 9 fine-tuning sets of the study are what the thesis says, and are kept apart as promised."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humansim.errors import BadInput
from humansim.judgements import Judgements, Triplets, joined
from humansim.sources.psiz import BIRDS16, HSJ, triplets_of
from humansim.sources.rankings import Rankings
from humansim.splits import Split, choose_fit, drawn, members, split

SETS = ("bapps/cnn", "bapps/color")


def names_of(triplets: Triplets) -> tuple[str, ...]:
    return tuple(f"{i:05d}.png" for i in range(int(max(triplets.images.max(), triplets.others.max(initial=0))) + 1))


def patches(count: int, rng: np.random.Generator) -> Judgements:
    """As BAPPS: every triplet has images of its own."""
    rows = np.arange(count)
    triplets = Triplets(
        query=3 * rows,
        left=3 * rows + 1,
        right=3 * rows + 2,
        choice=rng.integers(0, 6, count) / 5,
        judges=np.full(count, 5),
        set=rows % 2,
        trial=np.full(count, -1),
        judge=np.full(count, -1),
    )
    return Judgements("bapps", Path("/nowhere"), names_of(triplets), triplets, SETS, by="image", size=40)


def ranked(name: str, images: int, trials: int, rng: np.random.Generator) -> Judgements:
    """As Birds-16 (few images) or ImageNet-HSJ (many)."""
    shown = np.stack([rng.permutation(images)[:9] for _ in range(trials)])
    references, selected = shown[:, 1:].copy(), np.full(trials, 2)
    if name == "birds16":
        selected[::3] = 1
        references[::3, 2:] = -1
    people = rng.integers(0, 20, trials)
    sets = BIRDS16 if name == "birds16" else HSJ
    triplets = triplets_of(Rankings(shown[:, 0], references, selected, people), sets)
    by = "trial" if name == "birds16" else "image"
    return Judgements(name, Path("/nowhere"), names_of(triplets), triplets, sets, by=by, size=40)


def study(seed: int, trials: int = 900) -> Judgements:
    rng = np.random.default_rng(seed)
    return joined("study", [patches(400, rng), ranked("hsj", 300, 3 * trials, rng), ranked("birds16", 60, trials, rng)])


def origin(given: Judgements, rows: np.ndarray) -> np.ndarray:
    names = np.array([name.partition("/")[0] for name in given.sets])
    return names[given.triplets.set[rows]]


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


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["bapps", "hsj", "birds16", None, *SETS, *HSJ, *BIRDS16]))
def test_the_nine_fine_tuning_sets_are_balanced_and_their_images_where_they_should_be(seed, fit_on) -> None:
    whole = study(seed)
    found = split(whole, "heldout")
    triplets = whole.triplets
    fits = {kind: choose_fit(whole, found, kind, 60, seed=1, fit_on=fit_on) for kind in ("triplet", "quadruplet")}
    wanted = members(whole.sets, fit_on)
    for kind, fit in fits.items():
        assert np.isin(fit.rows, found.parts["fit"]).all()
        counts = np.bincount(triplets.set[fit.rows], minlength=7)
        assert counts[wanted].max() - counts[wanted].min() <= 1
        assert counts.sum() == counts[wanted].sum() == 60
        for row, images in zip(fit.rows, fit.images, strict=True):
            query, left, right = triplets.images[row]
            near, far = (right, left) if triplets.choice[row] > 0.5 else (left, right)
            assert images[:3].tolist() == [query, near, far]
            assert len(set(images.tolist())) == (3 if kind == "triplet" else 4)
    quadruplets = fits["quadruplet"]
    fitting = triplets[found.parts["fit"]]
    liked = set(zip(fitting.query, np.where(fitting.choice > 0.5, fitting.right, fitting.left), strict=True))
    for row, images in zip(quadruplets.rows, quadruplets.images, strict=True):
        own = triplets.others[row][triplets.others[row] >= 0]
        if "8rank2" in whole.sets[triplets.set[row]]:
            assert images[3] in own  # of the same trial, not chosen there
        else:
            assert (images[0], images[3]) not in liked
            assert whole.images[images[3]].partition("/")[0] == whole.images[images[0]].partition("/")[0]
        if found.fit_images is not None:
            assert images[3] in found.fit_images


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400))
def test_singletons_are_each_once_and_never_evaluated_on_outside_birds(seed: int, size: int) -> None:
    whole = study(seed)
    found = split(whole, "heldout")
    for name in ("bapps", "hsj", "birds16"):
        single = choose_fit(whole, found, "singleton", size, fit_on=name).images
        assert single.shape[1:] == (1,)
        assert len(np.unique(single)) == len(single) <= size
        assert all(whole.images[i].startswith(f"{name}/") for i in single[:, 0])
        if name != "birds16":
            assert not set(single[:, 0]) & set(whole.triplets[found.parts["test"]].images.ravel())
    everything = choose_fit(whole, found, "singleton", 10_000, fit_on="birds16").images
    fit = found.parts["fit"][origin(whole, found.parts["fit"]) == "birds16"]
    assert set(everything[:, 0]) == set(whole.triplets[fit].images.ravel())


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


def test_an_unknown_set_to_fit_on_lists_near_ones() -> None:
    with pytest.raises(BadInput, match=r"fit_on: no set is called 'baps'.*did you mean bapps"):
        members(SETS, "baps")
    assert members((*SETS, *HSJ), "hsj") == [2, 3]
    assert members((*SETS, *HSJ), "bapps/color") == [1]


def test_a_quadruplet_whose_trial_shows_nothing_else_to_fitting_is_left_out() -> None:
    whole = ranked("hsj", 300, 500, np.random.default_rng(0))
    rows = np.arange(len(whole.triplets))
    seen = np.unique(whole.triplets.images)
    blind = Split({"fit": rows}, "image", 0, np.setdiff1d(seen, whole.triplets.others[:40]))
    fit = choose_fit(whole, blind, "quadruplet", 10_000)
    assert len(fit.rows) < len(rows)
    assert np.isin(fit.images[:, 3], blind.fit_images).all()
