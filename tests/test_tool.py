"""The tool itself: help that teaches, doctor, compare."""

import json
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sweeping import environment
from test_answers import answers_of, result_of

from humansim import cli_help, plan, results, submitted, tables
from humansim.cli import _parser, main
from humansim.doctor import HELD, SEEN, TRIES, _locks, checks
from humansim.root import Root
from humansim.spec import Sweep, Trial, Variant

COMMANDS = dict(cli_help.commands(_parser()))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_an_example_that_is_a_command_and_says_what_comes_next(name: str) -> None:
    shown = COMMANDS[name].format_help()
    assert f"humansim {name}" in shown.partition("example: ")[2]
    assert "\nnext: " in shown
    example = cli_help.TAUGHT[name][0]
    if example.startswith("humansim "):
        _, rest = _parser().parse_known_args(shlex.split(example)[1:])
        assert all("=" in one and not one.startswith("-") for one in rest)  # AXIS=VALUE, which `main` takes anywhere


def test_doctor_finds_a_usable_root(root: Root) -> None:
    found = {one.what: one for _, every in checks(root) for one in every}
    assert found["locks"].state == "ok"
    assert found["root"].state in ("ok", "warn")
    assert found["data"].state == "warn"
    assert "humansim data fetch" in found["data"].then
    assert not any(one.state == "fail" for one in found.values())


def test_doctor_shows_variables_of_the_users_alone_and_first(root: Root) -> None:
    """Before a library that sets some itself is imported."""
    code = f"""
from humansim import doctor, show
from humansim.root import Root
what, found = next(doctor.checks(Root.at({str(root.path)!r})))
print(what, *(one.found for one in found))
"""
    seen = {name: value for name, value in environment().items() if not name.startswith(SEEN)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=seen | {"MLFLOW_X": "1"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "environment MLFLOW_X=1\n"


def test_doctor_fails_where_the_tracking_store_does_not_answer(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--root", str(root.path), "--tracking", "http://127.0.0.1:9", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["usable"] is False
    (failed,) = (one for one in document["checks"] if one["state"] == "fail")
    assert failed["what"] == "tracking"
    assert "does not answer" in failed["found"]


def test_doctor_fails_where_a_lock_keeps_nobody_out(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(HELD) in TRIES
    monkeypatch.setattr("humansim.doctor.TRIES", "pass")  # the other process finds the lock free
    assert [one.state for one in _locks(root)] == ["fail"]


A, B = (Trial(source=Variant("table", name="x"), backbone=Variant(name)) for name in ("pixels", "efficientnet_lite0"))


@pytest.fixture
def swept(root: Root) -> Root:
    """A sweep of two models that has finished."""
    submitted.remember(Sweep(name="two", base=A, grid={"backbone": ["pixels", "efficientnet_lite0"]}), root)
    for trial in (A, B):
        results.save(root, result_of(trial, answers_of(trial)))
        answers_of(trial).to_parquet(results.folder(root, trial) / results.ANSWERS)
    return root


def test_compare_gives_the_paired_difference_of_each_set(swept: Root, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--root", str(swept.path), "--json"]
    assert main(["compare", "pixels", "efficientnet_lite0", "--sweep", "two", *there]) == 0
    by_name = json.loads(capsys.readouterr().out)
    assert main(["compare", A.id[:8], B.id[:8], *there]) == 0
    assert json.loads(capsys.readouterr().out) == by_name
    assert by_name["a"]["trials"] == [A.id]
    rows = {row["set"]: row for row in by_name["sets"]}
    frames = [frame[frame["part"] == "test"] for frame in (answers_of(A), answers_of(B))]
    for name, expected in _differences(*frames).items():
        assert rows[name]["difference"] == pytest.approx(expected)
        assert rows[name]["low"] <= expected <= rows[name]["high"]


def test_a_sweeps_table_tells_of_every_axis_that_any_of_its_cells_names() -> None:
    """A fine-tuned cell that takes its backbone from the base has that backbone in its row, no blank."""
    sweep = Sweep(name="s", base=B, grid=[{"backbone": ["pixels"]}, {"paradigm": ["triplet"], "lr": [1e-3]}])
    rows = tables.of_sweep((cell, result_of(cell.trial, answers_of(cell.trial))) for cell in plan.cells(sweep))
    assert [row["axes"] for row in rows if "trial" in row] == [
        {"backbone": "pixels"},
        {"backbone": "efficientnet_lite0", "paradigm": "triplet", "lr": 1e-3},
    ]


def test_equals_on_validation_are_counted_and_one_is_taken_whichever_finished_first(
    root: Root, capsys: pytest.CaptureFixture[str]
) -> None:
    """In compare and in status: three learning rates that are just as good, one of them with a better second seed."""
    tuned = [B.having({"paradigm": "triplet", "lr": lr}) for lr in (1e-3, 1e-4, 1e-5)]
    taken = min(trial.id for trial in tuned)
    again = tuned[0].having({"seed": 1})
    axes = {"backbone": ["efficientnet_lite0"], "paradigm": ["triplet"], "lr": [1e-3, 1e-4, 1e-5]}
    grid = [{"backbone": ["pixels"]}, {**axes, "seed": [0, 1]}]
    submitted.remember(Sweep(name="tied", base=A, grid=grid), root)
    for finished, trial in zip((5, 4, 3, 2, 1), (A, *tuned, again), strict=True):
        answers = answers_of(A if trial == A else B)
        result = result_of(trial, answers).model_copy(update={"finished": finished, "history": ()})
        if trial == again:
            better = tuple(s.model_copy(update={"score": 1.0}) for s in result.scores)
            result = result.model_copy(update={"scores": better})
        results.save(root, result)
        answers.to_parquet(results.folder(root, trial) / results.ANSWERS)
    where = ["--root", str(root.path)]
    assert main(["compare", "pixels", "paradigm=triplet,backbone=*", "--sweep", "tied", *where]) == 0
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert "best on validation" not in first
    assert second.endswith(f"  {taken}  first by its id of 3 that are best on validation")
    assert main(["status", "tied", *where]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())  # the column may be folded
    assert f"{taken[:8]}, first of 3 equals" in said, said


def _differences(one: pd.DataFrame, two: pd.DataFrame) -> dict[str, float]:
    def credit(frame: pd.DataFrame) -> pd.Series:
        left, right, choice = frame["to_left_cosine"], frame["to_right_cosine"], frame["choice"]
        earned = np.where(right < left, choice, np.where(left < right, 1 - choice, 0.5))
        return pd.Series(earned, index=frame.index).groupby(frame["set"]).mean()

    return dict(credit(one) - credit(two))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("pixels", "pixels", "are the same trial"),
        ("pixels", "resnet50", "'resnet50': no backbone like that has finished in two"),
        ("pixels", "pixel", "did you mean pixels? Known: efficientnet_lite0, pixels"),
        ("pixels", "layer=blocks.3", "nothing like that has finished in two; humansim plan two lists its cells"),
    ],
)
def test_compare_says_what_it_did_not_find(
    swept: Root, a: str, b: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", a, b, "--sweep", "two", "--root", str(swept.path)]) == 2
    assert message in capsys.readouterr().err
