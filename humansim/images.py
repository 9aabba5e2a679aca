"""Every image decoded and resized once, kept as uint8, shared by all sources and by all trials on a node.

A store is a folder `images/<resize rule>/` under the root: `pixels.u8`, rows of raw pixels that only ever grows, and
`index.npz`, put in place whole once the pixels that it tells of are on the disk. A row's key is the SHA-256 of the
image file: the same picture under two names, or in two sources, is one row. The index also knows every file by name,
size and time of change, so that an unchanged one is not read again. Rows lie as they came; nobody may depend on it.
Trials map the pixels into memory: the page cache holds one copy, however many trials read it.
"""

import hashlib
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from humansim.errors import BadInput
from humansim.image_index import INDEX, PIXELS, ROW, File, Index, damaged, load, mapped, save
from humansim.judgements import Judgements
from humansim.pictures import Pixels, Resize, phash, upright
from humansim.root import Root, locked

Progress = Callable[[int, int], None]

SAVE_EVERY = 2000  # images between two writings of the index: what a killed preparation loses at most


@dataclass(frozen=True)
class Store:
    """Images of a source at one resolution: `store[images]` are the pixels of these images, by their numbers.

    Attributes:
        pixels: the whole store, of all sources [N, resolution, resolution, 3], RGB, mapped into memory, read only.
        row: where in it each of `Judgements.images` lies [n].
        contents: SHA-256 of each image file.
        sizes: width and height of each image as it was, upright [n, 2].
        phash: perceptual hash of each image [n].
    """

    pixels: Pixels
    row: NDArray[np.int64]
    contents: tuple[str, ...]
    sizes: NDArray[np.int64]
    phash: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, images: NDArray[np.int64]) -> Pixels:
        return np.asarray(self.pixels[self.row[images]])


def open_store(
    root: Root,
    judgements: Judgements,
    resize: Resize | int,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Store:
    """The store of a source's images; those that are not in it yet are decoded first. Who else wants to waits.

    If all are there, nothing is locked or written. An interrupted preparation goes on where the index was last saved.

    Args:
        resize: the rule; a number of pixels means that every image is squashed to that square (bicubic; thesis, 4.1).
        progress: called with images done and images in all while images are decoded.
        workers: threads that decode; as many as there are processors.

    Raises:
        BadInput: an image that is missing, truncated or none at all, with the triplet that names it; a triplet of
            patches that differ in size; a store that is damaged, or cannot be written.
    """
    rule = resize if isinstance(resize, Resize) else Resize(resize)
    resolution, folder = rule.resolution, root.images / rule.name
    paths, files = [], {}
    for image, path in enumerate(judgements.paths):
        try:
            found = path.stat()
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror}; it was there a moment ago") from None
        paths.append(str(path.absolute()))
        files[paths[-1]] = (image, File(found.st_size, found.st_mtime_ns))
    index = load(folder, resolution)
    missing = [name for name, (_, file) in files.items() if not index.knows(name, file)]
    if missing:
        try:
            with locked(folder.with_suffix(".lock"), wait=True):
                index = load(folder, resolution)
                missing = [name for name, (_, file) in files.items() if not index.knows(name, file)]
                chosen = {name: files[name] for name in missing}
                _Preparation(folder, rule, index, judgements, progress).run(chosen, workers or os.cpu_count() or 1)
        except OSError as error:
            needed = f"{len(missing) * resolution**2 * 3:,} bytes for {len(missing):,} images"
            raise BadInput(f"{folder}: {error.strerror}; it needs up to {needed}; then it goes on") from error
    row = np.array([index.files[name].row for name in paths], dtype=np.int64)
    some = index.rows[row]
    sizes = np.stack([some["width"], some["height"]], axis=1).astype(np.int64)
    _check_sizes(judgements, sizes)
    contents = tuple(some["content"].astype("U64").tolist())
    return Store(mapped(folder, resolution, index), row, contents, sizes, some["phash"].astype(np.uint64))


def _check_sizes(judgements: Judgements, sizes: NDArray[np.int64]) -> None:
    """Refuses patches that differ in size where the source says that they do not; sizes are of its images [n, 2].

    A distortion of a patch has the patch's size. Squashed to one size, a mixed-up one would go unnoticed.
    """
    start = 0
    for part in judgements.parts:
        _check_sizes(part, sizes[start : start + len(part.images)])
        start += len(part.images)
    if not judgements.same_size:
        return
    images = judgements.triplets.images
    for row in np.flatnonzero((sizes[images] != sizes[images[:, :1]]).any(axis=(1, 2))):
        where = judgements.locate(int(row)) if judgements.locate else judgements.name
        each = (f"{judgements.images[i]} is {sizes[i, 0]} x {sizes[i, 1]}" for i in sorted(images[row]))
        raise BadInput(f"{where}: its images are not of one size: {', '.join(each)}; get them again from the release")


def prepared(root: Root, resolution: int) -> bool:
    """Whether there is a store at a resolution."""
    return any(root.images.glob(f"*-{resolution}/{INDEX}"))


