"""Downloads that go on where they were interrupted and are checked before they count."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urljoin

from humansim.errors import BadInput
from humansim.root import locked, written_whole

if TYPE_CHECKING:  # most commands fetch nothing
    import requests
    import urllib3

Progress = Callable[[int, int | None], None]
CHUNK = 1 << 14  # bytes: what a broken connection loses at most
COMPRESSED = ("gzip", "x-gzip", "deflate", "br", "zstd")
BY_HAND = "by hand"
PATIENCE = 60.0  # seconds, at most, that a server may ask us to wait


@dataclass(frozen=True)
class Download:
    """A file that is published.

    Attributes:
        name: what it is called on disk.
        urls: where it is, in the order to try.
        size: bytes; None where the publisher does not say.
        sha256: or as many of its first digits as the publisher gives; None where he gives none: then it is recorded at
            the first fetch and checked ever after.
    """

    name: str
    urls: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None


class _RefusedError(Exception):
    """This address will not do; `again` if it may later, `wrong` if what it gave is not the file."""

    def __init__(self, reason: str, again: bool = False, wait: float = 0.0, wrong: bool = False) -> None:
        super().__init__(reason)
        self.again, self.wait, self.wrong = again, wait, wrong


def fetch(
    download: Download,
    folder: Path,
    *,
    mirror: str | None = None,
    progress: Progress | None = None,
    timeout: float = 30.0,
    attempts: int = 5,
    pause: float = 1.0,
) -> Path:
    """The file, whole and checked, in the folder; what an interrupted fetch left in `<name>.part` is gone on with.

    Args:
        mirror: a base URL, or a folder, that is tried before the published addresses.
        progress: called with bytes done and bytes in all, if known.
        timeout: seconds without a byte after which a connection counts as dead.
        attempts: at each address, without any progress in between.
        pause: seconds before the second attempt, doubled each time.

    Raises:
        BadInput: no address gave the right file; the reason of each.
    """
    target = folder / download.name
    with locked(folder / f"{download.name}.lock", wait=True):
        first = recorded(target)
        wanted = download.sha256 or first
        if target.exists():
            _check_there(target, download, wanted)
            _drop(target)  # of a fetch that was killed as it ended
            return target
        urls = list(download.urls)
        if mirror is not None:
            urls.insert(0, f"{mirror.rstrip('/')}/{download.name}")
        reasons = []
        for url in urls:
            try:
                _from(url, target, download, progress, timeout, attempts, pause)
                found, size = sha256_of(_part(target)), _part(target).stat().st_size
                if download.size is not None and size != download.size:
                    raise _RefusedError(f"it gave {size:,} bytes, not {download.size:,}", wrong=True)
                if wanted is not None and not found.startswith(wanted):
                    raise _RefusedError(f"its SHA-256 is {found[:16]}..., not {wanted[:16]}...", wrong=True)
                if wanted is None and _is_page(_part(target)):
                    raise _RefusedError("it gave a web page", wrong=True)
            except _RefusedError as error:
                reasons.append(f"{url}: {error}")
                if error.wrong:  # what another address gave before is kept
                    _drop(target)
                continue
            with open(_part(target), "rb+") as file:
                os.fsync(file.fileno())
            if first is None:
                with written_whole(_record(target)) as record:
                    record.write_text(json.dumps({"sha256": found, "size": size, "url": url}))
            _part(target).replace(target)
            _drop(target)
            return target
    raise BadInput(
        f"{download.name} could not be fetched: {'; '.join(reasons)}. Start again: it goes on where it was; or put the "
        f"file into {folder} by hand, or name another place with --mirror"
    )


def was_fetched(file: Path) -> bool:
    """Whether a file came by a fetch; it may have been put there by hand."""
    try:
        return bool(json.loads(_record(file).read_text())["url"] != BY_HAND)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def forget(file: Path) -> None:
    """Forgets the sum of a fetched file: the next fetch is the first again."""
    _record(file).unlink(missing_ok=True)


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _about(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")


def _record(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256.json")


def _drop(target: Path) -> None:
    _part(target).unlink(missing_ok=True)
    _about(target).unlink(missing_ok=True)


def recorded(target: Path) -> str | None:
    """The SHA-256 that a file had when it was first fetched; None if it never was.

    Raises:
        BadInput: the record is damaged.
    """
    try:
        return str(json.loads(_record(target).read_text())["sha256"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(f"{_record(target)}: the record of the first fetch is damaged; delete it") from None


def _check_there(target: Path, download: Download, wanted: str | None) -> None:
    found = sha256_of(target)
    if (wanted is not None and not found.startswith(wanted)) or download.size not in (None, target.stat().st_size):
        by = "the publisher says" if download.sha256 else f"it was at the first fetch ({_record(target)})"
        raise BadInput(f"{target}: it is not what {by}; delete it and fetch it again")
    if wanted is None:
        with written_whole(_record(target)) as record:
            record.write_text(json.dumps({"sha256": found, "size": target.stat().st_size, "url": BY_HAND}))


def sha256_of(file: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_page(file: Path) -> bool:
    with open(file, "rb") as stream:
        return stream.read(256).lstrip().lower().startswith((b"<!doctype", b"<html"))


def _from(
    url: str,
    target: Path,
    download: Download,
    progress: Progress | None,
    timeout: float,
    attempts: int,
    pause: float,
) -> None:
    """Fills the part from one address, with patience; the caller checks what came."""
    if not url.startswith(("http://", "https://")):
        _copy(Path(url), target, progress)
        return
    left, had = attempts, -1
    while True:
        try:
            _stream(url, target, download, progress, timeout)
            return
        except _RefusedError as error:
            now = _part(target).stat().st_size if _part(target).exists() else 0
            left = attempts if now > had >= 0 else left
            had, left = now, left - 1
            if not error.again or left <= 0:
                raise
            time.sleep(min(PATIENCE, max(error.wait, pause * 2 ** (attempts - left - 1))))


def _copy(source: Path, target: Path, progress: Progress | None) -> None:
    if not source.is_file():
        raise _RefusedError("no such file")
    _drop(target)
    with open(source, "rb") as given, _written(target, "wb", source.stat().st_size) as out:
        while chunk := given.read(CHUNK):
            out.write(chunk)
            if progress:
                progress(out.tell(), source.stat().st_size)


@contextlib.contextmanager
def _written(target: Path, mode: str, need: int | None) -> Iterator[IO[bytes]]:
    try:
        with open(_part(target), mode) as out:
            yield out
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BadInput(f"{target.parent}: no space left on the disk; {target.name} needs {need or 0:,} bytes") from None


def _stream(url: str, target: Path, download: Download, progress: Progress | None, timeout: float) -> None:
    import requests
    import urllib3

    part, about = _part(target), _about(target)
    start, known = 0, _known(about)
    if part.exists() and known is not None and (known["url"] == url or download.sha256 is not None):
        start = part.stat().st_size
        if known["total"] is not None and start >= known["total"]:
            if start == known["total"]:
                return  # it was killed when all was there
            start = 0  # not what was fetched
    # Ranges and lengths count the bytes as sent: they are taken as they are, never decoded.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if known and known["url"] == url and known["validator"]:
            headers["If-Range"] = known["validator"]
    try:
        with requests.get(
            url, headers=headers, stream=True, timeout=timeout, hooks={"response": _stay_encrypted}
        ) as answer:
            total = _total(answer, start, target.name)
            if answer.status_code == 416:
                if start == total:
                    return  # the first answer had not said how long it is
                _drop(target)
                raise _RefusedError("what was there is not its beginning", again=True)
            if answer.status_code == 200:
                start = 0  # it ignores ranges, or the file is another now
            if download.size is not None and total not in (None, download.size):
                raise _RefusedError(f"it has {total:,} bytes, not {download.size:,}")
            total = download.size if total is None else total
            if start and known and known["total"] not in (None, total):
                _drop(target)
                raise _RefusedError("the file has changed while it was fetched", again=True)
            if total is not None and shutil.disk_usage(target.parent).free < total - start:
                raise BadInput(f"{target.parent}: {target.name} needs {total - start:,} bytes, and fewer are free")
            strong = answer.headers.get("ETag", "")
            validator = answer.headers.get("Last-Modified", "") if strong.startswith("W/") or not strong else strong
            with written_whole(about) as file:
                file.write_text(json.dumps({"url": url, "validator": validator, "total": total}))
            with _written(target, "r+b" if start else "wb", total) as out:
                out.seek(start)
                for chunk in answer.raw.stream(CHUNK, decode_content=False):
                    out.write(chunk)
                    out.flush()
                    if total is not None and out.tell() > total:
                        raise _RefusedError(f"it gives more than the {total:,} bytes there should be", wrong=True)
                    if progress:
                        progress(out.tell(), total)
                done = out.tell()
            if total is not None and done < total:
                raise _RefusedError(f"it broke off after {done:,} of {total:,} bytes", again=True)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _refused(error) from None
    except OSError as error:  # of the disk, or of the authorities' file
        raise BadInput(f"{target.name}: {error}") from None


def _stay_encrypted(answer: "requests.Response", **_: Any) -> None:
    """Looks at every answer before a redirect in it is followed.

    Raises:
        _RefusedError: it leads from https to what anybody on the way can read and change.
    """
    if not answer.is_redirect:
        return
    to = answer.headers["Location"]
    try:
        to = urljoin(answer.url, to)
        open_to_all = answer.url.startswith("https:") and not to.startswith("https:")
    except ValueError:
        raise _RefusedError(f"it leads to {to!r}, which is no address") from None
    if open_to_all:
        answer.close()
        raise _RefusedError(f"it leads to {to}, which is not encrypted")


def _refused(error: "requests.RequestException | urllib3.exceptions.HTTPError") -> _RefusedError:
    """What a failed request means to the one who waits for the file."""
    import requests
    import urllib3

    _, failed, why = str(error).partition("certificate verify failed: ")
    if failed:
        return _RefusedError(
            f"its certificate is not to be trusted ({why.partition(' (_ssl')[0]}); if a proxy of your own is in "
            "between, REQUESTS_CA_BUNDLE names the file of its authority"
        )
    if isinstance(error, requests.TooManyRedirects):
        return _RefusedError("it leads round in a circle")
    passing = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    broken = isinstance(error, (*passing, urllib3.exceptions.HTTPError))
    return _RefusedError(f"no connection, or it broke ({type(error).__name__})" if broken else str(error), again=broken)


def _known(about: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(about.read_text())
        return {name: found[name] for name in ("url", "validator", "total")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _total(answer: "requests.Response", start: int, name: str) -> int | None:
    """Bytes of the whole file, if the answer says so.

    Raises:
        _RefusedError: it is no answer to go on with.
    """
    status = answer.status_code
    if status == 429 or status >= 500:
        wait = answer.headers.get("Retry-After", "")
        raise _RefusedError(f"HTTP {status}", again=True, wait=float(wait) if wait.isdigit() else 0.0)
    if status == 416 and start:
        total = answer.headers.get("Content-Range", "").rpartition("/")[2]
        return int(total) if total.isdigit() else None
    if status not in (200, 206):
        raise _RefusedError(f"HTTP {status}")
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        raise _RefusedError("it gave a web page")
    encoding = answer.headers.get("Content-Encoding", "")
    # Some servers call the packing of a .gz file itself an encoding: that is the file as published.
    if encoding in COMPRESSED and not (encoding in ("gzip", "x-gzip") and name.endswith(".gz")):
        raise _RefusedError("it gave the file compressed once more, and was asked not to")
    if status == 200:
        length = answer.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None
    span, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    if span.partition("-")[0] == str(start) and total.isdigit():
        return int(total)
    raise _RefusedError(f"it was asked for bytes from {start} and answered {span!r}")
