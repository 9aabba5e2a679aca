"""What is fitted on is balanced, as large as asked for, and from the fit part; the study's nine sets among them."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import SETS, any_judgements, judgements, origin, own_images, ranked, split_or_reject, study

from humansim.errors import BadInput
from humansim.fit_sets import choose_fit, members
from humansim.judgements import Judgements
from humansim.sources.psiz import BIRDS16, HSJ
from humansim.splits import Split, split, split_heldout


def fitted(given: Judgements, rows: np.ndarray, size: int, seed: int = 0) -> np.ndarray:
    """Rows of the triplets that are chosen for fitting out of these."""
    return choose_fit(given, Split({"fit": rows}, "image", 0), "triplet", size, seed).rows


@settings(deadline=None, max_examples=60)
@given(any_judgements(), st.integers(1, 300), st.integers(0, 3))
def test_what_is_fitted_on_is_balanced_has_a_majority_and_is_no_more_than_asked_for(
    given: Judgements, size: int, seed: int
) -> None:
    rows = split_or_reject(given, 0).parts["fit"]
    chosen = fitted(given, rows, size, seed)
    usable = rows[given.triplets.choice[rows] != 0.5]
    assert len(chosen) == min(size, len(usable))
    assert (np.diff(chosen) > 0).all()
    assert np.isin(chosen, usable).all()
    had = Counter(given.triplets.set[usable].tolist())
    got = Counter(given.triplets.set[chosen].tolist())
    unfinished = [got[s] for s in had if got[s] < had[s]]
    assert not unfinished or max(got.values()) - min(unfinished) <= 1
    assert chosen.tolist() == fitted(given, rows, size, seed).tolist()


def test_an_even_split_is_never_fitted_on() -> None:
    choice = np.array([0.0, 0.5, 1.0, np.float32(0.5), 0.4])
    given = judgements(np.arange(15).reshape(5, 3), choice=choice)
    assert fitted(given, np.arange(5), 5).tolist() == [0, 2, 4]


def test_nothing_but_even_splits_to_fit_on_is_bad_input() -> None:
    given = judgements(np.arange(15).reshape(5, 3), choice=np.full(5, 0.5))
    with pytest.raises(BadInput, match="evenly split"):
        fitted(given, np.arange(5), 5)


def test_more_to_fit_on_keeps_what_was_there() -> None:
    given = own_images(200, 2)
    rows = split_heldout(given).parts["fit"]
    assert set(fitted(given, rows, 20)) < set(fitted(given, rows, 50))


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
