"""A real `mlflow server` on this machine, with a database and artifacts in a folder, that goes and comes back."""

import contextlib
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from nodes import free_port
from sweeping import environment, kill_all


class TrackingServer:
    """Runs within a `with` block, and may be killed and started again there.

    Attributes:
        uri: its address, the same each time.
        store: URI of its database.
        process: the server's; its workers are below it.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self.uri, self.store = f"http://127.0.0.1:{self.port}", f"sqlite:///{folder}/mlflow.db"
        self.folder = folder
        folder.mkdir(parents=True)

    def start(self) -> None:
        """Starts it; `wait` says when it answers."""
        store = ["--backend-store-uri", self.store, "--artifacts-destination", str(self.folder / "files")]
        with open(self.folder / "log", "a") as log:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *store, "--port", str(self.port), "--workers", "1"],
                env=environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),  # five more processes, for language models
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        end = time.monotonic() + 200
        while time.monotonic() < end:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return
            time.sleep(0.05)
        raise TimeoutError("mlflow server does not answer")

    def stop(self) -> None:
        """SIGKILL for all of its processes."""
        kill_all(self.process)

    def __enter__(self) -> "TrackingServer":
        self.start()
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
