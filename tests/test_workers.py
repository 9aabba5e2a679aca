"""A trial of several workers is the trial of one: the same batches, the same objective, the same step."""

import os
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as group
import torch.multiprocessing as processes
from sweeping import humansim, last_json

from humansim import plan, results, sweep_file, train, workers
from humansim.errors import BadInput
from humansim.pruning import Bar
from humansim.results import Pruned, Result
from humansim.root import Root
from humansim.spec import Trial, Variant

TINY = plan.checked(
    Trial(
        source=Variant("sample", queries=24, pairs=2),
        backbone=Variant("miniature:vit_b_16"),
        resolution=64,
        paradigm=Variant("triplet", outputs=8),
        fit_size=24,
        batch_size=8,
        epochs=2,
        lr=1e-3,
    )
)


class Killed(Exception):  # noqa: N818 - as in test_train
    """Stands for a worker that dies."""


def together(count: int, trial: Trial, root: Root, stop_after: float = 0, bar: Bar | None = None) -> None:
    """Runs a trial with so many processes, as `launch` would; they die after an epoch if told to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes.spawn(_worker, (count, port, trial.model_dump_json(), root, stop_after, bar), nprocs=count)


def _worker(rank: int, count: int, port: int, trial: str, root: Root, stop_after: float, bar: Bar | None) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    group.init_process_group("gloo", rank=rank, world_size=count)

    def report(row: dict[str, float]) -> None:
        if row["epoch"] == stop_after:
            raise Killed

    do = train.run if workers.leads() else train.assist
    try:
        do(Trial.model_validate_json(trial), root, report=report, bar=bar)
    except Killed:
        pass
    finally:
        group.destroy_process_group()


def outcome(root: Root, trial: Trial) -> Result:
    found = results.load(root, trial)
    assert isinstance(found, Result)
    return found


@pytest.mark.parametrize(
    ("paradigm", "backbone"),
    [
        ("triplet", "miniature:vit_b_16"),
        pytest.param("simclr", "miniature:clip_resnet50", marks=pytest.mark.slow),
        pytest.param("moco", "miniature:dino_vit_b_16", marks=pytest.mark.slow),
        pytest.param("rotation", "miniature:resnet50", marks=pytest.mark.slow),
    ],
)
def test_two_workers_learn_what_one_does(tmp_path: Path, paradigm: str, backbone: str) -> None:
    settings = {"paradigm": paradigm, "backbone": backbone, "batch_norm": "frozen"}
    one = plan.checked(TINY.having(settings))
    two = plan.checked(one.having({"workers": 2}))
    root = Root.at(tmp_path)
    expected = train.run(one, root)
    together(2, two, root)
    found = outcome(root, two)
    assert one.id != two.id
    for mine, other in zip(found.history, expected.history, strict=True):
        for key in ("loss", "gradient_norm"):
            assert mine[key] == pytest.approx(other[key], rel=1e-3)
    columns = [f"to_{side}_{measure}" for side in ("left", "right") for measure in ("cosine", "l2", "l1")]
    mine, other = (pd.read_parquet(results.folder(root, trial) / results.ANSWERS)[columns] for trial in (two, one))
    np.testing.assert_allclose(mine, other, rtol=0.02, atol=1e-4)


@pytest.mark.slow
def test_killed_and_gone_on_from_two_workers_give_the_same_bits(tmp_path: Path) -> None:
    trial = plan.checked(TINY.having({"backbone": "miniature:resnet50", "workers": 2}))  # with batch norm's statistics
    calm, rough = Root.at(tmp_path / "calm"), Root.at(tmp_path / "rough")
    together(2, trial, calm)
    together(2, trial, rough, stop_after=1)
    assert results.load(rough, trial) is None
    together(2, trial, rough)
    weights = [(results.folder(root, trial) / results.WEIGHTS).read_bytes() for root in (calm, rough)]
    assert weights[0] == weights[1]
    assert outcome(calm, trial).scores == outcome(rough, trial).scores
    together(2, trial, rough)  # it is there: nobody waits for anybody


@pytest.mark.slow
def test_below_its_bar_all_workers_give_up_together(tmp_path: Path) -> None:
    root, trial = Root.at(tmp_path), plan.checked(TINY.having({"workers": 2}))
    together(2, trial, root, bar={1: 1.0})
    pruned = results.load(root, trial, {1: 1.0})
    assert isinstance(pruned, Pruned)
    assert pruned.epoch == 1
    together(2, trial, root)
    assert losses(outcome(root, trial))[:1] == losses(pruned)


def losses(outcome: Result | Pruned) -> list[float]:
    return [row["loss"] for row in outcome.history]


def test_alone_nothing_is_shared() -> None:
    network = torch.nn.Linear(2, 2)
    assert workers.count() == 1
    assert workers.leads()
    assert workers.shared(network) is network
    assert workers.told("x") == "x"


def test_shares_are_equal_or_refused() -> None:
    with pytest.raises(BadInput, match="batch_size 8 cannot be shared equally by 3 workers"):
        TINY.having({"workers": 3})


def test_what_is_to_be_shared_is_not_done_by_one_under_the_others_name(root: Root) -> None:
    with pytest.raises(BadInput, match="a trial of 2 was given 1; a sweep through Ray starts as many"):
        train.run(plan.checked(TINY.having({"workers": 2})), root)


SWEEP = """
from humansim.spec import Sweep, Trial, Variant

SWEEP = Sweep(
    name="workers",
    base=Trial(source=Variant("sample", queries=24, pairs=2), backbone=Variant("miniature:resnet50"),
               fit_size=16, batch_size=8, epochs=2, optimizer="sgd"),
    grid=[{"paradigm": ["triplet"], "workers": [2], "lr": [1e30, 1e-3]}],
)
"""


@pytest.mark.slow
def test_ray_starts_the_workers_of_a_trial_and_hears_of_its_failure(tmp_path: Path) -> None:
    file = tmp_path / "workers.py"
    file.write_text(SWEEP)
    done = humansim("sweep", str(file), "--root", str(tmp_path / "root"), "--json")
    assert done.returncode == 1, done.stderr
    assert last_json(done)["states"] == {"finished": 1, "failed": 1, "to run": 0}
    root = Root.at(tmp_path / "root")
    diverged, two = plan.plan(sweep_file.load_sweep(str(file)), root).known
    failure = results.load(root, diverged)
    assert isinstance(failure, results.Failure)
    assert (failure.kind, "try a lower learning rate" in failure.reason) == ("diverged", True)
    assert [row["epoch"] for row in outcome(root, two).history] == [1, 2]
