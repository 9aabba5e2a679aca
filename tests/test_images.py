"""Images are decoded once, as people see them, by however many processes."""

import errno
import multiprocessing
import os
import resource
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_pictures import decode, encoded, picture

from humansim import image_index, images
from humansim.errors import BadInput
from humansim.images import Store, open_store, verify
from humansim.judgements import Judgements, Triplets
from humansim.pictures import phash
from humansim.root import Root

COUNT = 12


@pytest.fixture
def judgements(root: Root) -> Judgements:
    folder = root.data / "mine"
    folder.mkdir(parents=True)
    for i in range(COUNT):
        picture(seed=i).save(folder / f"{i:02d}.png")
    rows = np.arange(COUNT).reshape(-1, 3)  # each triplet has its own three images
    unknown = np.full(len(rows), -1)
    triplets = Triplets(*rows.T, np.ones(len(rows)), 0 * unknown, 0 * unknown, unknown, unknown)
    names = tuple(f"{i:02d}.png" for i in range(COUNT))
    return Judgements("mine", folder, names, triplets, ("mine",), locate=locate)


def locate(row: int) -> str:
    return f"the list, line {row + 1}"


def pixels(store: Store) -> np.ndarray:
    return store[np.arange(len(store))]


def some(judgements: Judgements, which: slice) -> Judgements:
    """Only these of the images, by the names that they have; nothing else fits any more."""
    names = judgements.images[which]
    return replace(judgements, images=names)


def stores(root: Root) -> list[Path]:
    """All folders under images/, hidden ones too: those of stores that are whole, and left-overs if there are any."""
    return [place for place in root.images.iterdir() if place.is_dir()]


def test_a_store_holds_every_image_in_the_order_of_the_judgements(root: Root, judgements: Judgements) -> None:
    store = open_store(root, judgements, 16)
    assert len(store) == COUNT
    for i, name in enumerate(judgements.images):
        assert (store[np.array([i])][0] == decode((judgements.folder / name).read_bytes(), 16)).all()
    assert len(set(store.contents)) == COUNT


def test_progress_counts_up_to_all_images(root: Root, judgements: Judgements) -> None:
    seen: list[tuple[int, int]] = []
    open_store(root, judgements, 16, lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, COUNT) for i in range(COUNT)]


def test_a_store_is_made_once(root: Root, judgements: Judgements, monkeypatch: pytest.MonkeyPatch) -> None:
    one = open_store(root, judgements, 16)
    monkeypatch.delattr(images, "upright")
    two = open_store(root, judgements, 16)
    assert (one.pixels == two.pixels).all()
    assert one.contents == two.contents
    assert len(stores(root)) == 1


def test_a_changed_file_is_read_again_and_another_size_makes_another_store(root: Root, judgements: Judgements) -> None:
    before = open_store(root, judgements, 16)
    picture(seed=99).save(judgements.folder / judgements.images[4])
    after = open_store(root, judgements, 16)
    changed = [i for i in range(COUNT) if (before[np.array([i])] != after[np.array([i])]).any()]
    assert changed == [i for i in range(COUNT) if before.contents[i] != after.contents[i]] == [4]
    assert open_store(root, judgements, 8)[np.arange(COUNT)].shape == (COUNT, 8, 8, 3)
    assert len(stores(root)) == 2


@pytest.mark.parametrize("left", [0, 5, 1000, -1])
def test_a_store_with_truncated_pixels_is_refused_by_name(root: Root, judgements: Judgements, left: int) -> None:
    open_store(root, judgements, 16)
    (store,) = stores(root)
    file = store / "pixels.u8"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(BadInput, match=f"{store}: the image store is damaged.*delete the folder"):
        open_store(root, judgements, 16)
    picture(seed=99).save(judgements.folder / judgements.images[4])
    with pytest.raises(BadInput, match=f"{store}: the image store is damaged.*delete the folder"):
        open_store(root, judgements, 16)


