"""A sweep's searches as a storage of Optuna's, as itself would have written it, whatever became of the samples."""

import contextlib
import datetime
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from test_pruning import curve
from test_search import LR, result

from humansim import ledger, plan, results, studies, submitted
from humansim.cli import main
from humansim.results import Failure, held_to
from humansim.root import Root
from humansim.spec import Choice, Sweep, Trial, Uniform, Variant

SWEEP = Sweep(
    name="s",
    base=Trial(epochs=3),
    grid=[
        {"backbone": ["pixels"]},
        {"paradigm": ["triplet", "simclr"]},
        {"paradigm": ["triplet"], "fit_on": ["sample"]},
    ],
    search={
        "lr": LR,
        "batch_size": Uniform(low=2, high=10, step=2),
        "fit_size": Choice(values=(100, 1000)),
        "tuning": Choice(values=("whole", "lora")),
    },
    samples=5,
    repeats=2,
    pruner=Variant("MedianPruner"),
)
ENDED = 1_700_000_009_000


@pytest.fixture
def under_way(root: Root) -> Iterator[Root]:
    """Of the cell `triplet`: a sample finished, one failed, one given up, one running, one not begun."""
    submitted.remember(SWEEP, root)
    pretrained, cell, *_ = plan.cells(SWEEP)
    seen = result(pretrained.trial).scores[0].model_copy(update={"part": "test", "score": 0.625})  # none to validate on
    results.save(root, result(pretrained.trial).model_copy(update={"scores": (seen,), "finished": ENDED}))
    rows = tuple(
        {**row, "time": ENDED - 3000 + 1000 * row["epoch"], "seconds": 1.0, "images_per_second": 9.0}
        for row in curve([0.5, 0.6, 0.7])
    )
    trials = [
        plan.checked(cell.trial.having({"lr": 1e-3, "batch_size": 2 * n, "fit_size": 100, "tuning": tuning}))
        for n, tuning in enumerate(("whole", "lora", "whole", "lora", "whole"), start=1)
    ]
    asked = ledger.Ledger(root, SWEEP.name)
    for index, trial in enumerate(trials):
        asked.append(ledger.Asked(cell.key, index, trial, {2: 0.65} if index == 2 else None))
    update = {"history": rows, "seconds": {"train": 3.0}, "finished": ENDED}
    results.save(root, result(trials[0]).model_copy(update=update))
    results.save(
        root,
        Failure(trial=trials[1], kind="diverged", reason="made up", traceback="", finished=ENDED, history=rows[:1]),
    )
    results.save(root, held_to(result(trials[2]).model_copy(update=update), {2: 0.65}))
    with results.claimed(root, trials[3]) as folder:
        (folder / results.EPOCH).write_text(json.dumps(rows[1]))
        yield root


@contextlib.contextmanager
def opened(file: Path) -> Iterator[optuna.storages.RDBStorage]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
    try:
        yield storage
    finally:
        storage.engine.dispose()  # connections that nobody closed are a warning in Python 3.13


@pytest.fixture
def written(under_way: Root, tmp_path: Path) -> Iterator[optuna.storages.RDBStorage]:
    """The sweep's four studies."""
    assert studies.write(SWEEP, under_way, tmp_path / "ours.db") == 4
    with opened(tmp_path / "ours.db") as storage:
        yield storage


def test_each_sample_stands_as_its_files_say(under_way: Root, written: optuna.storages.RDBStorage) -> None:
    _, cell, *_ = plan.cells(SWEEP)
    study = optuna.load_study(study_name="paradigm=triplet", storage=written)
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    about = {"sweep": "s", "cell": cell.key, "backbone": "efficientnet_lite0", "paradigm": "triplet"}
    assert study.user_attrs == about
    states = [trial.state for trial in study.trials]
    assert states == [
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.PRUNED,
        TrialState.RUNNING,
        TrialState.WAITING,
    ]
    asked = [one.trial for one in ledger.Ledger(under_way, "s").read()]
    assert [trial.user_attrs["trial"] for trial in study.trials] == [trial.id for trial in asked]
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3, 4]
    assert [trial.intermediate_values for trial in study.trials] == [
        {1: 0.5, 2: 0.6, 3: 0.7},
        {1: 0.5},
        {1: 0.5, 2: 0.6},
        {2: 0.6},
        {},
    ]
    assert [trial.params["batch_size"] for trial in study.trials] == [2, 4, 6, 8, 10]
    assert [trial.params["tuning"] for trial in study.trials] == ["whole", "lora", "whole", "lora", "whole"]
    assert study.trials[0].distributions["lr"] == optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True)
    complete, failed, pruned, running, _ = study.trials
    assert complete.value == result(asked[0]).mean("validation")
    assert pruned.value == 0.6
    assert failed.user_attrs["reason"] == "made up"
    ended = datetime.datetime.fromtimestamp(ENDED / 1000)
    for trial in (complete, pruned, failed):
        assert (trial.datetime_start, trial.datetime_complete) == (ended - datetime.timedelta(seconds=3), ended)
    assert running.datetime_complete is None
    assert study.best_trial.number == 0


def test_a_cell_without_a_search_is_one_trial_and_one_that_has_not_begun_is_empty(
    written: optuna.storages.RDBStorage,
) -> None:
    (trial,) = optuna.load_study(study_name="backbone=pixels", storage=written).trials
    assert (trial.params, trial.value, trial.user_attrs["value"]) == ({}, 0.625, "2AFC, test")
    assert optuna.load_study(study_name="paradigm=simclr", storage=written).trials == []


def test_the_tables_hold_what_optuna_itself_would_have_written(
    written: optuna.storages.RDBStorage, tmp_path: Path
) -> None:
    with opened(tmp_path / "theirs.db") as theirs:
        for summary in optuna.get_all_study_summaries(written):
            study = optuna.create_study(study_name=summary.study_name, direction="maximize", storage=theirs)
            for key, value in summary.user_attrs.items():
                study.set_user_attr(key, value)
            study.add_trials(optuna.load_study(study_name=summary.study_name, storage=written).trials)
    assert tables(tmp_path / "ours.db") == tables(tmp_path / "theirs.db")


def tables(file: Path) -> dict[str, list[tuple[object, ...]]]:
    """The rows of all tables, sorted."""
    with sqlite3.connect(file) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in names}
    database.close()
    assert {"trials", "trial_params", "trial_values", "trial_intermediate_values"} <= {n for n, r in found.items() if r}
    # Attributes come in another order; what numbers them says nothing.
    return {name: sorted(row["attribute" in name :] for row in rows) for name, rows in found.items()}


def test_the_command_says_where_it_is_and_how_to_open_it(
    under_way: Root, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # it takes the place of the one before
        assert main(["studies", "s", "--root", str(under_way.path)]) == 0
    file = under_way.sweeps / "s" / "studies.db"
    said = f"4 studies: {file}   Open: uvx optuna-dashboard sqlite:///{file}"
    assert capsys.readouterr().out.splitlines()[-1] == said
    assert sorted(path.name for path in file.parent.iterdir()) == [
        "asked.jsonl",
        "data.txt",
        "studies.db",
        "sweep.json",
    ]
    assert main(["studies", "s", "--root", str(under_way.path), "--out", str(tmp_path / "other.db")]) == 0
    assert (tmp_path / "other.db").exists()
    assert main(["studies", "s", "--root", str(under_way.path), "--out", str(tmp_path / "no" / "other.db")]) == 2
    assert "make it first" in capsys.readouterr().err
    assert main(["studies", "unheard-of", "--root", str(under_way.path)]) == 2
