"""Every planted leak is found: the same triplet, an image under another name, a resized copy, the same person."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import skimage
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import among, any_judgements, judgements, split_or_reject, store_of, unordered
from PIL import Image

from humansim import audit
from humansim.backbones import backbone
from humansim.datasets import audit_sets, split_of, write_sets
from humansim.errors import BadInput
from humansim.fit_sets import FitSet
from humansim.images import open_store
from humansim.judgements import Judgements, Triplets
from humansim.root import Root
from humansim.sources import read
from humansim.spec import Variant
from humansim.splits import Split, split

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "grass", "gravel", "brick")


@pytest.fixture
def planted(root: Root) -> Judgements:
    """Images 0 to 5 are photographs; then a byte for byte copy of 0, a small JPEG of 1, and a mirrored 2."""
    folder = root.data / "mine"
    folder.mkdir(parents=True)
    for i, name in enumerate(PHOTOGRAPHS):
        shutil.copy(Path(skimage.__file__).parent / "data" / f"{name}.png", folder / f"{i}.png")
    shutil.copy(folder / "0.png", folder / "6.png")
    small = io.BytesIO()
    Image.open(folder / "1.png").convert("RGB").resize((200, 150)).save(small, "jpeg", quality=70)
    (folder / "7.jpg").write_bytes(small.getvalue())
    Image.open(folder / "2.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "8.png")
    images = np.array([[0, 1, 2], [3, 4, 5], [6, 3, 8], [7, 3, 4], [3, 5, 4], [0, 2, 1], [6, 2, 1], [8, 4, 5]])
    count = len(images)
    triplets = Triplets(
        *images.T,
        choice=np.ones(count),
        judges=np.ones(count, dtype=np.int64),
        set=np.zeros(count, dtype=np.int64),
        trial=np.array([1, 2, 3, 1, 5, 6, 7, 8]),
        judge=np.array([10, 11, 12, 13, 14, 15, 16, 10]),
    )
    names = (*(f"{i}.png" for i in range(7)), "7.jpg", "8.png")
    return Judgements("mine", folder, names, triplets, ("mine",))


@pytest.mark.parametrize(
    ("row", "found"),
    {
        2: {"images": 2},  # a copy under another name, and image 3
        3: {"images": 2, "near_duplicates": 1, "trials": 1},  # 7 is 1, smaller
        4: {"images": 3, "triplets": 1},  # mirrored
        5: {"images": 3, "triplets": 1},
        6: {"images": 3, "triplets": 1},  # by content, under another name
        7: {"images": 2, "judges": 1},  # a mirror image is not a near duplicate
    }.items(),
)
def test_each_planted_leak_is_found(root: Root, planted: Judgements, row: int, found: dict[str, int]) -> None:
    store = open_store(root, planted, 64)
    fit = FitSet(planted.triplets.images[:2], np.array([0, 1]))
    nothing = {"images": 0, "near_duplicates": 0, "triplets": 0, "trials": 0, "judges": 0}
    assert audit.shared(planted.triplets, fit, np.array([row]), store) == nothing | found


def test_different_photographs_are_no_near_duplicates(root: Root, planted: Judgements) -> None:
    store = open_store(root, planted, 64)
    pairs = audit.near_duplicates(store, np.arange(9), np.arange(9))
    assert {tuple(sorted(pair)) for pair in pairs.tolist() if pair[0] != pair[1]} == {(0, 6), (1, 7)}


@settings(deadline=None, max_examples=60)
@given(any_judgements(), st.integers(0, 3))
def test_the_leakage_stamp_counts_naively(given: Judgements, seed: int) -> None:
    split = split_or_reject(given, seed)
    triplets, fit = given.triplets, split.parts["fit"][::2]
    found = audit.stamp(given, split, FitSet(triplets.images[fit], fit), store_of(given), "heldout")
    assert (found["split"], found["left_out"], found["contaminated"]) == (split.by, split.left_out, False)

    def both(part: str, things: list[list]) -> int:
        return len({t for row in fit for t in things[row]} & {t for row in split.parts[part] for t in things[row]})

    for part in ("validation", "test"):
        assert found[part] == {
            "images": both(part, triplets.images.tolist()),
            "near_duplicates": 0,
            "triplets": both(part, [[one] for one in unordered(triplets)]),
            "trials": both(part, [[t] if t >= 0 else [] for t in triplets.trial.tolist()]),
            "judges": both(part, [[j] if j >= 0 else [] for j in triplets.judge.tolist()]),
        }


def test_ones_own_judgements_of_few_images_are_warned_of_before_anything_is_trained() -> None:
    """Fit and test share them all; of many images, or under `thesis`, whose results are marked, nothing is said."""
    few = judgements(among(40, 200, np.random.default_rng(0)))
    said = audit.warned(few, split(few, "heldout"))
    assert said == (
        "made up: fit and test share all 40 images of test, for 200 judgements are too few for parts that share none "
        "(each needs 20): scores on test are of new judgements on these images, not of new images"
    )
    counts = [len(split(few, "heldout").parts[part]) for part in ("fit", "validation", "test")]
    assert sum(counts) == 200
    assert audit.counted_parts(few, split(few, "heldout")) == (
        f"made up: of 200 judgements {counts[0]} to fit, {counts[1]} to validate, {counts[2]} to test, "
        f"which tells a score to about ±{196 * 0.5 / counts[2] ** 0.5:.0f} points"
    )
    with pytest.raises(BadInput, match="cannot be split into parts that share no image"):
        split(few, "heldout_images")  # which is why it is not offered
    copies = np.arange(40) % 20  # each file is there twice, under two names
    assert "share all 20 images" in audit.warned(few, split(few, "heldout", copies), copies)
    assert audit.warned(few, split(few, "thesis")) == ""
    many = judgements(among(60, 4000, np.random.default_rng(0)))
    assert audit.warned(many, split(many, "heldout")) == ""


def test_a_stamp_says_how_many_of_all_test_images_are_shared() -> None:
    few = judgements(among(40, 200, np.random.default_rng(0)))
    parts = split(few, "heldout")
    fit = FitSet(few.triplets.images[parts.parts["fit"]], parts.parts["fit"])
    assert audit.of_images(audit.stamp(few, parts, fit, store_of(few), "heldout")) == "40 of 40"
    assert audit.of_images({"test": {"images": 3}}) == "3"  # older results do not know of how many


def test_a_planted_leak_is_found_even_mirrored() -> None:
    images = np.array([[0, 1, 2], [3, 4, 5], [0, 2, 1], [0, 1, 6], [1, 0, 2]])
    given = judgements(images, trial=np.array([7, 8, 7, -1, 9]), judge=np.array([1, 2, 2, -1, 2]))
    split = Split({"fit": np.array([0, 1]), "validation": np.array([2]), "test": np.array([3, 4])}, "trial", 0)
    fit = FitSet(given.triplets.images[:2], np.array([0, 1]))
    found = audit.stamp(given, split, fit, store_of(given), "heldout")
    assert found["validation"] == {"images": 3, "near_duplicates": 0, "triplets": 1, "trials": 1, "judges": 1}
    assert found["test"] == {"images": 3, "near_duplicates": 0, "triplets": 0, "trials": 0, "judges": 1}


def test_the_sets_of_the_study_share_what_their_protocol_says(root: Root) -> None:
    whole = read(Variant("simulated", size=20), root)
    store = open_store(root, whole, 32)
    assert not split_of(whole, store, "heldout").by.startswith("nothing")
    for row in audit_sets(whole, store, "heldout"):
        assert (row["triplets"], row["trials"]) == (0, 0)
        assert row["images"] == 0 or (row["fit"] + row["evaluation"]).count("birds16") == 2
        same_people = row["fit"].split("/")[0] == row["evaluation"].split("/")[0] != "bapps"
        assert (row["judges"] > 0) == (same_people and not row["fit"].endswith("singleton"))
    published = audit_sets(whole, store, "thesis")
    for row in published:
        same = row["fit"].split("/")[0] == row["evaluation"].split("/")[0]
        assert (row["images"] > 0) == same
        if not row["fit"].endswith("singleton"):
            assert (row["triplets"] > 0) == same


def test_the_sets_are_the_same_bits_every_time_and_all_are_there(root: Root, tmp_path: Path) -> None:
    whole = read(Variant("simulated", size=20), root)
    store = open_store(root, whole, 32, workers=1)
    one = write_sets(whole, store, "heldout", tmp_path / "one")
    other = Root.at(tmp_path / "other")
    again = read(Variant("simulated", size=20), other)
    two = write_sets(again, open_store(other, again, 32, workers=2), "heldout", tmp_path / "two")
    assert one == two
    assert sum(row["serves"] == "evaluation" for row in one) == 11
    assert sum(row["serves"] == "fit" for row in one) == 9
    files = sorted(file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*.parquet"))
    assert len(files) == 31
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_pre_training_is_told_where_it_meets_the_images() -> None:
    sets = ("bapps/cnn", "hsj/8rank2_similar", "mine")
    found = audit.pretraining(backbone.entry(Variant("resnet50")).facts, sets)
    assert set(found) == {"data", "bapps", "hsj"}
    assert "validation set" in found["hsj"]
    found = audit.pretraining(backbone.entry(Variant("clip_resnet50")).facts, sets)
    assert set(found) == {"data", "bapps", "hsj"}
    assert "not known" in found["hsj"]
    assert audit.pretraining({}, ("hsj/8rank2_similar",)) == {}
