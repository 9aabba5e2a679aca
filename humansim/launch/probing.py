"""Probes of trials on the devices of a cluster."""

from collections.abc import Callable, Iterable
from typing import Any

import ray

from humansim.probes import Probe
from humansim.root import Root
from humansim.spec import Trial


def measure(trials: Iterable[Trial], root: Root, ended: Callable[[Trial, Probe | Exception], None]) -> None:
    """Probes of trials, on the devices of the connected cluster, each in a task of its own.

    Args:
        ended: called with each trial and its probe, or why there is none.
    """
    gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0  # type: ignore[no-untyped-call]
    task: Any = ray.remote(max_retries=0)(_probe)
    waiting = {
        task.options(num_cpus=trial.threads, num_gpus=gpus).remote(trial.model_dump_json(), root): trial
        for trial in trials
    }
    while waiting:
        (ready, *_), _ = ray.wait(list(waiting))
        trial = waiting.pop(ready)
        try:
            ended(trial, ray.get(ready))
        except Exception as error:
            ended(trial, getattr(error, "cause", None) or error)


def _probe(trial: str, root: Root) -> Probe:
    from humansim import measuring

    return measuring.probe(Trial.model_validate_json(trial), root)
