"""Trials as Ray Tune trials, on this machine or on a cluster. Only here: ray.

Each submit is a fresh Tuner over what is missing, fed by our own search; `Tuner.restore` is never used. A trial that
raises is data (`results.Failure`); only a process or node that dies is a failure to Tune, which starts the trial again,
and it goes on from its last epoch.
"""

import contextlib
import errno
import faulthandler
import functools
import json
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from humansim.launch.packing import READY, Packer, Place, Share

# Read by Ray when it is imported. Workers use the environment that is there instead of building one with uv; Tune's own
# loggers and reports stay quiet; several trials are kept ready, so that no slot waits for the driver.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", str(READY))

import ray
from ray import tune
from ray.autoscaler.sdk import request_resources
from ray.exceptions import OutOfMemoryError, RayActorError, RayError
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from humansim import own, results
from humansim.errors import BadInput
from humansim.launch import Follow, Runner, attempt, failed, raised
from humansim.probes import Probe
from humansim.pruning import Bar
from humansim.results import Failure, Pruned, Result, State
from humansim.root import Root
from humansim.search import Search
from humansim.spec import Trial

RETRIES = 3  # of a trial whose process died; as often again if it was the node that died
NODE_DIED, OUT_OF_MEMORY = "node has died", "low on memory"  # in Ray's words
LOOK = 10.0  # seconds until the cluster is looked at again: it may have grown
PATIENCE = 3600.0  # seconds
VISIBLE_WITHIN = 60  # seconds that a shared file system may take to show what another node has written


@contextlib.contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Ray for the time of the block: the cluster at the address, else at `RAY_ADDRESS`, else one on this machine.

    Raises:
        BadInput: there is no cluster at the address.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if (outside := _outside()) is not None:
        quiet["runtime_env"] = outside
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


def _outside() -> dict[str, Any] | None:
    """What goes along to every worker for the parts from outside: their files and packages; None if there are none.

    Beside what `ray job submit` says is sent along, which Ray would refuse to add to.
    """
    paths, modules = own.carried()
    if not modules:
        return None
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")).get("runtime_env") or {}
    os.environ["RAY_OVERRIDE_JOB_RUNTIME_ENV"] = "1"  # of keys that both have: ours holds the job's
    return {
        "py_modules": [*job.get("py_modules", []), *map(str, paths)],
        "env_vars": {own.CARRIED: os.pathsep.join(modules)},
    }


