"""What was parsed is kept as long as the files are the same; nothing that happens to the cache can change a number."""

import multiprocessing
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from humansim.cli import main
from humansim.errors import BadInput
from humansim.judgements import Judgements, Triplets
from humansim.root import Root
from humansim.sources import bapps, psiz, psiz_hdf5, psiz_json
from humansim.sources.parsed import parsed
from humansim.sources.simulated_bapps import write_bapps
from humansim.sources.simulated_psiz import write_birds16


@pytest.fixture
def files(root: Root) -> list[Path]:
    folder = root.data / "mine"
    folder.mkdir(parents=True)
    for i in range(3):
        (folder / f"{i}.txt").write_text(f"{i}")
    return sorted(folder.iterdir())


class Reader:
    """Reads numbers from files, and counts how often."""

    def __init__(self, root: Root | None, files: list[Path]) -> None:
        self.root, self.files, self.times = root, files, 0

    def __call__(self) -> list[int]:
        def read() -> dict[str, np.ndarray]:
            self.times += 1
            return {"number": np.array([int(file.read_text()) for file in self.files])}

        return parsed(self.root, self.files[0].parent, self.files, read)["number"].tolist()


def cache(root: Root) -> Path:
    (found,) = (root.path / "judgements").iterdir()
    return found


def test_files_are_read_once(root: Root, files: list[Path]) -> None:
    reader = Reader(root, files)
    assert reader() == reader() == [0, 1, 2]
    assert reader.times == 1


def test_without_a_root_nothing_is_kept(root: Root, files: list[Path]) -> None:
    reader = Reader(None, files)
    assert reader() == reader()
    assert reader.times == 2
    assert not (root.path / "judgements").exists()


def test_changed_touched_added_and_removed_files_are_noticed(root: Root, files: list[Path]) -> None:
    reader = Reader(root, files)
    reader()
    files[0].write_text("7")
    assert reader() == [7, 1, 2]
    os.utime(files[1], ns=(0, 12345))
    assert reader() == [7, 1, 2]
    assert reader.times == 3
    (files[0].parent / "9.txt").write_text("9")
    reader.files = sorted(files[0].parent.iterdir())
    assert reader() == [7, 1, 2, 9]
    reader.files = files[1:]
    assert reader() == [1, 2]
    assert reader.times == 5
    cache(root)  # one file, however often it was written


@pytest.mark.parametrize("damage", ["truncated", "emptied", "foreign", "array", "pickle"])
def test_a_damaged_cache_is_read_anew(root: Root, files: list[Path], damage: str) -> None:
    reader = Reader(root, files)
    reader()
    place = cache(root)
    if damage == "truncated":
        place.write_bytes(place.read_bytes()[:-40])
    elif damage == "emptied":
        place.write_bytes(b"")
    elif damage == "foreign":
        place.write_text("these are not arrays")
    elif damage == "array":
        with open(place, "wb") as file:
            np.save(file, np.arange(3))
    else:
        with open(place, "wb") as file:
            np.savez(file, key=np.array([{"a": 1}], dtype=object))
    assert reader() == [0, 1, 2]
    assert reader.times == 2
    assert reader() == [0, 1, 2]
    assert reader.times == 2  # it was written again


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_a_flipped_bit_changes_no_number(root: Root, files: list[Path], at: float, bit: int) -> None:
    Reader(root, files)()
    data = bytearray(cache(root).read_bytes())
    data[int(at * len(data))] ^= 1 << bit
    cache(root).write_bytes(data)
    assert Reader(root, files)() == [0, 1, 2]


def test_an_error_of_the_reader_keeps_nothing(root: Root, files: list[Path]) -> None:
    files[1].write_text("none")
    with pytest.raises(ValueError, match="none"):
        Reader(root, files)()
    assert not (root.path / "judgements").exists()


def test_a_cache_that_cannot_be_written_is_done_without(root: Root, files: list[Path]) -> None:
    (root.path / "judgements").write_text("a file where the folder belongs")
    reader = Reader(root, files)
    assert reader() == reader() == [0, 1, 2]
    assert reader.times == 2


