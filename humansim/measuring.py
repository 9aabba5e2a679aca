"""A probe of a trial: what its time and memory are made of, measured in the pieces that `train.run` is made of."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from humansim import results
from humansim.backbones.module import Backbone, Scorer
from humansim.embedder import BATCH, OWN, Embedder, distances, scored
from humansim.fitting import Pace, pace
from humansim.machine import name_of, peak_memory, place_of, reset_peak_memory, set_up
from humansim.material import prepare
from humansim.probes import Probe, conditions, data_conditions, torch_version
from humansim.root import Root
from humansim.spec import Trial
from humansim.train import Distances, evaluated, make_backbone, save_weights, score

LONG = 30.0  # seconds of a measurement beside which what a process does but once is little


def probe(trial: Trial, root: Root, *, device: str | None = None, seconds: float = 1.0) -> Probe:
    """Measures what a trial's time and memory are made of, in the pieces that `run` is made of, a few of each.

    In the order in which they come in a trial: repeated one by one they would be quicker than they are there. Some
    things a process does once (imports, kernels), so all is done twice, unless the first time took long.
    A trial of several workers is measured as one of them, with its share of a batch; what they tell each other is not.

    Args:
        seconds: to spend on the steps and on the evaluation, each, about; one of each is made anyway.

    Raises:
        BadInput: as `run`.
    """
    share = trial.having({"workers": 1, "batch_size": max(2, trial.batch_size // trial.workers)})
    place = place_of(device)
    with set_up(trial.threads), tempfile.TemporaryDirectory(prefix=".probe-", dir=root.path) as scratch:
        prepare(share, root)  # what nobody has read so far is parsed and decoded
        clock = time.perf_counter()
        found = _measured(share, root, place, Path(scratch), 0.0)
        if time.perf_counter() - clock < LONG:
            found = _measured(share, root, place, Path(scratch), seconds)
    return Probe(
        conditions=conditions(trial),
        data=data_conditions(trial),
        device=name_of(place),
        device_memory=torch.cuda.get_device_properties(place).total_memory if place.type == "cuda" else 0,
        torch=torch_version(),
        **found,
    )


def _measured(trial: Trial, root: Root, place: torch.device, folder: Path, seconds: float) -> dict[str, Any]:
    """The figures of a probe, measured once; files go to the folder."""
    taken: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        clock = time.perf_counter()
        made = work()
        taken[name] = taken.get(name, 0.0) + time.perf_counter() - clock
        return made

    def make() -> Backbone | Scorer:
        network = make_backbone(trial)
        network.fingerprint()
        return network.to(place)

    reset_peak_memory(place)
    material = timed("read", lambda: prepare(trial, root))
    network = timed("setup", make)
    shown = material.judgements.triplets[evaluated(material)]
    rows, steps = np.unique(shown.images), Pace(0.0, 0.0, 0.0, 0)
    if isinstance(network, Scorer):
        image = _seconds_each(lambda some: scored(network, material.store, shown[some]), len(shown), seconds) / 2
        found: Distances = {OWN: (np.zeros(len(shown), np.float32), np.ones(len(shown), np.float32))}
    else:
        judge = Embedder(network, precision=trial.precision).to(place)
        if trial.paradigm is not None:
            steps = pace(trial, judge, material, folder, seconds)
        image = _seconds_each(lambda some: judge.embed(material.store, rows[some]).cpu(), len(rows), seconds)
        made = torch.rand(len(rows), judge.embed(material.store, rows[:1]).shape[1], device=place)
        found = timed("score", lambda: distances(made, rows, shown))
    timed("score", lambda: score(material, found)[1].to_parquet(folder / results.ANSWERS, index=False))
    if trial.paradigm is not None:
        timed("score", lambda: save_weights(judge, folder / results.WEIGHTS))
    weights = folder / results.WEIGHTS
    return {
        "read": taken["read"],
        "setup": taken["setup"] + steps.begin,
        "step": steps.step,
        "save": steps.save,
        "image": image,
        "score": taken["score"],
        "peak_memory": peak_memory(place),
        "checkpoint": steps.checkpoint,
        "weights": weights.stat().st_size if weights.exists() else 0,
        "answers": (folder / results.ANSWERS).stat().st_size,
    }


def _seconds_each(work: Callable[[NDArray[np.int64]], object], count: int, seconds: float) -> float:
    """Seconds of one of so many things, of work on some of them: a batch first, and if that was quick, more."""
    first = np.arange(min(count, BATCH))
    clock = time.perf_counter()
    work(first)
    taken = time.perf_counter() - clock
    more = np.arange(len(first), min(count, len(first) + int(len(first) * seconds / taken)))
    if not len(more):
        return taken / len(first)
    work(more)
    return (time.perf_counter() - clock) / (len(first) + len(more))
