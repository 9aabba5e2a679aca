"""A sweep that was submitted is known by its name, with its data; and while it is submitted, what it does is known."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from humansim import plan, stage, submitted, sweep_file
from humansim.cli import main
from humansim.errors import BadInput
from humansim.root import Root, locked
from humansim.spec import Sweep, Trial, Variant

SHOES = Sweep(name="shoes", base=Trial(source=Variant("table", name="mine"), backbone=Variant("pixels"), resolution=16))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HUMANSIM_ROOT", "HUMANSIM_DATA", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def test_a_name_means_a_file_then_what_comes_along_then_what_was_submitted(root: Root, tmp_path: Path) -> None:
    submitted.remember(SHOES, root)
    submitted.remember(Sweep(name="demo", samples=7), root)
    (tmp_path / "demo.py").write_text('from humansim.spec import Sweep\nSWEEP = Sweep(name="demo", samples=9)\n')
    assert submitted.find("demo.py", root.path).sweep.samples == 9
    assert submitted.find("demo", root.path).sweep == sweep_file.load_sweep("demo")
    assert submitted.find("shoes", root.path).sweep == SHOES


def test_what_is_done_to_a_submitted_sweep_is_done_to_it_as_it_was_submitted(root: Root) -> None:
    submitted.remember(Sweep(name="demo", samples=7), root)
    assert submitted.find("demo", root.path, as_submitted=True).sweep.samples == 7
    assert submitted.the("demo", root).samples == 7


def test_it_is_said_which_of_two_is_meant_where_they_differ(root: Root) -> None:
    submitted.remember(sweep_file.load_sweep("demo"), root)
    assert submitted.find("demo", root.path, root.path / "data").notes == ()
    submitted.remember(Sweep(name="demo", samples=7), root)
    (note,) = submitted.find("demo", root.path, root.path / "data").notes
    assert note.startswith("demo as it comes with humansim: what was submitted")
    (note,) = submitted.find("demo", root.path, root.path / "data", as_submitted=True).notes
    assert note.startswith("demo as it was submitted last")


def test_a_file_beside_that_is_not_read_is_named(root: Root, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"unknown sweep 'shoe'. Known: demo, .*; or give a path"):
        submitted.find("shoe", root.path)
    submitted.remember(SHOES, root)
    with pytest.raises(BadInput, match=r"unknown sweep 'shoe'; did you mean shoes\?"):
        submitted.find("shoe", root.path)
    (tmp_path / "shoe.py").touch()
    with pytest.raises(BadInput, match=r"unknown sweep 'shoe'; did you mean shoe\.py\?"):
        submitted.find("shoe", root.path)
    (tmp_path / "shoe.py").rename("shoes.py")
    with pytest.raises(BadInput, match=r"^shoe\.py: no such file; did you mean shoes\.py\?"):
        submitted.find("shoe.py", root.path)
    assert "shoes.py is read if" in submitted.find("shoes", root.path).notes[0]


def test_a_sweep_that_was_not_submitted_is_named_with_what_to_do(root: Root) -> None:
    submitted.remember(SHOES, root)
    with pytest.raises(BadInput, match=r"no sweep 'shoos' was submitted under .*; did you mean shoes\?"):
        submitted.the("shoos", root)
    with pytest.raises(BadInput, match=r"no sweep 'demo' was submitted under .*; humansim sweep demo submits it"):
        submitted.the("demo", root)


def test_the_data_of_a_submitted_sweep_is_looked_for_where_it_was(
    root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted.remember(SHOES, root)  # with tmp_path / "data"
    found = submitted.find("shoes", root.path)
    assert found.root == root
    assert f"data from {root.data}, as it was submitted" in found.notes[0]
    assert submitted.find("shoes", root.path, tmp_path).root.data == tmp_path
    monkeypatch.setenv("HUMANSIM_DATA", str(tmp_path / "other"))
    assert submitted.find("shoes", root.path).root.data == tmp_path / "other"


def test_a_root_can_be_moved_with_the_data_in_it(tmp_path: Path) -> None:
    for name in ("data", "mine"):  # the root's own folder, and another in it
        there = Root.at(tmp_path / name / "there", tmp_path / name / "there" / name)
        submitted.remember(SHOES, there)
        moved = there.path.rename(tmp_path / name / "moved")
        assert submitted.find("shoes", moved).root == Root.at(moved, moved / name)


def test_data_that_was_not_there_is_not_remembered(tmp_path: Path, root: Root) -> None:
    (tmp_path / "shoes.py").write_text(
        "from humansim.spec import Sweep, Trial, Variant\n"
        "SWEEP = Sweep(name='shoes', base=Trial(source=Variant('table', name='mine'), backbone='pixels'))\n"
    )
    assert main(["sweep", "shoes.py", "--data", "nowhere", "--root", str(root.path)]) == 2
    found = submitted.find("shoes", root.path)
    assert found.root.data == root.path / "data"
    assert not any("data" in note for note in found.notes)


def test_the_data_folder_changes_no_trial(root: Root, tmp_path: Path) -> None:
    submitted.remember(SHOES, root)
    one, two = (submitted.find("shoes", root.path, data).root for data in (None, tmp_path))
    assert one.data != two.data
    assert [t.id for t in plan.plan(SHOES, one).known] == [t.id for t in plan.plan(SHOES, two).known]


def test_every_command_knows_a_submitted_sweep_by_its_name_and_finds_its_data(
    judgements: Path, root: Root, capsys: pytest.CaptureFixture[str]
) -> None:
    submitted.remember(SHOES, replace(root, data=judgements.parent))
    where = ["--root", str(root.path)]
    for name in ("plan", "status", "studies", "weights list"):
        assert main([*name.split(), "shoes", *where]) == 0, capsys.readouterr().err
        assert "not there" not in capsys.readouterr().out
    judgements.rename(judgements.with_name("moved"))
    error = f"{judgements}: no such folder; --data DIR names the one that mine lies in"
    for name in ("sweep", "retry"):
        assert main([name, "shoes", "--serial", *where]) == 2
        assert capsys.readouterr().err.splitlines()[-1] == f"humansim: error: {error}"
    assert main(["plan", "shoes", *where]) == 0
    assert error in capsys.readouterr().out


def test_while_a_sweep_is_submitted_status_says_what_is_done(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    submitted.remember(SHOES, root)
    shown = ["status", "shoes", "--root", str(root.path)]
    with locked(root.sweeps / "shoes" / "lock", wait=True), stage.telling(root, "shoes") as note:
        note("decoding images", 300, 1000)
        assert main(shown) == 0
        said = capsys.readouterr().out
        assert "now: decoding images, 300 of 1,000  (submitted 0." in said
        assert f"process {os.getpid()} on" in said
        note("starting Ray", 0, 0)
        assert main([*shown, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["stage"]["what"] == "starting Ray"
        note(stage.RUNNING, 0, 0)
        assert main(shown) == 0
        assert "running trials, none has begun yet" in capsys.readouterr().out
    assert main(shown) == 0
    assert "nothing runs it now" in capsys.readouterr().out


def test_what_a_killed_submit_left_is_not_taken_for_one_that_is_under_way(root: Root) -> None:
    submitted.remember(SHOES, root)
    file = root.sweeps / "shoes" / stage.FILE
    with stage.telling(root, "shoes") as note:
        note("starting Ray", 0, 0)
        left = file.read_bytes()
        assert stage.current(root, "shoes") is not None
    file.write_bytes(left)
    with locked(file.with_name(stage.LOCK), wait=True, shared=True):  # as by another who looks at the same moment
        assert stage.current(root, "shoes") is None  # nobody holds the lock
    with locked(file.with_name("lock"), wait=True), stage.telling(root, "shoes"):
        assert stage.current(root, "shoes") is None  # the next submit has said nothing yet
    assert not file.exists()


def test_a_note_that_cannot_be_written_costs_the_sweep_nothing(root: Root) -> None:
    submitted.remember(SHOES, root)
    with stage.telling(root, "shoes") as note:
        (root.sweeps / "shoes" / stage.FILE).mkdir()  # so that nothing takes its place
        note("starting Ray", 0, 0)
        (root.sweeps / "shoes" / stage.FILE).rmdir()
