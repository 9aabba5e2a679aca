"""The TAB key in bash and in zsh: commands, options, sweeps (those that were submitted, too), backbones, files."""

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from humansim.cli import main

ASKED = {
    "humansim stat": "humansim status ",
    "humansim data aud": "humansim data audit ",
    "humansim sweep --ser": "humansim sweep --serial ",
    "humansim list para": "humansim list paradigms ",
    "humansim sweep pretrained_a": "humansim sweep pretrained_all ",
    "humansim status sho": "humansim status shoes ",
    "humansim plan my_sw": "humansim plan my_sweep.py ",
    "humansim compare a b --sweep sho": "humansim compare a b --sweep shoes ",
    "humansim evaluate dinov": "humansim evaluate dinov2_vit_b_14 ",
    "humansim weights list sigl": "humansim weights list siglip2_vit_b_16 ",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where somebody works: a sweep's file, and one that was submitted."""
    (tmp_path / "my_sweep.py").touch()
    (tmp_path / "humansim-runs" / "sweeps" / "shoes").mkdir(parents=True)
    return tmp_path


def printed(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def test_bash_completes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = folder / "completion.bash"
    script.write_text(printed("bash", capsys))
    for text, whole in ASKED.items():
        *before, _ = words = text.split(" ")
        ask = f"source {script}; COMP_WORDS=({text}); COMP_CWORD={len(before)}; _shtab_humansim; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(
            ["bash", "-c", ask], cwd=folder, env=bare(folder), capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [whole.split()[-1]], f"{words}: {done.stdout} {done.stderr}"


def bare(home: Path) -> dict[str, str]:
    """An environment without anybody's own settings."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb"}


class Typing:
    """A zsh at whose prompt one types."""

    def __init__(self, folder: Path) -> None:
        self.end, other = pty.openpty()
        self.shell = subprocess.Popen(
            ["zsh", "-f", "-i"], stdin=other, stdout=other, stderr=other, cwd=folder, env=bare(folder), close_fds=True
        )
        os.close(other)

    def type(self, text: str, until: str) -> str:
        """What is on the screen as soon as that is."""
        os.write(self.end, text.encode())
        shown, late = "", time.monotonic() + 20
        while until not in shown and time.monotonic() < late:
            if select.select([self.end], [], [], 0.2)[0]:
                shown += os.read(self.end, 4096).decode()
        return shown

    def stop(self) -> None:
        self.shell.kill()
        self.shell.wait(30)
        os.close(self.end)


@pytest.fixture
def zsh(folder: Path) -> Iterator[Typing]:
    if shutil.which("zsh") is None:
        pytest.skip("no zsh here")
    typing = Typing(folder)
    yield typing
    typing.stop()


@pytest.mark.parametrize("how", ["in a folder of fpath", "eval"])
def test_zsh_completes(how: str, folder: Path, zsh: Typing, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "zfunc").mkdir()
    (folder / "zfunc" / "_humansim").write_text(printed("zsh", capsys))
    begin = {
        "in a folder of fpath": "fpath=(~/zfunc $fpath); autoload -Uz compinit; compinit -u -D",
        "eval": 'autoload -Uz compinit; compinit -u -D; eval "$(cat ~/zfunc/_humansim)"',
    }
    zsh.type(f"PS1='> '; {begin[how]}; echo re''ady\n", until="ready\r")
    for text, whole in ASKED.items():
        assert whole in zsh.type(f"\x15{text}\t", until=whole)  # Ctrl-U: an empty line again
