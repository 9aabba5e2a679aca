"""Archives with the layouts that are documented, and near ones, are fetched, unpacked and read."""

import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from serving import Request, begin, head, serving

from humansim.cli import main
from humansim.sources import bapps, psiz, releases


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder whose files a server gives, and its address; nothing else is asked, and no sums are known."""
    for parts in releases.RELEASES.values():
        for part, one in parts.items():
            unknown = replace(one.download, urls=(), size=None, sha256=None)
            monkeypatch.setitem(parts, part, replace(one, download=unknown))
    folder = tmp_path / "mirror"
    folder.mkdir()

    def answer(request: Request) -> None:
        file = folder / request.path.lstrip("/")
        if file.is_file():
            request.wfile.write(begin(request, file.read_bytes()))
        else:
            head(request, 404, Content_Length=0)

    with serving(answer) as url:
        yield folder, url


def tarred(file: Path, folder: Path, inside: str) -> None:
    with tarfile.open(file, "w:gz", compresslevel=1) as archive:
        archive.add(folder, inside)


def zipped(file: Path, folder: Path, inside: str) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for one in sorted(folder.rglob("*")):
            archive.write(one, f"{inside}{one.relative_to(folder)}")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_bapps_is_unpacked_to_what_is_read(raw: Path, mirror: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = mirror
    tarred(folder / "twoafc_val.tar.gz", raw / "bapps" / "2afc" / "val", "val")
    where = ["--root", str(tmp_path / "root")]
    assert main(["data", "fetch", "bapps", "--mirror", url, *where]) == 0
    place = tmp_path / "root" / "data" / "bapps" / "2afc" / "val"
    assert contents(place) == contents(raw / "bapps" / "2afc" / "val")
    assert main(["data", "prepare", "bapps", "--size", "20", "--resolution", "16", *where]) == 0


@pytest.mark.parametrize("inside", ["./val", "2afc/val", "dataset/2afc/val"])
def test_a_folder_more_above_bapps_is_left_away(
    raw: Path, mirror: tuple[Path, str], tmp_path: Path, inside: str
) -> None:
    folder, url = mirror
    cnn = raw / "bapps" / "2afc" / "val" / "cnn"
    tarred(folder / "twoafc_val.tar.gz", cnn, f"{inside}/cnn")
    assert main(["data", "fetch", "bapps", "--mirror", url, "--root", str(tmp_path)]) == 0
    assert contents(tmp_path / "data" / "bapps" / "2afc" / "val" / "cnn") == contents(cnn)


def test_the_training_part_is_unpacked_beside_it(raw: Path, mirror: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = mirror
    tarred(folder / "twoafc_train.tar.gz", raw / "bapps" / "2afc" / "train", "train")
    assert main(["data", "fetch", "bapps", "--part", "train", "--mirror", url, "--root", str(tmp_path)]) == 0
    assert len(bapps.read(tmp_path / "data" / "bapps", "train").triplets) == 12


@pytest.mark.parametrize("inside", ["", "train/", "test/of/a/val/"])
def test_another_archive_is_refused_and_the_right_one_is_taken_after_it(
    raw: Path, mirror: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], inside: str
) -> None:
    folder, url = mirror
    command = ["data", "fetch", "bapps", "--mirror", url, "--root", str(tmp_path)]
    cnn = raw / "bapps" / "2afc" / "val" / "cnn"
    tarred(folder / "twoafc_val.tar.gz", cnn, f"{inside}cnn")
    assert main(command) == 2
    kept = tmp_path / "data" / "bapps" / "archives" / "twoafc_val.tar.gz"
    assert f"{kept}: '" in (error := capsys.readouterr().err)
    assert "is not in a folder val; it is another archive than was expected: fetch another" in error
    assert not (tmp_path / "data" / "bapps" / "2afc" / "val").exists()
    tarred(folder / "twoafc_val.tar.gz", cnn, "val/cnn")
    assert main(command) == 0


@pytest.mark.parametrize(
    ("inside", "images"), [("", "Bird"), ("./", "flat"), ("birds16_rank2019/", "images/Bird"), ("a/b/", "a/Bird")]
)
def test_birds_are_unpacked_to_what_is_read(
    raw: Path, mirror: tuple[Path, str], tmp_path: Path, inside: str, images: str
) -> None:
    folder, url = mirror
    zipped(folder / "birds16_rank2019.zip", raw / "birds16" / "birds16_rank2019", inside)
    pictures = raw / "birds16" / "images" / "Bird"
    if images == "flat":
        with zipfile.ZipFile(folder / "birds16_images.zip", "w") as archive:
            for one in pictures.rglob("*.jpg"):
                archive.write(one, one.name)
    else:
        zipped(folder / "birds16_images.zip", pictures, f"{images}/")
    where = ["--root", str(tmp_path / "root")]
    assert main(["data", "fetch", "birds16", "--mirror", url, *where]) == 0
    if inside == "":  # as it is documented
        assert main(["data", "prepare", "birds16", "--size", "20", "--resolution", "16", *where]) == 0
    assert len(psiz.read(tmp_path / "root" / "data" / "birds16", psiz.BIRDS16).images) == 208
