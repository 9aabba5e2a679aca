"""What a sweep will take, from what was measured: minutes, memory, disk, cost; and predicted beside actual."""

import contextlib
import heapq
import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from pydantic import ValidationError

from humansim import probes, results, sources
from humansim.errors import BadInput
from humansim.fit_sets import Kind, count_fit, members
from humansim.judgements import Judgements
from humansim.paradigms import paradigm
from humansim.plan import Plan, checked
from humansim.probes import Probe, conditions, data_conditions
from humansim.results import ENDED, Result, State
from humansim.root import Root
from humansim.sources import source
from humansim.spec import Cell, Trial, Uniform, Variant
from humansim.splits import Split, split

START = 20.0  # seconds until the first trial runs: imports, Ray, MLflow's database
BETWEEN = 0.15  # seconds from one trial to the next: files, MLflow, the search; measured here, on two cores
UNSURE = (0.8, 1.25)  # of a prediction, while too few trials have finished to tell
ENOUGH = 8  # finished trials that tell
NEWEST = 500  # finished trials of other sweeps that are looked at


@dataclass(frozen=True)
class Counts:
    """How much a trial has to do: data points to fit on, images of its validation, of its evaluation (of a metric of
    pairs: pairs)."""

    points: int
    validation: int
    evaluated: int


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
class Finished:
    """A trial that has finished, and the seconds predicted of it; None where nothing independent of it was measured."""

    result: Result
    predicted: float | None

    @property
    def actual(self) -> float:
        """Seconds that it took; of a trial that was interrupted, those of the process that ended it."""
        return sum(self.result.seconds.values())


@dataclass(frozen=True)
class Forecast:
    """What is known beforehand of a sweep.

    Attributes:
        device: that it is predicted for.
        to_run: in the order in which the search asks for them; a search's samples and a cell's repeats stand as copies.
        unmeasured: a trial for each of the conditions that no probe tells of.
        missing_data: why sources cannot be read, by source.
        slots: trials that run at a time.
        elapsed: seconds from submitting to the end; None where something was not measured.
        spread: the interval, as factors of what is predicted.
    """

    device: str
    to_run: list[Expected]
    finished: list[Finished]
    unmeasured: list[Trial]
    missing_data: dict[str, str]
    slots: int
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
        return sum(largest[: self.slots])

    @property
    def peak_memory(self) -> int:
        return max((one.probe.peak_memory for one in self.to_run if one.probe is not None), default=0)

    def compared(self) -> tuple[int, float, float]:
        """Finished trials that a probe tells of: how many, their seconds, and those predicted."""
        known = [one for one in self.finished if one.predicted is not None]
        return len(known), sum(one.actual for one in known), sum(one.predicted or 0.0 for one in known)


