"""Tunings: which parameters of a backbone are trained, `name(**arguments) -> Tuning`.

The projection head on top is trained under each of them. Facts given to the decorator:

- `check`: what in a trial does not go with it, a function of the trial, the facts of its backbone and the tuning's
  arguments that raises BadInput.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from humansim.errors import BadInput
from humansim.registry import Registry
from humansim.spec import Trial

if TYPE_CHECKING:
    from torch import Tensor, nn

    from humansim.backbones.module import Backbone


@dataclass(frozen=True)
class Tuning:
    """What is done to a backbone before it is trained, and after.

    Attributes:
        prepare: from the backbone, its blocks (names of modules of its trunk, from its input to its end; none where
            they are not known) and an image [1, 3, r, r]: freezes what is not trained, adds what is trained instead.
        finish: makes the backbone a plain one again, that gives the same embeddings.
    """

    prepare: "Callable[[Backbone, Sequence[str], Tensor], None]"
    finish: "Callable[[Backbone], None]" = lambda backbone: None


tuning = Registry("tuning")


@tuning()
def whole() -> Tuning:
    """The whole network is trained: nothing is frozen (thesis, 3.2)."""
    return Tuning(lambda backbone, blocks, image: None)


def _check_head(trial: Trial, facts: Mapping[str, Any]) -> None:
    if trial.head == "removed":
        raise BadInput("tuning 'head' trains the projection head alone: without it nothing changes; set head='kept'")


@tuning(check=_check_head)
def head() -> Tuning:
    """The projection head alone is trained, on embeddings that stay as they are; it has to be kept for evaluation."""

    def prepare(backbone: "Backbone", blocks: Sequence[str], image: "Tensor") -> None:
        backbone.requires_grad_(False)  # with that its pass keeps nothing for a gradient

    return Tuning(prepare)


def _check_last_blocks(trial: Trial, facts: Mapping[str, Any], *, count: int = 1) -> None:
    blocks: tuple[str, ...] = facts.get("layers", ())
    if not blocks:
        raise BadInput(f"tuning 'last_blocks': which blocks {trial.backbone} has is not known; use whole, lora or head")
    if trial.layer in blocks:
        blocks = blocks[: blocks.index(trial.layer) + 1]
    _check_count(count, blocks, trial.layer)


def _check_count(count: int, blocks: Sequence[str], layer: str | None) -> None:
    if not 0 < count < len(blocks):
        there = f"{len(blocks)} blocks" + ("" if layer is None else f" up to layer {layer!r}")
        raise BadInput(f"tuning.count: {count} of {there}; at least one is trained, at least the first one is not")


@tuning(check=_check_last_blocks)
def last_blocks(*, count: int = 1) -> Tuning:
    """The last blocks of the backbone are trained, and what comes behind them: a last norm, a pool, a projection.

    Args:
        count: of blocks, the `layers` of the backbone's facts: a ResNet has 4, a ViT-B 12.
    """

    def prepare(backbone: "Backbone", blocks: Sequence[str], image: "Tensor") -> None:
        names = [name for name, _ in backbone.trunk.named_modules()]
        end = len(names) if backbone.layer is None else names.index(backbone.layer)
        begun = [block for block in blocks if names.index(block) <= end]
        _check_count(count, begun, backbone.layer)
        trained = _behind(backbone, begun[-count - 1], image)
        backbone.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)

    return Tuning(prepare)


def _behind(backbone: "Backbone", module: str, image: "Tensor") -> "list[nn.Parameter]":
    """The parameters that come after a module in a pass: those that a gradient reaches when its output is cut off.

    The order in which a network names its parameters would not do: CLIP's first is the last projection.
    """
    import torch

    training = backbone.training
    cut = backbone.trunk.get_submodule(module).register_forward_hook(lambda module, given, output: output.detach())
    try:
        output = backbone.eval()(image)
    finally:
        cut.remove()
        backbone.train(training)
    parameters = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(output.sum(), parameters, allow_unused=True)
    return [parameter for parameter, gradient in zip(parameters, gradients, strict=True) if gradient is not None]


WEIGHT = re.compile(r"(^|\.|_)(weight|proj)$")  # "proj" is CLIP's last projection
QKV = re.compile(r"(^|\.)((qkv|kv|[qkv]|[qkv]_proj)\.weight|(in|[qkv])_proj_weight)$")


def _check_lora(
    trial: Trial,
    facts: Mapping[str, Any],
    *,
    rank: int = 16,
    alpha: float = 0.5,
    dropout: float = 0.3,
    targets: str = "all",
) -> None:
    if rank < 1:
        raise BadInput(f"tuning.rank: at least 1, not {rank}")
    if alpha <= 0:
        raise BadInput(f"tuning.alpha: above 0, not {alpha}")
    if not 0 <= dropout < 1:
        raise BadInput(f"tuning.dropout: a share from 0 to below 1, not {dropout}")
    if targets == "qkv" and facts.get("family") == "cnn":
        raise BadInput(f"tuning.targets 'qkv': {trial.backbone} is no transformer; use 'all'")


@tuning(check=_check_lora)
def lora(*, rank: int = 16, alpha: float = 0.5, dropout: float = 0.3, targets: Literal["all", "qkv"] = "all") -> Tuning:
    """A low-rank change of each weight matrix is trained, the weights themselves are frozen (LoRA, Hu et al. 2021).

    The weight is W + alpha / rank x B A, with B zero to begin with, as a parametrisation, so that it works wherever a
    module reads its weight; a convolution's [out, in, h, w] is taken as a matrix [out, in x h x w]. Matrices that are
    smaller than their A and B, such as those of depthwise convolutions, stay frozen, as biases and norms do. When
    training is over, the change is added to the weights.

    Rank, alpha and dropout are DreamSim's (Fu et al. 2023; `lora_config` of its release), which trains qkv alone, at a
    learning rate of 3e-4: alpha / rank is small, so it takes a larger one than the whole network.

    Args:
        rank: of the change.
        alpha: the change is scaled by alpha / rank.
        dropout: share of a matrix's inputs that the change passes over while training. They are the same ones for all
            images of a batch, where Hu et al. draw them for each.
        targets: "all" matrices, or those of an attention's queries, keys and values, "qkv".
    """
    import torch
    from torch import nn
    from torch.nn.utils import parametrize

    class LowRank(nn.Module):
        def __init__(self, weight: "Tensor") -> None:
            super().__init__()
            a, b = torch.empty(rank, weight[0].numel()), torch.zeros(len(weight), rank)
            nn.init.kaiming_uniform_(a, a=math.sqrt(5))  # as the authors' code and peft's
            self.a, self.b = nn.Parameter(a.to(weight.device)), nn.Parameter(b.to(weight.device))

        def forward(self, weight: "Tensor") -> "Tensor":
            with torch.autocast(weight.device.type, enabled=False):  # as exact as the weights will be
                kept = nn.functional.dropout(torch.ones_like(self.a[0]), dropout, self.training)
                change: Tensor = self.b @ (self.a * kept) * (alpha / rank)
                return weight.clone().add_(change.view_as(weight))  # a sum might lie otherwise in memory

    def prepare(backbone: "Backbone", blocks: Sequence[str], image: "Tensor") -> None:
        pattern = WEIGHT if targets == "all" else QKV
        backbone.requires_grad_(False)
        chosen = [
            name
            for name, weight in backbone.trunk.named_parameters()
            if pattern.search(name) and weight.ndim > 1 and weight.numel() > rank * (len(weight) + weight[0].numel())
        ]
        if not chosen:
            raise BadInput(f"tuning 'lora': no weights ({targets}) larger than their change of rank {rank}")
        for name in chosen:
            module, _, own = name.rpartition(".")
            holder = backbone.trunk.get_submodule(module)
            parametrize.register_parametrization(holder, own, LowRank(getattr(holder, own)))

    def finish(backbone: "Backbone") -> None:
        backbone.eval()  # no dropout
        for module in list(backbone.modules()):
            for name, steps in list(getattr(module, "parametrizations", {}).items()):
                if isinstance(steps[-1], LowRank):
                    parametrize.remove_parametrizations(module, name, leave_parametrized=True)

    return Tuning(prepare, finish)
