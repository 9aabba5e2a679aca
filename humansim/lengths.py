"""How long trials take, as far as it was measured: from probes, corrected by trials that have finished."""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from humansim import probes, sources
from humansim.errors import BadInput
from humansim.fit_sets import Kind, count_fit, members
from humansim.judgements import Judgements
from humansim.paradigms import paradigm
from humansim.probes import Probe, conditions, data_conditions
from humansim.results import Result
from humansim.root import Root
from humansim.spec import Trial, Variant
from humansim.splits import Split, split

AtHand = Mapping[tuple[Variant, str], tuple[Judgements, Split]]  # by source and protocol

UNSURE = (0.8, 1.25)  # of a prediction, while too few trials have finished to tell
ENOUGH = 8  # finished trials that tell
TENTH = 1.2816  # standard deviations beyond which a tenth of a normal distribution lies


@dataclass(frozen=True)
class Counts:
    """How much a trial has to do: data points to fit on, images of its validation, of its evaluation (of a metric of
    pairs: pairs)."""

    points: int
    validation: int
    evaluated: int


@dataclass(frozen=True)
class Finished:
    """A trial that has finished, and the seconds predicted of it; None where nothing independent of it was measured."""

    result: Result
    predicted: float | None

    @property
    def actual(self) -> float:
        """Seconds that it took; of a trial that was interrupted, those of the process that ended it."""
        return sum(self.result.seconds.values())


def counter(root: Root, at_hand: AtHand | None = None) -> Callable[[Trial], Counts]:
    """Counts what trials have to do; each source is read once, however many trials have it.

    Images that are equal under two names are counted twice: their pixels are not looked at.

    Args:
        at_hand: judgements that were read already, and their split.

    Raises:
        BadInput: (the function that it gives) the data, whatever is wrong with it.
    """
    known = at_hand or {}

    @cache
    def read(given: Variant) -> Judgements | BadInput:
        try:
            return sources.read(given, root)
        except BadInput as error:
            return error

    def judgements_of(given: Variant, protocol: str) -> Judgements:
        found = known[given, protocol][0] if (given, protocol) in known else read(given)
        if isinstance(found, BadInput):
            raise found
        return found

    @cache
    def parts(given: Variant, protocol: str) -> Split:
        if (given, protocol) in known:
            return known[given, protocol][1]
        return split(judgements_of(given, protocol), protocol)

    @cache
    def points(given: Variant, protocol: str, kind: Kind, size: int, fit_on: str | None) -> int:
        return count_fit(judgements_of(given, protocol), parts(given, protocol), kind, size, fit_on)

    @cache
    def validation(given: Variant, protocol: str, fit_on: str | None) -> int:
        found = judgements_of(given, protocol)
        triplets = found.triplets[parts(given, protocol).parts["validation"]]
        return len(np.unique(triplets[np.isin(triplets.set, members(found.sets, fit_on))].images))

    @cache
    def evaluated(given: Variant, protocol: str, pairs: bool) -> int:
        both = parts(given, protocol).parts
        images = judgements_of(given, protocol).triplets[np.concatenate([both["validation"], both["test"]])].images
        return 2 * len(images) if pairs else len(np.unique(images))

    def counts(trial: Trial) -> Counts:
        data = (trial.source, trial.protocol)
        seen = evaluated(*data, probes.pairwise(trial))
        if trial.paradigm is None:
            return Counts(0, 0, seen)
        kind = paradigm.entry(trial.paradigm).facts["data"]
        return Counts(points(*data, kind, trial.fit_size, trial.fit_on), validation(*data, trial.fit_on), seen)

    return counts


@cache
def _network(trial: Trial) -> str:
    return conditions(trial).key


@cache
def _data(trial: Trial) -> str:
    return data_conditions(trial).key


