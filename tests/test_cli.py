"""The command line: answers at once, one clear error for bad input, JSON alone on standard output."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from sweeping import SMALL, command, environment, humansim, last_json

from humansim.cli import main

COMMANDS = ("demo", "plan", "run", "sweep", "status", "report", "list", "evaluate", "embed", "score")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HUMANSIM_ROOT", "HUMANSIM_DATA", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_that_is_slow(arguments: list[str]) -> None:
    code = "import sys, runpy; sys.argv = ['humansim'] + sys.argv[1:]\n"
    code += "try: runpy.run_module('humansim.cli', run_name='__main__')\n"
    code += "except SystemExit: pass\n"
    code += "print(sorted({'torch', 'ray', 'mlflow', 'pandas', 'numpy', 'rich', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]"), done.stdout
    assert len(done.stdout.splitlines()) > 1


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["status"], ["plan", "metrics"], ["weights", "list"], ["status", "--watch", "0"], ["sweep", "dmo"]],
)
def test_what_looks_at_files_alone_imports_no_library_that_is_slow(arguments: list[str], tmp_path: Path) -> None:
    slow = "{'torch', 'torchvision', 'timm', 'open_clip', 'ray', 'mlflow', 'optuna', 'scipy', 'requests'}"
    code = "import sys; from humansim.cli import main; main(sys.argv[1:]);"
    code += f"print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.rstrip().endswith("[]"), done.stdout


def test_without_a_command_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "humansim demo" in capsys.readouterr().out


BAD = {
    "unknown backbone": (["evaluate", "pixel", "--source", "sample"], "unknown backbone 'pixel'; did you mean pixels?"),
    "unknown source": (["evaluate", "pixels", "--source", "smple"], "did you mean sample"),
    "unknown sweep": (["sweep", "dmo"], "unknown sweep 'dmo'; did you mean demo?"),
    "no sweep file": (["plan", "nowhere.py"], "nowhere.py: no such file"),
    "misspelt axis": (["run", "lrr=1"], "unknown axis 'lrr'; did you mean lr, layer?"),
    "misspelt argument": (["run", "paradigm=triplet", "paradigm.margn=1"], "no argument 'margn'; did you mean margin?"),
    "wrong type": (["run", "paradigm=triplet", "paradigm.margin=much"], "paradigm.margin: 'triplet' takes float, got"),
    "wrong value": (["run", "lr=-1"], "lr: Input should be greater than 0 (got -1)"),
    "text for a number": (["run", "lr=fast"], "lr: Input should be a valid number (got 'fast')"),
    "no value": (["run", "lr"], "'lr' is not of the form AXIS=VALUE"),
    "twice": (["run", "lr=1", "lr=2"], "lr is given twice"),
    "argument of nothing": (["run", "paradigm.margin=1"], "the trial has no paradigm, so paradigm.margin sets nothing"),
    "nothing to train": (["run", "backbone=pixels", "paradigm=triplet"], "backbone pixels has nothing to train"),
    "neither backbone nor sweep": (
        ["weights", "list", "pretraind"],
        "'pretraind' is no backbone, and no sweep; did you mean pretrained,",
    ),
    "unknown status": (["status", "nothing"], "no sweep 'nothing' was submitted"),
    "no file": (["score", "nowhere.csv"], "nowhere.csv: no such file"),
    "judges": (["score", "nowhere.csv", "--judges", "0"], "--judges 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_code_2(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = BAD[name]
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.startswith("humansim: error: ")
    assert err.count("\n") == 1
    assert out == ""


def test_a_root_that_cannot_be_written_to_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["status", "--root", str(tmp_path / "file" / "root")]) == 2
    assert f"root {tmp_path / 'file' / 'root'}: not a folder that can be written to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ('name="small"', 'name="a/b"'),
        ('"paradigm.distance"', '"paradigm.distanze"'),
        ('"paradigm": ["triplet"],', ""),
        ('["euclidean", "squared_euclidean"]', '["euclidean", "manhattan"]'),
        ("samples=3", "sample=3"),
        ('search={"lr"', 'search={"lrr"'),
        ("low=1e-5", 'low="1e-5"'),
    ],
)
def test_a_wrong_sweep_file_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], edit: str, message: str
) -> None:
    file = tmp_path / "wrong.py"
    assert edit in SMALL
    file.write_text(SMALL.replace(edit, message))
    assert main(["sweep", str(file)]) == 2
    error = capsys.readouterr().err
    assert re.match(rf"humansim: error: {file}(, line \d+)?: ", error)
    assert error.count("\n") == 1
    assert not list((tmp_path / "humansim-runs").glob("*/*"))


def test_data_is_checked_before_anything_is_trained(judgements: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (judgements / "07.png").write_bytes((judgements / "07.png").read_bytes()[:40])
    assert main(["evaluate", "pixels", "--source", str(judgements)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"{judgements / '07.png'}: " in error
    assert f"named in {judgements / 'judgements.csv'}, line " in error
    assert not list((judgements.parent / "humansim-runs" / "results").glob("*"))


def test_a_tracking_server_that_is_down_is_an_error_before_anything_runs(judgements: Path) -> None:
    arguments = ["evaluate", "pixels", "--source", str(judgements)]
    for more, extra in (
        (["--tracking", "http://127.0.0.1:9"], {}),
        ([], {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}),
    ):
        done = humansim(*arguments, *more, "--root", str(judgements.parent / "root"), **extra)
        assert done.returncode == 2
        assert "tracking server http://127.0.0.1:9 does not answer" in done.stderr
        assert "Traceback" not in done.stderr
    assert not list((judgements.parent / "root" / "results").glob("*"))


def test_what_is_shown_is_shown_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Square brackets in names are no markup."""
    from humansim import show

    row = {"kind": "floor", "axes": {"backbone": "[bold]x[/bold]"}, "sets": {"[red]set": {"score": 0.5}}}
    show.console().print(*show.scores([row], "[b]title[/b]", simulated=True))
    shown = capsys.readouterr().out
    for text in ("[bold]x[/bold]", "[red]set", "[b]title[/b]", "[simulated judges]", "[95 % interval"):
        assert text in shown


