"""What a signal does to a process that runs trials."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

SLOW_TO_END = """
import signal, time
from humansim import stopping
try:
    with stopping.stoppable():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray does
        stopping.retake()
        try:
            print("begun", flush=True)
            time.sleep(60)
        finally:
            print("ending", flush=True)
            time.sleep({ending})
except KeyboardInterrupt:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print("ended", flush=True)
"""


@pytest.fixture(params=[0.1, 60])
def process(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """One that takes so long to end."""
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler){SLOW_TO_END}"
    code = code.replace("{ending}", str(request.param))
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True) as started:
        yield started
        started.kill()


@pytest.mark.parametrize("process", [0.1], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_stops_cleanly(process: subprocess.Popen[str], number: signal.Signals) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    told, warned = process.communicate(timeout=30)
    assert told == "ending\nended\n"
    assert warned == "\nstopping (once more: at once)\n"
    assert process.returncode == 0


@pytest.mark.parametrize("process", [60], indirect=True)
@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)])
def test_the_second_ends_at_once_without_a_traceback(
    process: subprocess.Popen[str], numbers: tuple[signal.Signals, signal.Signals]
) -> None:
    assert process.stdout is not None
    for number, line in zip(numbers, ("begun\n", "ending\n"), strict=True):
        assert process.stdout.readline() == line
        process.send_signal(number)
    told, warned = process.communicate(timeout=30)
    assert told == ""
    assert warned.endswith("stopped at once; nothing that has finished is lost: submit again to go on\n")
    assert "Traceback" not in warned
    assert process.returncode == 130
