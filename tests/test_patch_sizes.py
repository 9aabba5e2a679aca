"""The three images of a BAPPS triplet have one size; a release where they have not is refused by the triplet."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from humansim import sources
from humansim.cli import main
from humansim.errors import BadInput
from humansim.images import open_store
from humansim.judgements import joined
from humansim.material import prepare
from humansim.root import Root
from humansim.sources import bapps, psiz
from humansim.sources.simulated_bapps import write_bapps
from humansim.sources.simulated_psiz import write_hsj
from humansim.spec import Trial, Variant


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    write_bapps(folder / "bapps", per_set=6)
    return folder


@pytest.fixture
def root(release: Path, tmp_path: Path) -> Root:
    return Root.at(tmp_path / "runs", shutil.copytree(release, tmp_path / "data"))


def shrink(root: Root, name: str) -> None:
    file = root.data / "bapps" / "2afc" / "val" / name
    with Image.open(file) as picture:
        picture.resize((64, 32)).save(file)


@pytest.mark.parametrize("which", ["ref", "p0", "p1"])
def test_a_patch_of_another_size_is_refused_by_its_triplet(root: Root, which: str) -> None:
    shrink(root, f"cnn/{which}/000004.png")
    mixed = f"cnn/{which}/000004.png is 64 x 32"
    with pytest.raises(BadInput, match=rf"val/cnn, triplet 000004: .* not of one size: .*{mixed}") as caught:
        open_store(root, bapps.read(root.data / "bapps"), 16)
    assert str(caught.value).count("is 64 x 64") == 2


def test_triplets_may_differ_in_size_from_each_other(root: Root) -> None:
    for which in ("ref", "p0", "p1"):
        shrink(root, f"cnn/{which}/000004.png")
    assert len(open_store(root, bapps.read(root.data / "bapps"), 16)) == 6 * 6 * 3


def test_a_part_of_a_study_is_held_to_it_and_another_is_not(root: Root) -> None:
    write_hsj(root.data / "hsj")
    parts = [psiz.read(root.data / "hsj", psiz.HSJ), bapps.read(root.data / "bapps")]
    store = open_store(root, joined("both", parts), 16)
    assert len(np.unique(store.sizes[: len(parts[0].images)], axis=0)) > 1
    shrink(root, "color/p1/000000.png")
    with pytest.raises(BadInput, match=r"val/color, triplet 000000: .*color/p1/000000\.png is 64 x 32"):
        open_store(root, joined("both", parts), 16)


def test_prepare_and_a_trial_say_so_before_anything_is_made_of_them(
    root: Root, capsys: pytest.CaptureFixture[str]
) -> None:
    shrink(root, "deblur/p0/000002.png")
    where = ["--root", str(root.path), "--data", str(root.data), "--resolution", "16"]
    assert main(["data", "prepare", "bapps", *where]) == 2
    assert "val/deblur, triplet 000002" in capsys.readouterr().err.splitlines()[-1]
    assert not (root.path / "sets").exists()
    trial = Trial(source=sources.source.normal(Variant("bapps")), backbone="pixels", resolution=16)
    with pytest.raises(BadInput, match="triplet 000002"):
        prepare(trial, root)
