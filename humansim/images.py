"""Every image of a source decoded and resized once, kept as uint8, shared by all trials on a node.

A store is a folder `images/<key>/` under the root: `pixels.npy` and `contents.json`. The key is a hash of the files'
names, sizes and times of change and of the resize rule, so a changed file makes another store. Trials map it into
memory: the page cache holds one copy, however many trials read it.
"""

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from humansim.errors import BadInput
from humansim.judgements import Judgements
from humansim.root import Root, made_whole
from humansim.spec import digest

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Store:
    """Images of a source at one resolution.

    Attributes:
        pixels: [n, resolution, resolution, 3], RGB, mapped into memory, in the order of `Judgements.images`.
        contents: SHA-256 of each image file.
    """

    pixels: Pixels
    contents: tuple[str, ...]


def open_store(
    root: Root, judgements: Judgements, resolution: int, progress: Callable[[int, int], None] | None = None
) -> Store:
    """The store of a source's images, made first if it is not there; processes that race to make it wait.

    Args:
        resolution: every image is squashed to this many pixels square (bicubic), as the thesis does (4.1).
        progress: called with images done and images in all while the store is made.

    Raises:
        BadInput: an image that is missing, truncated or none at all, with the triplet that names it.
    """
    files = []
    for name in judgements.images:
        try:
            found = (judgements.folder / name).stat()
        except OSError as error:
            raise BadInput(f"{judgements.folder / name}: {error.strerror}; it was there a moment ago") from None
        files.append([name, found.st_size, found.st_mtime_ns])
    folder = root.images / digest([str(judgements.folder), files, f"squash bicubic {resolution}"])
    with made_whole(folder) as aside:
        if aside is not None:
            _make(aside, judgements, resolution, progress)
    try:
        pixels = np.load(folder / "pixels.npy", mmap_mode="r")
        contents = tuple(json.loads((folder / "contents.json").read_text()))
        if pixels.shape[0] != len(files) or len(contents) != len(files):
            raise ValueError("wrong number of images")
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise BadInput(f"{folder}: the image store is damaged ({error}); delete the folder, it is made again") from None
    return Store(pixels, contents)


def _make(folder: Path, judgements: Judgements, resolution: int, progress: Callable[[int, int], None] | None) -> None:
    names = judgements.images
    shape = (len(names), resolution, resolution, 3)
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)

    def one(i: int) -> str:
        data = (judgements.folder / names[i]).read_bytes()
        pixels[i] = decode(data, resolution)
        return hashlib.sha256(data).hexdigest()

    contents = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and resizes outside the interpreter's lock
        done = pool.map(one, range(len(names)))
        for i, name in enumerate(names):
            try:
                contents.append(next(done))
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                pool.shutdown(cancel_futures=True)
                row = int(np.flatnonzero((judgements.triplets.images == i).any(axis=1))[0])
                where = f" (named in {judgements.locate(row)})" if judgements.locate else ""
                reason = "is not an image that can be read" if isinstance(error, UnidentifiedImageError) else error
                raise BadInput(f"{judgements.folder / name}: {reason}{where}; replace it or remove its rows") from None
            if progress:
                progress(i + 1, len(names))
    pixels.flush()
    (folder / "contents.json").write_text(json.dumps(contents))


def decode(data: bytes, resolution: int) -> Pixels:
    """An image file as RGB [resolution, resolution, 3], upright as people see it, squashed (bicubic)."""
    import io

    with Image.open(io.BytesIO(data)) as picture:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I;16"):  # Pillow would clip sixteen bits of grey to eight, not scale them
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        upright = upright.convert("RGB")
        return np.asarray(upright.resize((resolution, resolution), Image.Resampling.BICUBIC))
