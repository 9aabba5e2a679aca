"""The supervised backbones of the thesis (Table 3.1), and any classifier of torchvision: `torchvision:resnet18`."""

from typing import TYPE_CHECKING, Any, Literal

from humansim.backbones import Native, Pretraining, backbone
from humansim.backbones.weights import WeightFile

if TYPE_CHECKING:
    from humansim.backbones.module import Backbone

Weights = Literal["imagenet", "random"]
IMAGENET = Pretraining("supervised", "cross-entropy", "ImageNet-1k", 1_281_167)
# Its README: they "may have their own licenses or terms and conditions derived from the dataset used for training".
LICENCE = "torchvision (BSD-3-Clause); terms derived from ImageNet's, research use, may apply"
PUBLISHED = "https://download.pytorch.org/models"
RESNET50 = WeightFile.at(f"{PUBLISHED}/resnet50-0676ba61.pth")
EFFICIENTNET_V2_M = WeightFile.at(f"{PUBLISHED}/efficientnet_v2_m-dc08266a.pth")
VIT_B_16 = WeightFile.at(f"{PUBLISHED}/vit_b_16-c867db91.pth")
ALEXNET = WeightFile.at(f"{PUBLISHED}/alexnet-owt-7be5be79.pth")


@backbone(
    resolution=224,
    native=Native(224, 256, "bilinear"),
    pretraining=IMAGENET,
    architecture="ResNet-50",
    licence=LICENCE,
    family="cnn",
    features=2048,
    parameters=23.5,
    files=lambda **_: (RESNET50,),
    layers=("layer1", "layer2", "layer3", "layer4"),
)
def resnet50(*, weights: Weights = "imagenet", init_seed: int = 0) -> "Backbone":
    """ResNet-50 (He et al. 2016) of torchvision, IMAGENET1K_V1: global pool, 2048 features.

    Args:
        weights: "imagenet" or "random".
        init_seed: of the random weights.
    """
    return _published("resnet50", RESNET50, weights, init_seed)


@backbone(
    resolution=224,
    native=Native(480, 480, "bilinear"),
    pretraining=IMAGENET,
    architecture="EfficientNetV2-M",
    licence=LICENCE,
    family="cnn",
    features=1280,
    parameters=52.9,
    files=lambda **_: (EFFICIENTNET_V2_M,),
    layers=tuple(f"features.{i}" for i in range(9)),
)
def efficientnet_v2_m(*, weights: Weights = "imagenet", init_seed: int = 0) -> "Backbone":
    """EfficientNetV2-M (Tan and Le 2021) of torchvision, IMAGENET1K_V1: global pool, 1280 features.

    Args:
        weights: "imagenet" or "random".
        init_seed: of the random weights.
    """
    return _published("efficientnet_v2_m", EFFICIENTNET_V2_M, weights, init_seed)


@backbone(
    resolution=224,
    native=Native(224, 256, "bilinear"),
    pretraining=IMAGENET,
    architecture="ViT-B/16",
    licence=LICENCE,
    family="transformer",
    features=768,
    parameters=85.8,
    files=lambda **_: (VIT_B_16,),
    layers=tuple(f"encoder.layers.encoder_layer_{i}" for i in range(12)),
)
def vit_b_16(*, weights: Weights = "imagenet", init_seed: int = 0) -> "Backbone":
    """ViT-B/16 (Dosovitskiy et al. 2021) of torchvision, IMAGENET1K_V1: class token after the last norm, 768 features.

    Args:
        weights: "imagenet" or "random".
        init_seed: of the random weights.
    """
    return _published("vit_b_16", VIT_B_16, weights, init_seed)


@backbone(
    resolution=224,
    native=Native(224, 256, "bilinear"),
    pretraining=IMAGENET,
    architecture="AlexNet",
    licence=LICENCE,
    family="cnn",
    features=9216,
    parameters=2.5,
    files=lambda **_: (ALEXNET,),
    layers=("features.1", "features.4", "features.7", "features.9", "features.11"),
)
def alexnet(*, weights: Weights = "imagenet", init_seed: int = 0) -> "Backbone":
    """AlexNet (Krizhevsky 2014) of torchvision, IMAGENET1K_V1: its pooled convolutional features, flattened, 9216.

    Args:
        weights: "imagenet" or "random".
        init_seed: of the random weights.
    """
    return _published("alexnet", ALEXNET, weights, init_seed)


