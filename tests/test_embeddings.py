"""An image is embedded once, whoever asks; what is kept is what would be computed, bit for bit, or nothing."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from humansim import embeddings, train
from humansim.backbones import backbone
from humansim.embedder import BATCH, Embedder
from humansim.embeddings import INDEX, ROWS, Cache, embed
from humansim.errors import BadInput
from humansim.root import Root
from humansim.spec import Trial, Variant

COUNT = 150
TRIAL = Trial(source=Variant("sample", queries=24, pairs=2), protocol="all", resolution=32)
threads = torch.get_num_threads()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(backbone.make(Variant("timm:test_resnet", weights="random")))


@pytest.fixture(scope="module")
def plain(embedder: Embedder, pixels: np.ndarray) -> torch.Tensor:
    return embedder.embed(pixels, np.arange(COUNT), fixed=True)


def kept(folder: Path) -> Cache:
    return Cache(folder / "embeddings", [f"{i:064x}" for i in range(COUNT)])


@settings(deadline=None, max_examples=15)
@given(st.lists(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=80, unique=True), min_size=1, max_size=4))
def test_whatever_was_asked_before_an_image_has_the_same_bits_and_is_embedded_once(
    tmp_path_factory: pytest.TempPathFactory, pixels, embedder, plain, asked: list[list[int]]
) -> None:
    place, seen = kept(tmp_path_factory.mktemp("kept")), set()
    for rows in asked:
        found, passes = embed(embedder, pixels, np.array(rows), place)
        assert torch.equal(found, plain[rows])
        assert passes == len(set(rows) - seen)
        seen |= set(rows)
    assert (place.folder / ROWS).stat().st_size == len(seen) * plain.shape[1] * 4


def test_images_of_equal_content_are_embedded_once(tmp_path: Path, pixels, embedder) -> None:
    same = Cache(tmp_path / "embeddings", ["a" * 64] * COUNT)
    found, passes = embed(embedder, pixels, np.arange(10), same)
    assert passes == 1
    assert (found == found[0]).all()


@pytest.mark.parametrize("damage", ["bit", "short", "index", "foreign"])
def test_damage_is_refused(tmp_path: Path, pixels, embedder, damage: str) -> None:
    place = kept(tmp_path)
    embed(embedder, pixels, np.arange(20), place)
    rows, index = place.folder / ROWS, place.folder / INDEX
    if damage == "bit":
        data = bytearray(rows.read_bytes())
        data[100] ^= 4
        rows.write_bytes(data)
    elif damage == "short":
        os.truncate(rows, rows.stat().st_size - 4)
    elif damage == "index":
        index.write_bytes(index.read_bytes()[:-30])
    else:
        index.write_text("no index")
    with pytest.raises(BadInput, match=r"the kept embeddings are damaged.*delete the folder"):
        embed(embedder, pixels, np.arange(20), place)


def test_rows_that_no_index_came_to_tell_of_are_written_over(tmp_path: Path, pixels, embedder, plain) -> None:
    place = kept(tmp_path)
    embed(embedder, pixels, np.arange(20), place)
    with open(place.folder / ROWS, "ab") as file:  # killed before the index was put in place
        file.write(b"\0" * 4 * plain.shape[1] + b"half a row")
    found, passes = embed(embedder, pixels, np.arange(20), place)
    assert passes == 0
    assert torch.equal(found, plain[:20])
    found, passes = embed(embedder, pixels, np.arange(30), place)
    assert passes == 10
    assert torch.equal(found, plain[:30])


def test_a_last_batch_that_is_filled_up_has_the_bits_of_a_full_one(pixels, embedder, plain) -> None:
    for count in (1, BATCH - 1, BATCH + 1):
        assert torch.equal(embedder.embed(pixels, np.arange(count), fixed=True), plain[:count])


def test_a_second_evaluation_passes_nothing_through_the_network_and_scores_the_same(root: Root) -> None:
    first = train.run(TRIAL, root)
    again = train.run(TRIAL.having({"protocol": "heldout"}), root)
    other = Root.at(root.path / "elsewhere", root.data)
    alone = train.run(TRIAL.having({"protocol": "heldout"}), other)
    assert first.provenance["embedded"] > 0
    assert first.provenance["backbone"]["pretraining"]["supervision"] == "supervised"
    assert again.provenance["embedded"] == 0
    assert alone.provenance["embedded"] > 0
    assert again.scores == alone.scores
    answers = [(place.results / alone.trial.id / "answers.parquet").read_bytes() for place in (root, other)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "changed",
    [
        {"backbone": Variant("efficientnet_lite0", weights="random")},
        {"layer": "blocks.3"},
        {"pool": "flat", "layer": "blocks.6"},
        {"precision": "bf16"},
        {"threads": 2},
        {"resolution": 40},
        {"resize": "native"},
    ],
    ids=str,
)
def test_what_changes_an_embedding_has_a_place_of_its_own(root: Root, changed: dict) -> None:
    def place(trial: Trial) -> Path:
        from humansim.material import resize_of

        return embeddings.cache(root, trial, "weights", resize_of(trial).name, "cpu", []).folder

    assert place(TRIAL.having(changed)) != place(TRIAL)
    assert place(TRIAL.having({"protocol": "heldout", "source": "zappos"})) == place(TRIAL)


def test_bf16_gives_nearly_the_same_scores(root: Root) -> None:
    exact = train.run(TRIAL, root)
    coarse = train.run(TRIAL.having({"precision": "bf16"}), root)
    assert coarse.provenance["embedded"] > 0
    for one, two in zip(exact.scores, coarse.scores, strict=True):
        assert two.score == pytest.approx(one.score, abs=0.1)
