"""Fine-tuning paradigms: `name(**arguments) -> Objective`. One file and `@paradigm()` add one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from humansim.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Objective:
    """What a paradigm minimises.

    Attributes:
        outputs: width of the projection head, the linear block on top of the backbone while it is trained.
        loss: from the network (images [b, 3, r, r] in [0, 1] -> [b, outputs]) and the images of a batch of triplets,
            query, positive (what most people chose) and negative, [b, 3, r, r] each, to a scalar.
    """

    outputs: int
    loss: "Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, Tensor], Tensor]"


paradigm = Registry("paradigm")

from humansim.paradigms import triplet  # noqa: E402, F401
