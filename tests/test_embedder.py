"""Embeddings and distances: exact, bounded, and independent of how they are computed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from humansim.backbones import backbone
from humansim.embedder import BLOCK, MEASURES, Embedder, distance, distances
from humansim.judgements import Triplets
from humansim.scores import two_afc
from humansim.spec import Variant

finite = st.floats(-100, 100, width=32)


def naive(a: np.ndarray, b: np.ndarray, measure: str) -> float:
    """The measure as a textbook writes it, in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    if measure == "cosine":
        return 1 - float(a @ b) / float(np.sqrt(a @ a) * np.sqrt(b @ b))
    difference = [abs(x - y) for x, y in zip(a, b, strict=True)]
    return float(np.sqrt(sum(d * d for d in difference))) if measure == "l2" else float(sum(difference))


def triplets_over(images: int, count: int, seed: int = 0) -> Triplets:
    rng = np.random.default_rng(seed)
    chosen = np.stack([rng.choice(images, 3, replace=False) for _ in range(count)])
    nothing = np.full(count, -1)
    return Triplets(*chosen.T, choice=rng.random(count), judges=nothing, set=nothing * 0, trial=nothing, judge=nothing)


@settings(deadline=None, max_examples=60)
@given(arrays.arrays(np.float32, (2, 5), elements=finite).filter(lambda x: (np.linalg.norm(x, axis=1) > 1e-2).all()))
@pytest.mark.parametrize("measure", MEASURES)
def test_a_measure_is_the_textbook_formula(measure: str, pair: np.ndarray) -> None:
    a, b = torch.from_numpy(pair)
    found = distance(a[None], b[None], measure).item()
    assert found == pytest.approx(naive(*pair, measure), rel=1e-4, abs=1e-5)
    assert found >= 0


@pytest.mark.parametrize("measure", MEASURES)
def test_equal_embeddings_are_at_distance_zero_even_when_they_are_zero(measure: str) -> None:
    same = torch.tensor([[0.1, 0.7, -3.0], [0.0, 0.0, 0.0]])
    assert distance(same, same, measure).tolist() == [0.0, 0.0]


def test_cosine_tells_near_identical_embeddings_apart() -> None:
    a = torch.tensor([[1.0, 0.0]]).double()
    b = torch.tensor([[1.0, 1e-6]]).double()
    assert distance(a.float(), b.float(), "cosine").item() == pytest.approx(distance(a, b, "cosine").item(), rel=1e-3)


def test_an_unknown_measure_is_named() -> None:
    with pytest.raises(ValueError, match="unknown measure 'dot'; known: cosine, l2, l1"):
        distance(torch.ones(1, 2), torch.ones(1, 2), "dot")


def test_distances_of_triplets_are_those_of_their_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([1, 3, 4, 8, 9])  # embeddings of some of the images only
    embeddings = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    triplets = triplets_over(5, 40)
    triplets = Triplets(
        **{**vars(triplets), "query": rows[triplets.query], "left": rows[triplets.left], "right": rows[triplets.right]}
    )
    whole = distances(embeddings, rows, triplets)
    at = np.searchsorted(rows, triplets.images)
    for measure, (to_left, to_right) in whole.items():
        for i, (q, left, right) in enumerate(at):
            assert to_left[i] == distance(embeddings[q : q + 1], embeddings[left : left + 1], measure).item()
            assert to_right[i] == pytest.approx(naive(embeddings[q].numpy(), embeddings[right].numpy(), measure), 1e-4)
    monkeypatch.setitem(BLOCK, "cpu", 14)  # two pairs at a time
    for measure, blocked in distances(embeddings, rows, triplets).items():
        np.testing.assert_array_equal(blocked, whole[measure])


def test_a_network_that_has_diverged_is_not_scored_as_chance() -> None:
    embeddings = torch.tensor([[1.0, 2.0], [float("nan"), 0.0], [3.0, 4.0]])
    with pytest.raises(FloatingPointError, match="distances are not finite"):
        distances(embeddings, np.arange(3), triplets_over(3, 4))


def test_distances_do_not_depend_on_order_or_duplication_of_triplets() -> None:
    embeddings, triplets = torch.randn(9, 16), triplets_over(9, 50)
    rows = np.arange(9)
    shuffled = np.random.default_rng(1).integers(0, 50, 120)
    for measure, (to_left, to_right) in distances(embeddings, rows, triplets).items():
        again = distances(embeddings, rows, triplets[shuffled])[measure]
        np.testing.assert_array_equal(again[0], to_left[shuffled])
        np.testing.assert_array_equal(again[1], to_right[shuffled])


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 80), st.randoms(use_true_random=False), st.integers(1, 3))
def test_a_score_does_not_hang_on_batch_size_order_or_duplication(batch: int, random, copies: int) -> None:
    """Of a network whose embeddings do not hang on the batch's shape; the thing itself is in test_embeddings.py."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 6, 6, 3), dtype=np.uint8)
    triplets, network = triplets_over(30, 60), Embedder(backbone.make(Variant("pixels")))
    order = list(range(60)) * copies
    random.shuffle(order)

    def answers(some: Triplets) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        rows = np.unique(some.images)
        return distances(network.embed(pixels, rows), rows, some)

    whole = answers(triplets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("humansim.embedder.BATCH", batch)
        again = answers(triplets[np.array(order)])
    for measure, (to_left, to_right) in whole.items():
        np.testing.assert_array_equal(again[measure][0], to_left[order])
        np.testing.assert_array_equal(again[measure][1], to_right[order])
        score = two_afc(to_left, to_right, triplets.choice)
        assert two_afc(*again[measure], triplets.choice[order]) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("value", [0.0, 1e-20, 0.3, 1e20])
def test_gradients_at_identical_images_are_finite(measure: str, value: float) -> None:
    a = torch.full((2, 5), value, requires_grad=True)
    b = a.detach().clone().requires_grad_()
    found = distance(a, b, measure)
    assert found.tolist() == [0.0, 0.0]
    found.sum().backward()
    for leaf in (a, b):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


@settings(deadline=None, max_examples=60)
@given(arrays.arrays(np.float32, (4, 3), elements=st.floats(-(2.0**50), 2.0**50, width=32)))
@pytest.mark.parametrize("measure", MEASURES)
def test_a_distance_is_never_negative_nor_no_number(measure: str, values: np.ndarray) -> None:
    a, b = torch.from_numpy(values[:2]), torch.from_numpy(values[2:])
    found = distance(a, b, measure)
    assert (found >= 0).all()
    assert found.isfinite().all()
    assert torch.equal(found, distance(b, a, measure))


def test_embeddings_are_those_of_the_images_and_the_head_is_left_out() -> None:
    network = Embedder(backbone.make(Variant("pixels")), torch.nn.Linear(12, 2))
    pixels = np.random.default_rng(0).integers(0, 256, (70, 2, 2, 3), dtype=np.uint8)
    rows = np.array([69, 3, 3, 0])
    expected = pixels[rows].transpose(0, 3, 1, 2).reshape(4, -1) / np.float32(255)
    np.testing.assert_array_equal(network.embed(pixels, rows).numpy(), expected)
    assert network(torch.zeros(5, 3, 2, 2)).shape == (5, 2)


def test_embedding_leaves_training_mode_and_statistics_as_they_were() -> None:
    network = Embedder(backbone.make(Variant("efficientnet_lite0"))).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.embed(np.zeros((1, 32, 32, 3), dtype=np.uint8), np.arange(1))
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
