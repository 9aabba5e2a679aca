"""Encrypted transport stays encrypted; what servers do to the bytes on the way never ends in a wrong file."""

import gzip
import hashlib
import itertools
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from serving import Request, asked_from, begin, head, serving

from humansim.download import Download, fetch
from humansim.errors import BadInput

DATA = np.random.default_rng(0).bytes(300_000)
SUM = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authority.pem"))


def get(url: str, folder: Path, name: str = "file.bin", sha256: str | None = SUM, size: int | None = None) -> Path:
    return fetch(Download(name, (url,), size, sha256), folder, timeout=2, pause=0.01, attempts=3)


def whole(request: Request) -> None:
    request.wfile.write(begin(request, DATA))


def leading(*to: str) -> Callable[[Request], None]:
    """Redirects to one address after the other, then gives the file."""
    left = iter(to)

    def answer(request: Request) -> None:
        if one := next(left, None):
            head(request, 302, Location=one, Content_Length=0)
        else:
            whole(request)

    return answer


@pytest.mark.usefixtures("trusted")
def test_a_redirect_from_https_to_https_is_followed(tls: ssl.SSLContext, tmp_path: Path) -> None:
    with serving(whole, tls) as there, serving(leading(f"{there}/file.bin"), tls) as url:
        assert get(url, tmp_path).read_bytes() == DATA


@pytest.mark.usefixtures("trusted")
def test_a_redirect_from_https_to_http_is_refused_before_it_is_followed(tls: ssl.SSLContext, tmp_path: Path) -> None:
    asked = []
    with (
        serving(asked.append) as open_to_all,
        serving(leading("/on", f"{open_to_all}/x"), tls) as url,
        pytest.raises(BadInput, match=rf"it leads to {open_to_all}/x, which is not encrypted"),
    ):
        get(url, tmp_path)
    assert asked == []
    assert not (tmp_path / "file.bin").exists()


@pytest.mark.usefixtures("trusted")
def test_a_redirect_to_a_certificate_of_somebody_else_is_refused(tls: ssl.SSLContext, tmp_path: Path) -> None:
    with serving(whole, tls) as there:
        elsewhere = there.replace("localhost", "127.0.0.1")  # the certificate is localhost's
        with serving(leading(elsewhere), tls) as url, pytest.raises(BadInput, match=r"not to be trusted.*127\.0\.0\.1"):
            get(url, tmp_path)


def test_an_unknown_authority_is_one_clear_error(tls: ssl.SSLContext, tmp_path: Path) -> None:
    asked = itertools.count()
    with (
        serving(lambda request: (next(asked), whole(request)), tls) as url,
        pytest.raises(BadInput, match=r"localhost:\d+: its certificate is not to be trusted.*REQUESTS_CA_BUNDLE"),
    ):
        get(url, tmp_path)
    assert next(asked) == 0


