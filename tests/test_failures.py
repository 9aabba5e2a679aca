"""Trials that go wrong through Ray: each ends with its reason, the others finish, and memory is asked for again."""

import ctypes
import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import test_launch
from test_launch import finished

from humansim import plan, results
from humansim.launch import Follow, cluster, on_ray
from humansim.ledger import Ledger
from humansim.results import Failure, Outcome, Result
from humansim.root import Root
from humansim.search import Search
from humansim.spec import Sweep, Trial, Variant

pytestmark = [pytest.mark.slow, pytest.mark.alone]  # what others take of the memory counts

GPUS = 1
TOO_MUCH = 3 << 30  # bytes that are taken beside what is taken now: the node is then out of memory, says Ray


@pytest.fixture(scope="module", autouse=True)
def little_memory() -> Iterator[None]:
    """Ray with a GPU that is only counted, on a machine that seems to have little memory."""
    for module in (sys.modules[__name__], test_launch):  # workers cannot import what lies in tests/
        cluster.ray.cloudpickle.register_pickle_by_value(module)
    memory = psutil.virtual_memory()
    least = (memory.total - memory.available + TOO_MUCH) / memory.total
    cluster.ray.init(
        "local",
        num_cpus=2,
        num_gpus=GPUS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _system_config={"memory_usage_threshold": least, "memory_monitor_refresh_ms": 100},
    )
    yield
    cluster.ray.shutdown()


def launched(root: Root, runner: object, trials: int, **options: object) -> dict[int, Outcome]:
    """Seed -> how the trial ended."""
    sweep = Sweep(name="odd", base=Trial(paradigm=Variant("triplet")), grid={"seed": list(range(trials))})
    ended: list[Outcome] = []
    search = Search(sweep, Ledger(root, sweep.name))
    on_ray.launch(search, root, runner, Follow(ended=ended.append), "odd", cluster.place(), **options)
    assert len(ended) == len({outcome.trial.id for outcome in ended})
    return {outcome.trial.seed: outcome for outcome in ended}


def poisoned(trial: Trial, root: Root, *, report: Callable, **more: object) -> Result:
    if trial.seed == 0:
        raise ValueError("poison")
    if trial.seed == 1:
        ctypes.string_at(0)  # a segmentation fault
    if trial.seed == 2:
        time.sleep(1000)
    if trial.seed == 3:
        os._exit(7)
    if trial.seed == 4:
        taken = []
        while True:
            taken.append(os.urandom(1 << 20) * 64)
            time.sleep(0.02)
    return finished(trial, root, report=report)


def test_a_poisoned_trial_ends_with_its_reason_and_costs_the_others_nothing(tmp_path: Path) -> None:
    ended = launched(Root.at(tmp_path), poisoned, 9, patience=10.0)
    assert [seed for seed, outcome in sorted(ended.items()) if isinstance(outcome, Result)] == [5, 6, 7, 8]
    kinds = {seed: outcome.kind for seed, outcome in ended.items() if isinstance(outcome, Failure)}
    assert kinds == {0: "error", 1: "lost", 2: "hung", 3: "lost", 4: "oom"}
    hung = ended[2]
    assert isinstance(hung, Failure)
    assert "no epoch and no image for 10 s" in hung.reason
    assert "in poisoned" in hung.traceback  # where it stood


def hungry(trial: Trial, root: Root, *, report: Callable, **more: object) -> Result:
    """The first three want a whole GPU, say so by failing; one even more."""
    given = cluster.ray.get_runtime_context().get_assigned_resources()["GPU"]
    with (root.path / f"given-{trial.seed}").open("a") as file:
        file.write(f"{given} ")
    if (trial.seed in (1, 2) and given < 1) or trial.seed == 0:
        raise MemoryError("CUDA out of memory")
    return finished(trial, root, report=report)


def test_who_runs_out_of_memory_is_asked_again_with_more_at_most_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_gpu_memory", lambda: 80 << 30)
    root = Root.at(tmp_path)
    peaks = {0: 15 << 30, 1: 15 << 30, 2: 1 << 30}  # a quarter, a quarter, an eighth
    # There are so many others that these are no large part of the work, and get no more than they need.
    ended = launched(root, hungry, 12, peak=lambda trial: peaks.get(trial.seed, 1 << 30))
    given = {seed: (tmp_path / f"given-{seed}").read_text().split() for seed in peaks}
    assert given == {0: ["0.25", "0.5", "1.0"], 1: ["0.25", "0.5", "1.0"], 2: ["0.125", "0.25", "0.5"]}
    failed = {seed: outcome.kind for seed, outcome in ended.items() if isinstance(outcome, Failure)}
    assert failed == {0: "oom", 2: "oom"}


def counted(trial: Trial, root: Root, *, report: Callable, **more: object) -> Result:
    with (root.path / f"ran-{trial.seed}").open("a") as file:
        file.write("once ")
    return finished(trial, root, report=report)


def test_what_another_sweep_runs_is_waited_for_and_not_run_again(tmp_path: Path) -> None:
    root, claimed = Root.at(tmp_path), threading.Event()
    shared, *others = [plan.checked(Trial(paradigm=Variant("triplet"), seed=seed)) for seed in range(3)]

    def another_sweep() -> None:
        with results.claimed(root, shared):
            claimed.set()
            end = time.monotonic() + 120  # it lasts until the others have ended, which do not wait for it
            while any(results.load(root, other) is None for other in others) and time.monotonic() < end:
                time.sleep(0.1)
            counted(shared, root, report=lambda row: None)

    thread = threading.Thread(target=another_sweep)
    thread.start()
    claimed.wait()
    ended = launched(root, counted, 3)
    thread.join()
    assert all(isinstance(outcome, Result) for outcome in ended.values())
    assert [(tmp_path / f"ran-{seed}").read_text() for seed in range(3)] == ["once "] * 3


def no_space(trial: Trial, root: Root, *, report: Callable, **more: object) -> Result:
    if trial.seed > 0:
        raise OSError(errno.ENOSPC, "No space left on device")
    return finished(trial, root, report=report)


def test_a_full_disk_stops_the_sweep_and_is_no_trials_failure(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no space is left"):
        launched(Root.at(tmp_path), no_space, 4)
    assert not list(tmp_path.glob("results/*/failure.json"))


def broken(trial: Trial, root: Root, *, report: Callable, **more: object) -> Result:
    raise KeyError("the same for all")


def test_when_the_first_trials_all_fail_alike_no_more_are_started(tmp_path: Path) -> None:
    ended = launched(Root.at(tmp_path), broken, 40)
    assert 5 <= len(ended) < 30  # some had been handed to Ray by then