def _race(root: Root, files: list[Path], found: "multiprocessing.Queue[list[int]]") -> None:
    for _ in range(20):
        found.put(Reader(root, files)())
        files[2].touch()


def test_processes_that_race_read_the_same(root: Root, files: list[Path]) -> None:
    context = multiprocessing.get_context("fork")
    found: multiprocessing.Queue[list[int]] = context.Queue()
    running = [context.Process(target=_race, args=(root, files, found)) for _ in range(2)]
    for one in running:
        one.start()
    results = [found.get(timeout=60) for _ in range(40)]
    for one in running:
        one.join()
    assert results == [[0, 1, 2]] * 40


def assert_equal(one: Judgements, two: Judgements) -> None:
    assert (one.images, one.sets, one.files) == (two.images, two.sets, two.files)
    for column in fields(Triplets):
        first, second = getattr(one.triplets, column.name), getattr(two.triplets, column.name)
        assert first.dtype == second.dtype
        assert (first == second).all()


def test_votes_of_bapps_are_opened_once(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bapps(root.data / "bapps", per_set=40)
    first = bapps.bapps(root)
    plain = bapps.read(root.data / "bapps")
    monkeypatch.setattr(bapps, "_vote", None)
    again = bapps.bapps(root)
    assert_equal(first, plain)
    assert_equal(again, plain)


@pytest.mark.parametrize("form", ["json", "hdf5"])
def test_trials_of_psiz_are_parsed_once(root: Root, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    write_birds16(root.data / "birds16", trials=240, form=form)
    plain = psiz.read(root.data / "birds16", psiz.BIRDS16)
    first = psiz.birds16(root)
    monkeypatch.setattr(psiz_json, "_timestep", None)
    monkeypatch.setattr(psiz_hdf5, "_datasets", None)
    again = psiz.birds16(root)
    assert_equal(first, plain)
    assert_equal(again, plain)


@pytest.mark.parametrize("form", ["json", "hdf5"])
def test_a_stimulus_out_of_range_is_named_by_file_and_trial_from_the_cache_too(root: Root, form: str) -> None:
    folder = root.data / "birds16"
    write_birds16(folder, trials=240, form=form)
    if form == "json":
        names = next(folder.rglob("stimuli.txt"))
        names.write_text("\n".join(names.read_text().splitlines()[:150]) + "\n")
        where = r"train_seqs/.*\.json: data\[\d+\]\.sequence\[\d+\]: stimulus \d+ does not exist.*lists 149"
    else:
        import h5py

        with h5py.File(folder / "catalog.hdf5", "r+") as given:
            for name in ("stimulus_id", "stimulus_filepath"):
                kept = given[name][:149]
                del given[name]
                given[name] = kept
        where = r"obs\.hdf5: row \d+: stimulus \d+ does not exist.*lists 149"
    for _ in range(2):
        with pytest.raises(BadInput, match=where):
            psiz.birds16(root)


def test_verify_reads_the_files_themselves(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    write_bapps(root.data / "bapps", per_set=40)
    where = ["bapps", "--root", str(root.path), "--data", str(root.data), "--resolution", "16"]
    assert main(["data", "prepare", *where]) == 0
    vote = root.data / "bapps" / "2afc" / "val" / "cnn" / "judge" / "000007.npy"
    before, data = vote.stat(), bytearray(vote.read_bytes())
    data[:6] = b"broken"
    vote.write_bytes(data)
    os.utime(vote, ns=(before.st_atime_ns, before.st_mtime_ns))  # a disk that fails leaves no trace
    assert main(["data", "prepare", *where]) == 0
    assert main(["data", "verify", *where]) == 2
    assert "000007.npy" in capsys.readouterr().err


def test_a_vote_that_is_a_broken_link_is_one_clear_error(root: Root) -> None:
    write_bapps(root.data / "bapps", per_set=40)
    vote = root.data / "bapps" / "2afc" / "val" / "cnn" / "judge" / "000007.npy"
    vote.unlink()
    vote.symlink_to("nowhere.npy")
    with pytest.raises(BadInput, match=r"000007\.npy: cannot be read as a vote"):
        bapps.bapps(root)
