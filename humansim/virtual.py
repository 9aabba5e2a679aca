"""GPUs on a virtual clock: what a forecast counts on, and what the order of trials is tried on."""

import math
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Job = TypeVar("Job", bound=Hashable)


def slowdown(trials: int) -> float:
    """How many times as long a trial takes while so many, itself among them, share a GPU.

    As many times: sharing neither gains nor costs anything. An assumption: what it gains has not been measured.
    """
    return float(trials)


class Gpus(Generic[Job]):
    """GPUs, or places of CPUs, that are shared as Ray shares them: a job goes where least is free.

    Attributes:
        now: seconds since the beginning.
        most: jobs that ran at a time, at most.
    """

    def __init__(self, count: int, slowdown: Callable[[int], float] = slowdown) -> None:
        self.slowdown = slowdown
        self.now, self.most = 0.0, 0
        self.free = [1.0] * count
        self._held: dict[Job, tuple[list[int], float]] = {}  # job -> its GPUs, and its share of each
        self._left: list[dict[Job, float]] = [{} for _ in range(count)]  # seconds, alone; of several GPUs: on the first
        self._since = [0.0] * count  # when that was
        self._ends = [math.inf] * count  # when the next of them is through

    def start(self, job: Job, seconds: float, share: float = 1.0, gpus: int = 1) -> bool:
        """Starts a job if there is room for it.

        Args:
            seconds: that it takes with its GPUs to itself.
            share: of each of its GPUs.
            gpus: as many as there are if it wants more.
        """
        gpus = min(gpus, len(self.free))
        room = sorted((free, gpu) for gpu, free in enumerate(self.free) if free >= share)[:gpus]
        if len(room) < gpus:
            return False
        held = [gpu for _, gpu in room]
        for gpu in held:
            self.free[gpu] -= share
        self._held[job] = held, share
        self._work(held[0])
        self._left[held[0]][job] = seconds
        self._look_ahead(held[0])
        self.most = max(self.most, len(self._held))
        return True

    def next(self, until: float = math.inf) -> Job | None:
        """Goes on to when the next job ends, and gives it; None if none does by then: it is that time now."""
        gpu = min(range(len(self._ends)), key=self._ends.__getitem__)
        if self._ends[gpu] > until or self._ends[gpu] == math.inf:
            self.now = until if until < math.inf else self.now
            return None
        self.now = self._ends[gpu]
        job = min(self._left[gpu], key=self._left[gpu].__getitem__)
        self._take_off(job)
        return job

    def stop(self, gpu: int) -> dict[Job, float]:
        """Takes off what runs on a GPU; the seconds that each job had yet to go."""
        jobs = [job for job, (held, _) in self._held.items() if gpu in held]
        return {job: self._take_off(job) for job in jobs}

    def _take_off(self, job: Job) -> float:
        held, share = self._held.pop(job)
        for gpu in held:
            self.free[gpu] += share
        self._work(held[0])
        left = self._left[held[0]].pop(job)
        self._look_ahead(held[0])
        return left

    def _work(self, gpu: int) -> None:
        """What has been done on a GPU by now."""
        left = self._left[gpu]
        for job in left:
            left[job] = max(0.0, left[job] - (self.now - self._since[gpu]) / self.slowdown(len(left)))
        self._since[gpu] = self.now

    def _look_ahead(self, gpu: int) -> None:
        left = self._left[gpu]
        self._ends[gpu] = self.now + min(left.values()) * self.slowdown(len(left)) if left else math.inf