@pytest.mark.parametrize("damage", [b"", b"[", b"PK", b"cut"])
def test_a_store_with_a_damaged_index_is_refused_by_name(root: Root, judgements: Judgements, damage: bytes) -> None:
    open_store(root, judgements, 16)
    (store,) = stores(root)
    whole = (store / "index.npz").read_bytes()
    (store / "index.npz").write_bytes(whole[: len(whole) // 2] if damage == b"cut" else damage)
    with pytest.raises(BadInput, match=f"{store}: the image store is damaged"):
        open_store(root, judgements, 16)


def test_a_flipped_byte_of_the_index_changes_nothing_or_is_refused(root: Root, judgements: Judgements) -> None:
    before = open_store(root, judgements, 16)
    (store,) = stores(root)
    whole = (store / "index.npz").read_bytes()
    refused = 0
    for i in range(0, len(whole), 11):
        (store / "index.npz").write_bytes(whole[:i] + bytes([whole[i] ^ 0x55]) + whole[i + 1 :])
        try:
            after = open_store(root, judgements, 16)
            assert (after.contents, after.row.tolist()) == (before.contents, before.row.tolist())
        except BadInput as error:
            assert f"{store}: the image store is damaged" in str(error)  # noqa: PT017 - some bytes say nothing
            refused += 1
    assert refused > len(whole) / 11 / 2


@pytest.mark.parametrize("file", ["pixels.u8", "index.npz"])
def test_a_store_that_lacks_a_file_is_refused_by_name(root: Root, judgements: Judgements, file: str) -> None:
    open_store(root, judgements, 16)
    (store,) = stores(root)
    (store / file).unlink()
    for again in (open_store, lambda root, _, side: verify(root, side)):
        with pytest.raises(BadInput, match=f"{store}: the image store is damaged"):
            again(root, judgements, 16)


def test_a_flipped_byte_of_the_pixels_is_found_by_verify(root: Root, judgements: Judgements) -> None:
    open_store(root, judgements, 8)
    open_store(root, judgements, 16)
    seen: list[tuple[int, int]] = []
    assert verify(root, 16, lambda done, total: seen.append((done, total))) == COUNT
    assert seen == [(i + 1, COUNT) for i in range(COUNT)]
    assert verify(root) == 2 * COUNT
    file = root.images / "squash-bicubic-16" / "pixels.u8"
    data = bytearray(file.read_bytes())
    data[3 * 16 * 16 * 3 + 7] ^= 1
    file.write_bytes(data)
    for resolution in (16, None):
        with pytest.raises(BadInput, match=r"the pixels of 1 images have changed; the first: .*mine/03\.png"):
            verify(root, resolution)
    assert verify(root, 8) == COUNT


def test_the_same_file_under_two_names_or_in_two_sources_is_one_row(root: Root, judgements: Judgements) -> None:
    copies = judgements.folder / "copies"
    copies.mkdir()
    for name in judgements.images:
        shutil.copy(judgements.folder / name, copies / Path(name).name)
    one = open_store(root, judgements, 16)
    paths = tuple(copies / Path(name).name for name in judgements.images)
    two = open_store(root, replace(judgements, files=paths), 16)
    assert two.contents == one.contents
    assert len(two.pixels) == COUNT
    assert len(stores(root)) == 1


def test_an_image_knows_its_own_size_and_look(root: Root, judgements: Judgements) -> None:
    tall = picture(50, 20, seed=77)
    tall.save(judgements.folder / judgements.images[3])
    store = open_store(root, judgements, 16)
    assert store.sizes.tolist() == [[20, 50] if i == 3 else [30, 40] for i in range(COUNT)]
    assert store.phash[3] == phash(tall)
    assert store.phash.dtype == np.uint64


def test_a_file_that_was_only_touched_is_read_but_not_decoded_again(
    root: Root, judgements: Judgements, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_store(root, judgements, 16)
    os.utime(judgements.folder / judgements.images[4], (0, 0))
    monkeypatch.delattr(images, "upright")
    after = open_store(root, judgements, 16)
    assert (after.contents, after.row.tolist()) == (before.contents, before.row.tolist())


def test_what_a_source_lacks_is_added_to_what_others_brought(root: Root, judgements: Judgements) -> None:
    before = pixels(open_store(root, judgements, 16))
    other = Root(root.path.with_name("other"), root.data)
    open_store(other, some(judgements, slice(5, 9)), 16)
    seen: list[tuple[int, int]] = []
    store = open_store(other, judgements, 16, lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, COUNT) for i in range(4, COUNT)]
    assert (pixels(store) == before).all()
    assert len(store.pixels) == COUNT


def test_the_number_of_threads_changes_nothing(root: Root, judgements: Judgements) -> None:
    found = [
        open_store(Root(root.path.with_name(f"with {n}"), root.data), judgements, 16, workers=n) for n in (1, 2, 7)
    ]
    assert all((pixels(one) == pixels(found[0])).all() for one in found)
    assert all(one.contents == found[0].contents for one in found)


def test_no_more_is_decoded_ahead_than_asked_for() -> None:
    begun: list[int] = []
    with ThreadPoolExecutor(3) as pool:
        for taken, one in enumerate(images._in_order(pool, begun.append, range(50), 6)):
            assert one is None
            assert len(begun) - taken <= 6
    assert sorted(begun) == list(range(50))


def test_a_warm_store_is_read_where_nothing_can_be_written(
    root: Root, judgements: Judgements, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pixels(open_store(root, judgements, 16))
    places = [root.path, root.images, *stores(root)]
    entries = [sorted((file.name, file.stat().st_mtime_ns) for file in place.iterdir()) for place in places]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it locked or wrote")

    monkeypatch.setattr(images, "locked", refuse)
    monkeypatch.setattr(image_index, "written_whole", refuse)
    for place in places:
        place.chmod(0o555)  # is not enough where the tests run as root
    try:
        assert (pixels(open_store(root, judgements, 16)) == before).all()
        assert verify(root) == COUNT
    finally:
        for place in places:
            place.chmod(0o755)
    assert entries == [sorted((file.name, file.stat().st_mtime_ns) for file in place.iterdir()) for place in places]


def test_the_pixels_cannot_be_changed_through_a_store(root: Root, judgements: Judgements) -> None:
    with pytest.raises(ValueError, match="read-only"):
        open_store(root, judgements, 16).pixels[0] = 0


def test_a_full_disk_is_bad_input_that_says_what_is_needed(root: Root, judgements: Judgements) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the kernel refuses to write on, as on a full disk
    try:
        with pytest.raises(BadInput, match=r"File too large; it needs up to 147,456 bytes for 12 images"):
            open_store(root, judgements, 64)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(open_store(root, judgements, 64)) == COUNT
    assert verify(root) == COUNT


def test_a_full_disk_under_the_index_too(root: Root, judgements: Judgements, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(images, "save", full)
        with pytest.raises(BadInput, match="No space left on device; it needs up to 9,216 bytes for 12 images"):
            open_store(root, judgements, 16)
    assert len(open_store(root, judgements, 16)) == COUNT


def test_a_damaged_store_is_made_again_once_it_is_deleted(root: Root, judgements: Judgements) -> None:
    before = open_store(root, judgements, 16)[np.arange(COUNT)]
    (store,) = stores(root)
    for file in store.iterdir():
        file.unlink()
    store.rmdir()
    assert (open_store(root, judgements, 16)[np.arange(COUNT)] == before).all()


def test_a_failed_preparation_keeps_what_was_good_and_the_next_one_succeeds(root: Root, judgements: Judgements) -> None:
    spoilt = judgements.folder / judgements.images[5]
    whole = spoilt.read_bytes()
    spoilt.write_bytes(whole[:100])
    with pytest.raises(BadInput, match=rf"{spoilt}: .*\(named in the list, line 2\)"):
        open_store(root, judgements, 16)
    assert verify(root, 16) == 5
    spoilt.write_bytes(whole)
    assert len(open_store(root, judgements, 16).contents) == COUNT


def test_an_image_that_went_away_after_the_judgements_were_read_is_bad_input(
    root: Root, judgements: Judgements
) -> None:
    gone = judgements.folder / judgements.images[7]
    gone.unlink()
    with pytest.raises(BadInput, match=str(gone)):
        open_store(root, judgements, 16)


def test_a_file_cut_off_anywhere_is_read_or_refused_never_anything_else(root: Root, judgements: Judgements) -> None:
    victim = judgements.folder / judgements.images[0]
    for kind in ("png", "jpeg", "gif"):
        data = encoded(picture(8, 8), kind)
        for length in range(0, len(data), max(1, len(data) // 25)):
            victim.write_bytes(data[:length])
            try:
                assert open_store(root, judgements, 8)[np.arange(COUNT)].shape == (COUNT, 8, 8, 3)
            except BadInput as error:
                assert str(victim) in str(error)  # noqa: PT017 - some cuts leave an image that can be read


def _prepare(root: Root, judgements: Judgements, barrier, results) -> None:
    images.SAVE_EVERY = 2
    barrier.wait()
    store: Store = open_store(root, judgements, 16)
    results.put((judgements.images[0], store.contents, pixels(store)))


@pytest.mark.parametrize("parts", [3 * [slice(0, COUNT)], [slice(0, 8), slice(4, COUNT)]], ids=["same", "overlapping"])
def test_processes_that_race_get_the_store_that_one_makes(
    root: Root, judgements: Judgements, parts: list[slice]
) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(len(parts)), spawn.Queue()
    work = [replace(some(judgements, part), locate=None) for part in parts]
    racers = [spawn.Process(target=_prepare, args=(root, one, barrier, results)) for one in work]
    for racer in racers:
        racer.start()
    found = [results.get(timeout=60) for _ in racers]
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0] * len(racers)
    alone = open_store(Root(root.path.with_name("alone"), root.data), judgements, 16)
    store = open_store(root, judgements, 16)
    assert (store.contents, len(store.pixels), verify(root)) == (alone.contents, COUNT, COUNT)
    assert (pixels(store) == pixels(alone)).all()
    for first, contents, theirs in found:
        start = judgements.images.index(first)
        assert contents == alone.contents[start : start + len(contents)]
        assert (theirs == pixels(alone)[start : start + len(contents)]).all()


def _prepare_until_killed(root: Root, judgements: Judgements, images_done: int, saves_done: int) -> None:
    images.SAVE_EVERY, save, saves = 3, images.save, []

    def kill_at(done: int, _: int) -> None:
        if done == images_done:
            os.kill(os.getpid(), signal.SIGKILL)

    def save_or_kill(folder: Path, index: image_index.Index) -> None:
        saves.append(index)
        if len(saves) > saves_done:
            (folder / ".index.npz-left").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        save(folder, index)

    images.save = save_or_kill
    open_store(root, judgements, 16, kill_at)


@pytest.mark.parametrize(
    ("images_done", "saves_done", "kept"), [(1, 99, 0), (8, 99, 6), (COUNT, 99, COUNT), (99, 0, 0), (99, 2, 3)]
)
def test_a_killed_preparation_goes_on_where_it_last_saved(
    root: Root, judgements: Judgements, images_done: int, saves_done: int, kept: int
) -> None:
    alone = open_store(Root(root.path.with_name("alone"), root.data), judgements, 16)
    arguments = (root, judgements, images_done, saves_done)
    killed = multiprocessing.get_context("spawn").Process(target=_prepare_until_killed, args=arguments)
    killed.start()
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    assert verify(root) == kept
    (place,) = stores(root)
    if kept:
        with open(place / "pixels.u8", "ab") as file:
            file.write(b"rows that no index tells of")
    seen: list[int] = []
    store = open_store(root, judgements, 16, lambda done, _: seen.append(done))
    assert seen == list(range(kept + 1, COUNT + 1))
    assert (pixels(store) == pixels(alone)).all()
    assert (store.contents, store.phash.tolist()) == (alone.contents, alone.phash.tolist())
    if kept < COUNT:
        assert sorted(file.name for file in place.iterdir()) == ["index.npz", "pixels.u8"]
        assert (place / "pixels.u8").stat().st_size == COUNT * 16 * 16 * 3
    assert verify(root) == COUNT
