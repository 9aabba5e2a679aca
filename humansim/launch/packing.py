"""How much of a machine a trial gets: so many of them at once that nothing lies idle, and none runs out of memory."""

import math
from dataclasses import dataclass, replace

from humansim.probes import MARGIN, SHARES, share_of_gpu
from humansim.spec import Trial

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


def share_of(trial: Trial, place: Place, peak: int | None = None) -> Share:
    """What a trial gets at first.

    Shares are few, so that they repeat: Ray keeps a process for the next trial only where that wants the same. Without
    a GPU memory goes with the cores, in whole parts. Without a measurement a trial has a GPU to itself: a guess that is
    too small costs a failed trial, one that is too large costs the time until the first of its kind has finished.

    Args:
        peak: bytes that trials of its kind needed at most: of the GPU where there is one, else of the process.
    """
    if not place.gpus:
        part = trial.threads * place.memory_of_core
        parts = max(1, math.ceil((peak or 0) * MARGIN / part)) if part else 0
        return Share(trial.threads, memory=min(parts * part, place.memory))
    if peak is None or not place.gpu_memory:
        return Share(trial.threads, gpu=1.0)
    return Share(trial.threads, gpu=share_of_gpu(peak, place.gpu_memory))


def more(share: Share, place: Place) -> Share | None:
    """What a trial gets that ran out of memory: twice as much; None if it had all there is."""
    if share.gpu:
        return None if share.gpu >= 1 else replace(share, gpu=next(part for part in SHARES if part > share.gpu))
    if share.memory >= place.memory:
        return None
    return replace(share, memory=min(place.memory, 2 * share.memory or place.memory))