def _published(name: str, file: WeightFile, weights: Weights, init_seed: int) -> "Backbone":
    from torchvision import models

    from humansim.backbones.module import IMAGENET_MEAN, IMAGENET_STD, Backbone, initialised_by
    from humansim.backbones.weights import load_into

    with initialised_by(init_seed):
        trunk: Any = models.get_model(name, weights=None)
    origin = f"random, seed {init_seed}"
    if weights == "imagenet":
        load_into(trunk, file)
        origin = f"torchvision {name} IMAGENET1K_V1 ({file.name})"
    return Backbone(_headless(trunk), IMAGENET_MEAN, IMAGENET_STD, origin, _prefix_tokens(trunk))


def _names() -> list[str]:
    from torchvision import models

    return list(models.list_models(module=models))


def _files(name: str, *, weights: str = "DEFAULT", **_: Any) -> tuple[WeightFile, ...]:
    from torchvision import models

    known = models.get_model_weights(name)
    return (WeightFile.at(known[weights].url),) if weights == "DEFAULT" or weights in known.__members__ else ()


@backbone(resolution=224, names=_names, files=_files)
def torchvision(name: str, /, *, weights: str = "DEFAULT", init_seed: int = 0) -> "Backbone":
    """Any classifier of torchvision: the pooled features before its classifier, its own normalisation.

    Args:
        weights: torchvision's name of the weights ("IMAGENET1K_V1", "DEFAULT" for its best), or "random".
        init_seed: of the random weights.
    """
    from torchvision import models

    from humansim.backbones.module import IMAGENET_MEAN, IMAGENET_STD, Backbone, initialised_by
    from humansim.backbones.weights import load_into
    from humansim.errors import BadInput

    mean, std, origin, chosen = IMAGENET_MEAN, IMAGENET_STD, f"random, seed {init_seed}", None
    if weights != "random":
        known = models.get_model_weights(name)
        if weights != "DEFAULT" and weights not in known.__members__:
            raise BadInput(f"backbone.weights: torchvision:{name} has {', '.join(known.__members__)}, not {weights!r}")
        chosen = known[weights]
        preset = chosen.transforms()
        mean, std, origin = preset.mean, preset.std, f"torchvision {chosen}"
    # What the weights' form asks of the network (GoogLeNet's transform_input) is what `get_model` would set for them.
    with initialised_by(init_seed):
        trunk: Any = models.get_model(name, weights=None, **_form(name, chosen))
    if chosen is not None:
        load_into(trunk, WeightFile.at(chosen.url))
    if getattr(trunk, "aux_logits", False):  # GoogLeNet, Inception: classifiers on the side, while training
        trunk.aux_logits = False
        for side in ("aux1", "aux2", "AuxLogits"):
            if hasattr(trunk, side):
                setattr(trunk, side, None)
    return Backbone(_headless(trunk), mean, std, origin, _prefix_tokens(trunk))


def _form(name: str, chosen: Any) -> dict[str, Any]:
    return {"transform_input": True} if chosen is not None and name in ("googlenet", "inception_v3") else {}


def _headless(trunk: Any) -> Any:
    """The network without its classifier."""
    from torch import nn

    head = next(part for part in ("fc", "heads", "head", "classifier") if hasattr(trunk, part))
    last = getattr(trunk, head)
    if isinstance(last, nn.Sequential) and any(isinstance(layer, nn.Conv2d) for layer in last):
        setattr(trunk, head, nn.AdaptiveAvgPool2d(1))  # SqueezeNet: it pools inside its classifier
    elif isinstance(last, nn.Sequential) and not isinstance(last[0], (nn.Linear, nn.Dropout)):
        last[-1] = nn.Identity()  # ConvNeXt: its last norm belongs to the features
    else:
        setattr(trunk, head, nn.Identity())
    return trunk


def _prefix_tokens(trunk: Any) -> int:
    return int(hasattr(trunk, "class_token"))
