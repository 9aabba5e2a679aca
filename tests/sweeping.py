"""Submitting small sweeps as a user does: the command line in a process of its own, killed if need be."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import psutil
import pytest

from humansim import results
from humansim.ledger import Ledger
from humansim.plan import plan
from humansim.results import Result
from humansim.root import Root
from humansim.spec import Trial
from humansim.sweep_file import load_sweep

SMALL = """
from humansim.spec import Sweep, Trial, Uniform, Variant

SWEEP = Sweep(
    name="small",
    question="Does a small sweep survive?",
    base=Trial(source=Variant("sample", queries=24, pairs=2), resolution=32, fit_size=32, batch_size=8, epochs=6),
    grid=[
        {"backbone": ["pixels", "efficientnet_lite0"]},
        {
            "backbone": ["miniature:resnet50"],
            "paradigm": ["triplet"],
            "paradigm.distance": ["euclidean", "squared_euclidean"],
        },
    ],
    search={"lr": Uniform(low=1e-5, high=1e-3, log=True)},
    samples=3,
    repeats=2,
)
"""
TRIALS = 2 + 2 * (3 + 1)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "humansim.cli", *arguments]


def environment(**more: str) -> dict[str, str]:
    ours = ("HUMANSIM_ROOT", "HUMANSIM_DATA", "MLFLOW_TRACKING_URI", "RAY_ADDRESS")
    return {key: value for key, value in os.environ.items() if key not in ours} | more


def humansim(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The command line, run to its end."""
    return subprocess.run(
        command(*arguments), env=environment(**more), capture_output=True, text=True, timeout=1500, check=False
    )


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """The command line, under way in a process group of its own."""
    return subprocess.Popen(
        command(*arguments),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for(condition: Callable[[], bool], driver: subprocess.Popen[bytes], seconds: float = 200) -> None:
    """Until the condition holds or the driver has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition() or driver.poll() is not None:
            return
        time.sleep(0.05)
    pytest.fail(f"waited {seconds} s in vain")


def kill_all(driver: subprocess.Popen[bytes]) -> None:
    """SIGKILL for a driver and every process under it: Ray's daemons and workers."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(driver.pid)
        every = [family, *family.children(recursive=True)]
        for process in every:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(every, timeout=30)
    driver.wait(30)


def trials_of(file: Path, root: Root) -> dict[str, Trial]:
    """id -> trial, of all that the sweep has asked for."""
    sweep = load_sweep(str(file))
    return {t.id: t for trials in plan(sweep, root).trials.values() for t, _ in trials}


def finished(file: Path, root: Root) -> dict[str, Result]:
    found = {i: results.load(root, trial) for i, trial in trials_of(file, root).items()}
    return {i: outcome for i, outcome in found.items() if isinstance(outcome, Result)}


def assert_tracked_once(file: Path, root: Root, uri: str | None = None) -> None:
    """MLflow has one finished run for each trial, with the result's own numbers."""
    client = mlflow.MlflowClient(uri or root.tracking_uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id], max_results=1000))
    expected = finished(file, root)
    assert sorted(run.data.tags["trial_id"] for run in runs) == sorted(expected)
    for run in runs:
        result = expected[run.data.tags["trial_id"]]
        assert run.info.status == "FINISHED"
        assert run.data.tags["judges"] == "simulated judges"
        assert run.data.metrics["2afc/test"] == result.mean("test")
        curve = client.get_metric_history(run.info.run_id, "train/loss")
        assert [(p.step, p.value) for p in curve] == [(int(row["epoch"]), row["loss"]) for row in result.history]
        names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
        assert names == {results.RESULT, results.ANSWERS}


def asked(root: Root, name: str) -> list[tuple[str, int, str]]:
    return sorted((row.cell, row.index, row.trial.id) for row in Ledger(root, name).read())


def reported(sweep: str, root: Root) -> dict[int, int]:
    """Writes a sweep's report; hypothesis -> how many triplets it was tested on."""
    done = humansim("report", sweep, "--root", str(root.path))
    assert done.returncode == 0, done.stderr
    page = Path(done.stdout.splitlines()[-1].removeprefix("Report: "))
    assert page.read_text().count("<figure") > 1
    verdicts = pd.read_csv(page.parent / "data" / "verdicts.csv")
    return dict(zip(verdicts["hypothesis"], verdicts["n"], strict=True))


def last_json(completed: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(completed.stdout)
