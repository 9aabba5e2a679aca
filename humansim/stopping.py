"""How Ctrl-C and SIGTERM stop what runs trials: cleanly the first time, at once the second."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; a preempted node, `kill`


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """A block that the first signal leaves by a KeyboardInterrupt; to end Ray takes some seconds, a second one ends it.

    A signal that the process was told to ignore, as a shell does for jobs behind `&`, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.getsignal(one) for one in SIGNALS}
    _handle(_stop)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def retake() -> None:
    """To be called within the block once Ray has started, which takes SIGTERM for itself."""
    if threading.current_thread() is threading.main_thread():
        _handle(_stop)


def _handle(handler: "signal._HANDLER") -> None:
    for one in SIGNALS:
        if signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    _handle(_at_once)
    os.write(2, b"\nstopping (once more: at once)\n")
    raise KeyboardInterrupt


def _at_once(number: int, frame: FrameType | None) -> None:
    """Ends as `kill -9` would: what has finished is on disk, and Ray's processes go with this one."""
    os.write(2, b"stopped at once; nothing that has finished is lost: submit again to go on\n")
    os._exit(130)
