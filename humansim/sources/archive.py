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


class WrongArchiveError(BadInput):
    """An archive that is damaged, or holds what it should not: not a trouble of this machine's disk."""


class _Header(tarfile.TarInfo):
    """tarfile takes a header that cannot be read for the end of the archive; here only the end is the end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Header":
        try:
            return super().fromtarfile(archive)
        except (tarfile.InvalidHeaderError, tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(f"after {archive.offset:,} bytes: {error or 'it ends too early'}") from None


def unpack(
    archive: Path,
    folder: Path,
    *,
    most_bytes: int = 64 << 30,
    most_files: int = 2_000_000,
    strip: str = "",
    holds: str = "*",
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """The contents of a .tar, .tar.gz or .zip as a folder: whole, or not at all. Plain files and folders only.

    Args:
        most_bytes, most_files: what it may unpack to at most.
        strip: name of the archive's folder whose contents are wanted, at the top or up to two folders deeper; files
            outside of it are refused.
        holds: a pattern of file names of which there has to be one.

    Raises:
        WrongArchiveError: it is damaged, or not what was expected, or holds what could do harm: names outside the
            folder, links, a bomb.
        BadInput: the disk is full, or the folder cannot be written.
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
                        raise WrongArchiveError(
                            f"{archive}: {name!r} is not in a folder {strip}; it is another archive than was expected: "
                            f"fetch another, or unpack it by hand so that {folder} holds its sets"
                        )
                    continue
                path = PurePosixPath(*parts[len(above) :])
                if not path.parts:
                    continue
                if str(path).casefold() in seen:
                    raise WrongArchiveError(f"{archive}: {name!r} is there twice")
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
                            raise WrongArchiveError(f"{archive}: it unpacks to more than {most}")
                        if total > max(100 << 20, RATIO * archive.stat().st_size):
                            raise WrongArchiveError(f"{archive}: it unpacks to more than {RATIO} times its size")
                        out.write(chunk)
                if progress:
                    progress(total, None)
        except (*DAMAGE, NotImplementedError, RuntimeError) as error:
            raise WrongArchiveError(f"{archive}: the archive is damaged ({error}); fetch it again") from None
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            twice = Path(error.filename).relative_to(aside)
            raise WrongArchiveError(f"{archive}: {twice} is both a file and a folder, or there twice") from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise BadInput(f"{folder}: no space left on the disk after {total:,} bytes") from None
            raise BadInput(f"{archive}: cannot be unpacked: {error}") from None
        if not files:
            raise WrongArchiveError(f"{archive}: it holds no files" + (f" in {strip}" if strip else ""))
        if not any(file.is_file() for file in aside.rglob(holds)):
            raise WrongArchiveError(f"{archive}: it holds no {holds}; it is another archive than was expected")
    return folder


def _members(archive: Path) -> Iterator[tuple[str, bool, IO[bytes] | None]]:
    """Name, whether it is a file, and its bytes, of each member."""
    if archive.name.endswith(".zip"):
        with zipfile.ZipFile(archive) as given:
            for one in given.infolist():
                kind = one.external_attr >> 28
                if one.flag_bits & 1 or kind not in (0, 4, 8):
                    raise WrongArchiveError(
                        f"{archive}: {one.filename!r} is encrypted, a link or a device; it is not unpacked"
                    )
                if one.is_dir():
                    yield one.filename, False, None
                else:
                    with given.open(one) as stream:
                        yield one.filename, True, stream
        return
    with _unzipped(archive) as plain, tarfile.open(fileobj=plain, mode="r|", tarinfo=_Header) as stream_of:
        for member in stream_of:
            if not (member.isreg() or member.isdir()):
                raise WrongArchiveError(f"{archive}: {member.name!r} is a link or a device; it is not unpacked")
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
        raise WrongArchiveError(f"{archive}: {name!r} is not a path inside the archive's folder; nothing is unpacked")
    return () if JUNK & set(path.parts) or path.name.startswith("._") else path.parts
