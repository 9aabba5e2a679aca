"""An archive unpacks whole or not at all, and only inside its folder."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from humansim.errors import BadInput
from humansim.sources.archive import unpack

DATA = np.random.default_rng(0).bytes(100_000)

Member = tuple[str, bytes]


def tar(file: Path, members: list[Member], change: Callable[[tarfile.TarInfo], None] | None = None) -> Path:
    with tarfile.open(file, "w:gz") as archive:
        for name, data in members:
            one = tarfile.TarInfo(name)
            one.size = len(data)
            if change:
                change(one)
            archive.addfile(one, io.BytesIO(data))
    return file


def zipped(file: Path, members: list[Member], mode: int = 0) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            one = zipfile.ZipInfo(name)
            one.external_attr, one.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(one, data)
    return file


MAKE = {"a.tar.gz": tar, "a.zip": zipped}


@pytest.mark.parametrize("name", MAKE)
def test_an_archive_is_unpacked_whole_without_the_folder_that_is_left_away(tmp_path: Path, name: str) -> None:
    members = [("val/a/1.txt", b"one"), ("val/b.txt", b"two"), ("__MACOSX/x", b""), ("val/._b.txt", b"")]
    unpack(MAKE[name](tmp_path / name, members), tmp_path / "out", strip="val")
    found = {str(f.relative_to(tmp_path / "out")): f.read_bytes() for f in (tmp_path / "out").rglob("*.txt")}
    assert found == {"a/1.txt": b"one", "b.txt": b"two"}


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("member", ["../out.txt", "/etc/x", "a/../../x", "c:/x", "a\\..\\x"])
def test_names_outside_the_folder_are_refused(tmp_path: Path, name: str, member: str) -> None:
    archive = MAKE[name](tmp_path / name, [("fine.txt", b""), (member, b"x")])
    with pytest.raises(BadInput, match="not a path inside"):
        unpack(archive, tmp_path / "out")
    assert sorted(file.name for file in tmp_path.iterdir() if file.suffix != ".lock") == [name]


KINDS = {"symlink": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE, "pipe": tarfile.FIFOTYPE}


@pytest.mark.parametrize("kind", KINDS)
def test_links_and_devices_are_refused(tmp_path: Path, kind: str) -> None:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname = KINDS[kind], "/etc/passwd"

    with pytest.raises(BadInput, match="a link or a device"):
        unpack(tar(tmp_path / "a.tar.gz", [("x", b"")], change), tmp_path / "out")
    with pytest.raises(BadInput, match="a link or a device"):
        unpack(zipped(tmp_path / "a.zip", [("x", b"/etc/passwd")], 0o120777), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", MAKE)
def test_bombs_doubles_and_strangers_are_refused(tmp_path: Path, name: str) -> None:
    make = MAKE[name]
    with pytest.raises(BadInput, match="unpacks to more than 200 times its size"):
        unpack(make(tmp_path / name, [("zeros", bytes(130 << 20))]), tmp_path / "out")
    with pytest.raises(BadInput, match="more than 10 bytes"):
        unpack(make(tmp_path / name, [("x", bytes(11))]), tmp_path / "out", most_bytes=10)
    with pytest.raises(BadInput, match="or 1 files"):
        unpack(make(tmp_path / name, [("x", b"1"), ("y", b"1")]), tmp_path / "out", most_files=1)
    with pytest.raises(BadInput, match="twice"):
        unpack(tar(tmp_path / "b.tar.gz", [("x", b"1"), ("x", b"2")]), tmp_path / "out")
    with pytest.raises(BadInput, match="both a file and a folder"):
        unpack(make(tmp_path / name, [("x", b"1"), ("x/y", b"2")]), tmp_path / "out")
    with pytest.raises(BadInput, match="not in a folder val"):
        unpack(make(tmp_path / name, [("train/x", b"1")]), tmp_path / "out", strip="val")
    with pytest.raises(BadInput, match="holds no files"):
        unpack(make(tmp_path / name, []), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_a_truncated_archive_leaves_nothing(tmp_path: Path, name: str, share: float) -> None:
    archive = MAKE[name](tmp_path / name, [(f"{i}.bin", DATA[i * 1000 : (i + 9) * 1000]) for i in range(20)])
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])
    with pytest.raises(BadInput, match="damaged"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_wrong_byte_of_a_tar_gz_is_found_by_its_checksum(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", [(f"{i}.bin", DATA[i * 1000 : (i + 9) * 1000]) for i in range(20)])
    whole = archive.read_bytes()
    for at in np.random.default_rng(0).integers(20, len(whole), 50):
        archive.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(BadInput, match=r"damaged|not a path|a link|twice|a file and"):
            unpack(archive, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_tar_gz_cut_off_after_its_last_file_is_damaged(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", [("a.bin", DATA)])
    archive.write_bytes(archive.read_bytes()[:-8])
    with pytest.raises(BadInput, match="damaged"):
        unpack(archive, tmp_path / "out")


def test_a_tar_gz_that_a_browser_unpacked_on_the_way_is_taken(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", [("val/a.bin", DATA)])
    archive.write_bytes(gzip.decompress(archive.read_bytes()))
    assert (unpack(archive, tmp_path / "out", strip="val") / "a.bin").read_bytes() == DATA
