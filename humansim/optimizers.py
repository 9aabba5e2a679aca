"""Optimisers: `name(parameters, lr, **arguments) -> torch.optim.Optimizer`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from humansim.registry import Registry

if TYPE_CHECKING:
    import torch

optimizer = Registry("optimizer")


@optimizer()
def adam(
    parameters: "Iterable[torch.nn.Parameter]", lr: float, /, *, weight_decay: float = 0.0
) -> "torch.optim.Optimizer":
    """Adam (Kingma and Ba 2015), the thesis's choice."""
    import torch

    given = list(parameters)
    return torch.optim.Adam(given, lr=lr, weight_decay=weight_decay, fused=given[0].is_cuda or None)


@optimizer()
def sgd(
    parameters: "Iterable[torch.nn.Parameter]", lr: float, /, *, momentum: float = 0.9, weight_decay: float = 0.0
) -> "torch.optim.Optimizer":
    """Stochastic gradient descent with momentum."""
    import torch

    given = list(parameters)
    fused = given[0].is_cuda or None
    return torch.optim.SGD(given, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=fused)
