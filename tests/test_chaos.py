"""Nodes, driver and MLflow die while a sweep runs; at the end every trial is there, once, with the bits of a calm run.

The same with all 616: `python tests/chaos.py full_small`.
"""

import time
from pathlib import Path

import pytest
from chaos import chaos, differences
from sweeping import humansim

from humansim.root import Root

ONLY = ("backbone=*alexnet", "backbone=*vit_b_16", "paradigm=triplet", "paradigm=rotation", "fit_on=hsj*")


@pytest.mark.slow
def test_whatever_dies_every_trial_finishes_once_with_the_bits_of_a_calm_run(tmp_path: Path) -> None:
    calm = Root.at(tmp_path / "calm")
    done = humansim("sweep", "full_small", "--root", str(calm.path), "--serial", *(f"--only={one}" for one in ONLY))
    assert done.returncode == 0, done.stderr
    seed = time.time_ns()
    print("seed", seed)
    root, store, told = chaos("full_small", tmp_path, only=ONLY, rounds=6, seed=seed, pause=(1, 8))
    assert told.done["driver"], told.done
    assert told.last is not None
    assert told.last.returncode == 0, told.last.stderr
    assert told.recomputed == []
    assert differences("full_small", ONLY, root, calm, store) == []
