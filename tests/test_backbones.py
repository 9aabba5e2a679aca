"""Each backbone: real weights, its own normalisation inside, the features before the classifier."""

import pytest
import torch

from humansim.backbones import backbone
from humansim.backbones.module import Backbone
from humansim.errors import BadInput
from humansim.spec import Variant


def make(name: str, **arguments: object) -> Backbone:
    made: Backbone = backbone.make(Variant(name, **arguments))
    return made.eval()


@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet")
@pytest.mark.parametrize(
    ("variant", "features"),
    [
        (Variant("pixels"), 3 * 64 * 64),
        (Variant("efficientnet_lite0"), 1280),
        (Variant("timm:resnet18", weights="random"), 512),
        (Variant("timm:convnext_atto", weights="random"), 320),
        (Variant("torchvision:resnet18", weights="random"), 512),
        (Variant("torchvision:alexnet", weights="random"), 9216),
        (Variant("torchvision:mobilenet_v3_small", weights="random"), 576),
        (Variant("torchvision:convnext_tiny", weights="random"), 768),
        (Variant("torchvision:squeezenet1_1", weights="random"), 512),
        (Variant("torchvision:googlenet", weights="random"), 1024),
    ],
    ids=str,
)
def test_images_go_in_and_one_embedding_each_comes_out(variant: Variant, features: int) -> None:
    network = make(variant.name, **variant.kwargs)
    with torch.inference_mode():
        found = network(torch.rand(2, 3, 64, 64))
        trained = network.train()(torch.rand(2, 3, 64, 64))
    assert found.shape == trained.shape == (2, features)
    assert found.isfinite().all()


def test_efficientnet_lite0_has_its_imagenet_weights() -> None:
    # 74.953 on zappos85 is checked in test_published.py; this pins the weights themselves.
    assert make("efficientnet_lite0").fingerprint()[:16] == "8a45218b4871baad"


def test_normalisation_is_inside() -> None:
    network = make("efficientnet_lite0")
    images = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(network(images), network.trunk((images - 0.5) / 0.5))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "timm:resnet18", "torchvision:resnet18"])
def test_random_weights_are_those_of_their_seed(name: str) -> None:
    state = torch.random.get_rng_state()
    first, again = make(name, weights="random"), make(name, weights="random")
    other = make(name, weights="random", init_seed=1)
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_torchvision_weights_are_called_by_their_names() -> None:
    with pytest.raises(BadInput, match="IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT, not 'IMAGENET'"):
        make("torchvision:resnet50", weights="IMAGENET")


def test_an_unknown_member_of_a_family_lists_near_ones() -> None:
    with pytest.raises(BadInput, match=r"unknown backbone 'timm:resnet1'; did you mean .*resnet18"):
        backbone.normal(Variant("timm:resnet1"))
