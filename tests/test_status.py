"""`humansim status` reads files alone: finished, running with its epoch, failed by kind, the time that is left."""

import json
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_launch import raises
from test_search import LR, result

from humansim import ledger, plan, results, submitted
from humansim.cli import main
from humansim.launch import attempt
from humansim.root import Root
from humansim.spec import Sweep, Trial, Variant
from humansim.status import Reader

SWEEP = Sweep(
    name="s",
    base=Trial(paradigm=Variant("triplet"), epochs=20),
    grid=[{"seed": [0, 1, 2, 3, 4]}, {"paradigm": ["simclr"]}],
)


def trial(seed: int) -> Trial:
    return plan.checked(SWEEP.base.having({"seed": seed}))


@pytest.fixture
def under_way(root: Root) -> Iterator[Root]:
    """Two finished, one failed, one running in its fourth epoch, one killed, one not begun."""
    submitted.remember(SWEEP, root)
    for seed in (0, 1):
        results.save(root, result(trial(seed)).model_copy(update={"seconds": {"train": 10.0, "evaluate": 2.0}}))
    attempt(trial(2), root, raises(MemoryError()), lambda row: None)
    with results.claimed(root, trial(4)) as folder:
        (folder / results.CHECKPOINT).touch()
    with results.claimed(root, trial(3)) as folder:
        row = {"epoch": 3.0, "validation": 0.75, "images_per_second": 123.4, "time": float(results.now() - 5000)}
        (folder / results.EPOCH).write_text(json.dumps(row))
        results.begin(root, trial(3), gpu=0.25)
        yield root


def test_a_sweep_under_way_stands_as_its_files_say(under_way: Root) -> None:
    status = Reader(under_way).read(SWEEP)
    assert dict(+status.states) == {"finished": 2, "failed": 1, "running": 1, "resumable": 1, "to run": 1}
    (running,) = status.running
    assert (running.trial, running.epoch, running.validation) == (trial(3), 3, 0.75)
    assert running.images_per_second == 123.4
    assert running.age == pytest.approx(5, abs=2)
    assert (running.node, running.gpu) == (platform.node(), 0.25)
    assert [failure.kind for failure in status.failures] == ["oom"]
    assert status.left == 3 * 12  # one at a time: the one that runs, the one that was killed, the one not begun
    first, second = status.groups
    assert (first.backbone, first.paradigm, second.paradigm) == ("efficientnet_lite0", "triplet", "simclr")
    assert first.best is not None
    assert first.best.trial.seed in (0, 1)
    assert second.best is None


def test_what_changes_is_seen_by_the_same_reader(under_way: Root) -> None:
    reader = Reader(under_way)
    reader.read(SWEEP)
    results.forget_failure(under_way, trial(2))
    results.save(under_way, result(trial(2)))
    status = reader.read(SWEEP)
    assert status.states["finished"] == 3
    assert status.failures == []


def test_a_pruned_trial_is_no_failure_and_not_among_the_best(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = SWEEP.model_copy(
        update={"grid": [{}], "search": {"lr": LR}, "samples": 3, "pruner": Variant("MedianPruner")}
    )
    submitted.remember(sweep, root)
    (cell,) = plan.cells(sweep)
    for index, lr in enumerate((1e-4, 1e-3)):  # the better one is given up
        made = result(plan.checked(cell.trial.having({"lr": lr})))
        made = made.model_copy(update={"history": ({"epoch": 1.0, "validation": 0.5},), "seconds": {"train": 4.0}})
        ledger.Ledger(root, "s").append(ledger.Asked(cell.key, index, made.trial, {1: 0.6} if index else None))
        results.save(root, results.held_to(made, {1: 0.6}) if index else made)
    status = Reader(root).read(sweep)
    assert dict(+status.states) == {"finished": 1, "pruned": 1, "to run": 1}
    assert status.failures == []
    (group,) = status.groups
    assert group.best is not None
    assert group.best.trial.lr == 1e-4
    assert main(["status", "s", "--root", str(root.path)]) == 0
    assert "pruned" in capsys.readouterr().out


def test_the_command_shows_it(under_way: Root, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "s", "--root", str(under_way.path)]) == 0
    said = capsys.readouterr().out
    for text in (
        "3/20",
        "75.00",
        "123",
        f"failed: 1 oom. Again: humansim retry s --root {under_way.path}",
        "about 36 s left",
        "0.25 GPUs in use",
        "MemoryError",
    ):
        assert text in said
    assert main(["status", "s", "--root", str(under_way.path), "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["running"][0]["epoch"] == 3
    assert document["seconds_left"] == 36
    assert main(["status", "--root", str(under_way.path)]) == 0


@pytest.mark.parametrize("more", [["--json"], []])
def test_watching_is_for_people(root: Root, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    seconds = "5" if more else "0"
    assert main(["status", "--root", str(root.path), *more, "--watch", seconds]) == 2
    assert "--watch is for people" in capsys.readouterr().err


def test_watching_ends_with_ctrl_c(under_way: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    from humansim import show

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(show.time, "sleep", stop)
    assert main(["status", "s", "--root", str(under_way.path), "--watch"]) == 0


def test_only_some_cells_are_planned(root: Root, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.py"
    file.write_text(
        'from humansim.spec import Sweep\nSWEEP = Sweep(name="s", grid={"backbone": ["pixels", "ssim", "lpips"], '
        '"resolution": [32, 64]})\n'
    )

    def planned(*only: str) -> int:
        given = [part for pattern in only for part in ("--only", pattern)]
        assert main(["plan", str(file), "--root", str(root.path), "--json", *given]) == 0
        return len(json.loads(capsys.readouterr().out)["cells"])

    assert planned() == 6
    assert planned("backbone=*p*s") == 4
    assert planned("backbone=pixels", "backbone=ssim", "resolution=64") == 2
    for wrong, problem in [
        ("backbone=clip*", "no cell of s is like that"),
        ("backbon=x", "unknown axis; did you mean backbone"),
        ("backbone", "of the form AXIS=PATTERN"),
    ]:
        assert main(["plan", str(file), "--root", str(root.path), "--only", wrong]) == 2
        assert problem in capsys.readouterr().err
