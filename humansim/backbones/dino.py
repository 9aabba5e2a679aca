"""DINO (Caron et al. 2021): self-distillation without labels on ImageNet-1k.

(The thesis says that it was pre-trained on 14 million images; the weights that were released come from the 1.28 million
of ImageNet-1k. They are the teacher's.)
"""

from typing import TYPE_CHECKING, Any, Literal

from humansim.backbones import Native, Pretraining, backbone
from humansim.backbones.weights import WeightFile

if TYPE_CHECKING:
    from humansim.backbones.module import Backbone

Weights = Literal["dino", "random"]
DINO = Pretraining("self-supervised", "DINO", "ImageNet-1k", 1_281_167)
PUBLISHED = "https://dl.fbaipublicfiles.com/dino"
RESNET50 = WeightFile.at(f"{PUBLISHED}/dino_resnet50_pretrain/dino_resnet50_pretrain.pth")
VIT_B_16 = WeightFile.on_hub(
    "timm/vit_base_patch16_224.dino",
    or_else=WeightFile.at(f"{PUBLISHED}/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth"),
)


@backbone(
    resolution=224,
    native=Native(224, 248),
    pretraining=DINO,
    architecture="ViT-B/16",
    licence="Apache-2.0 (Meta)",
    family="transformer",
    features=768,
    parameters=85.8,
    files=lambda **_: (VIT_B_16,),
    layers=tuple(f"blocks.{i}" for i in range(12)),
)
def dino_vit_b_16(*, weights: Weights = "dino", init_seed: int = 0) -> "Backbone":
    """DINO's ViT-B/16, in timm's: class token after the last norm, 768 features.

    Args:
        weights: "dino" or "random".
        init_seed: of the random weights.
    """
    import timm as library

    from humansim.backbones.module import IMAGENET_MEAN, IMAGENET_STD, Backbone, initialised_by
    from humansim.backbones.weights import load_into

    with initialised_by(init_seed):
        # At other resolutions its position embedding is interpolated.
        trunk: Any = library.create_model("vit_base_patch16_224.dino", num_classes=0, dynamic_img_size=True)
    origin = f"random, seed {init_seed}"
    if weights == "dino":
        load_into(trunk, VIT_B_16)
        origin = "DINO ViT-B/16"
    return Backbone(trunk, IMAGENET_MEAN, IMAGENET_STD, origin, prefix_tokens=1)


@backbone(
    resolution=224,
    native=Native(224, 256),
    pretraining=DINO,
    architecture="ResNet-50",
    licence="Apache-2.0 (Meta)",
    family="cnn",
    features=2048,
    parameters=23.5,
    files=lambda **_: (RESNET50,),
    layers=("layer1", "layer2", "layer3", "layer4"),
)
def dino_resnet50(*, weights: Weights = "dino", init_seed: int = 0) -> "Backbone":
    """DINO's ResNet-50, in torchvision's: global pool, 2048 features.

    Args:
        weights: "dino" or "random".
        init_seed: of the random weights.
    """
    from torch import nn
    from torchvision import models

    from humansim.backbones.module import IMAGENET_MEAN, IMAGENET_STD, Backbone, initialised_by
    from humansim.backbones.weights import load_into

    with initialised_by(init_seed):
        trunk: Any = models.resnet50(weights=None)
    trunk.fc = nn.Identity()  # the release has no classifier
    origin = f"random, seed {init_seed}"
    if weights == "dino":
        load_into(trunk, RESNET50)
        origin = "DINO ResNet-50"
    return Backbone(trunk, IMAGENET_MEAN, IMAGENET_STD, origin)
