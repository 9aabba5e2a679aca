"""What README and docs tell a user to type is there: every command, option, sweep, file and link."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from humansim.cli import _parser
from humansim.sweep_file import load_sweep

HERE = Path(__file__).parents[1]
PAGES = [HERE / "README.md", *sorted((HERE / "docs").glob("*.md"))]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Page and arguments of each `humansim ...`, in a block of shell commands or in a sentence."""
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                for start in [i for i, word in enumerate(words) if Path(word).name == "humansim"]:
                    rest = words[start + 1 :]
                    end = next((i for i, word in enumerate(rest) if word in ("&&", "|", ";", ">")), len(rest))
                    yield page.name, rest[:end]
        for inline in re.findall(r"`humansim ([^`]+)`", page.read_text()):
            yield page.name, shlex.split(inline.replace("COMMAND", "sweep"))


def test_there_are_commands() -> None:
    assert len(list(commands())) > 20


@pytest.mark.parametrize(("page", "arguments"), [pytest.param(p, a, id=f"{p}: {shlex.join(a)}") for p, a in commands()])
def test_a_command_is_one_that_there_is(page: str, arguments: list[str]) -> None:
    try:
        given = _parser().parse_args(arguments)
    except SystemExit as error:
        if error.code != 0:  # as it is after --help
            pytest.fail(f"{page}: humansim {shlex.join(arguments)}")
        return
    sweep = getattr(given, "sweep", None)
    if isinstance(sweep, str) and not sweep.endswith(".py") and sweep != "shoes":  # which the page has the user write
        assert load_sweep(sweep).name == sweep


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_files_are_there(page: Path) -> None:
    text = page.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)]
    named = re.findall(r"`((?:benchmarks|sweeps|analysis|docs|clusters|tests)/[\w./]+)`", text)
    local = {(page.parent / link).resolve() for link in links if link and "://" not in link}
    missing = [str(path) for path in local | {HERE / name for name in named} if not path.exists()]
    assert not missing


def test_the_house_names_every_module() -> None:
    """A newcomer sees in README's tree where a thing lives."""
    house = (HERE / "README.md").read_text().partition("## The house")[2].partition("\n## ")[0]
    modules = [*(HERE / "humansim").glob("*.py"), *(HERE / "analysis").glob("*.py")]
    told = re.compile(r"cli_.*|h\d_.*|__init__|" + "|".join(re.findall(r"\w+", house)))
    untold = [path.name for path in modules if not told.fullmatch(path.stem)]
    assert not untold
