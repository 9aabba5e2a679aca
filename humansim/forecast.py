"""What a sweep will take, from what was measured: minutes, memory, disk, cost; and predicted beside actual."""

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from pydantic import ValidationError

from humansim import probes, results
from humansim.errors import BadInput
from humansim.launch.packing import READY, Place, share_of
from humansim.lengths import Finished, Lengths
from humansim.order import Length, Order
from humansim.plan import Plan, stand_in, waits_for
from humansim.probes import Probe, conditions, data_conditions
from humansim.results import ENDED, Result, State
from humansim.root import Root
from humansim.sources import source
from humansim.spec import Cell, Trial, Variant
from humansim.virtual import Gpus

START = 20.0  # seconds until the first trial runs: imports, Ray, MLflow's database
BETWEEN = 0.15  # seconds from one trial to the next: files, MLflow, the search; measured here, on two cores
NEWEST = 500  # finished trials of other sweeps that are looked at


@dataclass(frozen=True)
class Expected:
    """A trial that is to run, with what is expected of it.

    Attributes:
        seconds: None where its conditions were not measured, or its data is not there.
    """

    cell: Cell
    trial: Trial
    probe: Probe | None
    seconds: float | None

    @property
    def places(self) -> int:
        """GPUs, or places of a CPU, that it takes."""
        return self.trial.workers if self.trial.paradigm is not None else 1


@dataclass(frozen=True)
class Forecast:
    """What is known beforehand of a sweep.

    Attributes:
        device: that it is predicted for.
        to_run: in the order in which they will be asked for; a search's samples and a cell's repeats stand as copies.
        unmeasured: a trial for each of the conditions that no probe tells of.
        missing_data: why sources cannot be read, by source.
        slots: GPUs, or trials at a time on a CPU.
        at_once: trials that run at a time, at most: several may share a GPU.
        elapsed: seconds from submitting to the end; None where something was not measured.
        spread: between which factors of what is predicted the truth lies, four times of five.
    """

    device: str
    to_run: list[Expected]
    finished: list[Finished]
    unmeasured: list[Trial]
    missing_data: dict[str, str]
    slots: int
    at_once: int
    elapsed: float | None
    spread: tuple[float, float]

    @property
    def on_gpu(self) -> bool:
        return not self.device.startswith("cpu")

    @property
    def device_hours(self) -> float:
        """Hours of GPUs, or of CPU cores, of what is measured."""
        devices = (one.places * (1 if self.on_gpu else one.trial.threads) for one in self.to_run)
        return sum((one.seconds or 0.0) * count for one, count in zip(self.to_run, devices, strict=True)) / 3600

    @property
    def disk(self) -> int:
        """Bytes that results will take."""
        return sum(one.probe.weights + one.probe.answers for one in self.to_run if one.probe is not None)

    @property
    def checkpoints(self) -> int:
        """Bytes that checkpoints take while trials run, at most."""
        largest = sorted((one.probe.checkpoint for one in self.to_run if one.probe is not None), reverse=True)
        return sum(largest[: self.at_once])

    @property
    def peak_memory(self) -> int:
        return max((one.probe.peak_memory for one in self.to_run if one.probe is not None), default=0)

    def compared(self) -> tuple[int, float, float]:
        """Finished trials that a probe tells of: how many, their seconds, and those predicted."""
        known = [one for one in self.finished if one.predicted is not None]
        return len(known), sum(one.actual for one in known), sum(one.predicted or 0.0 for one in known)


def forecast(plan: Plan, root: Root, *, device: str | None = None, slots: int | None = None) -> Forecast:
    """What a sweep will take; reads the disk only (a source that simulates writes what it simulates).

    Args:
        device: its name; None for that on which most of the sweep's conditions are measured, else this machine's.
        slots: GPUs, or trials at a time on a CPU; None for this machine's GPUs, or its cores by the threads of a trial.
    """
    states = {trial.id: (trial, state) for known in plan.trials.values() for trial, state in known}
    loaded = [results.load(root, trial) for trial, state in states.values() if state is State.FINISHED]
    ended = [outcome for outcome in loaded if isinstance(outcome, Result)]
    waiting = [trial for trial, state in states.values() if state not in ENDED]
    waiting += [stand_in(cell) for cell in plan.cells if plan.left(cell)]
    others = _others(root, set(states), waiting)
    lengths = Lengths(root, waiting or plan.known)
    finished = [lengths.learn(result) for result in ended]
    for result in others:
        lengths.learn(result)
    device = device or lengths.device
    embedded = {_embedding(result.trial) for result in ended + others if probes.keeps_embeddings(result.trial)}

    def expect(cell: Cell, trial: Trial) -> Expected:
        """What is expected of the next trial to run."""
        probe, evaluated = lengths.probe(trial, device), None
        if probe is None and not source.entry(trial.source).facts.get("simulated", False):
            lengths.count(trial)  # what data is missing is told
        if probe is not None and probes.keeps_embeddings(trial):
            evaluated = 0 if _embedding(trial) in embedded else None
            embedded.add(_embedding(trial))
        return Expected(cell, trial, probe, lengths.seconds(trial, device, evaluated))

    slots = slots or _slots(device, waiting)
    length = partial(lengths.seconds, device=device)
    to_run, seconds, at_once = _run_through(_Course(plan, length), expect, slots, on_gpu=not device.startswith("cpu"))
    unmeasured, covered = [], lengths.measured(device)
    for one in to_run:
        wanted_probes = {conditions(one.trial).key, data_conditions(one.trial).key}
        if one.probe is None and not wanted_probes <= covered:
            covered |= wanted_probes
            unmeasured.append(one.trial)
    known = [(one.trial, one.seconds) for one in to_run if one.seconds is not None]
    elapsed = None
    if len(known) == len(to_run):
        elapsed = START + seconds if to_run else 0.0
    spread = lengths.interval(known, device, slots)
    return Forecast(device, to_run, finished, unmeasured, lengths.missing, slots, at_once, elapsed, spread)


