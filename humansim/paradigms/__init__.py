"""Fine-tuning paradigms: `name(**arguments) -> Objective`. One file and `@paradigm(data=...)` add one.

`data` says what a data point is: a "triplet" (query, positive, negative), a "quadruplet" (and a further dissimilar
image) or a "singleton", one image without people's judgement. `classifies` says that the outputs are logits of a
classification: nothing in them says what two images have in common, so the head is no part of an embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from humansim.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

    Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Batch:
    """Data points that are learnt from at once.

    Attributes:
        images: [k, b, 3, r, r] in [0, 1]: k = 3 query, positive (what most people chose), negative; 4 and a further
            dissimilar image; or 1.
        numbers: of these images [k, b].
        share: of the people who chose the positive [b], above 0.5; 1 for single images.
    """

    images: "Tensor"
    numbers: "Tensor"
    share: "Tensor"


@dataclass(frozen=True)
class Objective:
    """What a paradigm minimises.

    Attributes:
        outputs: width of the projection head, the linear block on top of the backbone while it is trained.
        loss: from the network (images [n, 3, r, r] in [0, 1] -> [n, outputs]) and a batch to a scalar.
        memory: what the paradigm carries from step to step beside the network; part of every checkpoint.
        begin: called with the network before its first epoch.
        before_step: called with the network before each step.
        after_epoch: called when an epoch is over.
    """

    outputs: int
    loss: "Callable[[Network, Batch], Tensor]"
    memory: "nn.Module | None" = None
    begin: "Callable[[nn.Module], None]" = lambda network: None
    before_step: "Callable[[nn.Module], None]" = lambda network: None
    after_epoch: Callable[[], None] = lambda: None


paradigm = Registry("paradigm")

from humansim.paradigms import (  # noqa: E402, F401
    contrastive,
    hinge,
    jigsaw,
    logistic,
    moco,
    quadruplet,
    rotation,
    simclr,
    triplet,
    tuplet,
)
