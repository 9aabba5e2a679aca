"""Whatever a server does, a fetch ends in the right file or in one clear error."""

import hashlib
import http.server
import re
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from humansim.cli import main
from humansim.download import Download, fetch
from humansim.errors import BadInput

DATA = np.random.default_rng(0).bytes(700_000)
OTHER = np.random.default_rng(1).bytes(700_000)
SUM = hashlib.sha256(DATA).hexdigest()
FAULTS = (
    "stall",
    "truncate",
    "503",
    "429",
    "ignore range",
    "wrong bytes",
    "page",
    "404",
    "wrong range",
    "longer",
    "changed",
)


@dataclass
class Server:
    """What it is told to do wrong, one fault a request, and what it was asked for."""

    url: str
    faults: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    sent: int = 0


@pytest.fixture(scope="module")
def serving() -> Iterator[Server]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            server.ranges.append(self.headers.get("Range"))
            fault = server.faults.pop(0) if server.faults else ""
            if fault in ("503", "429", "404"):
                self.send_response(int(fault))
                self.send_header("Content-Length", "0")
                self.send_header("Retry-After", "0")
                self.end_headers()
                return
            if fault == "redirect":
                self.send_response(302)
                self.send_header("Location", f"{server.url}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = {"wrong bytes": OTHER, "changed": OTHER, "page": b"<html>please log in</html>"}.get(fault, DATA)
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            start = int(asked[1]) if asked and fault != "ignore range" else 0
            tag = f'"{hashlib.sha256(data).hexdigest()[:8]}"'
            if self.headers.get("If-Range") not in (None, tag):
                start = 0
            self.send_response(206 if asked and start else 200)
            body = data[start:]
            if asked and start:
                begin = start + 1 if fault == "wrong range" else start
                self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(body) + (5 if fault == "longer" else 0)))
            self.send_header("ETag", tag)
            self.end_headers()
            if fault in ("stall", "truncate"):
                body = body[: len(body) // 2]
            server.sent += len(body)
            try:
                self.wfile.write(body)
                self.wfile.flush()
                if fault == "stall":
                    time.sleep(0.6)
            except OSError:
                pass
            self.close_connection = True

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    listening = Quiet(("127.0.0.1", 0), Answer)
    server = Server(f"http://127.0.0.1:{listening.server_address[1]}")
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield server
    listening.shutdown()
    listening.server_close()


@pytest.fixture
def server(serving: Server) -> Server:
    serving.faults, serving.ranges, serving.sent = [], [], 0
    return serving


def get(server: Server, folder: Path, sha256: str | None = SUM, size: int | None = len(DATA), **options: Any) -> Path:
    release = Download("file.bin", (f"{server.url}/one", f"{server.url}/two"), size, sha256)
    return fetch(release, folder, timeout=0.3, pause=0.01, **{"attempts": 3, **options})


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=st.lists(st.sampled_from([*FAULTS, "redirect", ""]), max_size=7), known=st.booleans())
def test_any_faults_end_in_the_right_file_or_in_one_error(
    serving: Server, tmp_path_factory: pytest.TempPathFactory, faults: list[str], known: bool
) -> None:
    folder = tmp_path_factory.mktemp("fetched")
    serving.faults = list(faults)
    for _ in range(3):  # people start it again
        try:
            found = get(serving, folder, SUM if known else None, len(DATA) if known else None)
        except BadInput as error:
            assert "file.bin" in str(error)  # noqa: PT017
            assert not (folder / "file.bin").exists()
            continue
        bytes_ = found.read_bytes()
        # Without a published sum nobody can tell another whole file from the right one; a mixture never passes.
        assert bytes_ == DATA or (not known and bytes_ == OTHER and {"wrong bytes", "changed"} & set(faults))
        assert not list(folder.glob("*.part*"))
        break


@pytest.mark.parametrize("fault", ["stall", "truncate"])
def test_a_broken_connection_is_gone_on_with_where_it_broke(server: Server, tmp_path: Path, fault: str) -> None:
    server.faults = [fault, fault, fault]
    assert get(server, tmp_path).read_bytes() == DATA
    assert server.ranges[0] is None
    starts = [int(one[6:-1]) for one in server.ranges[1:] if one]
    assert starts == sorted(starts)
    assert starts[0] >= 300_000
    assert server.sent < 1.5 * len(DATA)


def test_an_interrupted_fetch_goes_on_at_the_next_start(server: Server, tmp_path: Path) -> None:
    def stop(done: int, total: int | None) -> None:
        assert total == len(DATA)
        if done > 300_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(server, tmp_path, progress=stop)
    assert not (tmp_path / "file.bin").exists()
    assert get(server, tmp_path).read_bytes() == DATA
    assert int(server.ranges[-1][6:-1]) > 300_000


def test_wrong_bytes_at_one_address_are_thrown_away_and_the_next_is_tried(server: Server, tmp_path: Path) -> None:
    server.faults = ["wrong bytes"]
    assert get(server, tmp_path).read_bytes() == DATA
    assert server.ranges == [None, None]


def test_where_no_sum_is_published_the_first_is_recorded_and_checked_ever_after(server: Server, tmp_path: Path) -> None:
    file = get(server, tmp_path, None, None)
    assert (tmp_path / "file.bin.sha256.json").exists()
    assert get(server, tmp_path, None, None) == file
    assert len(server.ranges) == 1  # nothing is asked for what is there
    file.unlink()
    server.faults = ["wrong bytes", "wrong bytes"]
    with pytest.raises(BadInput, match="its SHA-256 is"):
        get(server, tmp_path, None, None)
    file.write_bytes(OTHER)
    with pytest.raises(BadInput, match="it was at the first fetch"):
        get(server, tmp_path, None, None)


def test_a_file_put_there_by_hand_is_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(DATA[:-1])
    with pytest.raises(BadInput, match="not what the publisher says"):
        get(server, tmp_path)
    assert server.ranges == []


def test_all_addresses_and_their_reasons_are_named(server: Server, tmp_path: Path) -> None:
    server.faults = ["404", "page"]
    with pytest.raises(BadInput, match=r"one: HTTP 404; .*two: it has 26 bytes, not 700,000.*--mirror"):
        get(server, tmp_path)


def test_a_folder_can_be_the_mirror(server: Server, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file.bin").write_bytes(DATA)
    assert get(server, tmp_path / "there", mirror=str(tmp_path / "mine")).read_bytes() == DATA
    assert server.ranges == []


def test_the_command_fetches_unpacks_and_says_what_is_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mirror").mkdir()
    with tarfile.open(tmp_path / "mirror" / "twoafc_val.tar.gz", "w:gz") as archive:
        for name in ("val/cnn/ref/000000.png", "val/cnn/judge/000000.npy"):
            archive.addfile(tarfile.TarInfo(name))
    where = ["--root", str(tmp_path / "root"), "--mirror", str(tmp_path / "mirror")]
    assert main(["data", "fetch", "bapps", *where]) == 0
    assert "humansim data prepare bapps" in capsys.readouterr().out
    place = tmp_path / "root" / "data" / "bapps"
    assert (place / "2afc" / "val" / "cnn" / "ref" / "000000.png").exists()
    assert main(["data", "fetch", "bapps", "--part", "tests", *where]) == 2
