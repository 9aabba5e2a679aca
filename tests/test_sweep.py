"""A sweep as a user submits it, through Ray and MLflow: killed, submitted again; nothing lost, nothing run twice."""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import psutil
import pytest
from sweeping import (
    SMALL,
    TRIALS,
    asked,
    assert_tracked_once,
    command,
    environment,
    finished,
    humansim,
    kill_all,
    last_json,
    reported,
    start,
    trials_of,
    wait_for,
)

from humansim import plan, results, sweep_file, train
from humansim.results import Result
from humansim.root import Root
from humansim.spec import Variant

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "small.py"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def calm(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Root:
    """The sweep run through Ray without a disturbance."""
    root = Root.at(tmp_path_factory.mktemp("calm"))
    done = humansim("sweep", str(file), "--root", str(root.path), "--json")
    assert done.returncode == 0, done.stderr
    assert last_json(done)["states"] == {"finished": TRIALS, "to run": 0}
    return root


def comparable(result: Result) -> dict[str, object]:
    history = [{k: row[k] for k in ("epoch", "loss", "validation")} for row in result.history]
    return {"trial": result.trial, "scores": result.scores, "history": history}


def assert_same(file: Path, root: Root, calm: Root) -> None:
    """The same trials asked for, the same scores, the same distances of every triplet, bit for bit."""
    assert asked(root, "small") == asked(calm, "small")
    found, expected = finished(file, root), finished(file, calm)
    assert len(expected) == TRIALS
    assert {i: comparable(r) for i, r in found.items()} == {i: comparable(r) for i, r in expected.items()}
    for result in expected.values():
        answers = [pd.read_parquet(results.folder(r, result.trial) / results.ANSWERS) for r in (root, calm)]
        pd.testing.assert_frame_equal(*answers, check_exact=True)


def test_every_trial_lands_in_mlflow_once(file: Path, calm: Root) -> None:
    assert_tracked_once(file, calm)


def test_serial_and_ray_give_the_same_bits(file: Path, calm: Root, tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    done = humansim("sweep", str(file), "--root", str(tmp_path), "--serial")
    assert done.returncode == 0, done.stderr
    assert_same(file, root, calm)
    assert_tracked_once(file, root)


def test_submitting_a_finished_sweep_runs_nothing_and_does_not_start_ray(file: Path, calm: Root) -> None:
    before = {path: path.stat().st_mtime_ns for path in calm.results.glob("*/*") if path.name != "lock"}
    done = humansim("sweep", str(file), "--root", str(calm.path))
    assert done.returncode == 0
    assert "starting Ray" not in done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert_tracked_once(file, calm)


def test_killed_again_and_again_it_ends_as_if_nothing_had_happened(file: Path, calm: Root, tmp_path: Path) -> None:
    """SIGTERM for the driver, then SIGKILL for it and all of Ray, at random moments; each time submitted again."""
    root, rng = Root.at(tmp_path), random.Random(time.time_ns())
    committed: dict[Path, int] = {}
    kills = 0
    for round_ in range(3):
        driver = start("sweep", str(file), "--root", str(tmp_path))
        try:
            # Kill once the round has got somewhere: a further epoch saved or a further trial finished, and a bit.
            before = len(list(root.results.glob("*/*.json")))
            wait_for(lambda: len(list(root.results.glob("*/*.json"))) > before + rng.randint(0, 2), driver)  # noqa: B023
            time.sleep(rng.uniform(0, 3))
            kills += driver.poll() is None
            if round_ == 0:  # as a preempted machine is told
                driver.terminate()
                assert driver.wait(90) == 130
        finally:
            kill_all(driver)
        for path, changed in committed.items():
            assert path.stat().st_mtime_ns == changed, f"{path} was computed again (round {round_})"
        committed = {path: path.stat().st_mtime_ns for path in root.results.glob(f"*/{results.RESULT}")}
    assert kills >= 2
    done = humansim("sweep", str(file), "--root", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in committed} == committed
    assert_same(file, root, calm)
    assert_tracked_once(file, root)
    assert not list(root.results.glob(f"*/{results.CHECKPOINT}"))


def test_a_worker_that_is_killed_costs_nothing(file: Path, calm: Root, tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    driver = start("sweep", str(file), "--root", str(tmp_path))
    try:
        wait_for(lambda: bool(list(root.results.glob(f"*/{results.CHECKPOINT}"))), driver)
        worker = next(iter(workers(driver)))
        worker.kill()
        assert driver.wait(400) == 0
    finally:
        kill_all(driver)
    assert_same(file, root, calm)
    assert_tracked_once(file, root)


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(file: Path, calm: Root, tmp_path: Path) -> None:
    root = Root.at(tmp_path)
    arguments = ("sweep", str(file), "--root", str(tmp_path))
    driver = subprocess.Popen(
        command(*arguments), env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_for(lambda: bool(list(root.results.glob(f"*/{results.CHECKPOINT}"))), driver)
        os.killpg(driver.pid, signal.SIGINT)  # as a terminal sends it: to the whole group
        _, stderr = driver.communicate(timeout=90)
    finally:
        kill_all(driver)
    assert driver.returncode == 130, stderr
    assert "Stopped: finished: " in stderr
    assert f"To go on: humansim {' '.join(arguments)}" in stderr
    assert "Traceback" not in stderr
    done = humansim(*arguments)
    assert done.returncode == 0, done.stderr
    assert re.search(r"trials? goe?s? on after epoch \d", done.stderr), done.stderr
    assert_same(file, root, calm)
    assert_tracked_once(file, root)


def test_an_axis_added_runs_only_what_is_new(file: Path, calm: Root, tmp_path: Path) -> None:
    root = Root.at(shutil.copytree(calm.path, tmp_path / "moved"))  # and the root may move
    kept = {path: path.stat().st_mtime_ns for path in root.results.glob(f"*/{results.RESULT}")}
    longer = tmp_path / "small.py"
    longer.write_text(SMALL.replace('"efficientnet_lite0"]', '"efficientnet_lite0", "torchvision:resnet18"]'))
    longer.write_text(
        longer.read_text().replace('"torchvision:resnet18"', 'Variant("torchvision:resnet18", weights="random")')
    )
    done = humansim("sweep", str(longer), "--root", str(root.path), "--serial", "--json")
    assert done.returncode == 0, done.stderr
    assert last_json(done)["states"]["finished"] == TRIALS + 1
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert done.stderr.count("finished  ") == 1
    client = mlflow.MlflowClient(root.tracking_uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    for run in client.search_runs([experiment.experiment_id]):
        names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
        assert names == {results.RESULT, results.ANSWERS}
        assert str(root.path) in run.info.artifact_uri  # the artifacts moved along


def test_a_trial_that_fails_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    sweep = tmp_path / "failing.py"
    text = SMALL.replace(
        '"paradigm.distance": ["euclidean", "squared_euclidean"]', '"optimizer": ["sgd"], "lr": [1e-4, 1e30]'
    )
    text = text.replace(
        '    search={"lr": Uniform(low=1e-5, high=1e-3, log=True)},\n    samples=3,\n    repeats=2,\n', ""
    )
    sweep.write_text(text)
    done = humansim("sweep", str(sweep), "--root", str(tmp_path), "--json")
    assert done.returncode == 1, done.stderr
    document = last_json(done)
    assert document["states"] == {"finished": 3, "failed": 1, "to run": 0}
    assert "the loss is" in document["failures"][0]["reason"]
    shown = humansim("status", "small", "--root", str(tmp_path))
    assert "FloatingPointError: the loss is" in shown.stdout
    assert "Traceback" in shown.stdout
    client = mlflow.MlflowClient(Root.at(tmp_path).tracking_uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED", "FINISHED", "FINISHED"]
    again = humansim("sweep", str(sweep), "--root", str(tmp_path))
    assert again.returncode == 1
    assert "starting Ray" not in again.stderr  # a failure is not run again unless one asks for it


def test_a_sweep_cannot_be_submitted_twice_at_once(file: Path, tmp_path: Path) -> None:
    driver = start("sweep", str(file), "--root", str(tmp_path))
    try:
        wait_for(lambda: (tmp_path / "sweeps" / "small" / "sweep.json").exists(), driver)
        second = humansim("sweep", str(file), "--root", str(tmp_path))
        assert second.returncode == 2
        assert "sweep 'small' is running already" in second.stderr
    finally:
        kill_all(driver)


def workers(driver: subprocess.Popen) -> Iterator[psutil.Process]:
    for process in psutil.Process(driver.pid).children(recursive=True):
        title = (process.cmdline() or [""])[0]
        if title.startswith("ray::ImplicitFunc"):  # a trial's process, not one of Ray's own agents
            yield process


def test_ids_are_those_of_the_plan(file: Path, calm: Root) -> None:
    assert set(trials_of(file, calm)) == {path.parent.name for path in calm.results.glob(f"*/{results.RESULT}")}


def test_363_cells_come_out_of_eleven_passes(tmp_path: Path) -> None:
    root = Root.at(tmp_path / "root")
    done = humansim("sweep", "pretrained_small", "--root", str(root.path), "--json")
    assert done.returncode == 0, done.stderr
    every = plan.plan(sweep_file.load_sweep("pretrained_small"), root).known
    found = [results.load(root, trial) for trial in every]
    assert len(found) == 11
    cells = {(str(r.trial.backbone), s.set, s.measure) for r in found for s in r.scores if s.part == "test"}
    assert len(cells) == 363
    images = {name for r in found for name in used(root, r)}
    contents = {r.provenance["embedded"] for r in found}
    assert len(contents) == 1  # every network saw every image once
    assert 0.9 * len(images) < contents.pop() <= len(images)  # equal images once
    trial = plan.checked(found[0].trial.having({"source": Variant("simulated", size=4)}))
    assert train.run(trial, root).provenance["embedded"] == 0  # fewer of the same triplets: no pass at all
    tested = reported("pretrained_small", root)
    assert all(tested[number] > 0 for number in range(1, 7))


def used(root: Root, result: Result) -> set[str]:
    answers = pd.read_parquet(root.results / result.trial.id / "answers.parquet")
    return set(answers[["query", "left", "right"]].to_numpy().ravel())
