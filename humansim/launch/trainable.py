"""A trial in the process that Ray gave it."""

import contextlib
import faulthandler
import functools
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from ray import tune
from ray.exceptions import RayError

from humansim import results
from humansim.launch import Runner, attempt, failed, raised
from humansim.pruning import Bar
from humansim.results import Pruned, Result, State
from humansim.root import Root
from humansim.spec import Trial


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


def trainable(config: dict[str, Any], root: Root, runner: Runner, patience: float) -> None:
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