@pytest.mark.parametrize("count", [1, 11])
def test_a_score_below_the_floor_is_marked(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one set and of the mean of many; a floor, chance and people are not held against it."""
    from humansim import show

    scores = {"floor": 0.6, "chance": 0.5, "pretrained": 0.55, "fine-tuned": 0.65}
    table = [
        {"kind": kind, "axes": {}, "sets": {f"some/{i}": {"score": score} for i in range(count)}}
        for kind, score in scores.items()
    ]
    show.console().print(*show.scores(table, "title", simulated=False))
    shown = capsys.readouterr().out
    (marked,) = [line for line in shown.splitlines() if "↓ " in line and "│" in line]
    assert "pretrained" in marked
    assert "55.00 ↓" in marked
    assert "↓: below the floor" in " ".join(shown.split())


def test_many_sets_stand_one_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Eleven intervals side by side fit no terminal: a table of models with their means, and one of the sets."""
    from humansim import show

    sets = {f"some/{i}": {"score": 0.5 + i / 100, "low": 0.5, "high": 0.6} for i in range(11)}
    table = [
        {"kind": "floor", "axes": {"backbone": "pixels"}, "sets": sets},
        {"kind": "fine-tuned", "axes": {"paradigm": "triplet", "fit_on": "one", "lr": "1e-3"}, "sets": sets},
        {"kind": "fine-tuned", "axes": {"paradigm": "triplet", "fit_on": "two", "lr": "1e-4"}, "sets": sets},
        {"kind": "ceiling: fresh judge", "axes": {}, "sets": {"some/3": {"score": 0.86}}},
    ]
    show.console().print(*show.scores(table, "title", simulated=False))
    shown = capsys.readouterr().out
    rows = {line.split("\u2502")[1].strip(): line for line in shown.splitlines() if line.startswith("\u2502")}
    assert "mean of 11 sets" in shown
    assert "55.00" in rows["1"]
    assert "%" not in rows["4"]  # one set of eleven has no mean to show
    assert "86.00" not in rows["4"]
    assert "53.00 ± 5.0" in rows["some/3"]
    assert "86.00" in rows["some/3"]
    assert "60.00 ± 5.0" in rows["some/10"]
    heads = [[cell.strip() for cell in line.split("\u2503")[2:-1]] for line in shown.splitlines() if "\u2503  " in line]
    of_columns = [" ".join(filter(None, column)) for column in zip(*heads[-4:], strict=True)]
    assert of_columns == ["1 floor", "2 fine-tuned one", "3 fine-tuned two", "4 ceiling fresh judge"], heads


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"efficientnet_lite0", "pixels", "timm:<name>", "torchvision:<name>"} <= {
        r["name"] for r in found["backbones"]
    }
    assert [row["name"] for row in found["measures"]] == ["cosine", "l2", "l1"]
    assert "demo" in [row["name"] for row in found["sweeps"]]
    assert main(["list", "backbones"]) == 0
    assert "efficientnet_lite0" in capsys.readouterr().out


