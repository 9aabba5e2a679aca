"""How much of a machine a trial gets: so many of them at once that nothing lies idle, and none runs out of memory."""

from dataclasses import dataclass, replace

from humansim.probes import MARGIN, SHARES, share_of_gpu
from humansim.spec import Trial

TIMES = 2  # that a trial which ran out of memory is asked again, each time with more


@dataclass(frozen=True)
class Place:
    """A machine of the kind that trials run on.

    Attributes:
        cpus: cores of a node.
        memory: bytes of a node's memory that trials may use.
        gpus: of the whole cluster.
        gpu_memory: bytes of a GPU; 0 where that is not known.
    """

    cpus: int
    memory: int
    gpus: int = 0
    gpu_memory: int = 0


@dataclass(frozen=True)
class Share:
    """What is set aside for a trial: cores, a part of a GPU in (0, 1] or none, bytes of a node's memory or no say."""

    cpus: int
    gpu: float = 0.0
    memory: int = 0


def share_of(trial: Trial, place: Place, peak: int | None = None) -> Share:
    """What a trial gets at first.

    Without a measurement a trial has a GPU to itself: a guess that is too small costs a failed trial, one that is too
    large costs the time until the first trial of its kind has finished.

    Args:
        peak: bytes that trials of its kind needed at most: of the GPU where there is one, else of the process.
    """
    if not place.gpus:
        return Share(trial.threads, memory=0 if peak is None else min(round(peak * MARGIN), place.memory))
    if peak is None or not place.gpu_memory:
        return Share(trial.threads, gpu=1.0)
    return Share(trial.threads, gpu=share_of_gpu(peak, place.gpu_memory))


def more(share: Share, place: Place) -> Share | None:
    """What a trial gets that ran out of memory: twice as much; None if it had all there is."""
    if share.gpu:
        return None if share.gpu >= 1 else replace(share, gpu=next(part for part in SHARES if part > share.gpu))
    if share.memory >= place.memory:
        return None
    # What was unknown starts at a half: whoever runs out of memory on a shared machine had more than a fair part.
    return replace(share, memory=min(place.memory, 2 * share.memory or place.memory // 2))
