"""Several processes on one trial: each computes its share of a batch, and all take the same step.

Every worker draws the same batches, views and labels from the same seed. Its share of the images goes through its copy
of the network; the outputs of all shares are put together, and each worker computes the objective of the whole batch.
So in-batch negatives, queues and labels are those of one process, and a trial of several workers differs from that of
one in the order of its sums and in batch norm, whose statistics are those of a share.

Without `torch.distributed` (or with one worker) all of this is nothing. Who starts the workers is `launch`'s affair.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as group
from torch import Tensor, nn

Value = TypeVar("Value")


def count() -> int:
    """Workers on this trial."""
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def leads() -> bool:
    """Whether this worker is the one that validates, saves and reports."""
    return count() == 1 or group.get_rank() == 0


def told(value: Value) -> Value:
    """The leader's value, on every worker. It is pickled: of this trial's own making only."""
    if count() == 1:
        return value
    held: list[Any] = [value]
    group.broadcast_object_list(held)
    return held[0]  # type: ignore[no-any-return]


def shared(network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The network over all workers: images [n, ...] that all of them have -> outputs [n, k] that all of them have.

    n is to be a multiple of the number of workers. The gradient of a worker's parameters is that of its share; their
    sum over the workers (`add_gradients`) is that of the whole.
    """
    if count() == 1:
        return network

    def of_all(images: Tensor) -> Tensor:
        together: Tensor = _Together.apply(network(images.chunk(count())[group.get_rank()]))
        return together

    return of_all


class _Together(torch.autograd.Function):
    """Outputs of all shares, in order. The way back is each worker's own part: the others go their own."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(count())]
        group.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, of_all: Tensor) -> Tensor:
        return of_all.chunk(count())[group.get_rank()].contiguous()


def add_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces each gradient by its sum over the workers."""
    if count() > 1:
        for gradients in _alike([p.grad for p in parameters if p.grad is not None]):
            _reduce_flat(gradients)


def average_statistics(network: nn.Module) -> None:
    """Makes batch norm's running statistics those of all shares: their mean."""
    if count() > 1:
        for buffers in _alike([buffer for buffer in network.buffers() if buffer.is_floating_point()]):
            _reduce_flat(buffers, 1 / count())


def _alike(tensors: list[Tensor]) -> list[list[Tensor]]:
    """Tensors by type, so that each kind travels as one."""
    return [[tensor for tensor in tensors if tensor.dtype == dtype] for dtype in {t.dtype: None for t in tensors}]


def _reduce_flat(tensors: list[Tensor], factor: float = 1.0) -> None:
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    group.all_reduce(flat)
    start = 0
    for tensor in tensors:
        tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor).mul_(factor))
        start += tensor.numel()
