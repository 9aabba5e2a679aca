"""How much of a machine a trial gets: so many of them at once that nothing lies idle, and none runs out of memory."""

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from humansim.probes import MARGIN, SHARES, conditions, share_of_at_least, share_of_gpu
from humansim.results import Failure, Outcome, Result
from humansim.spec import Trial

if TYPE_CHECKING:
    from humansim.search import Search

READY = 16  # trials that are kept ready to start: the driver is not waited for
ELSEWHERE = 5.0  # seconds until it is looked again at a trial that another sweep runs
TIMES = 2  # that a trial which ran out of memory is asked again, each time with more


@dataclass(frozen=True)
class Place:
    """What trials run on.

    Attributes:
        cpus: cores of the largest node.
        memory: bytes that trials may use of the largest node's memory.
        memory_of_core: bytes of memory for each core, of the node that has fewest; 0 where none is set aside.
        gpus: of the whole cluster.
        gpu_memory: bytes of a GPU; 0 where that is not known.
    """

    cpus: int
    memory: int
    memory_of_core: int = 0
    gpus: int = 0
    gpu_memory: int = 0

    def or_more(self, other: "Place") -> "Place":
        """The larger one in each respect: nodes that die come again, and a cluster grows."""
        known = [one.memory_of_core for one in (self, other) if one.memory_of_core]
        return Place(
            max(self.cpus, other.cpus),
            max(self.memory, other.memory),
            min(known, default=0),
            max(self.gpus, other.gpus),
            max(self.gpu_memory, other.gpu_memory),
        )


@dataclass(frozen=True)
class Share:
    """What is set aside for a trial: cores, a part of a GPU in (0, 1] or none, bytes of a node's memory or no say."""

    cpus: int
    gpu: float = 0.0
    memory: int = 0


def share_of(trial: Trial, place: Place, peak: int | None = None, part: float = 0.0) -> Share:
    """What a trial gets at first: room for what it needs.

    Shares are few, so that they repeat: Ray keeps a process for the next trial only where that wants the same. Without
    a GPU memory goes with the cores, in whole parts. Without a measurement a trial has a GPU to itself: a guess that is
    too small costs a failed trial, one that is too large costs the time until the first of its kind has finished.

    Of a GPU it gets no less than its part of the work that is left for each: trials that share a GPU slow each other
    down, and this one would go on alone when all others have ended. So the last ones have GPUs to themselves.

    Args:
        peak: bytes that trials of its kind needed at most: of the GPU where there is one, else of the process.
        part: of the work that is left, in [0, 1].
    """
    if not place.gpus:
        of_cores = trial.threads * place.memory_of_core
        times = max(1, math.ceil((peak or 0) * MARGIN / of_cores)) if of_cores else 0
        return Share(trial.threads, memory=min(times * of_cores, place.memory))
    if peak is None or not place.gpu_memory:
        return Share(trial.threads, gpu=1.0)
    return Share(trial.threads, gpu=max(share_of_gpu(peak, place.gpu_memory), share_of_at_least(part * place.gpus)))


def more(share: Share, place: Place) -> Share | None:
    """What a trial gets that ran out of memory: twice as much; None if it had all there is."""
    if share.gpu:
        return None if share.gpu >= 1 else replace(share, gpu=next(part for part in SHARES if part > share.gpu))
    if share.memory >= place.memory:
        return None
    return replace(share, memory=min(place.memory, 2 * share.memory or place.memory))


class Packer:
    """What is to be started next, and with what; who runs out of memory is asked again with more.

    Args:
        peak: bytes of memory that a trial is known to need, None if that is not known.
    """

    def __init__(self, search: "Search", place: Place, peak: Callable[[Trial], int | None]) -> None:
        self.search, self.place, self.peak = search, place, peak
        self._again: deque[tuple[Trial, Share]] = deque()  # ran out of memory, lost its node, or had to wait for room
        self._later: deque[tuple[float, Trial, Share]] = deque()  # when to ask again for what runs elsewhere
        self._short: Counter[str] = Counter()  # how often each trial ran out of memory
        self._least: dict[str, Share] = {}  # what trials of the same conditions need: with less, one ran out of memory
        self._paces: dict[str, dict[float, list[float]]] = {}  # images/s under conditions with a share of a GPU

    @property
    def done(self) -> bool:
        """Nothing is left to start or to wait for."""
        return self.search.done and not self._again and not self._later

    def next(self) -> tuple[Trial, Share] | None:
        """The next trial to start; None if there is none, or none before others have ended."""
        while self._later and self._later[0][0] <= time.monotonic():
            self._again.append(self._later.popleft()[1:])
        if self._again:
            return self._again.popleft()
        trial = self.search.ask()
        if trial is None:
            return None
        part = self.search.part(trial) if self.place.gpus else 0.0
        first, least = share_of(trial, self.place, self.peak(trial), part), self._least.get(conditions(trial).key)
        share = first if least is None else max(first, least, key=lambda share: (share.gpu, share.memory))
        return trial, self._worthwhile(trial, share)

    def _worthwhile(self, trial: Trial, share: Share) -> Share:
        """This share of a GPU, or a larger one if a GPU full of such trials was no faster with this one than with that.

        A share that was never tried counts as worthwhile.
        """
        paces = {gpu: fmean(seen) for gpu, seen in self._paces.get(conditions(trial).key, {}).items()}
        while share.gpu in paces:
            larger = [pace / gpu for gpu, pace in paces.items() if gpu > share.gpu]
            if not larger or paces[share.gpu] / share.gpu > max(larger):
                break
            share = replace(share, gpu=next(part for part in SHARES if part > share.gpu))
        return share

    def again(self, trial: Trial, share: Share) -> None:
        """It ended without an outcome, by no fault of its own."""
        self._again.append((trial, share))

    def later(self, trial: Trial, share: Share) -> None:
        """Another sweep runs it: what comes of it is looked for again after a while, in which the room is others'."""
        self._later.append((time.monotonic() + ELSEWHERE, trial, share))

    def put_back(self, trial: Trial, share: Share) -> None:
        """It could not be started: it is the next one again."""
        self._again.appendleft((trial, share))

    def end(self, outcome: Outcome, share: Share) -> bool:
        """How a trial ended that had this share; False if it is asked again, with more."""
        trial = outcome.trial
        if isinstance(outcome, Failure) and outcome.kind == "oom" and self._short[trial.id] < TIMES:
            larger = more(share, self.place)
            if larger is not None:
                self._short[trial.id] += 1
                self._least[conditions(trial).key] = larger
                self._again.append((trial, larger))
                return False
        if isinstance(outcome, Result) and share.gpu and outcome.history:
            rows = outcome.history[1:] or outcome.history  # the first epoch is the slowest
            paces = self._paces.setdefault(conditions(trial).key, {})
            paces.setdefault(share.gpu, []).append(fmean(row["images_per_second"] for row in rows))
        self.search.tell(outcome)
        return True
