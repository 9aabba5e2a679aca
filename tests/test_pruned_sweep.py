"""A sweep with a pruner as a user submits it: serially, killed and submitted again, through Ray: it prunes the same."""

import random
import time
from pathlib import Path

import mlflow
import pytest
from sweeping import asked, humansim, kill_all, last_json, start, wait_for

from humansim import results, sweep_file
from humansim.ledger import Ledger
from humansim.results import Outcome, Pruned, Result
from humansim.root import Root

pytestmark = pytest.mark.slow

PRUNED = """
from humansim.spec import Sweep, Trial, Uniform, Variant

SWEEP = Sweep(
    name="pruned",
    base=Trial(
        source=Variant("sample", queries=48, pairs=2),
        backbone="miniature:resnet50",
        fit_size=32,
        batch_size=8,
        epochs=5,
    ),
    grid=[{"paradigm": ["triplet", "contrastive"]}],
    search={"lr": Uniform(low=1e-5, high=1e-1, log=True)},
    samples=12,
    repeats=2,
    parallel=2,
    pruner=Variant("MedianPruner", n_startup_trials=3),
)
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "pruned.py"
    path.write_text(PRUNED)
    return path


@pytest.fixture(scope="module")
def calm(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Root:
    """The sweep run one trial after another without a disturbance."""
    root = Root.at(tmp_path_factory.mktemp("calm"))
    done = humansim("sweep", str(file), "--root", str(root.path), "--serial", "--json")
    assert done.returncode == 0, done.stderr
    states = last_json(done)["states"]
    assert states["pruned"] >= 3
    assert states == {"finished": 2 * 13 - states["pruned"], "pruned": states["pruned"], "to run": 0}
    return root


def outcomes(file: Path, root: Root) -> dict[str, Outcome | None]:
    """Trial id -> how it ended in this sweep."""
    ledger = Ledger(root, sweep_file.load_sweep(str(file)).name)
    return {one.trial.id: results.load(root, one.trial, one.bar) for one in ledger.read()}


def comparable(outcome: Outcome | None) -> tuple[object, ...]:
    assert isinstance(outcome, Result | Pruned)
    history = [{k: row[k] for k in ("epoch", "loss", "validation")} for row in outcome.history]
    return type(outcome), history, getattr(outcome, "scores", None)


def assert_same(file: Path, root: Root, calm: Root) -> None:
    """The same trials asked for and held to the same bars, the same given up after the same epochs, bit for bit."""
    assert asked(root, "pruned") == asked(calm, "pruned")
    bars = [{(one.cell, one.index): one.bar for one in Ledger(r, "pruned").read()} for r in (root, calm)]
    assert bars[0] == bars[1]
    found, expected = ({i: comparable(o) for i, o in outcomes(file, r).items()} for r in (root, calm))
    assert found == expected


def test_what_is_given_up_is_no_failure_and_shows_as_pruned(file: Path, calm: Root) -> None:
    pruned = [outcome for outcome in outcomes(file, calm).values() if isinstance(outcome, Pruned)]
    for outcome in pruned:
        names = {path.name for path in results.folder(calm, outcome.trial).iterdir()}
        assert names == {"lock", "trial.json", "pruned.json"}
    client = mlflow.MlflowClient(calm.tracking_uri)
    experiment = client.get_experiment_by_name("pruned")
    assert experiment is not None
    runs = {run.data.tags["trial_id"]: run for run in client.search_runs([experiment.experiment_id], max_results=100)}
    assert len(runs) == 26
    for outcome in pruned:
        run = runs[outcome.trial.id]
        assert (run.info.status, run.data.tags["pruned"]) == ("KILLED", str(outcome.epoch))
        points = client.get_metric_history(run.info.run_id, "2afc/validation")
        assert [point.value for point in points] == [row["validation"] for row in outcome.history]
    assert sum(run.info.status == "FINISHED" for run in runs.values()) == 26 - len(pruned)
    shown = humansim("plan", str(file), "--root", str(calm.path))
    assert shown.returncode == 0, shown.stderr
    assert "pruned" in shown.stdout
    assert "0 to run" in shown.stdout


def test_killed_again_and_again_it_ends_as_if_nothing_had_happened(file: Path, calm: Root, tmp_path: Path) -> None:
    root, rng = Root.at(tmp_path), random.Random(time.time_ns())
    kills = 0
    for _ in range(3):
        driver = start("sweep", str(file), "--root", str(tmp_path), "--serial")
        try:
            before = len(list(root.results.glob("*/*.json")))
            wait_for(lambda: len(list(root.results.glob("*/*.json"))) > before + rng.randint(2, 12), driver)  # noqa: B023
            kills += driver.poll() is None
        finally:
            kill_all(driver)
    assert kills >= 2
    done = humansim("sweep", str(file), "--root", str(tmp_path), "--serial")
    assert done.returncode == 0, done.stderr
    assert_same(file, root, calm)
    assert not list(root.results.glob(f"*/{results.CHECKPOINT}"))


def test_through_ray_with_two_trials_at_a_time_the_same_is_given_up(file: Path, calm: Root, tmp_path: Path) -> None:
    done = humansim("sweep", str(file), "--root", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "pruned    " in done.stderr
    assert_same(file, Root.at(tmp_path), calm)


def test_what_another_sweep_has_run_to_its_end_is_given_up_all_the_same(file: Path, calm: Root, tmp_path: Path) -> None:
    whole, root = tmp_path / "whole.py", Root.at(tmp_path / "root")
    text = PRUNED.replace('    pruner=Variant("MedianPruner", n_startup_trials=3),\n', "")
    whole.write_text(text.replace('name="pruned"', 'name="whole"'))
    done = humansim("sweep", str(whole), "--root", str(root.path), "--serial", "--json")
    assert done.returncode == 0, done.stderr
    assert last_json(done)["states"] == {"finished": 26, "to run": 0}
    done = humansim("sweep", str(file), "--root", str(root.path), "--serial")
    assert done.returncode == 0, done.stderr
    assert_same(file, root, calm)
