"""Trials as Ray Tune trials, on this machine or on a cluster.

Each submit is a fresh Tuner over what is missing, fed by our own search; `Tuner.restore` is never used. A trial that
raises is data (`results.Failure`); only a process or node that dies is a failure to Tune, which starts the trial again,
and it goes on from its last epoch.
"""

import contextlib
import functools
import logging
import os
import shutil
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.exceptions import OutOfMemoryError, RayActorError

from humansim.launch import Follow, Runner
from humansim.launch.feed import RETRIES, Feed
from humansim.launch.packing import Place
from humansim.launch.trainable import trainable
from humansim.root import Root
from humansim.search import Search
from humansim.spec import Trial

PATIENCE = 3600.0  # seconds


def launch(
    search: Search,
    root: Root,
    runner: Runner,
    follow: Follow,
    name: str,
    place: Place,
    peak: Callable[[Trial], int | None] = lambda trial: None,
    patience: float = PATIENCE,
) -> None:
    """Runs all that the search asks for on the connected cluster.

    Args:
        name: of the folder for Tune's own files under the root, gone afterwards.
        place: what the cluster's nodes are (`cluster.first_place`).
        peak: bytes of memory that a trial is known to need, None if that is not known.
        patience: seconds without a sign of life (an epoch, images embedded) after which a trial has hung.
    """
    _mend_tune()
    scratch = root.path / "ray" / name
    shutil.rmtree(scratch, ignore_errors=True)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # how trials fail is the follower's to show
    packed = tune.with_resources(
        functools.partial(trainable, root=root, runner=runner, patience=patience),
        lambda config: tune.PlacementGroupFactory([_resources(config)]),
    )
    feed = Feed(search, root, follow, place, peak)
    tuner = tune.Tuner(
        packed,
        tune_config=tune.TuneConfig(search_alg=feed, num_samples=-1, reuse_actors=True),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(root.path / "ray"),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            callbacks=[feed.deaths],
        ),
    )
    # Tune prints its own reports to standard output even when told not to; what is shown is the follower's affair.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        tuner.fit()
    shutil.rmtree(scratch, ignore_errors=True)
    if feed.error is not None:
        raise feed.error


def _mend_tune() -> None:
    """Tune ends at once, with all its trials, when Ray kills one whose node is out of memory (as of Ray 2.60).

    It takes errors of two kinds for the death of a process or for an exception; that one is neither. Here it counts as
    a death.
    """
    from ray.air.execution._internal import actor_manager
    from ray.tune.execution import tune_controller

    for module in (actor_manager, tune_controller):
        vars(module)["RayActorError"] = (RayActorError, OutOfMemoryError)


def _resources(config: dict[str, Any]) -> dict[str, float]:
    """What Tune sets aside for a trial. Ray Train sets aside for each of several workers what it needs by itself."""
    if config["workers"] > 1:
        return {"node:__internal_head__": 0.001}
    wanted = {"CPU": config["cpus"], "GPU": config["gpu"], "memory": config["memory"]}
    return {resource: amount for resource, amount in wanted.items() if amount}
