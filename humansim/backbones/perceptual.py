"""Published perceptual metrics, beside the backbones: LPIPS, DISTS, SSIM. They judge pairs and give no embeddings.

All are torchmetrics'; the trunks of LPIPS and DISTS are torchvision's, their weight files found as any backbone's are.
A result has one measure of theirs, "own".
"""

from typing import TYPE_CHECKING, Any, Literal

from humansim.backbones import Pretraining, backbone
from humansim.backbones.torchvision import ALEXNET, PUBLISHED
from humansim.backbones.weights import WeightFile

if TYPE_CHECKING:
    from humansim.backbones.module import Scorer

Weights = Literal["published", "random"]
VGG16 = WeightFile.at(f"{PUBLISHED}/vgg16-397923af.pth")
SQUEEZENET1_1 = WeightFile.at(f"{PUBLISHED}/squeezenet1_1-b8a52dc0.pth")
LPIPS = Pretraining("supervised", "LPIPS", "ImageNet-1k, then human judgements: BAPPS 2AFC train", 1_281_167)
DISTS = Pretraining("supervised", "DISTS", "ImageNet-1k, then human judgements: KADID-10k", 1_281_167)
TRUNKS = {"alex": ("alexnet", ALEXNET), "vgg": ("vgg16", VGG16), "squeeze": ("squeezenet1_1", SQUEEZENET1_1)}


@backbone(
    resolution=224,
    pairwise=True,
    trainable=False,
    pretraining=LPIPS,
    family="cnn",
    files=lambda net="alex", **_: (TRUNKS[net][1],),
)
def lpips(
    *, net: Literal["alex", "vgg", "squeeze"] = "alex", weights: Weights = "published", init_seed: int = 0
) -> "Scorer":
    """LPIPS (Zhang et al. 2018), version 0.1 "lin": fitted to BAPPS's train part, published at 64 pixels.

    Args:
        net: AlexNet, VGG-16 or SqueezeNet 1.1.
        weights: "published", or "random": an untrained trunk under the published linear weights.
        init_seed: of the random weights.
    """
    from unittest.mock import patch

    from torchmetrics.functional.image import lpips as library

    from humansim.backbones.module import FromUnitRange, Scorer

    name, file = TRUNKS[net]
    trunk = _trunk(name, file, weights, init_seed)
    # torchmetrics takes its trunk from torchvision, which would download it to a place of its own.
    with patch.object(library, "_get_tv_model_features", lambda *_: trunk):
        network = library._LPIPS(net=net)
    return Scorer(FromUnitRange(network), _origin(f"LPIPS 0.1, {name}", weights, init_seed))


@backbone(
    resolution=224,
    pairwise=True,
    trainable=False,
    pretraining=DISTS,
    family="cnn",
    files=lambda **_: (VGG16,),
)
def dists(*, weights: Weights = "published", init_seed: int = 0) -> "Scorer":
    """DISTS (Ding et al. 2020): structure and texture in VGG-16's layers; published at 256 pixels.

    Args:
        weights: "published", or "random": an untrained trunk under the published weights of its layers.
        init_seed: of the random weights.
    """
    from types import SimpleNamespace
    from unittest.mock import patch

    from torchmetrics.functional.image import dists as library

    from humansim.backbones.module import Scorer, initialised_by

    trunk = _trunk("vgg16", VGG16, weights, init_seed)
    with (
        patch.object(library, "vgg16", lambda **_: SimpleNamespace(features=trunk)),
        initialised_by(0),  # it draws what it then loads
    ):
        network = library.DISTSNetwork()
    return Scorer(network, _origin("DISTS, vgg16", weights, init_seed))


@backbone(resolution=224, pairwise=True, trainable=False, family="none", licence="none: no weights")
def ssim() -> "Scorer":
    """1 - SSIM (Wang et al. 2004), Gaussian window of 11 pixels: a floor that knows of structure."""
    from humansim.backbones.module import Dissimilarity, Scorer

    return Scorer(Dissimilarity(), "none")


def _trunk(name: str, file: WeightFile, weights: Weights, init_seed: int) -> Any:
    from torchvision import models

    from humansim.backbones.module import initialised_by
    from humansim.backbones.weights import load_into

    with initialised_by(init_seed):
        network: Any = models.get_model(name, weights=None)
    if weights == "published":
        load_into(network, file)
    return network.features


def _origin(what: str, weights: Weights, init_seed: int) -> str:
    return what if weights == "published" else f"{what}, trunk random, seed {init_seed}"
