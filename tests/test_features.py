"""Each backbone gives what its own library gives, from images prepared as its publisher prepares them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image
from torch import Tensor, nn

from humansim import plan
from humansim.backbones import backbone
from humansim.backbones.module import Backbone, initialised_by
from humansim.embedder import as_images
from humansim.errors import BadInput
from humansim.material import resize_of
from humansim.published import BACKBONES
from humansim.spec import Trial, Variant

CLIP = {
    "clip_vit_b_16": "ViT-B-16",
    "clip_resnet50": "RN50",
    "clip_resnet50x4": "RN50x4",
    "clip_resnet50x16": "RN50x16",
    "clip_resnet50x64": "RN50x64",
}
TIMM = {
    "dino_vit_b_16": "vit_base_patch16_224.dino",
    "dinov2_vit_b_14": "vit_base_patch14_dinov2.lvd142m",
    "siglip2_vit_b_16": "vit_base_patch16_siglip_224.v2_webli",
    "convnext_base": "convnext_base.fb_in1k",
}
NODES = {  # of torchvision's networks: what the classifier is given
    "resnet50": ("resnet50", "flatten"),
    "dino_resnet50": ("resnet50", "flatten"),
    "efficientnet_v2_m": ("efficientnet_v2_m", "flatten"),
    "alexnet": ("alexnet", "flatten"),
    "vit_b_16": ("vit_b_16", "getitem_5"),
}

Prepare = Callable[[Image.Image], Tensor]


def library(name: str) -> tuple[Callable[[Tensor], Tensor], Prepare]:
    """Features and preparation as the library has them, with random weights."""
    if name in CLIP:
        import open_clip

        with initialised_by(0):
            model, _, prepare = open_clip.create_model_and_transforms(
                CLIP[name], load_weights=False, force_quick_gelu=True
            )
        model.eval()
        return lambda images: model.encode_image(images), prepare
    if name in TIMM:
        import timm

        with initialised_by(0):
            network = timm.create_model(TIMM[name], pretrained=False, num_classes=0).eval()
        config = timm.data.resolve_data_config({}, model=network)
        return network, timm.data.create_transform(**config, is_training=False)
    from torchvision import models, transforms
    from torchvision.models.feature_extraction import create_feature_extractor

    architecture, node = NODES[name]
    with initialised_by(0):
        network = models.get_model(architecture, weights=None).eval()
    extract = create_feature_extractor(network, {node: "features"})
    prepare = models.get_model_weights(architecture)["IMAGENET1K_V1"].transforms()
    if name == "dino_resnet50":  # as in the release's README
        prepare = transforms.Compose(
            [
                transforms.Resize(256, interpolation=transforms.InterpolationMode.BICUBIC),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )
    return lambda images: extract(images)["features"], prepare


def photographs() -> list[Image.Image]:
    """A wide one, and a high one whose sides are odd."""
    folder = Path(skimage.__file__).parent / "data"
    wide = Image.open(folder / "coffee.png").convert("RGB")
    high = Image.open(folder / "chelsea.png").convert("RGB").transpose(Image.Transpose.ROTATE_90).crop((0, 0, 299, 451))
    return [wide, high]


def made(name: str, **arguments: object) -> Backbone:
    found: Backbone = backbone.make(Variant(name, **arguments))
    return found.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*BACKBONES, "dinov2_vit_b_14", "siglip2_vit_b_16", "convnext_base"])
def test_features_and_preparation_are_the_librarys_own(name: str) -> None:
    features, prepare = library(name)
    facts = backbone.entry(Variant(name)).facts
    network = made(name, weights="random")
    resize = resize_of(Trial(backbone=Variant(name), resize="native"))
    pixels = np.stack([resize(picture) for picture in photographs()])
    images = as_images(pixels, np.arange(2), torch.device("cpu"))
    theirs = torch.stack([prepare(picture) for picture in photographs()])
    ours = (images - network.mean) / network.std
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)  # the order of scaling and rounding, no pixel
    with torch.inference_mode():
        found, expected = network(images), features(theirs)
    assert found.shape == expected.shape == (2, facts["features"])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    count = sum(parameter.numel() for parameter in network.parameters())
    assert facts["parameters"] == pytest.approx(count / 1e6, abs=0.06)
    for layer in facts["layers"]:
        network.trunk.get_submodule(layer)


def test_every_study_backbone_says_what_it_learnt_from() -> None:
    supervision = {"resnet50": "supervised", "clip_resnet50x64": "image-text", "dino_vit_b_16": "self-supervised"}
    for name in BACKBONES:
        facts = backbone.entry(Variant(name)).facts
        known = facts["pretraining"]
        assert known.supervision == supervision.get(name, known.supervision)
        assert known.language == name.startswith("clip")
        assert facts["family"] == ("transformer" if "vit" in name else "cnn")
        assert facts["files"]()[0].urls
    assert {backbone.entry(Variant(name)).facts["resolution"] for name in BACKBONES} == {224, 288, 384, 448}


def test_the_published_addresses_are_the_librarys() -> None:
    import open_clip
    import timm
    from torchvision import models

    for name in ("resnet50", "efficientnet_v2_m", "vit_b_16", "alexnet"):
        (file,) = backbone.entry(Variant(name)).facts["files"]()
        assert file.urls == (models.get_model_weights(name)["IMAGENET1K_V1"].url,)
        assert f"-{file.sha256}." in file.name
    for name, architecture in CLIP.items():
        (file,) = backbone.entry(Variant(name)).facts["files"]()
        published = open_clip.get_pretrained_cfg(architecture, "openai")
        assert [form.urls[0] for form in file.forms][1] == published["url"]
        assert file.forms[1].sha256 in published["url"]
        assert file.hub == (published["hf_hub"].rstrip("/"), "open_clip_model.safetensors")
    (file,) = backbone.entry(Variant("dino_vit_b_16")).facts["files"]()
    published = timm.models.get_pretrained_cfg("vit_base_patch16_224.dino")
    assert file.hub == (published.hf_hub_id, "model.safetensors")
    assert file.forms[1].urls == (published.url,)


def test_clip_is_asked_for_its_own_gelu() -> None:
    from open_clip.transformer import QuickGELU

    network = made("clip_vit_b_16", weights="random")
    kinds = {type(module) for module in network.modules()}
    assert QuickGELU in kinds
    assert nn.GELU not in kinds


def test_an_attention_pool_of_fixed_size_refuses_another() -> None:
    network = made("clip_resnet50", weights="random")
    with pytest.raises(RuntimeError, match="must match"), torch.inference_mode():
        network(torch.rand(1, 3, 160, 160))


@pytest.mark.parametrize("name", ["timm:test_vit.r160_in1k", "timm:test_resnet.r160_in1k"])
def test_a_layer_is_what_the_trunk_computes_there(name: str) -> None:
    network = made(name, weights="random")
    images = torch.rand(3, 3, 160, 160)
    with torch.inference_mode():
        end = network(images)
        normalised = (images - network.mean) / network.std
        if "vit" in name:
            tokens = network.trunk.norm(network.trunk.forward_features(normalised))
            last = network.trunk.forward_features(normalised)
            assert torch.equal(network.read_at("norm")(images), last[:, 0])
            assert torch.equal(network.read_at("norm", "mean")(images), last[:, 1:].mean(dim=1))
            assert network.read_at("norm", "flat")(images).shape == (3, (tokens.shape[1] - 1) * tokens.shape[2])
            assert network.read_at("blocks.0")(images).shape == (3, tokens.shape[2])
        else:
            maps = network.trunk.forward_features(normalised)
            last = [module for module, _ in network.trunk.named_children() if module.startswith("layer")][-1]
            torch.testing.assert_close(network.read_at(last)(images), maps.mean(dim=(2, 3)))
            assert torch.equal(network.read_at(last, "flat")(images), maps.flatten(1))
            with pytest.raises(BadInput, match="no class token"):
                network.read_at(last, "class")(images)
        assert torch.equal(network.read_at(None)(images), end)
    with pytest.raises(BadInput, match=r"layer: the backbone has no module 'layer9'"):
        network.read_at("layer9")


def test_nothing_behind_a_layer_is_computed() -> None:
    network = backbone.make(Variant("timm:test_vit", weights="random")).eval().read_at("blocks.2")
    calls = []
    for name in ("blocks.2", "blocks.3", "norm"):
        network.trunk.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.append(name))
    images = torch.rand(2, 3, 160, 160)
    with torch.inference_mode():
        whole = network(images)  # the first pass runs to the end, to see how often the layer is called
        assert calls == ["blocks.2", "blocks.3", "norm"]
        calls.clear()
        assert torch.equal(network(images), whole)
    assert calls == ["blocks.2"]


def test_a_layer_that_is_called_again_and_again_is_read_at_its_last_call() -> None:
    class Thrice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twofold = nn.Sequential(nn.AvgPool2d(1))
            self.twofold.register_forward_hook(lambda module, given, output: output * 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.twofold(self.twofold(self.twofold(x))) + 1

    network = Backbone(Thrice(), (0, 0, 0), (1, 1, 1), "none").read_at("twofold", "flat")
    images = torch.rand(2, 3, 2, 2)
    for _ in range(3):
        torch.testing.assert_close(network(images), 8 * images.flatten(1))


@pytest.mark.parametrize(
    ("variant", "layer", "known"),
    [
        ("timm:test_resnet", "layer2.0", True),
        ("timm:test_resnet", "layer9", False),
        ("efficientnet_lite0", "blocks.3.0", True),
        ("clip_vit_b_16", "transformer.resblocks.3.mlp", True),
        ("clip_vit_b_16", "transformer.blocks.3", False),
    ],
)
def test_a_layer_that_is_not_there_is_known_at_plan_time_without_weights(variant: str, layer: str, known: bool) -> None:
    trial = Trial(backbone=Variant(variant), layer=layer)
    if known:
        assert plan.checked(trial).layer == layer
    else:
        with pytest.raises(BadInput, match=rf"layer: the backbone has no module '{layer}'; did you mean"):
            plan.checked(trial)


def test_native_asks_for_a_backbone_whose_way_is_known() -> None:
    with pytest.raises(BadInput, match=r"resize .native.*is not known"):
        resize_of(Trial(backbone=Variant("timm:resnet18"), resize="native"))
    assert resize_of(Trial(backbone=Variant("efficientnet_v2_m"))).name == "squash-bicubic-224"
    assert resize_of(Trial(backbone=Variant("efficientnet_v2_m"), resize="native")).name == "crop-bilinear-480-480"
    assert (
        resize_of(Trial(backbone=Variant("resnet50"), resize="native", resolution=112)).name == "crop-bilinear-128-112"
    )
