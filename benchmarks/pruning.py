"""Pruning: what giving samples up saves of a search, and what it costs the best that is found.

One small real search, again and again, each time from nothing: without a pruner, and with each of some. Four cells
(two base models in miniature x two paradigms) on the simulated study, the learning rate searched over five powers
of ten, one trial after another. Told of each: samples given up, epochs trained, seconds (the trials' own), and over the
cells the mean of the best validation and of that sample's test score. Random weights and simulated judges: the scores
are of no truth, their differences between the rows are what counts, and they are small beside those between seeds.

    uv run python benchmarks/pruning.py
    uv run python benchmarks/pruning.py --samples 28 --epochs 16 --seeds 3 --json pruning.json
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from humansim import train
from humansim.launch import Follow, serial
from humansim.ledger import Ledger
from humansim.results import Failure, Pruned, Result, held_to
from humansim.root import Root
from humansim.search import Search
from humansim.spec import Sweep, Trial, Uniform, Variant

PRUNERS = {
    "none": None,
    "median": Variant("MedianPruner"),
    "median, from 3 on": Variant("MedianPruner", n_startup_trials=3),
    "best quarter": Variant("PercentilePruner", percentile=25.0, n_startup_trials=3),
}


def searched(name: str, pruner: Variant | None, seed: int, samples: int, epochs: int, root: Root) -> dict[str, Any]:
    """A search to its end, from nothing but the images, and what it took and found."""
    sweep = Sweep(
        name="pruning",
        base=Trial(source=Variant("simulated", size=40), fit_size=128, batch_size=16, epochs=epochs, seed=seed),
        grid=[{"backbone": ["miniature:resnet50", "miniature:vit_b_16"], "paradigm": ["triplet", "contrastive"]}],
        search={"lr": Uniform(low=1e-6, high=1e-1, log=True)},
        samples=samples,
        pruner=pruner,
    )
    for before in (root.results, root.sweeps):
        shutil.rmtree(before, ignore_errors=True)
    ledger = Ledger(root, sweep.name)
    search = Search(sweep, ledger)
    serial.launch(search, root, train.run, Follow())
    ended = [held_to(search.outcomes[asked.trial.id], asked.bar) for asked in ledger.read()]
    best = [search.outcomes[trial.id] for _, trial in search.best() if trial is not None]
    finished = [outcome for outcome in best if isinstance(outcome, Result)]
    return {
        "pruner": name,
        "seed": seed,
        "samples": len(ended),
        "pruned": sum(isinstance(outcome, Pruned) for outcome in ended),
        "failed": sum(isinstance(outcome, Failure) for outcome in ended),
        "epochs": sum(len(outcome.history) for outcome in ended if outcome is not None),
        "seconds": sum(sum(outcome.seconds.values()) for outcome in ended if isinstance(outcome, Result | Pruned)),
        "validation": fmean(result.mean("validation") for result in finished),
        "test": fmean(result.mean("test") for result in finished),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=14, help="of each cell (%(default)s)")
    parser.add_argument("--epochs", type=int, default=8, help="of each trial (%(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="so many searches with each pruner (%(default)s)")
    parser.add_argument("--json", type=Path, help="write all figures here")
    given = parser.parse_args(arguments)
    rows = []
    columns = ("pruned", "failed", "epochs", "seconds", "validation", "test")
    print(f"{'pruner':20}{'seed':>5}" + "".join(f"{column:>12}" for column in columns))
    with tempfile.TemporaryDirectory(prefix="humansim-benchmark-") as folder:
        root = Root.at(folder)
        for seed in range(given.seeds):
            for name, pruner in PRUNERS.items():
                row = searched(name, pruner, seed, given.samples, given.epochs, root)
                rows.append(row)
                figures = "".join(f"{row[c]:12.4f}" if row[c] < 1 else f"{row[c]:12.0f}" for c in columns)
                print(f"{name:20}{seed:5}{figures}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