def launch(
    search: Search,
    root: Root,
    runner: Runner,
    follow: Follow,
    name: str,
    peak: Callable[[Trial], int | None] = lambda trial: None,
    patience: float = PATIENCE,
    waiting: Callable[[], None] = lambda: None,
) -> None:
    """Runs all that the search asks for on the connected cluster.

    Args:
        name: of the folder for Tune's own files under the root, gone afterwards.
        peak: bytes of memory that a trial is known to need, None if that is not known.
        patience: seconds without a sign of life (an epoch, images embedded) after which a trial has hung.
        waiting: called if the cluster has no node yet that can run trials.
    """
    _mend_tune()
    place = _first_place(waiting)
    scratch = root.path / "ray" / name
    shutil.rmtree(scratch, ignore_errors=True)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # how trials fail is the follower's to show
    trainable = tune.with_resources(
        functools.partial(_trainable, root=root, runner=runner, patience=patience),
        lambda config: tune.PlacementGroupFactory([_resources(config)]),
    )
    feed = _Feed(search, root, follow, place, peak)
    tuner = tune.Tuner(
        trainable,
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


def _place() -> Place:
    """What the connected cluster's nodes are now."""
    nodes: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    have: list[dict[str, float]] = [node["Resources"] for node in nodes]
    gpus = int(sum(node.get("GPU", 0) for node in have))
    gpu_memory = 0
    if gpus:
        node = next(node["NodeID"] for node in nodes if node["Resources"].get("GPU"))
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        # It asks for no GPU: all may be taken by another sweep.
        remote: Any = ray.remote
        with contextlib.suppress(RayError):  # the node has died in between
            gpu_memory = ray.get(remote(num_cpus=0, scheduling_strategy=there)(_gpu_memory).remote())
    most = {kind: int(max((node.get(kind, 0) for node in have), default=0)) for kind in ("CPU", "memory")}
    of_cores = [int(node.get("memory", 0) / node["CPU"]) for node in have if node.get("CPU")]
    return Place(most["CPU"], most["memory"], min(of_cores, default=0), gpus, gpu_memory)


def _first_place(waiting: Callable[[], None]) -> Place:
    """What there is as soon as there is a node that can run trials; an autoscaler is asked for one.

    Args:
        waiting: called once if there is none yet.
    """
    if (place := _place()).cpus:
        return place
    waiting()
    request_resources(num_cpus=1)
    while not (place := _place()).cpus:
        time.sleep(1)
    request_resources(num_cpus=0)  # from now on what is asked for is what trials want
    return place


def _mend_tune() -> None:
    """Tune ends at once, with all its trials, when Ray kills one whose node is out of memory (as of Ray 2.60).

    It takes errors of two kinds for the death of a process or for an exception; that one is neither. Here it counts as
    a death.
    """
    from ray.air.execution._internal import actor_manager
    from ray.tune.execution import tune_controller

    for module in (actor_manager, tune_controller):
        vars(module)["RayActorError"] = (RayActorError, OutOfMemoryError)


def on_every_node(function: Callable[..., Any], *given: Any, patience: float = 60.0) -> dict[str, Any]:
    """What a function gives on each node of the cluster, by the node's name; as text why it gives nothing."""
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    task: Any = ray.remote(num_cpus=0, max_retries=0)(function)
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked[f"{node['NodeManagerHostname']} ({node['NodeID'][:8]})"] = task.options(scheduling_strategy=there).remote(
            *given
        )
    found: dict[str, Any] = {}
    for name, reference in asked.items():
        try:
            found[name] = ray.get(reference, timeout=patience)
        except Exception as error:
            found[name] = str(error).strip().rpartition("\n")[2] or type(error).__name__
    return found


def _gpu_memory() -> int:
    """Bytes of this machine's first GPU."""
    import torch

    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0


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


def run_here(
    trial: Trial,
    root: Root,
    *,
    report: Callable[[dict[str, float]], None],
    progress: Callable[[int, int], None] | None = None,
    bar: Bar | None = None,
) -> Result | Pruned:
    """`train.run`, with torch imported in the worker only: the driver needs none."""
    from humansim import train

    return train.run(trial, root, report=report, progress=progress, bar=bar)


def _resources(config: dict[str, Any]) -> dict[str, float]:
    """What Tune sets aside for a trial. Ray Train sets aside for each of several workers what it needs by itself."""
    if config["workers"] > 1:
        return {"node:__internal_head__": 0.001}
    wanted = {"CPU": config["cpus"], "GPU": config["gpu"], "memory": config["memory"]}
    return {resource: amount for resource, amount in wanted.items() if amount}


def _trainable(config: dict[str, Any], root: Root, runner: Runner, patience: float) -> None:
    trial, bar = Trial.model_validate_json(config["trial"]), dict(config["bar"])
    if results.load(root, trial, bar) is not None:  # its last process was killed, and the driver has said why
        return
    if results.state(root, trial) is State.RUNNING:  # for another sweep, or in a process that was taken for dead
        tune.report({"elsewhere": True})
        return
    results.begin(root, trial, config["gpu"] * config["workers"])
    if config["workers"] > 1:
        _run_with_workers(trial, root, bool(config["gpu"]), bar)
        return
    _keep_to(config["gpu"])
    with _watched(trial, root, patience) as alive:
        if alive is None:
            return

        def report(row: dict[str, float]) -> None:
            alive()
            tune.report({"row": row})

        try:
            held = functools.partial(runner, progress=lambda done, total: alive(), bar=bar)
            attempt(trial, root, held, report)
        except OSError as error:
            tune.report({"full": str(error)})


def _keep_to(gpu: float) -> None:
    """A trial that shares its GPU is held to its share: what it takes too much is its own failure, not another's.

    Of a whole GPU too: this process may have run a trial of a smaller share before.
    """
    if gpu:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(gpu)


@contextlib.contextmanager
def _watched(trial: Trial, root: Root, patience: float) -> Iterator[Callable[[], None] | None]:
    """Ends this process if it gives no sign of life for too long, leaving behind where its threads stood.

    The clock is faulthandler's, in C: it runs on where Python itself hangs. Tune then starts the trial again, in a new
    process, which records the failure.

    Yields:
        What is called as a sign of life; None if the trial hung the last time.
    """
    file = results.folder(root, trial) / results.HUNG
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and (stood := file.read_text()):
        failed(trial, root, "hung", f"no epoch and no image for {patience:.0f} s; see where it stood", stood)
        file.unlink()
        yield None
        return
    with file.open("w") as left:

        def alive() -> None:
            faulthandler.dump_traceback_later(patience, exit=True, file=left)

        alive()
        try:
            yield alive
        finally:
            faulthandler.cancel_dump_traceback_later()
    file.unlink(missing_ok=True)


def _run_with_workers(trial: Trial, root: Root, gpus: bool, bar: Bar) -> None:
    """Runs a trial of several workers as a Ray Train run of its own.

    Raises:
        TrainingFailedError: a worker died; Tune starts the trial again.
    """
    from ray.exceptions import RayTaskError
    from ray.train import RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    callbacks: list[Any] = [TuneReportCallback()]  # type: ignore[no-untyped-call]
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"trial": trial.model_dump_json(), "root": root, "bar": bar},
        scaling_config=ScalingConfig(
            num_workers=trial.workers,
            use_gpu=gpus,
            resources_per_worker={"CPU": trial.threads, **({"GPU": 1} if gpus else {})},
        ),
        run_config=RunConfig(name=f"workers-{trial.id}", storage_path=str(root.path / "ray"), callbacks=callbacks),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        if results.load(root, trial, bar) is not None:  # the leader has said how it ended; the others fell with it
            return
        of_workers = error.worker_failures.values() if isinstance(error, WorkerGroupError) else [error]
        own = [one for one in of_workers if not isinstance(one, RayError) or isinstance(one, RayTaskError)]
        if not own:
            raise
        raised(trial, root, own[0])
    finally:
        shutil.rmtree(root.path / "ray" / f"workers-{trial.id}", ignore_errors=True)