def test_a_file_of_authorities_that_is_not_there_is_one_clear_error(
    tls: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with serving(whole, tls) as url, pytest.raises(BadInput, match=r"file\.bin: .*none\.pem"):
        get(url, tmp_path)


def test_redirects_in_a_circle_are_one_clear_error(tmp_path: Path) -> None:
    asked = itertools.count()

    def circle(request: Request) -> None:
        next(asked)
        head(request, 302, Location="/again", Content_Length=0)

    with serving(circle) as url, pytest.raises(BadInput, match="it leads round in a circle"):
        get(url, tmp_path)
    assert next(asked) < 40


@pytest.mark.parametrize("to", ["ftp://localhost/file.bin", "file:///etc/passwd", "http://[", "http://:x"])
def test_a_redirect_to_no_web_address_is_one_clear_error(tmp_path: Path, to: str) -> None:
    with serving(leading(to)) as url, pytest.raises(BadInput, match=r"file\.bin could not be fetched"):
        get(url, tmp_path)


def test_an_archive_called_encoded_is_kept_as_it_came(tmp_path: Path) -> None:
    """Some servers say `Content-Encoding: gzip` of a .tar.gz; its length and its parts count the bytes as sent."""
    packed = gzip.compress(DATA)
    breaks = iter([True])

    def answer(request: Request) -> None:
        start = asked_from(request)
        rest = packed[start:]
        more = {"Content_Range": f"bytes {start}-{len(packed) - 1}/{len(packed)}"} if start else {}
        head(request, 206 if start else 200, Content_Encoding="gzip", Content_Length=len(rest), **more)
        request.wfile.write(rest[: len(rest) // 2] if next(breaks, False) else rest)

    with serving(answer) as url:
        file = get(url, tmp_path, "file.tar.gz", hashlib.sha256(packed).hexdigest(), len(packed))
    assert file.read_bytes() == packed


@pytest.mark.parametrize("name", ["file.zip", "file.tar"])
def test_a_file_compressed_on_the_way_is_refused(tmp_path: Path, name: str) -> None:
    def answer(request: Request) -> None:
        head(request, 200, Content_Encoding="gzip", Content_Length=len(gzip.compress(DATA)))
        request.wfile.write(gzip.compress(DATA))

    with serving(answer) as url, pytest.raises(BadInput, match="compressed once more"):
        get(url, tmp_path, name)


def chunked(request: Request, data: bytes, end: bytes = b"0\r\n\r\n") -> None:
    head(request, 200, Transfer_Encoding="chunked")
    for i in range(0, len(data), 50_000):
        some = data[i : i + 50_000]
        request.wfile.write(b"%x\r\n%s\r\n" % (len(some), some))
    request.wfile.write(end)


@pytest.mark.parametrize("end", [b"", b"c350\r\nhalf of it"])
def test_chunks_that_break_off_are_gone_on_with(tmp_path: Path, end: bytes) -> None:
    starts = []

    def answer(request: Request) -> None:
        starts.append(asked_from(request))
        if starts[1:]:
            whole(request)
        else:
            chunked(request, DATA[:100_000], end)

    with serving(answer) as url:
        assert get(url, tmp_path, sha256=None).read_bytes() == DATA
    assert starts[0] == 0
    assert starts[1] >= 100_000


def test_chunks_without_ranges_begin_anew_and_end_well(tmp_path: Path) -> None:
    asked = itertools.count()

    def answer(request: Request) -> None:
        first = next(asked) == 0
        chunked(request, DATA[:100_000] if first else DATA, b"" if first else b"0\r\n\r\n")

    with serving(answer) as url:
        assert get(url, tmp_path, sha256=None).read_bytes() == DATA


def test_an_answer_of_no_said_length_that_ends_early_is_gone_on_with(tmp_path: Path) -> None:
    """It ends like a whole one: only the published size tells."""
    starts = []

    def answer(request: Request) -> None:
        starts.append(asked_from(request))
        if starts[1:]:
            whole(request)
        else:
            head(request, 200)
            request.wfile.write(DATA[:100_000])

    with serving(answer) as url:
        assert get(url, tmp_path, sha256=None, size=len(DATA)).read_bytes() == DATA
    assert starts == [0, 100_000]


def test_an_answer_without_end_is_left_when_it_is_too_long(tmp_path: Path) -> None:
    def answer(request: Request) -> None:
        head(request, 200)
        while True:
            request.wfile.write(DATA)

    with serving(answer) as url, pytest.raises(BadInput, match="gives more than the 300,000 bytes"):
        get(url, tmp_path, size=len(DATA))
    assert not list(tmp_path.glob("*.part*"))


# --- what lies there of an earlier fetch ---


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[tuple[list[int], Callable[..., Path], Path]]:
    """A fetch that broke off after 100,000 bytes: where requests began, the fetch again, and its part."""
    starts: list[int] = []

    def answer(request: Request) -> None:
        starts.append(asked_from(request))
        body = begin(request, DATA)
        request.wfile.write(body if starts[1:] else body[:100_000])

    with serving(answer) as url:
        release = Download("file.bin", (url,), None, SUM)
        with pytest.raises(BadInput, match="no connection, or it broke"):
            fetch(release, tmp_path, attempts=1)

        def again(**changes: Any) -> Path:
            return fetch(Download(**vars(release) | changes), tmp_path, timeout=2, pause=0.01, attempts=3)

        yield starts, again, tmp_path / "file.bin.part"


def test_a_part_that_is_whole_already_is_checked_not_fetched(broken: Any) -> None:
    starts, again, part = broken
    part.write_bytes(DATA)
    assert again().read_bytes() == DATA
    assert starts == [0]


@pytest.mark.parametrize("said", [True, False], ids=["length known", "length unknown"])
@pytest.mark.parametrize("length", [300_000, 300_001, 900_000])
def test_a_part_as_long_as_the_file_or_longer_ends_in_the_right_file(broken: Any, length: int, said: bool) -> None:
    starts, again, part = broken
    part.write_bytes((DATA * 3)[:length])
    if not said:
        about = part.with_name("file.bin.part.json")
        about.write_text(about.read_text().replace("300000", "null"))
    assert again().read_bytes() == DATA
    assert starts[1:] == ([] if said else [300_000]) if length == 300_000 else [0] if said else [length, 0]


def test_a_part_damaged_on_the_disk_is_thrown_away_when_the_sum_is_wrong(broken: Any) -> None:
    starts, again, part = broken
    part.write_bytes(bytes(100_000))
    with pytest.raises(BadInput, match="its SHA-256 is"):
        again()
    assert not part.exists()
    assert again().read_bytes() == DATA
    assert starts == [0, 100_000, 0]


def test_what_one_address_gave_is_kept_when_another_has_not_got_the_file(broken: Any) -> None:
    starts, again, part = broken

    def without_it(request: Request) -> None:
        head(request, 404, Content_Length=0)

    def logging_in(request: Request) -> None:
        head(request, 200, Content_Type="text/html; charset=utf-8", Content_Length=0)

    with serving(without_it) as url, pytest.raises(BadInput, match="HTTP 404"):
        again(urls=(url,))
    with serving(logging_in) as url, pytest.raises(BadInput, match="it gave a web page"):
        again(urls=(url,))
    assert part.stat().st_size == 100_000
    assert again().read_bytes() == DATA
    assert starts == [0, 100_000]