class Lengths:
    """Seconds of trials on each device, from what is known by now.

    Probes tell, corrected by how long finished trials of the same conditions took; where there is no probe, the
    finished trials alone.

    Args:
        root: whose probes tell.
        trials: that are asked about: what is measured of these says which device counts.
        at_hand: judgements that were read already, and their split.

    Attributes:
        missing: why sources cannot be read, by source.
    """

    def __init__(
        self,
        root: Root,
        trials: Iterable[Trial],
        at_hand: AtHand | None = None,
    ) -> None:
        self.root = root
        self.missing: dict[str, str] = {}
        self._counts = counter(root, at_hand)
        self._asked_about = {_network(trial) for trial in trials}
        self._on: dict[str, _Device] = {probes.this_device(): _Device()}  # the first of equals
        for probe in probes.kept(root):
            self._device(probe.device).own.add(probe)

    def learn(self, result: Result) -> Finished:
        """Takes note of a trial that has finished; one of another humansim teaches nothing."""
        made, trial = result.provenance, result.trial
        on = self._device(str(made.get("device")))
        told = probes.of_result(result, self.root)
        if told is not None:
            on.learnt.add(told)
        probe, known = on.own.of(trial), self.count(trial)
        predicted = None
        if probe is not None and known is not None and "embedded" in made:
            embedded = known.evaluated if probes.pairwise(trial) else made["embedded"]
            predicted = probes.duration(trial, probe, known.points, known.validation, embedded)
        finished = Finished(result, predicted)
        if predicted and finished.actual > 0:
            on.corrections.add(_network(trial), finished.actual, predicted)
        return finished

    @property
    def device(self) -> str:
        """That on which most of the conditions that are asked about are measured, else this machine's."""
        return max(self._on, key=lambda name: len(self._asked_about & self._on[name].conditions))

    def seconds(self, trial: Trial, device: str | None = None, evaluated: int | None = None) -> float | None:
        """How long a trial takes; None where its conditions were not measured, or its data is not there.

        Args:
            device: its name; None for that on which most is measured.
            evaluated: images that it embeds at its end; None for all.
        """
        on = self._device(device or self.device)
        own = on.own.of(trial)
        probe = own or on.learnt.of(trial)
        known = self.count(trial) if probe is not None else None
        if probe is None or known is None:
            return None
        factor = 1.0 if own is None else on.corrections.of(_network(trial))
        images = known.evaluated if evaluated is None else evaluated
        return factor * probes.duration(trial, probe, known.points, known.validation, images)

    def probe(self, trial: Trial, device: str) -> Probe | None:
        """What was measured of a trial's conditions and of its data on a device."""
        on = self._device(device)
        return on.own.of(trial) or on.learnt.of(trial)

    def measured(self, device: str) -> set[str]:
        """Keys of the conditions, of networks and of data, that are measured on a device."""
        on = self._device(device)
        return {key for some in (on.own, on.learnt) for key in (*some.of_network, *some.of_data)}

    def count(self, trial: Trial) -> Counts | None:
        """What a trial has to do; None where its data is not there."""
        try:
            return self._counts(trial)
        except BadInput as error:
            self.missing[str(trial.source)] = str(error)
            return None

    def interval(self, planned: Iterable[tuple[Trial, float]], device: str, slots: int = 1) -> tuple[float, float]:
        """Between which factors of what is predicted of these trials together the truth lies, four times of five.

        Args:
            planned: trials, and the seconds that are predicted of each.
            slots: GPUs, or trials at a time, that they share.
        """
        known = [(_network(trial), seconds) for trial, seconds in planned]
        return self._device(device).corrections.interval(known, slots)

    def _device(self, name: str) -> "_Device":
        return self._on.setdefault(name, _Device())


class _Device:
    """What is known of one device."""

    def __init__(self) -> None:
        self.own, self.learnt, self.corrections = _Measurements(), _Measurements(), Corrections()

    @property
    def conditions(self) -> set[str]:
        return self.own.of_network.keys() | self.learnt.of_network.keys()


class _Measurements:
    """Probes of one device, by what they are of."""

    def __init__(self) -> None:
        self.of_network: dict[str, list[Probe]] = defaultdict(list)
        self.of_data: dict[str, list[Probe]] = defaultdict(list)
        self._typical: dict[tuple[str, str], Probe] = {}

    def add(self, probe: Probe) -> None:
        self.of_network[probe.conditions.key].append(probe)
        self.of_data[probe.data.key].append(probe)
        self._typical.clear()

    def of(self, trial: Trial) -> Probe | None:
        """What is typical of a trial; None where its conditions or its data were not measured."""
        key = _network(trial), _data(trial)
        if key not in self._typical:
            network, data = self.of_network.get(key[0]), self.of_data.get(key[1])
            if not network or not data:
                return None
            self._typical[key] = probes.typical(network, data)
        return self._typical[key]


