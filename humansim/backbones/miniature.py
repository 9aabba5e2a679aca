"""The backbones of the thesis in miniature: the same libraries' classes, few and narrow layers, random weights.

They show that a sweep runs on every architecture, in seconds and without a download, and that its analysis does: each
says of its pre-training what its original would, and that it is none. What they score means nothing.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from humansim.backbones import backbone
from humansim.published import BACKBONES
from humansim.spec import Variant

if TYPE_CHECKING:
    from torch import nn

    from humansim.backbones.module import Backbone

SIDE = 64  # pixels, two positions a side at the end of a ResNet: CLIP's attention pool is of a fixed size


def _of(name: str) -> dict[str, Any]:
    """What its original is and would have learnt, out of no images."""
    original = backbone.facts(Variant(name))
    learnt = replace(original["pretraining"], data="none: random weights in place of the original's", images=0)
    return {"pretraining": learnt} | {key: original[key] for key in ("architecture", "family")}


@backbone(resolution=SIDE, names=lambda: list(BACKBONES), of=_of)
def miniature(name: str, /, *, init_seed: int = 0) -> "Backbone":
    """A backbone of the thesis in miniature, random weights: `miniature:resnet50`. For trying, not for science.

    Args:
        init_seed: of the random weights.
    """
    from humansim.backbones.module import IMAGENET_MEAN, IMAGENET_STD, Backbone, initialised_by

    makers: dict[str, Callable[[], Any]] = {
        "resnet50": _resnet,
        "efficientnet_v2_m": _efficientnet,
        "vit_b_16": _vit,
        "alexnet": _alexnet,
        "clip_vit_b_16": _clip_vit,
        "clip_resnet50": _clip_resnet,
        "clip_resnet50x4": partial(_clip_resnet, 10),
        "clip_resnet50x16": partial(_clip_resnet, 12),
        "clip_resnet50x64": partial(_clip_resnet, 16),
        "dino_vit_b_16": _dino_vit,
        "dino_resnet50": _resnet,
    }
    with initialised_by(init_seed):
        trunk: nn.Module = makers[name]()
    return Backbone(trunk, IMAGENET_MEAN, IMAGENET_STD, f"random, seed {init_seed}", int("vit" in name))


def _resnet() -> Any:
    from torch import nn
    from torchvision.models.resnet import Bottleneck

    def stage(features: int, planes: int, stride: int) -> nn.Module:
        shortcut = nn.Sequential(nn.Conv2d(features, 4 * planes, 1, stride, bias=False), nn.BatchNorm2d(4 * planes))
        block: nn.Module = Bottleneck(features, planes, stride, shortcut)
        return block

    stem = [nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    stages = [stage(8, 4, 1), stage(16, 8, 2), stage(32, 16, 2), stage(64, 32, 2)]
    return nn.Sequential(*stem, *stages, nn.AdaptiveAvgPool2d(1))


def _efficientnet() -> Any:
    from torch import nn
    from torchvision import models
    from torchvision.models.efficientnet import FusedMBConvConfig, MBConvConfig

    blocks = [
        FusedMBConvConfig(1, 3, 1, 8, 8, 1),
        FusedMBConvConfig(4, 3, 2, 8, 16, 1),
        MBConvConfig(4, 3, 2, 16, 32, 1),
    ]
    norm = partial(nn.BatchNorm2d, eps=1e-3)
    trunk: Any = models.EfficientNet(blocks, dropout=0.3, last_channel=64, norm_layer=norm)
    trunk.classifier = nn.Identity()
    return trunk


def _vit() -> Any:
    from torch import nn
    from torchvision import models

    trunk: Any = models.VisionTransformer(SIDE, patch_size=16, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128)
    trunk.heads = nn.Identity()
    return trunk


def _alexnet() -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 8, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(8, 24, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(24, 48, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(48, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d((6, 6)),
    )


def _clip_vit() -> Any:
    from open_clip import transformer

    return transformer.VisionTransformer(
        SIDE, patch_size=16, width=64, layers=2, heads=4, mlp_ratio=2.0, output_dim=32, act_layer=transformer.QuickGELU
    )


def _clip_resnet(width: int = 8) -> Any:
    from open_clip.modified_resnet import ModifiedResNet

    return ModifiedResNet([1, 1, 1, 1], output_dim=32, heads=width, image_size=SIDE, width=width)


def _dino_vit() -> Any:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(SIDE, patch_size=16, embed_dim=64, depth=2, num_heads=4, mlp_ratio=2.0, num_classes=0)
