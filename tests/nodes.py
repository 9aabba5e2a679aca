"""A Ray cluster as `ray start` makes one, each node of processes of its own, on this machine."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from sweeping import environment, kill_all


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ray(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("ray")), *arguments]


class Nodes:
    """A head that runs no trial, and workers that come and go.

    Attributes:
        address: of the cluster.
        secret: what whoever talks with it has to have in its environment.
    """

    def __init__(self, *head: str, **environment: str) -> None:
        """Starts the head, with further options of `ray start`."""
        self.address = f"127.0.0.1:{free_port()}"
        self.secret = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            **environment,
        }
        self.scratch = tempfile.mkdtemp(prefix="ray-")  # sockets lie in it: their paths must be short
        self.workers: list[subprocess.Popen[bytes]] = []
        self.started = 0
        here = ["--head", "--node-ip-address=127.0.0.1", f"--port={self.address.partition(':')[2]}"]
        self.head = self._start([*here, "--num-cpus=0", "--num-gpus=0", f"--temp-dir={self.scratch}", *head])

    def _start(self, options: Sequence[str], wait: bool = True) -> subprocess.Popen[bytes]:
        self.started += 1
        log = Path(self.scratch) / f"node{self.started}.log"
        with open(log, "w") as file:
            node: subprocess.Popen[bytes] = subprocess.Popen(
                ray("start", "--block", *options),
                env=environment(**self.secret),
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        while wait and "will now block" not in log.read_text():  # a worker that comes too early gives up
            if node.poll() is not None:
                text = log.read_text()
                self.stop()
                raise RuntimeError(text)
            time.sleep(0.2)
        return node

    def there(self) -> int:
        """How many workers there are, or are starting; one that could not start, on a busy machine, is none."""
        self.workers = [node for node in self.workers if node.poll() is None]
        return len(self.workers)

    def add(self, *options: str, wait: bool = True) -> None:
        self.workers.append(self._start([f"--address={self.address}", *options], wait))

    def kill(self, number: int) -> None:
        """SIGKILL for all processes of a worker node."""
        kill_all(self.workers.pop(number))

    def stop(self) -> None:
        for node in [*self.workers, *([self.head] if hasattr(self, "head") else [])]:
            kill_all(node)
        shutil.rmtree(self.scratch, ignore_errors=True)
