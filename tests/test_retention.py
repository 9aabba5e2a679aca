"""Weights of the best trials stay, the others go; results never do."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_search import result

from humansim import results
from humansim.results import Result
from humansim.retention import Retention, in_bytes
from humansim.root import Root
from humansim.spec import Trial, Variant


def finished(root: Root, n: int, score: float, size: int = 100, seed: int = 0) -> Result:
    """The nth model of a search."""
    trial = Trial(paradigm=Variant("triplet"), lr=1e-4 * (n + 1), seed=seed)
    made = scored(trial, s=score).model_copy(update={"finished": n})
    results.save(root, made)
    (results.folder(root, trial) / results.WEIGHTS).write_bytes(b"x" * size)
    return made


def scored(trial: Trial, **sets: float) -> Result:
    """A result with these validation scores."""
    made = result(trial)
    scores = tuple(made.scores[0].model_copy(update={"set": name, "score": score}) for name, score in sets.items())
    return made.model_copy(update={"scores": scores})


def kept(root: Root) -> set[str]:
    return {file.parent.name for file in root.results.glob(f"*/{results.WEIGHTS}")}


def test_all_stay_unless_told_otherwise(root: Root) -> None:
    made = [finished(root, n, 0.5 + n / 100) for n in range(4)]
    for one in made:
        assert Retention(root).ended(one, ["a"]) == []
    assert len(kept(root)) == 4


@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=8, unique=True), best=st.integers(0, 4))
def test_the_best_of_each_cell_stay_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float], best: int
) -> None:
    root = Root.at(tmp_path_factory.mktemp("root"))
    retention = Retention(root, best=best)
    made = [finished(root, n, score) for n, score in enumerate(scores)]
    for n, one in enumerate(made):
        retention.ended(one, ["odd" if n % 2 else "even"])
    for odd in (0, 1):
        cell = sorted(made[odd::2], key=lambda one: -one.mean("validation"))
        assert {one.trial.id for one in cell[:best]} <= kept(root)
        assert not {one.trial.id for one in cell[best:]} & kept(root)
    assert all((results.folder(root, one.trial) / results.RESULT).exists() for one in made)


def test_what_is_best_in_any_of_its_cells_stays(root: Root) -> None:
    retention = Retention(root, best=1)
    low, high = finished(root, 0, 0.6), finished(root, 1, 0.7)
    retention.ended(high, ["a"])
    retention.ended(low, ["a", "b"])
    assert kept(root) == {low.trial.id, high.trial.id}


def test_a_lucky_repeat_does_not_take_the_place_of_the_one_that_was_chosen(root: Root) -> None:
    retention = Retention(root, best=1)
    made = [finished(root, 0, 0.7), finished(root, 1, 0.6), finished(root, 0, 0.9, seed=1)]
    for one in made:
        retention.ended(one, ["a"])
    assert kept(root) == {made[0].trial.id}
    assert results.best([made]) == (made[0], 1)


@given(data=st.data())
def test_what_is_the_best_of_all_is_the_first_of_its_cell_whatever_each_was_fitted_on(data: st.DataObject) -> None:
    """Otherwise `load` named what `--keep 1` had removed."""
    share = st.sampled_from([0.5, 0.6, 0.7, 0.8])
    cells = [
        [
            scored(
                Trial(paradigm=Variant("triplet"), fit_on=on, lr=1e-4 * (n + 1), seed=seed), a=data.draw(share), b=0.6
            )
            for n in range(3)
            for seed in range(2)
        ]
        for on in (None, "a", "b")
    ]
    best, tied = results.best(data.draw(st.permutations(cells)))
    firsts = [results.models(cell)[0][0] for cell in cells]
    assert best in firsts
    assert results.on_all_sets(best) == max(results.on_all_sets(one) for one in firsts)
    assert tied >= 1


def test_over_the_budget_the_lowest_in_their_cells_go_first(root: Root) -> None:
    retention = Retention(root, budget=250)
    made = [finished(root, n, score) for n, score in enumerate((0.9, 0.8, 0.5))]
    retention.ended(made[0], ["a"])
    retention.ended(made[1], ["a"])
    retention.ended(made[2], ["b"])  # the best of its cell, though the lowest score
    assert kept(root) == {made[0].trial.id, made[2].trial.id}


def test_a_trial_without_weights_is_no_trouble(root: Root, tmp_path: Path) -> None:
    one = finished(root, 0, 0.5)
    (results.folder(root, one.trial) / results.WEIGHTS).unlink()
    assert Retention(root, best=0, budget=0).ended(one, ["a"]) == []


@pytest.mark.parametrize(("text", "size"), [("50GB", 50 * 10**9), ("1.5 tb", 15 * 10**11), ("800", 800), ("7 B", 7)])
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "many", "-5GB", "5 XB", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is the command line's affair
        in_bytes(text)
