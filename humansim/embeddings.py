"""Embeddings of unchanged weights, kept: a new set, size, protocol or measure costs no forward pass.

A store is a folder `embeddings/<key>/` under the root. The key names all that an embedding's bits hang on but the
image: the weights' contents, the backbone, where it is read, precision, resize rule, batch, threads, device and
version of torch. `embeddings.f32` holds rows that only ever grow, `index.npz` says which image each is of, by the
SHA-256 of its file, with a checksum; it is put in place once the rows that it tells of are on the disk. The folder
can be deleted at any time.
"""

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from humansim.embedder import BATCH, Embedder, Images, Progress
from humansim.errors import BadInput
from humansim.root import Root, locked, written_whole
from humansim.spec import Trial, digest

ROWS, INDEX = "embeddings.f32", "index.npz"
ROW = np.dtype([("content", "S64"), ("crc", "u4")])
VERSION = 1  # raise it when the same network would be read otherwise


@dataclass(frozen=True)
class Cache:
    """Where the embeddings of one network lie.

    Attributes:
        folder: of the store.
        contents: SHA-256 of each image file, by the image's number.
    """

    folder: Path
    contents: Sequence[str]


def cache(root: Root, trial: Trial, weights: str, resize: str, device: str, contents: Sequence[str]) -> Cache:
    """The cache of a trial's pretrained backbone.

    Args:
        weights: fingerprint of the backbone's weights.
        resize: name of the resize rule.
        device: what kind of device it runs on.
        contents: SHA-256 of each image file, by the image's number.
    """
    key = digest(
        {
            "version": VERSION,
            "backbone": trial.backbone.plain(),
            "weights": weights,
            "layer": trial.layer,
            "pool": trial.pool,
            "precision": trial.precision,
            "resize": resize,
            "batch": BATCH,
            "threads": trial.threads,
            "device": device,
            "torch": torch.__version__,
        }
    )
    return Cache(root.path / "embeddings" / key, contents)


def embed(
    embedder: Embedder, pixels: Images, rows: NDArray[np.int64], kept: Cache | None, progress: Progress | None = None
) -> tuple[Tensor, int]:
    """Embeddings [len(rows), d] of images by number, on the embedder's device, and how many were computed for it.

    Each image content is embedded once, ever. Processes that want the same wait for the first.

    Raises:
        BadInput: the store is damaged, or cannot be written.
    """
    if kept is None:
        return embedder.embed(pixels, rows, progress, fixed=True), len(rows)
    contents = np.array([kept.contents[row] for row in rows], dtype="S64")
    if not len(rows):
        return torch.empty(0, 0), 0
    unique, first = np.unique(contents, return_index=True)
    try:
        with locked(kept.folder.with_suffix(".lock"), wait=True):
            known = _index(kept.folder)
            missing = first[~np.isin(unique, known["content"])]
            if len(missing):
                found = embedder.embed(pixels, rows[missing], progress, fixed=True).cpu().numpy()
                known = _append(kept.folder, known, contents[missing], found)
    except OSError as error:
        raise BadInput(f"{kept.folder}: {error.strerror}; free some space, or delete the folder") from error
    place = _places(known, contents)
    with np.load(kept.folder / INDEX, allow_pickle=False) as saved:
        width = int(saved["bytes"]) // len(saved["rows"]) // 4
    # Behind the rows that are known there may be some that no index came to tell of.
    table = np.memmap(kept.folder / ROWS, dtype=np.float32, mode="r", shape=(len(known), width))
    values = np.ascontiguousarray(table[place])
    for row, value in zip(place, values, strict=True):
        if zlib.crc32(value.data) != known["crc"][row]:
            raise _damaged(kept.folder, f"row {row} is no longer what it was")
    return torch.from_numpy(values).to(embedder.device), len(missing)


def _places(known: NDArray[np.void], contents: NDArray[np.bytes_]) -> NDArray[np.int64]:
    order = np.argsort(known["content"], kind="stable")
    return np.asarray(order[np.searchsorted(known["content"][order], contents)], dtype=np.int64)


def _index(folder: Path) -> NDArray[np.void]:
    try:
        with open(folder / INDEX, "rb") as file, np.load(file, allow_pickle=False) as saved:
            rows = saved["rows"]
            if rows.dtype != ROW:
                raise ValueError("its index has other columns")
            size, there = int(saved["bytes"]), (folder / ROWS).stat().st_size
            if there < size:
                raise ValueError(f"{ROWS} is {size - there:,} bytes short")
            return np.asarray(rows)
    except FileNotFoundError:
        return np.empty(0, dtype=ROW)
    except Exception as error:  # numpy and zipfile raise nearly anything over a damaged file
        raise _damaged(folder, error) from None


def _append(
    folder: Path, known: NDArray[np.void], contents: NDArray[np.bytes_], found: NDArray[np.float32]
) -> NDArray[np.void]:
    folder.mkdir(parents=True, exist_ok=True)
    width = found.shape[1] * found.itemsize
    with open(folder / ROWS, "ab") as file:
        file.truncate(len(known) * width)  # rows that no index came to tell of
        file.seek(0, os.SEEK_END)
        file.write(np.ascontiguousarray(found).data)
        file.flush()
        os.fsync(file.fileno())
    new = np.array(
        [(c, zlib.crc32(np.ascontiguousarray(v).data)) for c, v in zip(contents, found, strict=True)], dtype=ROW
    )
    rows = np.concatenate([known, new])
    with written_whole(folder / INDEX) as temporary, open(temporary, "wb") as out:
        np.savez(out, rows=rows, bytes=np.array(len(rows) * width))
    return np.asarray(rows)


def _damaged(folder: Path, why: object) -> BadInput:
    return BadInput(f"{folder}: the kept embeddings are damaged ({why}); delete the folder, it is made again")
