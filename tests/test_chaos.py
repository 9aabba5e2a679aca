"""Nodes, driver and MLflow die while a sweep runs; at the end every trial is there, once, with the bits of a calm run.

The same with all 616: `python tests/chaos.py full_small`.
"""

import time
from pathlib import Path

import pytest
from chaos import chaos, differences
from sweeping import humansim

from humansim.root import Root

SWEEP = """
from humansim.sweep_file import load_sweep

SMALL = load_sweep("full_small")
SWEEP = SMALL.model_copy(update={"name": "rough", "base": SMALL.base.having({"epochs": 12})})
"""
ONLY = ("backbone=*alexnet", "backbone=*vit_b_16", "paradigm=triplet", "paradigm=simclr", "fit_on=hsj*")  # 16 trials


@pytest.mark.slow
def test_whatever_dies_every_trial_finishes_once_with_the_bits_of_a_calm_run(tmp_path: Path) -> None:
    file, calm = tmp_path / "rough.py", Root.at(tmp_path / "calm")
    file.write_text(SWEEP)
    done = humansim("sweep", str(file), "--root", str(calm.path), "--serial", *(f"--only={one}" for one in ONLY))
    assert done.returncode == 0, done.stderr
    seed = time.time_ns()
    print("seed", seed)
    root, store, told = chaos(str(file), tmp_path, only=ONLY, rounds=6, seed=seed, pause=(1, 6))
    assert told.done["driver"] + told.done["node"] + told.done["mlflow"] >= 3, told.done
    assert told.last is not None
    assert told.last.returncode == 0, told.last.stderr
    assert told.recomputed == []
    assert differences(str(file), ONLY, root, calm, store) == []