class Corrections:
    """Actual by predicted seconds: how the machine at work differs from the machine that was measured."""

    def __init__(self) -> None:
        self.of_conditions: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.every: list[tuple[float, float]] = []

    def add(self, key: str, actual: float, predicted: float) -> None:
        self.of_conditions[key].append((actual, predicted))
        self.every.append((actual, predicted))

    def of(self, key: str) -> float:
        """That of all finished trials of the same conditions, else of all if they are enough, else 1.

        Of their sums: it is sums that are predicted, and a median would leave out what is rarely slow.
        """
        return _ratio(self.of_conditions.get(key) or (self.every if len(self.every) >= ENOUGH else ()))

    def interval(self, planned: Sequence[tuple[str, float]], slots: int = 1) -> tuple[float, float]:
        """Between which factors of their elapsed time the truth lies, four times of five.

        A ratio (its logarithm) is that of its conditions, which all trials of these share, and a scatter of its own.
        What is shared does not shrink with the number of trials: where none of its trials has finished, it is as
        uncertain as conditions differ; else it is known as well as these tell. The scatter does, but only as trials
        follow each other: on many slots the last one to end says when all has ended. Both variances are estimated by
        moments from finished trials (one-way analysis of variance). While too few have finished, or all of one kind,
        conditions are taken to differ as `UNSURE` has it. That the whole machine becomes slower is not in it.

        Args:
            planned: conditions and predicted seconds of each trial.
            slots: how many run at a time.
        """
        of_conditions: dict[str, list[float]] = defaultdict(list)
        for key, seconds in planned:
            of_conditions[key].append(seconds)
        total, at_once = sum(seconds for _, seconds in planned), min(slots, len(planned))
        if len(self.every) < ENOUGH or not total:
            return UNSURE
        logs = [[math.log(actual / predicted) for actual, predicted in some] for some in self.of_conditions.values()]
        scatter, between, freedom = _variances(logs)
        variance = new = 0.0
        for key, some in of_conditions.items():
            part, finished = sum(some) / total, len(self.of_conditions.get(key, ()))
            variance += scatter * at_once * sum((seconds / total) ** 2 for seconds in some)
            variance += part**2 * (scatter / finished if finished else between)
            new += 0.0 if finished else part
        finished_in_all = sum(predicted for _, predicted in self.every)
        of_kinds = sum(sum(p for _, p in some) ** 2 for some in self.of_conditions.values()) / finished_in_all**2
        of_trials = sum(predicted**2 for _, predicted in self.every) / finished_in_all**2
        variance += new**2 * (between * of_kinds + scatter * of_trials)
        width = TENTH * (1 + 0.66 / freedom) * math.sqrt(variance)  # Student's t, nearly
        return math.exp(-width), math.exp(width)


def _variances(groups: Sequence[Sequence[float]]) -> tuple[float, float, int]:
    """Variance within groups, between groups, and of how many degrees of freedom the latter is, by moments."""
    every = [one for group in groups for one in group]
    count, kinds, middle = len(every), len(groups), statistics.fmean(every)
    inner = sum((one - statistics.fmean(group)) ** 2 for group in groups for one in group)
    if kinds == 1:
        return inner / (count - 1), (math.log(UNSURE[1]) / TENTH) ** 2, count - 1
    outer = sum(len(group) * (statistics.fmean(group) - middle) ** 2 for group in groups) / (kinds - 1)
    if count == kinds:  # one trial of each: the two cannot be told apart
        return outer, outer, kinds - 1
    within = inner / (count - kinds)
    size = (count - sum(len(group) ** 2 for group in groups) / count) / (kinds - 1)  # of a group, typically
    return within, max(0.0, (outer - within) / size), kinds - 1


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return sum(actual for actual, _ in pairs) / sum(predicted for _, predicted in pairs) if pairs else 1.0
