"""What somebody new to the data commands stumbled over, each once."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_up import patches, ranked

from humansim.cli import main
from humansim.errors import BadInput
from humansim.judgements import joined
from humansim.root import Root
from humansim.sources import bapps, psiz
from humansim.sources.simulated_bapps import write_bapps
from humansim.sources.simulated_psiz import write_birds16
from humansim.splits import split


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    write_bapps(folder / "bapps", per_set=40)
    write_birds16(folder / "birds16", trials=600)
    return folder


@pytest.fixture
def data(release: Path, root: Root) -> Path:
    shutil.copytree(release, root.data)
    return root.data


def run(root: Root, *arguments: str) -> int:
    return main(["data", *arguments, "--root", str(root.path), "--data", str(root.data)])


def prepare(root: Root, name: str = "bapps", *more: str) -> int:
    return run(root, "prepare", name, "--resolution", "16", *more)


def test_verify_finds_an_image_that_was_destroyed_without_a_trace(
    root: Root, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import os

    assert prepare(root) == 0
    image = data / "bapps" / "2afc" / "val" / "cnn" / "p0" / "000003.png"
    before = image.stat()
    image.write_bytes(b"\0" * before.st_size)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run(root, "verify", "bapps", "--resolution", "16") == 2
    assert "p0/000003.png: it is no longer the file that was prepared" in capsys.readouterr().err


def test_verify_prepares_nothing(root: Root, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "verify", "bapps", "--resolution", "16") == 2
    assert "no images were prepared at 16 pixels; first: humansim data prepare bapps" in capsys.readouterr().err
    assert not root.images.exists()


@pytest.mark.parametrize("protocol", ["heldout", "heldout_images"])
def test_an_image_that_two_sources_have_is_not_in_fit_and_test(protocol: str) -> None:
    rng = np.random.default_rng(0)
    whole = joined("study", [patches(400, rng), ranked("hsj", 300, 3000, rng)])
    same = np.arange(len(whole.images))
    start = len(whole.parts[0].images)
    same[start : start + 200] = same[:200]
    found = split(whole, protocol, same)
    names = ("fit", "validation", "test")
    contents = {name: set(same[whole.triplets[found.parts[name]].images].ravel()) for name in names}
    for a, b in (("fit", "validation"), ("fit", "test"), ("validation", "test")):
        assert not contents[a] & contents[b]
    assert found.fit_images is not None
    assert not set(same[found.fit_images]) & contents["test"]
    apart = split(whole, protocol, np.arange(len(whole.images)))
    assert found.left_out > apart.left_out
    assert (found.parts["test"] == apart.parts["test"]).all()  # what is evaluated on stays whole


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))


@pytest.mark.parametrize("damage", ["cut", "noise"])
def test_a_tar_that_ends_too_early_is_damaged_at_whichever_byte(
    root: Root, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    archive = mirror / "twoafc_val.tar.gz"
    write_tar(archive, {f"val/cnn/ref/{i:06d}.png": bytes(300) for i in range(8)})
    block = 512 + 512  # a header and a vote
    content = bytearray(archive.read_bytes())
    if damage == "cut":
        del content[4 * block :]
    else:
        content[4 * block : 4 * block + 512] = np.random.default_rng(0).bytes(512)
    archive.write_bytes(content)
    assert run(root, "fetch", "bapps", "--mirror", str(mirror)) == 2
    assert "the archive is damaged (after 4,096 bytes" in capsys.readouterr().err
    assert not (root.data / "bapps" / "2afc" / "val").exists()


def test_a_wrong_archive_does_not_stand_in_the_way_of_the_right_one(
    root: Root, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {}
    for name, members in {
        "outside": {"val/../../evil": b"x"},
        "another": {"val/readme.txt": b"hello"},
        "right": {"val/cnn/ref/000000.png": b"png"},
    }.items():
        places[name] = tmp_path / name
        places[name].mkdir()
        write_tar(places[name] / "twoafc_val.tar.gz", members)
    assert run(root, "fetch", "bapps", "--mirror", str(places["outside"])) == 2
    assert "It was put aside as" in capsys.readouterr().err
    assert run(root, "fetch", "bapps", "--mirror", str(places["another"])) == 2
    assert "it holds no *.png; it is another archive" in capsys.readouterr().err
    assert run(root, "fetch", "bapps", "--mirror", str(places["right"])) == 0
    assert (places["right"] / "twoafc_val.tar.gz").exists()


def test_an_empty_folder_is_not_a_release(root: Root, tmp_path: Path) -> None:
    (root.data / "bapps" / "2afc" / "val").mkdir(parents=True)
    (tmp_path / "mirror").mkdir()
    write_tar(tmp_path / "mirror" / "twoafc_val.tar.gz", {"val/cnn/ref/000000.png": b"png"})
    assert run(root, "fetch", "bapps", "--mirror", str(tmp_path / "mirror")) == 0
    assert (root.data / "bapps" / "2afc" / "val" / "cnn" / "ref" / "000000.png").exists()


def test_an_archive_put_there_by_hand_is_kept(root: Root) -> None:
    archive = root.data / "bapps" / "archives" / "twoafc_val.tar.gz"
    archive.parent.mkdir(parents=True)
    write_tar(archive, {"val/cnn/ref/000000.png": b"png"})
    assert run(root, "fetch", "bapps") == 0
    assert archive.exists()
    assert run(root, "fetch", "bapps") == 0
    assert archive.exists()


def spoil_vote(content: bytes) -> Callable[[Path], str]:
    def spoil(data: Path) -> str:
        (data / "bapps" / "2afc" / "val" / "cnn" / "judge" / "000007.npy").write_bytes(content)
        return r"000007\.npy: cannot be read as a vote"

    return spoil


def npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, a=np.zeros(1))
    return out.getvalue()


HEADER = b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (%b), }"
VOTES = {
    "an archive of arrays": npz(),
    "a damaged archive": b"PK\x03\x04" + b"\0" * 40,
    "more than fits memory": (HEADER % b"10000000000000,").ljust(127) + b"\n" + b"\0" * 8,
    "a broken header": (HEADER % b"((((").ljust(127) + b"\n",
}


@pytest.mark.parametrize("name", VOTES)
def test_a_vote_that_is_none_is_one_clear_error(root: Root, data: Path, name: str) -> None:
    message = spoil_vote(VOTES[name])(data)
    with pytest.raises(BadInput, match=message):
        bapps.bapps(root)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("grade", float("nan"), "grade: nan does not lie from 0 to 100"),
        ("grade", 250, "grade: 250.0 does not lie"),
        ("anonymous_id", None, "anonymous_id: None names nobody"),
        ("sequence", {}, "sequence: it is not a list"),
    ],
)
def test_a_sequence_of_nonsense_is_refused(root: Root, data: Path, field: str, value: object, message: str) -> None:
    file = sorted((data / "birds16").rglob("train_seqs/*.json"))[0]
    given = json.loads(file.read_text())
    given["data"][0][field] = value
    file.write_text(json.dumps(given))
    with pytest.raises(BadInput, match=rf"{file.name}: data\[0\]: {message}"):
        psiz.birds16(root)


def test_an_id_that_is_no_text_is_an_id_all_the_same(root: Root, data: Path) -> None:
    file = sorted((data / "birds16").rglob("train_seqs/*.json"))[0]
    given = json.loads(file.read_text())
    given["data"][0]["sequence_id"] = [1]
    file.write_text(json.dumps(given))
    assert len(psiz.birds16(root).triplets)


def test_two_species_may_call_their_images_alike(root: Root, data: Path) -> None:
    names = next((data / "birds16").rglob("stimuli.txt"))
    lines = names.read_text().splitlines()
    files = [line.split("|")[1].rpartition("/")[2] for line in lines[1:]]
    folders = [line.split("|")[1].rpartition("/")[0] for line in lines[1:]]
    other = next(i for i, folder in enumerate(folders) if folder != folders[0])
    lines[1 + other] = lines[1 + other].replace(files[other], files[0])
    names.write_text("\n".join(lines) + "\n")
    place = data / "birds16" / "images" / "Bird" / folders[other].removeprefix("/birds_16/")
    (place / files[other]).rename(place / files[0])
    found = psiz.birds16(root)
    assert len({path for path in found.paths if path.name == files[0]}) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resolution", "0"], "--resolution: 0 pixels; it goes from 8"),
        (["--resolution", "-5"], "--resolution: -5 pixels"),
        (["--workers", "-1"], "--workers: -1 threads"),
        (["--size", "²"], "--size: '²' is neither"),
    ],
)
def test_numbers_out_of_range_are_refused_and_write_nothing(
    root: Root, data: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, "prepare", "bapps", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not root.images.exists()


def test_sets_are_replaced_all_at_once_or_not_at_all(
    root: Root, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import pandas as pd

    def contents() -> dict[str, bytes]:
        sets = root.path / "sets" / "bapps"
        return {str(file.relative_to(sets)): file.read_bytes() for file in sets.rglob("*.parquet")}

    assert prepare(root, "bapps", "--size", "8") == 0
    before = contents()
    written, real = [], pd.DataFrame.to_parquet

    def full(self: pd.DataFrame, path: Path, **more: object) -> None:
        written.append(path)
        if len(written) > 4:
            raise OSError(28, "No space left on device", str(path))
        real(self, path, **more)

    with monkeypatch.context() as patched:
        patched.setattr(pd.DataFrame, "to_parquet", full)
        assert prepare(root, "bapps", "--size", "4") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert contents() == before
    assert prepare(root, "bapps", "--size", "4") == 0
    assert contents().keys() == before.keys()
    assert contents() != before
    assert not [file for file in (root.path / "sets").rglob(".*") if file.suffix != ".lock"]


def test_a_folder_that_may_not_be_read_is_one_line(
    root: Root, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(self: Path) -> object:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", denied)
    assert run(root, "list") == 2
    assert "Permission denied" in capsys.readouterr().err
