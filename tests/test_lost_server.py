"""A sweep that a tracking server takes, which goes away meanwhile: it comes back, it never does, or it hangs."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sweeping import SMALL, assert_tracked_once, command, environment, humansim, kill_all, wait_for
from tracking_server import TrackingServer

from humansim import results
from humansim.root import Root

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TrackingServer]:
    with TrackingServer(tmp_path / "server") as running:
        yield running


@pytest.fixture
def longer(tmp_path: Path) -> Path:
    """Enough trials, of enough epochs, for a server to go and to come back meanwhile."""
    path = tmp_path / "longer.py"
    path.write_text(SMALL.replace("samples=3", "samples=5").replace("epochs=6", "epochs=15"))
    return path


@contextlib.contextmanager
def tracked_sweep(file: Path, root: Root, address: str, log: Path) -> Iterator[subprocess.Popen]:
    """A sweep under way that is tracked by a server, and has a few results."""
    arguments = ("sweep", str(file), "--root", str(root.path), "--serial", "--tracking", address)
    with open(log, "w") as stderr:
        driver = subprocess.Popen(
            command(*arguments),
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        wait_for(lambda: len(list(root.results.glob(f"*/{results.RESULT}"))) > 3, driver)
        assert driver.poll() is None
        yield driver
    finally:
        kill_all(driver)


def test_a_tracking_server_takes_the_runs_and_their_artifacts(tmp_path: Path, server: TrackingServer) -> None:
    """Named by the environment."""
    sweep = tmp_path / "tracked.py"
    sweep.write_text(SMALL.split("    grid=[")[0] + '    grid={"backbone": ["pixels"], "resolution": [8, 16]},\n)\n')
    root = Root.at(tmp_path / "root")
    done = humansim("sweep", str(sweep), "--root", str(root.path), "--serial", MLFLOW_TRACKING_URI=server.uri)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(f"Runs: {server.uri}")
    assert_tracked_once(sweep, root, server.uri)


def test_a_tracking_server_that_goes_and_comes_back_misses_nothing(
    longer: Path, tmp_path: Path, server: TrackingServer
) -> None:
    root, log = Root.at(tmp_path / "root"), tmp_path / "stderr.txt"
    with tracked_sweep(longer, root, server.uri, log) as driver:
        server.stop()
        wait_for(lambda: "MLflow does not answer (Connection refused); trials go on" in log.read_text(), driver)
        server.start()
        assert driver.wait(400) == 0, log.read_text()
    assert_tracked_once(longer, root, server.uri)
    said = log.read_text()
    assert said.count("trials go on, and it is tried again") == 1
    assert said.count("MLflow answers again and is given what it missed") == 1
    assert "did not take everything" not in said


def test_a_tracking_server_that_never_comes_back_costs_no_trial(
    longer: Path, tmp_path: Path, server: TrackingServer
) -> None:
    root, log = Root.at(tmp_path / "root"), tmp_path / "stderr.txt"
    with tracked_sweep(longer, root, server.uri, log) as driver:
        server.stop()
        assert driver.wait(400) == 1
    said = log.read_text()
    assert "waiting for it, at most 60 s" in said
    assert "MLflow did not take everything (Connection refused); nothing is lost: humansim sweep" in said
    assert "Traceback" not in said
    with TrackingServer(tmp_path / "new", server.port):  # the old one's database is gone as well
        again = humansim("sweep", str(longer), "--root", str(root.path), "--tracking", server.uri)
        assert again.returncode == 0, again.stderr
        assert "starting Ray" not in again.stderr
        assert_tracked_once(longer, root, server.uri)


def test_ctrl_c_does_not_wait_for_a_tracking_server_that_hangs(
    longer: Path, tmp_path: Path, server: TrackingServer
) -> None:
    root, log = Root.at(tmp_path / "root"), tmp_path / "stderr.txt"
    with tracked_sweep(longer, root, server.uri, log) as driver:
        family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
        for process in family:
            process.suspend()
        before = len(list(root.results.glob(f"*/{results.RESULT}")))
        wait_for(lambda: len(list(root.results.glob(f"*/{results.RESULT}"))) > before, driver)
        driver.send_signal(signal.SIGINT)
        assert driver.wait(50) == 130  # well before a request gives up
    said = log.read_text()
    assert "MLflow did not take everything" in said
    assert "Traceback" not in said
    for process in family:
        process.resume()
    again = humansim("sweep", str(longer), "--root", str(root.path), "--serial", "--tracking", server.uri)
    assert again.returncode == 0, again.stderr
    assert_tracked_once(longer, root, server.uri)
