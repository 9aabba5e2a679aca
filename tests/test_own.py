"""Parts from outside: a file, a module, an installed package; found again without a flag, and noticed when changed."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sweeping import environment, humansim, last_json

from humansim import own, plan, submitted, train
from humansim.errors import BadInput
from humansim.plan import REGISTRIES
from humansim.results import Result
from humansim.root import Root
from humansim.spec import Sweep, Trial, Variant
from humansim.submit import check_unmixed

README = (Path(__file__).parents[1] / "README.md").read_text()
TEN_LINES = next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "@backbone" in block)

PART = '''
from humansim.backbones import backbone

BINS = 4

def shades(x, bins):
    return x[:, :, ::bins, ::bins].flatten(1)

@backbone(resolution=16)
def {name}(*, bins: int = BINS):
    """Some pixels: a floor of one's own."""
    from torch import nn
    from humansim.backbones.module import Backbone

    class Shades(nn.Module):
        def forward(self, x):
            return shades(x, bins)

    return Backbone(Shades(), mean=(0.5,) * 3, std=(0.5,) * 3, weights="random")
'''


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers, imports and asks for is gone after it."""
    monkeypatch.chdir(tmp_path)
    for name in (own.ASKED, own.CARRIED):
        monkeypatch.delenv(name, raising=False)
    for name in ("_registered", "_loaded", "_asked", "_sweeps", "_missing"):
        monkeypatch.setattr(own, name, getattr(own, name).copy())
    monkeypatch.setattr(own, "_state", {"begun": False})
    for registry in REGISTRIES.values():
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
    own._code_in_file.cache_clear()
    own._code_of_package.cache_clear()


def written(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def known(name: str) -> bool:
    try:
        return bool(REGISTRIES["backbone"].entry(Variant(name)))
    except BadInput:
        return False


def test_a_file_is_imported_when_a_registry_is_first_asked(tmp_path: Path) -> None:
    file = written(tmp_path / "mine" / "my_part.py", PART.format(name="shady"))
    own.ask([str(file)])
    assert "my_part" not in sys.modules
    assert known("shady")


def test_the_environment_names_several_as_path_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (written(tmp_path / f"my_{i}.py", PART.format(name=f"shady_{i}")) for i in "ab")
    monkeypatch.setenv("HUMANSIM_IMPORT", f"{one}:{two}")
    assert known("shady_a")
    assert known("shady_b")


@pytest.mark.parametrize("given", ["my_package.parts", "my_module"])
def test_a_module_is_found_in_the_working_folder(tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])  # a console script has no "" in it
    written(tmp_path / "my_module.py", PART.format(name="shady"))
    written(tmp_path / "my_package" / "__init__.py", "")
    written(tmp_path / "my_package" / "parts.py", PART.format(name="shady"))
    own.ask([given])
    assert known("shady")
    paths, modules = own.carried()
    assert modules == [given]
    assert paths == [tmp_path / ("my_package" if "." in given else "my_module.py")]


def test_an_installed_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    """In a process of its own, with a folder of packages as pip leaves it behind."""
    site = tmp_path / "site"
    written(site / "shady_parts" / "__init__.py", PART.format(name="shady"))
    about = site / "shady_parts-1.5.dist-info"
    written(about / "METADATA", "Metadata-Version: 2.1\nName: shady-parts\nVersion: 1.5\n")
    written(about / "entry_points.txt", "[humansim]\nshady = shady_parts\n")
    written(about / "top_level.txt", "shady_parts\n")
    written(about / "RECORD", "shady_parts/__init__.py,,\n")
    code = "from humansim import own; from humansim.plan import REGISTRIES\n"
    code += "print([entry.name for entry in REGISTRIES['backbone']])\n"
    code += "print(own.origin('backbone', 'shady').plain())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(PYTHONPATH=str(site)), capture_output=True, text=True, check=True
    )
    assert "'shady'" in done.stdout
    assert "'version': '1.5'" in done.stdout


WRONG = {
    "no file": (None, "nowhere.py: no such file"),
    "no module": (None, "no module 'nowhere' is installed or in"),
    "raises": ("x = 1\nraise RuntimeError('not today')\n", r"part\.py, line 2: RuntimeError: not today"),
    "no Python": ("def f(:\n", r"part\.py, line 1: SyntaxError"),
    "needs a module": ("import nowhere\n", r"part\.py, line 1: No module named 'nowhere'; a file stands alone"),
    "nothing": ("x = 1\n", "it registers nothing; a part is a function under a decorator"),
    "a fact misspelt": (
        PART.format(name="shady").replace("resolution=", "resolutoin="),
        r"@backbone of 'shady' in .*part\.py: no such fact as 'resolutoin'; did you mean resolution",
    ),
    "a fact left out": (
        re.sub(r"resolution=\d+(, )?", "", PART.format(name="shady")),
        r"@backbone of 'shady' in .*part\.py: resolution is missing; write @backbone\(resolution=",
    ),
    "taken": (PART.format(name="pixels"), "two backbones are called 'pixels': the other is in .*pixels.py; rename"),
    "a name of Python's": (PART.format(name="shady"), "another module is called 'json'.*rename the file"),
    "no name": (PART.format(name="shady"), "'my-part' is no name for a module; rename the file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_part_is_said_in_one_line(tmp_path: Path, name: str) -> None:
    text, message = WRONG[name]
    given = {"no file": "nowhere.py", "no module": "nowhere", "a name of Python's": "json.py", "no name": "my-part.py"}
    file = given.get(name, "part.py")
    if text is not None:
        written(tmp_path / file, text)
    own.ask([file])
    with pytest.raises(BadInput, match=f"^--import {re.escape(file)}: .*{message}") as error:
        list(REGISTRIES["backbone"])
    assert "\n" not in str(error.value)


def test_workers_load_what_the_driver_has_loaded_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "my_carried.py", PART.format(name="shady"))
    monkeypatch.setenv("HUMANSIM_IMPORT", "gone.py")  # the environment of the machine on which Ray was started
    monkeypatch.setenv(own.CARRIED, "my_carried")
    assert known("shady")


def code_of(tmp_path: Path, text: str) -> str:
    own._code_in_file.cache_clear()
    return own._code_in_file(written(tmp_path / "code.py", text), "shady")


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("# end", "# another remark", True),
        ("# end", "import math\n\n@backbone(resolution=8)\ndef second():\n    return shades(math.pi, BINS)", True),
        ("BINS = 4", "BINS = 8", False),
        ("flatten(1)", "flatten(1) ** 2", False),
        ("weights='random'", "weights='other'", False),
        ("resolution=16", "resolution=32", False),
        ("# end", "\nshades.fast = True", False),
        ("# end", "\nBINS += 1", False),
    ],
)
def test_the_code_of_a_part_is_its_function_and_all_that_it_names(
    tmp_path: Path, old: str, new: str, same: bool
) -> None:
    text = PART.format(name="shady").replace('"random"', "'random'") + "\n# end\n"
    assert old in text
    assert (code_of(tmp_path, text) == code_of(tmp_path, text.replace(old, new))) is same


def test_changed_code_is_noticed_and_keeps_no_embeddings(
    tmp_path: Path, root: Root, judgements: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("humansim.root.Root.where", staticmethod(lambda path=None: root.path))
    root = Root(root.path, judgements.parent)
    file = written(tmp_path / "my_part.py", PART.format(name="shady"))
    own.ask([str(file)])
    trial = plan.checked(Trial(source=Variant("table", name="mine"), protocol="all", backbone=Variant("shady")))
    before = train.run(trial, root, device="cpu")
    assert isinstance(before, Result)
    assert before.provenance["embedded"] == 40
    check_unmixed([before], {})
    made = before.provenance["own"]["backbone shady"]
    assert made == {"module": "my_part", "version": None, "code": own._code_in_file(file, "shady")}

    written(file, PART.format(name="shady").replace("flatten(1)", "flatten(1) ** 2"))
    own._code_in_file.cache_clear()
    with pytest.raises(BadInput, match=f"backbone shady has changed since these trials were run: {trial.id} .*my_part"):
        check_unmixed([before], {})
    (root.results / trial.id / "result.json").unlink()
    after = train.run(trial, root, device="cpu")
    assert isinstance(after, Result)
    assert after.provenance["embedded"] == 40  # the same weights (none), but what it kept was of other code


def test_a_submitted_sweep_is_understood_without_the_flag(tmp_path: Path, root: Root) -> None:
    """From the file itself; when that is gone, from the copy that the sweep has kept."""
    file = written(tmp_path / "away" / "my_part.py", PART.format(name="shady"))
    written(tmp_path / "away" / "my_more" / "__init__.py", PART.format(name="second"))
    own.load(str(file), "test")
    own._execute("my_more", tmp_path / "away" / "my_more" / "__init__.py", [str(tmp_path / "away" / "my_more")])
    own.load("my_more", "test")
    sweep = Sweep(name="shades", grid=[{"backbone": ["shady", "second"]}])
    submitted.remember(sweep, root)
    code = "import sys; from humansim import own; from humansim.spec import Variant; own.ask([], sys.argv[1])\n"
    code += "from humansim.plan import REGISTRIES\n"
    code += "for name in ('second', 'shady'): print(REGISTRIES['backbone'].entry(Variant(name)).name)\n"
    code += "print(own.origin('backbone', 'shady').path)\n"

    def found() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", code, str(root.path)], env=environment(), capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    assert found() == ["second", "shady", str(file)]
    (tmp_path / "away").rename(tmp_path / "gone")
    assert found() == ["second", "shady", str(root.sweeps / "shades" / "own" / "my_part.py")]


@pytest.mark.slow
def test_the_ten_lines_of_the_readme_run_as_a_user_would_run_them(tmp_path: Path) -> None:
    """In a file of one's own, through Ray, by `--import`; then without it."""
    written(tmp_path / "my_backbone.py", TEN_LINES)
    file = written(
        tmp_path / "gradients.py",
        "from humansim.spec import Sweep, Trial, Variant\n"
        "SWEEP = Sweep(name='gradients', base=Trial(source=Variant('sample', queries=24, pairs=2), resolution=32),\n"
        "              grid={'backbone': ['random_filters', Variant('random_filters', width=16)]})\n",
    )
    there = ["--root", str(tmp_path / "runs"), "--json"]
    done = humansim("sweep", str(file), "--import", str(tmp_path / "my_backbone.py"), *there)
    assert done.returncode == 0, done.stderr
    assert last_json(done)["states"] == {"finished": 2, "to run": 0}
    (tmp_path / "my_backbone.py").unlink()
    code = "import sys, humansim; print(humansim.load('gradients', root=sys.argv[1]).facts.result.trial.backbone)"
    loaded = subprocess.run([sys.executable, "-c", code, there[1]], capture_output=True, text=True, check=True)
    assert loaded.stdout.startswith("random_filters")  # without being told where its code lies
    again = humansim("status", "gradients", *there)
    assert again.returncode == 0, again.stderr
    assert last_json(again)[0]["states"]["finished"] == 2