def forecast(plan: Plan, root: Root, *, device: str | None = None, slots: int | None = None) -> Forecast:
    """What a sweep will take; reads the disk only (a source that simulates writes what it simulates).

    Probes of the device tell, corrected by how long finished trials of the same conditions took; where there is no
    probe, the finished trials alone.

    Args:
        device: its name; None for that on which most of the sweep's conditions are measured, else this machine's.
        slots: trials at a time; None for this machine's GPUs, or its cores by the threads of a trial.
    """
    by_id = {trial.id: (cell, trial, state) for cell in plan.cells for trial, state in plan.trials[cell.key]}
    ended = [
        (cell, outcome)
        for cell, trial, state in by_id.values()
        if state is State.FINISHED and isinstance(outcome := results.load(root, trial), Result)
    ]
    waiting = to_run(plan)
    others = _others(root, set(by_id), [trial for _, trial in waiting])
    known_results = [result for _, result in ended] + others
    told_probes = [probe for result in known_results if (probe := probes.of_result(result, root)) is not None]
    probed = probes.kept(root)
    device = device or _device(probed + told_probes, [trial for _, trial in waiting] or plan.known)
    own = _Measurements([probe for probe in probed if probe.device == device])
    learnt = _Measurements([probe for probe in told_probes if probe.device == device])
    counts = counter(root)
    missing: dict[str, str] = {}

    def counted(trial: Trial) -> Counts | None:
        try:
            return counts(trial)
        except BadInput as error:
            missing[str(trial.source)] = str(error)
            return None

    def predicted(result: Result) -> float | None:
        trial, probe = result.trial, own.of(result.trial)
        if result.provenance["device"] != device or probe is None or (known := counted(trial)) is None:
            return None
        embedded = known.evaluated if probes.pairwise(trial) else result.provenance["embedded"]
        return probes.duration(trial, probe, known.points, known.validation, embedded)

    finished = [Finished(result, predicted(result)) for _, result in ended]
    elsewhere = [Finished(result, predicted(result)) for result in others]
    corrections = _Corrections(finished + elsewhere)

    to_come, unmeasured = [], []
    covered = {*own.of_network, *own.of_data, *learnt.of_network, *learnt.of_data}
    embedded_before = {_embedding(result.trial) for result in known_results if probes.keeps_embeddings(result.trial)}
    for cell, trial in waiting:
        of_probe = own.of(trial)
        probe = of_probe or learnt.of(trial)
        if probe is None:
            wanted_probes = {conditions(trial).key, data_conditions(trial).key}
            if not wanted_probes <= covered:
                covered |= wanted_probes
                unmeasured.append(trial)
        seconds = None
        simulates = source.entry(trial.source).facts.get("simulated", False)
        known = counted(trial) if probe is not None or not simulates else None
        if probe is not None and known is not None:
            evaluated = known.evaluated
            if probes.keeps_embeddings(trial):
                evaluated = 0 if _embedding(trial) in embedded_before else evaluated
                embedded_before.add(_embedding(trial))
            factor = corrections.of(trial) if of_probe is not None else 1.0
            seconds = factor * probes.duration(trial, probe, known.points, known.validation, evaluated)
        to_come.append(Expected(cell, trial, probe, seconds))
    slots = slots or _slots(device, [one.trial for one in to_come])
    elapsed = None
    if all(one.seconds is not None for one in to_come):
        jobs = [((one.seconds or 0.0) + BETWEEN, one.places) for one in to_come]
        elapsed = START + makespan(jobs, slots) if jobs else 0.0
    return Forecast(device, to_come, finished, unmeasured, missing, slots, elapsed, corrections.spread())


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


def to_run(plan: Plan) -> list[tuple[Cell, Trial]]:
    """What has not ended, in the order in which the search asks for it: what was asked for, then cells in turn."""
    waiting = {
        trial.id: (cell, trial) for cell in plan.cells for trial, state in plan.trials[cell.key] if state not in ENDED
    }
    found = list(waiting.values())
    left = {cell.key: plan.left(cell) for cell in plan.cells}
    for turn in range(max(left.values(), default=0)):
        found += [(cell, stand_in(cell)) for cell in plan.cells if turn < left[cell.key]]
    return found


def stand_in(cell: Cell) -> Trial:
    """For a trial that the cell's search has yet to choose: the cell's own, half way where the epochs are searched."""
    space = cell.search.get("epochs")
    if not isinstance(space, Uniform):
        return cell.trial
    return checked(cell.trial.having({"epochs": round((space.low + space.high) / 2)}))


def makespan(jobs: Sequence[tuple[float, int]], slots: int) -> float:
    """Seconds until all jobs are done, each begun, in order, as soon as there are as many free places as it takes.

    Args:
        jobs: seconds and places of each; one that wants more places than there are takes all.
    """
    free = [0.0] * slots  # when each place is free again
    heapq.heapify(free)
    for seconds, places in jobs:
        taken = [heapq.heappop(free) for _ in range(min(places, slots))]
        for _ in taken:
            heapq.heappush(free, max(taken) + seconds)
    return max(free)


