"""A folder of one's own images is checked against a release's catalogue before it is linked."""

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from humansim.cli import main
from humansim.images import open_store
from humansim.root import Root
from humansim.sources import read, releases
from humansim.sources.simulated_psiz import write_birds16, write_hsj
from humansim.spec import Variant


@pytest.fixture(scope="module", params=["by class", "flat"])
def hsj(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hsj")
    write_hsj(folder, form="json", flat=request.param == "flat")
    return folder


@pytest.fixture
def mine(hsj: Path, tmp_path: Path) -> Path:
    """240 images in a folder of somebody's own."""
    return shutil.copytree(hsj / "images", tmp_path / "mine")


def take_away(images: Path, count: int) -> None:
    for file in sorted(images.rglob("*.JPEG"))[:count]:
        file.unlink()


def archived(folder: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """Makes a release's judgements an archive in a mirror; no sum is known of it."""
    given = releases.RELEASES[name]["judgements"]
    mirror.mkdir()
    place = folder / given.unpacked
    with zipfile.ZipFile(mirror / given.download.name, "w") as archive:
        for file in sorted(place.rglob("*.*")):
            archive.write(file, file.relative_to(place))
    unknown = replace(given, download=replace(given.download, urls=(), size=None, sha256=None))
    monkeypatch.setitem(releases.RELEASES[name], "judgements", unknown)
    return ["--mirror", str(mirror)]


def test_all_there_is_linked_and_linking_again_changes_nothing(hsj: Path, mine: Path, tmp_path: Path) -> None:
    place = tmp_path / "data" / "hsj"
    shutil.copytree(hsj / "ilsvrc2012_val_hsj", place / "ilsvrc2012_val_hsj")
    where = ["--root", str(tmp_path / "root"), "--data", str(tmp_path / "data")]
    for images in (mine, mine, place / "images"):
        assert main(["data", "fetch", "hsj", "--images", str(images), *where]) == 0
        assert (place / "images").is_symlink()
        assert (place / "images").samefile(mine)
    assert sorted(one.name for one in place.iterdir()) == ["ilsvrc2012_val_hsj", "images"]
    root = Root.at(tmp_path / "root", tmp_path / "data")
    open_store(root, read(Variant("hsj"), root), 16)
    assert main(["data", "verify", "hsj", "--resolution", "16", *where]) == 0


def test_missing_images_are_counted_and_no_link_is_made(
    hsj: Path, mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "data" / "hsj"
    shutil.copytree(hsj / "ilsvrc2012_val_hsj", place / "ilsvrc2012_val_hsj")
    (place / "images").symlink_to(hsj)
    take_away(mine, 7)
    where = ["--root", str(tmp_path / "root"), "--data", str(tmp_path / "data")]
    assert main(["data", "fetch", "hsj", "--images", str(mine), *where]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"--images {mine}: 7 of the 240 images of hsj are missing; the first: n0" in error
    assert "no link was made" in error
    assert (place / "images").readlink() == hsj  # the older link is as it was


@pytest.mark.parametrize("missing", [0, 240])
def test_images_are_checked_after_judgements_that_come_with_them(
    hsj: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    take_away(mine, missing)
    mirror = archived(hsj, tmp_path / "mirror", monkeypatch, "hsj")
    place = tmp_path / "root" / "data" / "hsj"
    command = ["data", "fetch", "hsj", "--images", str(mine), "--root", str(tmp_path / "root"), *mirror]
    assert main(command) == (2 if missing else 0)
    assert (place / "ilsvrc2012_val_hsj" / "stimuli.txt").exists()
    assert (place / "images").is_symlink() == (not missing)


def test_a_folder_that_cannot_be_linked_is_refused_before_anything_is_fetched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--root", str(tmp_path), "--mirror", str(tmp_path)]
    assert main(["data", "fetch", "hsj", "--images", str(tmp_path / "none"), *where]) == 2
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "data" / "hsj" / "images").mkdir(parents=True)
    assert main(["data", "fetch", "hsj", "--images", str(tmp_path), *where]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["data", "fetch", "bapps", "--images", str(tmp_path), *where]) == 2
    assert "come with its judgements" in capsys.readouterr().err
    assert not list((tmp_path / "data").rglob("archives"))


def test_without_judgements_the_link_is_made_and_said_to_be_unchecked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    where = ["--root", str(tmp_path / "root"), "--images", str(tmp_path / "mine")]
    assert main(["data", "fetch", "birds16", "--part", "images", *where]) == 0
    assert "not checked" in capsys.readouterr().err
    assert (tmp_path / "root" / "data" / "birds16" / "images").is_symlink()


def test_judgements_put_there_as_hdf5_are_not_fetched_again_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "data" / "birds16"
    write_birds16(place, form="hdf5")
    (place / "images").rename(tmp_path / "mine")
    assert main(["data", "fetch", "birds16", "--images", str(tmp_path / "mine"), "--root", str(tmp_path)]) == 0
    assert not (place / "birds16_rank2019").exists()
    capsys.readouterr()
    assert main(["data", "list", "--root", str(tmp_path), "--json"]) == 0
    there = {(row["release"], row["part"]): row["there"] for row in json.loads(capsys.readouterr().out)}
    assert there["birds16", "judgements"] == str(place)
    assert there["birds16", "images"] == str(place / "images")
    assert there["hsj", "judgements"] == there["bapps", "val"] == "no"


def test_what_a_killed_fetch_left_half_unpacked_is_not_taken_for_the_release(
    hsj: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "root" / "data" / "hsj"
    left = shutil.copytree(hsj / "ilsvrc2012_val_hsj", place / ".ilsvrc2012_val_hsj-k1ll3d")
    assert releases.find(place.parent, "hsj", "judgements") is None
    mirror = archived(hsj, tmp_path / "mirror", monkeypatch, "hsj")
    assert main(["data", "fetch", "hsj", "--root", str(tmp_path / "root"), *mirror]) == 0
    assert releases.find(place.parent, "hsj", "judgements") == place / "ilsvrc2012_val_hsj"
    assert not left.exists()