class _Course:
    """What the search will ask for, in its order, each when it will; the trials that it would draw are stand-ins."""

    def __init__(self, plan: Plan, length: Length) -> None:
        self.plan = plan
        self._ended = [
            {i for i, (_, state) in enumerate(plan.trials[cell.key]) if state in ENDED} for cell in plan.cells
        ]
        self.order = Order(plan.sweep, plan.cells, [0] * len(plan.cells), length)
        self._stand_ins = [stand_in(cell) for cell in plan.cells]

    def ask(self) -> tuple[int, int, Trial] | None:
        """Cell, number and trial of the next one to run; None if there is none, or none before others have ended."""
        while (cell := self.order.next()) is not None:
            index, known = self.order.asked[cell], self.plan.trials[self.plan.cells[cell].key]
            if index == len(known) + self.plan.left(self.plan.cells[cell]):
                self.order.close(cell)
            elif not self._ended[cell].issuperset(range(waits_for(self.plan.sweep, self.plan.cells[cell], index))):
                self.order.wait(cell)
            else:
                self.order.ask(cell)
                if index not in self._ended[cell]:
                    return cell, index, known[index][0] if index < len(known) else self._stand_ins[cell]
        return None

    def end(self, cell: int, index: int) -> None:
        """That trial has ended."""
        self._ended[cell].add(index)
        self.order.end()


def _run_through(
    course: _Course, expect: Callable[[Cell, Trial], Expected], slots: int, *, on_gpu: bool
) -> tuple[list[Expected], float, int]:
    """The trials in the order in which they are asked for, the seconds they all take, and how many run at a time."""
    gpus: Gpus[tuple[int, int]] = Gpus(slots)
    asked: list[Expected] = []
    ready: list[tuple[tuple[int, int], float, float, int]] = []
    while True:
        while len(ready) < READY and (next_ := course.ask()) is not None:
            cell, index, trial = next_
            one = expect(course.plan.cells[cell], trial)
            asked.append(one)
            share = 1.0
            if on_gpu and one.probe is not None:
                place = Place(cpus=0, memory=0, gpus=slots, gpu_memory=one.probe.device_memory)
                share = share_of(trial, place, one.probe.peak_memory, course.order.part(trial)).gpu
            ready.append(((cell, index), (one.seconds or course.order.assumed) + BETWEEN, share, one.places))
        waiting = [job for job in ready if not gpus.start(*job)]
        if len(waiting) == len(ready):
            ended = gpus.next()
            if ended is None:
                return asked, gpus.now, gpus.most
            course.end(*ended)
        ready = waiting


def _others(root: Root, own: set[str], trials: Iterable[Trial]) -> list[Result]:
    """Finished trials of other sweeps that share conditions and data with these: the newest, each file being read."""
    alike = {(conditions(trial).key, trial.source) for trial in trials}
    if not alike:
        return []
    files = [file for file in root.results.glob(f"*/{results.RESULT}") if file.parent.name not in own]
    found = []
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)[:NEWEST]:
        with contextlib.suppress(ValidationError, BadInput):  # of another humansim
            result = Result.model_validate_json(file.read_bytes())
            if (conditions(result.trial).key, result.trial.source) in alike:
                found.append(result)
    return found


def _embedding(trial: Trial) -> tuple[str, Variant]:
    """What a pretrained backbone's embedding of a source is kept under."""
    return conditions(trial).key, trial.source


def _slots(device: str, trials: Iterable[Trial]) -> int:
    """As many as this machine has GPUs; of a CPU, cores by the most threads of a trial; 1 where it is another's."""
    if not device.startswith("cpu"):
        return max(1, probes.gpus_here())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max((trial.threads for trial in trials), default=1))
