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


def finished(root: Root, seed: int, score: float, size: int = 100) -> Result:
    trial = Trial(paradigm=Variant("triplet"), seed=seed)
    made = result(trial)
    one = made.scores[0].model_copy(update={"score": score})
    made = made.model_copy(update={"scores": (one,), "finished": seed})
    results.save(root, made)
    (results.folder(root, trial) / results.WEIGHTS).write_bytes(b"x" * size)
    return made


def kept(root: Root) -> set[str]:
    return {file.parent.name for file in root.results.glob(f"*/{results.WEIGHTS}")}


def test_all_stay_unless_told_otherwise(root: Root) -> None:
    made = [finished(root, seed, 0.5 + seed / 100) for seed in range(4)]
    for one in made:
        assert Retention(root).ended(one, ["a"]) == []
    assert len(kept(root)) == 4


@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=8, unique=True), best=st.integers(0, 4))
def test_the_best_of_each_cell_stay_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float], best: int
) -> None:
    root = Root.at(tmp_path_factory.mktemp("root"))
    retention = Retention(root, best=best)
    made = [finished(root, seed, score) for seed, score in enumerate(scores)]
    for one in made:
        retention.ended(one, ["even" if one.trial.seed % 2 == 0 else "odd"])
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


def test_over_the_budget_the_lowest_in_their_cells_go_first(root: Root) -> None:
    retention = Retention(root, budget=250)
    made = [finished(root, seed, score) for seed, score in enumerate((0.9, 0.8, 0.5))]
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
