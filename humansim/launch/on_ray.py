"""Trials as Ray Tune trials, on this machine or on a cluster. Only here: ray.

Each submit is a fresh Tuner over what is missing, fed by our own search; `Tuner.restore` is never used. A trial that
raises is data (`results.Failure`); only a process or node that dies is a failure to Tune, which starts the trial again,
and it goes on from its last epoch.
"""

import contextlib
import functools
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

# Read by Ray when it is imported. Workers use the environment that is there instead of building one with uv; Tune's own
# loggers and reports stay quiet; several trials are kept ready, so that no slot waits for the driver.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "16")

import ray
from ray import tune
from ray.tune.search import Searcher

from humansim import results
from humansim.errors import BadInput
from humansim.launch import Follow, Runner, attempt, failed
from humansim.results import Result
from humansim.root import Root
from humansim.search import Search
from humansim.spec import Trial

RETRIES = 3  # of a trial whose process or node died
VISIBLE_WITHIN = 60  # seconds that a shared file system may take to show what another node has written


@contextlib.contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Ray for the time of the block: the cluster at the address, else at `RAY_ADDRESS`, else one on this machine.

    Raises:
        BadInput: there is no cluster at the address.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        if address:
            ray.init(address, **quiet)
        else:
            ray.init("local", include_dashboard=False, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if not address:
            raise
        first = str(error).strip().partition("\n")[0]
        raise BadInput(
            f"no Ray cluster answers at {address}: {first} Start one, or leave out --address and RAY_ADDRESS "
            "to run on this machine"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def launch(search: Search, root: Root, runner: Runner, follow: Follow, name: str) -> None:
    """Runs all that the search asks for on the connected cluster.

    Args:
        name: of the folder for Tune's own files under the root, gone afterwards.
    """
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    gpus = 1 if resources.get("GPU", 0) >= 1 else 0
    scratch = root.path / "ray" / name
    shutil.rmtree(scratch, ignore_errors=True)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    trainable = tune.with_resources(
        functools.partial(_trainable, root=root, runner=runner),
        lambda config: tune.PlacementGroupFactory([{"CPU": config["threads"], "GPU": gpus}]),
    )
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    feed = _Feed(search, root, follow, most=int(max(node["Resources"].get("CPU", 0) for node in nodes)))
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(search_alg=feed, num_samples=-1, reuse_actors=True),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(root.path / "ray"),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=RETRIES),
        ),
    )
    # Tune prints its own reports to standard output even when told not to; what is shown is the follower's affair.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        tuner.fit()
    shutil.rmtree(scratch, ignore_errors=True)
    if feed.error is not None:
        raise feed.error


def run_here(trial: Trial, root: Root, *, report: Callable[[dict[str, float]], None]) -> Result:
    """`train.run`, with torch imported in the worker only: the driver needs none."""
    from humansim import train

    return train.run(trial, root, report=report)


def _trainable(config: dict[str, Any], root: Root, runner: Runner) -> None:
    trial = Trial.model_validate_json(config["trial"])
    attempt(trial, root, runner, lambda row: tune.report({"row": row}))


class _Feed(Searcher):
    """Our search as Tune sees one."""

    def __init__(self, search: Search, root: Root, follow: Follow, most: int) -> None:
        super().__init__()
        self.search, self.root, self.follow, self.most = search, root, follow, most
        self.trials: dict[str, Trial] = {}
        self.error: Exception | None = None

    def suggest(self, trial_id: str) -> Any:
        try:
            trial = self.search.ask() if self.error is None else None
            if trial is not None and trial.threads > self.most:
                raise BadInput(f"a trial wants {trial.threads} threads; the largest node has {self.most} CPUs")
        except Exception as error:  # Tune would bury it in its own
            self.error, trial = error, None
        if trial is None:
            return Searcher.FINISHED if self.error is not None or self.search.done else None
        self.trials[trial_id] = trial
        return {"trial": trial.model_dump_json(), "threads": trial.threads}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if "row" in result:
            self.follow.epoch(self.trials[trial_id], result["row"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial = self.trials.pop(trial_id)
        try:
            outcome = results.load(self.root, trial)
            patience = time.monotonic() + VISIBLE_WITHIN
            while outcome is None and not error and time.monotonic() < patience:
                time.sleep(0.2)
                outcome = results.load(self.root, trial)
            if outcome is None:
                reason = f"its process or node died {RETRIES + 1} times (killed, crashed or out of memory)"
                outcome = failed(trial, self.root, "lost", reason)
            self.search.tell(outcome)
            self.follow.ended(outcome)
        except Exception as problem:
            self.error = problem

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what was asked and how it ended is on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("submit the sweep again instead")

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for a restore that never comes