def _worker(config: dict[str, Any]) -> None:
    """One of several workers on a trial."""
    import ray.train
    from ray.train.torch import get_device

    from humansim import train, workers

    trial, root, bar = Trial.model_validate_json(config["trial"]), config["root"], config["bar"]
    device = str(get_device())

    def report(row: dict[str, float]) -> None:
        ray.train.report({"row": row})

    if workers.leads():
        attempt(trial, root, functools.partial(train.run, device=device, bar=bar), report)
    else:
        train.assist(trial, root, device=device, report=report, bar=bar)


def _workers(trial: Trial) -> int:
    return trial.workers if trial.paradigm is not None else 1


class _Feed(Searcher):
    """Our search as Tune sees one."""

    def __init__(
        self, search: Search, root: Root, follow: Follow, place: Place, peak: Callable[[Trial], int | None]
    ) -> None:
        super().__init__()
        self.search, self.root, self.follow = search, root, follow
        self.packer = Packer(search, place, peak)
        self.given: dict[str, tuple[Trial, Share]] = {}
        self.deaths = _Deaths(root)
        self.elsewhere: set[str] = set()  # Tune trials that found theirs running elsewhere
        self.moved: Counter[str] = Counter()  # how often each trial was asked for again since its nodes had died
        self.looked = time.monotonic()
        self.error: Exception | None = None

    def suggest(self, trial_id: str) -> Any:
        try:
            given = self._next()
        except Exception as error:  # Tune would bury it in its own
            self.error, given = error, None
        if given is None:
            return Searcher.FINISHED if self.error is not None or self.packer.done else None
        trial, share = given
        if not self._has_room(trial):
            self.packer.put_back(*given)  # Tune does not see what Ray Train sets aside: it would start all of them
            return None
        self.given[trial_id] = given
        bar = [*(self.search.bar(trial) or {}).items()]  # Tune takes a dict for a search space of its own
        return {"trial": trial.model_dump_json(), "bar": bar, "workers": _workers(trial), **vars(share)}

    def _next(self) -> tuple[Trial, Share] | None:
        given = self.packer.next() if self.error is None else None
        if given is None:
            return None
        if time.monotonic() > self.looked + LOOK:
            self.packer.place, self.looked = self.packer.place.or_more(_place()), time.monotonic()
        trial, place = given[0], self.packer.place
        if trial.threads > place.cpus:
            raise BadInput(f"a trial wants {trial.threads} threads; the largest node has {place.cpus} CPUs")
        if _workers(trial) > self._rooms():
            raise BadInput(f"a trial wants {trial.workers} workers; the cluster has room for {self._rooms()}")
        return given

    def _rooms(self) -> int:
        """Workers that fit on the cluster."""
        if self.packer.place.gpus:
            return self.packer.place.gpus
        return int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]

    def _has_room(self, trial: Trial) -> bool:
        taken = sum(_workers(other) for other, _ in self.given.values() if _workers(other) > 1)
        return _workers(trial) == 1 or taken + _workers(trial) <= self._rooms()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if "row" in result:
            self.follow.epoch(self.given[trial_id][0], result["row"])
        if "elsewhere" in result:
            self.elsewhere.add(trial_id)
        if "full" in result:
            self.error = self.error or OSError(errno.ENOSPC, result["full"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial, share = self.given.pop(trial_id)
        bar = self.search.bar(trial)
        try:
            outcome = results.load(self.root, trial, bar)
            if outcome is None and self.error is not None:
                return
            if outcome is None and trial_id in self.elsewhere:
                self.packer.later(trial, share)
                return
            patience = time.monotonic() + VISIBLE_WITHIN
            while outcome is None and not error and time.monotonic() < patience:
                time.sleep(0.2)
                outcome = results.load(self.root, trial, bar)
            if outcome is None:
                outcome = self._died(trial, self.deaths.of(trial_id))
            if outcome is None:
                self.packer.again(trial, share)
                return
            if not self.packer.end(outcome, share):
                results.forget_failure(self.root, trial)
                return
            self.follow.ended(outcome)
        except Exception as problem:
            self.error = problem

    def _died(self, trial: Trial, deaths: list[str]) -> Failure | None:
        """Why a trial has no outcome, whose processes died one after the other; None if only their nodes did."""
        if deaths and all(NODE_DIED in death for death in deaths) and self.moved[trial.id] < RETRIES:
            self.moved[trial.id] += 1
            return None
        last = deaths[-1] if deaths else ""
        if OUT_OF_MEMORY in last:
            return out_of_memory(trial, self.root, last)
        reason = f"its process or node died {RETRIES + 1} times (killed, crashed or out of memory)"
        return failed(trial, self.root, "lost", reason, last)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what was asked and how it ended is on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("submit the sweep again instead")

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for a restore that never comes


class _Deaths(tune.Callback):
    """Reads in Tune's files how processes of trials died, which it does not tell a searcher."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self._tune_trials: dict[str, Any] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tune_trials[trial.trial_id] = trial

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """One that Ray killed since its node ran out of memory would only be killed again: the next process ends it."""
        death = self.of(trial.trial_id)[-1:]
        if death and OUT_OF_MEMORY in death[0]:
            out_of_memory(Trial.model_validate_json(trial.config["trial"]), self.root, death[0])

    def of(self, trial_id: str) -> list[str]:
        """Each death of a Tune trial's processes, in Ray's words."""
        file = getattr(self._tune_trials.get(trial_id), "error_file", None)
        if file is None or not Path(file).exists():
            return []
        return [part.partition("\n")[2].strip() for part in Path(file).read_text().split("Failure # ")[1:]]

    def forget(self, trial_id: str) -> None:
        self._tune_trials.pop(trial_id, None)


def out_of_memory(trial: Trial, root: Root, death: str) -> Failure:
    """Records that Ray killed a trial's process."""
    return failed(trial, root, "oom", "its process was killed, its node being out of memory", death)