def counter(root: Root) -> Callable[[Trial], Counts]:
    """Counts what trials have to do; each source is read once, however many trials have it.

    Images that are equal under two names are counted twice: their pixels are not looked at.

    Raises:
        BadInput: (the function that it gives) the data, whatever is wrong with it.
    """

    @cache
    def read(given: Variant) -> Judgements | BadInput:
        try:
            return sources.read(given, root)
        except BadInput as error:
            return error

    def judgements_of(given: Variant) -> Judgements:
        found = read(given)
        if isinstance(found, BadInput):
            raise found
        return found

    @cache
    def parts(given: Variant, protocol: str) -> Split:
        return split(judgements_of(given), protocol)

    @cache
    def points(given: Variant, protocol: str, kind: Kind, size: int, fit_on: str | None) -> int:
        return count_fit(judgements_of(given), parts(given, protocol), kind, size, fit_on)

    @cache
    def validation(given: Variant, protocol: str, fit_on: str | None) -> int:
        found = judgements_of(given)
        triplets = found.triplets[parts(given, protocol).parts["validation"]]
        return len(np.unique(triplets[np.isin(triplets.set, members(found.sets, fit_on))].images))

    @cache
    def evaluated(given: Variant, protocol: str, pairs: bool) -> int:
        both = parts(given, protocol).parts
        images = judgements_of(given).triplets[np.concatenate([both["validation"], both["test"]])].images
        return 2 * len(images) if pairs else len(np.unique(images))

    def counts(trial: Trial) -> Counts:
        data = (trial.source, trial.protocol)
        seen = evaluated(*data, probes.pairwise(trial))
        if trial.paradigm is None:
            return Counts(0, 0, seen)
        kind = paradigm.entry(trial.paradigm).facts["data"]
        return Counts(points(*data, kind, trial.fit_size, trial.fit_on), validation(*data, trial.fit_on), seen)

    return counts


class _Measurements:
    """Probes of one device, by what they are of."""

    def __init__(self, every: Iterable[Probe]) -> None:
        self.of_network: dict[str, list[Probe]] = defaultdict(list)
        self.of_data: dict[str, list[Probe]] = defaultdict(list)
        for probe in every:
            self.of_network[probe.conditions.key].append(probe)
            self.of_data[probe.data.key].append(probe)

    def of(self, trial: Trial) -> Probe | None:
        """What is typical of a trial; None where its conditions or its data were not measured."""
        network, data = self.of_network.get(conditions(trial).key), self.of_data.get(data_conditions(trial).key)
        return probes.typical(network, data) if network and data else None


class _Corrections:
    """Actual by predicted: how the machine at work differs from the machine that was measured."""

    def __init__(self, finished: Iterable[Finished]) -> None:
        self.of_conditions: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for one in finished:
            if one.predicted:
                self.of_conditions[conditions(one.result.trial).key].append((one.actual, one.predicted))
        self.every = [pair for some in self.of_conditions.values() for pair in some]

    def of(self, trial: Trial) -> float:
        """That of all finished trials of the same conditions, else of all if they are enough, else 1.

        Of their sums: it is sums that are predicted, and a median would leave out what is rarely slow.
        """
        return _ratio(self.of_conditions.get(conditions(trial).key) or self._enough())

    def spread(self) -> tuple[float, float]:
        """What lies between the deciles of single trials' ratios, around that of all."""
        if not self._enough():
            return UNSURE
        deciles = statistics.quantiles([actual / predicted for actual, predicted in self.every], n=10)
        middle = _ratio(self.every)
        return min(1.0, deciles[0] / middle), max(1.0, deciles[-1] / middle)

    def _enough(self) -> list[tuple[float, float]]:
        return self.every if len(self.every) >= ENOUGH else []


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return sum(actual for actual, _ in pairs) / sum(predicted for _, predicted in pairs) if pairs else 1.0


def _embedding(trial: Trial) -> tuple[str, Variant]:
    """What a pretrained backbone's embedding of a source is kept under."""
    return conditions(trial).key, trial.source


def _device(every: Iterable[Probe], trials: Iterable[Trial]) -> str:
    """The device on which most of the conditions are measured; this machine's among equals."""
    wanted_keys = {conditions(trial).key for trial in trials}
    found: dict[str, set[str]] = defaultdict(set, {probes.this_device(): set()})  # the first of equals
    for probe in every:
        if probe.conditions.key in wanted_keys:
            found[probe.device].add(probe.conditions.key)
    return max(found, key=lambda device: len(found[device]))


def _slots(device: str, trials: Iterable[Trial]) -> int:
    """As many as this machine has GPUs; of a CPU, cores by the most threads of a trial; 1 where it is another's."""
    if not device.startswith("cpu"):
        return max(1, probes.gpus_here())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max((trial.threads for trial in trials), default=1))
