"""`humansim data fetch`, killed at any moment, goes on where it was; a folder is there whole or not at all."""

import contextlib
import io
import json
import re
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from serving import Request, begin, serving
from sweeping import command, environment

from humansim.cli import main

BLOCK = 1 << 14


def archive(files: int) -> bytes:
    rng, out = np.random.default_rng(0), io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as packed:
        for number in range(files):
            member = tarfile.TarInfo(f"val/cnn/ref/{number:06d}.png")
            member.size = 600
            packed.addfile(member, io.BytesIO(rng.bytes(600)))
    return out.getvalue()


def count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


class Fetching:
    """A data folder that one process after the other fetches into."""

    def __init__(self, root: Path, url: str, files: int) -> None:
        self.root, self.url, self.files = root, url, files
        self.above = root / "data" / "bapps" / "2afc"
        self.part = root / "data" / "bapps" / "archives" / "twoafc_val.tar.gz.part"

    def had(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return self.part.stat().st_size
        return 0

    def unpacked(self) -> int:
        """Files in the folder that is not in place yet."""
        with contextlib.suppress(FileNotFoundError):  # it has just come into place
            return sum(count(place) for place in self.above.glob(".val-*/cnn/ref"))
        return 0

    def whole(self) -> bool:
        """Whether the folder is there; it is never there with less than all."""
        there = (self.above / "val").is_dir()
        assert not there or count(self.above / "val" / "cnn" / "ref") == self.files
        return there

    def run(self, until: Callable[[], bool]) -> int:
        """Exit code of a fetch that is killed once `until` holds."""
        arguments = command("data", "fetch", "bapps", "--root", str(self.root), "--mirror", self.url)
        fetch = subprocess.Popen(arguments, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        begun = time.monotonic()
        try:
            while fetch.poll() is None and time.monotonic() < begun + 60:
                if until():
                    fetch.kill()
                self.whole()
                time.sleep(0.003)
        finally:
            fetch.kill()
        return fetch.wait()


@pytest.mark.parametrize(
    ("files", "coming", "unpacking"), [(500, 1, 0), pytest.param(3000, 3, 3, marks=pytest.mark.slow)]
)
def test_a_fetch_killed_at_any_moment_goes_on_where_it_was(
    tmp_path: Path, files: int, coming: int, unpacking: int
) -> None:
    data = archive(files)
    ranges: list[str | None] = []

    def slowly(request: Request) -> None:
        ranges.append(request.headers.get("Range"))
        body = begin(request, data)
        for i in range(0, len(body), BLOCK):
            request.wfile.write(body[i : i + BLOCK])
            request.wfile.flush()
            time.sleep(0.01)

    rng = np.random.default_rng()
    with serving(slowly) as url:
        fetching = Fetching(tmp_path, url, files)
        for wanted in np.sort(rng.integers(0, 0.9 * len(data), coming)).tolist():  # as bytes come
            had = fetching.had()
            least = max(had, wanted)
            assert fetching.run(lambda least=least: fetching.had() > least) == -signal.SIGKILL
            assert ranges[-1] == (f"bytes={had}-" if had else None)
            assert not fetching.whole()
        had = fetching.had()
        for wanted in rng.integers(1, files // 2, unpacking).tolist():  # as files are unpacked
            assert fetching.run(lambda wanted=wanted: fetching.unpacked() >= wanted) == -signal.SIGKILL
            assert not fetching.whole()
        assert main(["data", "fetch", "bapps", "--root", str(tmp_path), "--mirror", url]) == 0
    assert ranges[coming:] == [f"bytes={had}-"]  # what is there is not asked for
    assert fetching.whole()
    assert [place.name for place in fetching.above.iterdir() if place.is_dir()] == ["val"]
    assert not [file for file in fetching.part.parent.iterdir() if re.search(r"part|gz$", file.name)]


def test_an_archive_that_was_unpacked_as_its_fetch_was_killed_is_cleared_away(tmp_path: Path) -> None:
    place = tmp_path / "data" / "bapps"
    (place / "2afc" / "val" / "cnn").mkdir(parents=True)
    (place / "archives").mkdir()
    (place / "archives" / "twoafc_val.tar.gz").touch()
    record = place / "archives" / "twoafc_val.tar.gz.sha256.json"
    record.write_text(json.dumps({"sha256": "0" * 64, "size": 0, "url": "https://somewhere"}))
    assert main(["data", "fetch", "bapps", "--root", str(tmp_path)]) == 0
    assert list((place / "archives").iterdir()) == [record]


def test_two_fetches_at_once_ask_once_and_end_well(tmp_path: Path) -> None:
    data = archive(50)
    asked = []

    def answer(request: Request) -> None:
        asked.append(request.path)
        time.sleep(0.5)
        request.wfile.write(begin(request, data))

    with serving(answer) as url:
        arguments = ["data", "fetch", "bapps", "--root", str(tmp_path), "--mirror", url]
        with ThreadPoolExecutor(2) as pool:  # the locks are of open files: threads wait as processes do
            assert list(pool.map(main, [arguments, arguments])) == [0, 0]
    assert asked == ["/twoafc_val.tar.gz"]
    assert count(tmp_path / "data" / "bapps" / "2afc" / "val" / "cnn" / "ref") == 50


def test_a_damaged_archive_is_not_taken_for_the_right_one_ever_after(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """BAPPS publishes no sum: the first fetch's would be."""
    data = archive(50)
    where = ["--root", str(tmp_path / "root"), "--mirror", str(tmp_path)]
    (tmp_path / "twoafc_val.tar.gz").write_bytes(data[:-50])
    assert main(["data", "fetch", "bapps", *where]) == 2
    assert "the archive is damaged" in capsys.readouterr().err
    assert not (tmp_path / "root" / "data" / "bapps" / "2afc" / "val").exists()
    (tmp_path / "twoafc_val.tar.gz").write_bytes(data)
    assert main(["data", "fetch", "bapps", *where]) == 0