def verify_files(judgements: Judgements, store: Store, progress: Progress | None = None) -> None:
    """Reads every image file of a source again and compares it with what it was when it was stored.

    Raises:
        BadInput: the first file that is no longer what it was.
    """
    for done, (path, content) in enumerate(zip(judgements.paths, store.contents, strict=True), 1):
        try:
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror}") from None
        if found != content:
            raise BadInput(f"{path}: it is no longer the file that was prepared; restore it, or touch it and prepare")
        if progress:
            progress(done, len(store.contents))


def verify(root: Root, resolution: int | None = None, progress: Progress | None = None) -> int:
    """Compares the pixels of the stores of a resolution, or of all, with the checksums taken when they came.

    Returns:
        How many images were checked.

    Raises:
        BadInput: some are no longer what they were; or the store is damaged otherwise.
    """
    total = 0
    for folder in sorted(root.images.glob(f"*-{resolution or '*'}/")):
        side = int(folder.name.rpartition("-")[2])
        index = load(folder, side)
        wrong = set()
        for row, pixels in enumerate(mapped(folder, side, index)):
            if zlib.crc32(pixels.data) != index.rows["crc"][row]:
                wrong.add(row)
            if progress:
                progress(row + 1, len(index.rows))
        if wrong:
            first = next((path for path, file in index.files.items() if file.row in wrong), "of an earlier file")
            raise damaged(folder, f"the pixels of {len(wrong)} images have changed; the first: {first}")
        total += len(index.rows)
    return total


@dataclass
class _Preparation:
    """Adds images to a store, under its lock."""

    folder: Path
    rule: Resize
    index: Index
    judgements: Judgements
    progress: Progress | None

    def run(self, missing: dict[str, tuple[int, File]], workers: int) -> None:
        """Adds files, given with image numbers and what they were before they are read; saves now and then."""
        if not missing:
            return
        known = {content.decode(): row for row, content in enumerate(self.index.rows["content"].tolist())}
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(f".{INDEX}-*"):  # by preparers that were killed
            left.unlink()
        if not (self.folder / INDEX).exists():
            save(self.folder, self.index)  # before any pixels: pixels without an index are damage
        new: list[tuple[Any, ...]] = []
        with open(self.folder / PIXELS, "ab") as pixels, ThreadPoolExecutor(workers) as pool:
            pixels.truncate(len(self.index.rows) * self.rule.resolution**2 * 3)  # rows that no index came to tell of
            found = _in_order(pool, lambda path: _read(Path(path), self.rule, known), missing, 4 * workers)
            try:
                for done, (path, (image, file)) in enumerate(missing.items(), 1):
                    content, row = self._next(found, path, image)
                    if content not in known:  # it may have come since, under another name
                        pixels.write(row[-1])
                        new.append((content, *row[:-1]))
                        known[content] = len(known)
                    self.index.files[path] = file._replace(row=known[content])
                    if done % SAVE_EVERY == 0:
                        self._keep(pixels, new)
                    if self.progress:
                        self.progress(len(self.judgements.images) - len(missing) + done, len(self.judgements.images))
            finally:  # what came before an error is good
                pool.shutdown(cancel_futures=True)
                self._keep(pixels, new)

    def _next(self, found: Iterator[tuple[str, Any]], path: str, image: int) -> tuple[str, Any]:
        try:
            return next(found)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            named = self.judgements.triplets
            rows = np.flatnonzero((named.images == image).any(axis=1) | (named.others == image).any(axis=1))
            locate = self.judgements.locate
            where = f" (named in {locate(int(rows[0]))})" if locate and len(rows) else ""
            reason = "is not an image that can be read" if isinstance(error, UnidentifiedImageError) else error
            raise BadInput(f"{path}: {reason}{where}; replace it or remove its rows") from None

    def _keep(self, pixels: BinaryIO, new: list[tuple[Any, ...]]) -> None:
        pixels.flush()
        os.fsync(pixels.fileno())
        self.index.rows = np.concatenate([self.index.rows, np.array(new, dtype=ROW)])
        new.clear()
        save(self.folder, self.index)


def _in_order(pool: ThreadPoolExecutor, read: Callable[[str], Any], paths: Iterable[str], ahead: int) -> Iterator[Any]:
    """What is read of the paths, in their order; `pool.map` would hold all that the disk has not taken yet."""
    waiting: deque[Future[Any]] = deque()
    for path in paths:
        waiting.append(pool.submit(read, path))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _read(path: Path, rule: Resize, known: dict[str, int]) -> tuple[str, tuple[Any, ...] | None]:
    """SHA-256 of a file and, unless that is known, the rest of its row with the pixels last."""
    data = path.read_bytes()
    content = hashlib.sha256(data).hexdigest()
    if content in known:
        return content, None
    picture = upright(data)
    pixels = rule(picture)
    return content, (*picture.size, zlib.crc32(pixels.data), phash(picture), pixels)