def test_plan_says_that_the_machine_is_busy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.py").write_text(SMALL.replace('    question="Does a small sweep survive?",\n', ""))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    for load, busy in ((5.9, False), (6.1, True)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert main(["plan", "small.py"]) == 0
        out = capsys.readouterr().out
        assert ("This machine is busy (load 6.1 on 4 cores)" in out) == busy
        assert out.split()[0] == "small"  # no colon before a question that is not asked


def test_plan_counts_what_would_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.py").write_text(SMALL)
    assert main(["plan", "small.py", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["states"] == {"to run": 10}
    assert found["to_ask"] == 8
    assert [cell["wanted"] for cell in found["cells"]] == [1, 1, 4, 4]
    assert main(["plan", "small.py"]) == 0
    assert "10 trials in 4 cells; 10 to run, of which the searches will choose 8" in capsys.readouterr().out


OWN = """
from humansim.spec import Sweep, Trial, Variant

SWEEP = Sweep(
    name="own",
    base=Trial(source=Variant("table", name="mine"), backbone="pixels"),
    grid=[{}, {"backbone": ["miniature:resnet50"], "paradigm": ["triplet"]}],
)
"""


def test_plan_says_where_fit_and_test_share_images(judgements: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line where one decides; a sweep that only evaluates has nothing to share."""
    file, where = judgements.parent / "own.py", ["--root", str(judgements.parent / "root")]
    for text, warned in ((OWN, 1), (OWN.replace('"paradigm"', '"resolution"').replace('"triplet"', "32"), 0)):
        file.write_text(text)
        assert main(["plan", str(file), "--data", str(judgements.parent), *where]) == 0
        lines = [
            one for one in capsys.readouterr().out.splitlines() if one.startswith("Note: mine: fit and test share")
        ]
        assert len(lines) == warned


def test_plan_says_that_a_submit_would_refuse_judgements_that_changed(
    judgements: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from humansim import plan, train
    from humansim.root import Root
    from humansim.sweep_file import load_sweep

    file, root = judgements.parent / "own.py", Root.at(judgements.parent / "root", judgements.parent)
    file.write_text(OWN)
    trial = next(cell.trial for cell in plan.cells(load_sweep(str(file))) if cell.trial.paradigm is None)
    train.run(trial, root)
    frame = pd.read_csv(judgements / "judgements.csv")
    for changed in (False, True):
        frame.assign(choice=1 - frame["choice"] if changed else frame["choice"]).to_csv(
            judgements / "judgements.csv", index=False
        )
        assert main(["plan", str(file), "--root", str(root.path), "--data", str(root.data)]) == 0
        refused = f"Note: a submit would be refused: trial {trial.id}: table(name=mine) has changed since it was run"
        assert (refused in capsys.readouterr().out) is changed


@pytest.mark.slow
def test_ones_own_judgements_are_evaluated_and_fine_tuned_on(judgements: Path) -> None:
    """A folder of one's own: an evaluation on all of it, then one fine-tuning on held-out images."""
    where = ["--root", str(judgements.parent / "root")]
    done = humansim("evaluate", "pixels", "--source", str(judgements), *where, "--json")
    assert done.returncode == 0, done.stderr
    document = last_json(done)
    frame = pd.read_csv(judgements / "judgements.csv")
    assert document["scores"][0]["n"] == len(frame)
    assert document["scores"][1]["score"] > 0.99  # l2 between colours is what these people go by
    assert not document["simulated_judges"]
    assert [floor["kind"] for floor in document["floors"]] == []  # it is the floor itself
    done = humansim("evaluate", "timm:test_resnet", "backbone.weights=random", "--source", str(judgements), *where)
    assert done.returncode == 0, done.stderr
    assert [word in done.stdout for word in ("floor", "untrained", "pixels", "cosine", "l2", "l1")] == [True] * 6
    settings = ["source=table", "source.name=mine", "paradigm=triplet", "resolution=32", "epochs=1", "fit_size=32"]
    done = humansim("run", *settings, "batch_size=8", "--data", str(judgements.parent), *where)
    assert done.returncode == 0, done.stderr
    assert "mine: fit and test share " in done.stderr  # they are few: see test_audit
    assert "simulated" not in done.stdout + done.stderr
    assert "fine-tuned" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Results: ")
    # Changed data under the same name is never mixed with what was made from the old.
    frame.assign(choice=1 - frame["choice"]).to_csv(judgements / "judgements.csv", index=False)
    done = humansim("evaluate", "pixels", "--source", str(judgements), *where)
    assert done.returncode == 2
    assert "table(name=mine) has changed since it was run" in done.stderr


def test_score_gives_the_scores_ceilings_and_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "distances.csv.gz"
    pd.DataFrame(
        {"to_left": [1, 2, 3.5, 1], "to_right": [2, 1, 3.5, 0.5], "choice": [0, 1, 0.6, 0.2], "judges": [5, 5, 5, 5]}
    ).to_csv(file, index=False)
    assert main(["score", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["score"] == pytest.approx((1 + 1 + 0.5 + 0.2) / 4)
    assert found["accuracy"] == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert found["best"] == pytest.approx((1 + 1 + 0.6 + 0.8) / 4)
    assert found["plug_in"] == pytest.approx((1 + 1 + 0.52 + 0.68) / 4)
    assert found["fresh_judge"] == pytest.approx((1 + 1 + 0.4 + 0.6) / 4)
    assert found["ties"] == 1
    assert main(["score", str(file)]) == 0
    assert "67.5000" in capsys.readouterr().out
    file = tmp_path / "alike.csv"  # resamples of what does not differ do not differ: no interval
    file.write_text("to_left,to_right,choice\n1,2,0\n2,1,1\n")
    assert main(["score", str(file)]) == 0
    assert "unknown: all earn the same" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("to_left,to_right\n1,2\n", "column 'choice' is missing"),
        ("to_left,to_right,choice\n", "the table has no rows"),
        ("to_left,to_right,choice\n1,2,0.5\n1,nan,0.5\n", "line 3: to_right: 'nan' is not a finite number"),
        ("to_left,to_right,choice\n1,2,1.5\n", "line 2: choice: '1.5' is not a share between 0 and 1"),
        ("to_left,to_right,choice,choice\n1,2,1,1\n", "column 'choice' is there 2 times"),
        ("to_left,to_right,choice,judges\n1,2,0.5,3\n", "line 2: choice: 0.5 is no share of 3 people"),
        ("to_left,to_right,choice,judges\n1,2,1,some\n", "line 2: judges: 'some' is not a finite number"),
    ],
)
def test_score_names_file_line_and_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    file = tmp_path / "distances.csv"
    file.write_text(text)
    assert main(["score", str(file)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert str(file) in error


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{' '.join(command('list'))} | head -1",
        shell=True,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Traceback" not in done.stderr
