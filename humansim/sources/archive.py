"""Archives unpack whole or not at all, and only inside their folder."""

import contextlib
import errno
import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from humansim.errors import BadInput
from humansim.root import made_whole

CHUNK = 1 << 20  # bytes read at a time
RATIO = 200  # times its size that an archive may unpack to; JSON of trials packs 20-fold
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)
DEEPEST = 3  # folders deep, at most, that the one is looked for whose contents are wanted
JUNK = {"__MACOSX", ".DS_Store"}


class DamagedError(BadInput):
    """An archive that ends too early or is none."""


def unpack(
    archive: Path,
    folder: Path,
    *,
    most_bytes: int = 64 << 30,
    most_files: int = 2_000_000,
    strip: str = "",
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """The contents of a .tar, .tar.gz or .zip as a folder: whole, or not at all. Plain files and folders only.

    Args:
        most_bytes, most_files: what it may unpack to at most.
        strip: name of the archive's folder whose contents are wanted, at the top or up to two folders deeper; files
            outside of it are refused.

    Raises:
        BadInput: the archive is damaged, or holds what could do harm: names outside the folder, links, a bomb.
    """
    with made_whole(folder) as aside:
        if aside is None:
            return folder
        total = files = 0
        above: tuple[str, ...] | None = None if strip else ()  # the folder whose contents are wanted, once it is seen
        seen: set[str] = set()
        try:
            for name, is_file, stream in _members(archive):
                parts = _parts(archive, name)
                if above is None and strip in parts[:DEEPEST]:
                    above = parts[: parts.index(strip) + 1]
                if above is None or parts[: len(above)] != above:
                    if is_file and parts:
                        raise BadInput(
                            f"{archive}: {name!r} is not in a folder {strip}; it is another archive than was expected: "
                            f"delete it and fetch it again, or unpack it by hand so that {folder} holds its sets"
                        )
                    continue
                path = PurePosixPath(*parts[len(above) :])
                if not path.parts:
                    continue
                if str(path).casefold() in seen:
                    raise BadInput(f"{archive}: {name!r} is there twice")
                place = aside / path
                if not is_file:
                    place.mkdir(parents=True, exist_ok=True)
                    continue
                seen.add(str(path).casefold())
                files += 1
                place.parent.mkdir(parents=True, exist_ok=True)
                with open(place, "xb") as out:
                    while chunk := stream.read(CHUNK):  # type: ignore[union-attr]
                        total += len(chunk)
                        if total > most_bytes or files > most_files:
                            most = f"{most_bytes:,} bytes or {most_files:,} files"
                            raise BadInput(f"{archive}: it unpacks to more than {most}")
                        if total > max(100 << 20, RATIO * archive.stat().st_size):
                            raise BadInput(f"{archive}: it unpacks to more than {RATIO} times its size")
                        out.write(chunk)
                if progress:
                    progress(total, None)
        except (*DAMAGE, NotImplementedError, RuntimeError) as error:
            raise DamagedError(f"{archive}: the archive is damaged ({error}); fetch it again") from None
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise BadInput(f"{archive}: {error.filename} is both a file and a folder, or there twice") from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise BadInput(f"{folder}: no space left on the disk after {total:,} bytes") from None
            raise BadInput(f"{archive}: cannot be unpacked: {error}") from None
        if not files:
            raise BadInput(f"{archive}: it holds no files" + (f" in {strip}" if strip else ""))
    return folder


def _members(archive: Path) -> Iterator[tuple[str, bool, IO[bytes] | None]]:
    """Name, whether it is a file, and its bytes, of each member."""
    if archive.name.endswith(".zip"):
        with zipfile.ZipFile(archive) as given:
            for one in given.infolist():
                kind = one.external_attr >> 28
                if one.flag_bits & 1 or kind not in (0, 4, 8):
                    raise BadInput(f"{archive}: {one.filename!r} is encrypted, a link or a device; it is not unpacked")
                if one.is_dir():
                    yield one.filename, False, None
                else:
                    with given.open(one) as stream:
                        yield one.filename, True, stream
        return
    with _unzipped(archive) as plain, tarfile.open(fileobj=plain, mode="r|") as stream_of:
        for member in stream_of:
            if not (member.isreg() or member.isdir()):
                raise BadInput(f"{archive}: {member.name!r} is a link or a device; it is not unpacked")
            yield member.name, member.isreg(), stream_of.extractfile(member)
        while plain.read(CHUNK):  # tarfile stops before the checksum, which gzip compares at the end
            pass


@contextlib.contextmanager
def _unzipped(archive: Path) -> Iterator[IO[bytes]]:
    with open(archive, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:  # a browser may have unpacked the .gz
            yield file
            return
        with gzip.open(file) as given:
            yield given  # type: ignore[misc]


def _parts(archive: Path, name: str) -> tuple[str, ...]:
    """A member's path inside the archive; empty for what is left away.

    Raises:
        BadInput: outside.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or ":" in name.partition("/")[0]:
        raise BadInput(f"{archive}: {name!r} is not a path inside the archive's folder; nothing is unpacked")
    return () if JUNK & set(path.parts) or path.name.startswith("._") else path.parts
