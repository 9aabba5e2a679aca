"""Several backbones as one: embeddings of length one, side by side."""

import pytest
import torch

from humansim import plan
from humansim.backbones import backbone
from humansim.backbones.ensemble import DREAMSIM
from humansim.backbones.weights import files_of
from humansim.embedder import distance
from humansim.errors import BadInput
from humansim.spec import Trial, Variant

TWO = ("efficientnet_lite0", "timm:test_resnet")
PAIR = Variant("ensemble", members=TWO, weights="random")


def test_its_cosine_distance_is_the_mean_of_its_members() -> None:
    images = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = backbone.make(PAIR).eval()(images)
        parts = [backbone.make(Variant(name, weights="random")).eval()(images) for name in TWO]
    torch.testing.assert_close(whole, torch.cat([part / part.norm(dim=1, keepdim=True) for part in parts], dim=1))
    of_whole = distance(whole[:3], whole[3:], "cosine")
    of_parts = torch.stack([distance(part[:3], part[3:], "cosine") for part in parts])
    torch.testing.assert_close(of_whole, of_parts.mean(dim=0), rtol=1e-4, atol=1e-6)


def test_it_is_read_at_a_layer_of_a_member() -> None:
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        found = backbone.make(PAIR).eval().read_at("members.0.trunk.blocks.3")(images)
        alone = backbone.make(Variant(TWO[0], weights="random")).eval().read_at("blocks.3")(images)
    assert torch.equal(found, alone)


def test_its_files_are_its_members() -> None:
    assert files_of(Variant("ensemble")) == tuple(file for name in DREAMSIM for file in files_of(Variant(name)))
    assert files_of(PAIR) == ()


def test_members_may_be_a_list_and_defaults_are_left_out() -> None:
    assert backbone.normal(Variant("ensemble", members=list(TWO))) == Variant("ensemble", members=TWO)
    assert backbone.normal(Variant("ensemble", members=list(DREAMSIM))) == Variant("ensemble")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["efficientnet_lite0"], "two or more different backbones, not efficientnet_lite0"),
        ([], "not none"),
        (["pixels", "pixels"], "two or more different"),
        (["pixels", "ssim"], "ssim gives no embedding of its own"),
        (["ensemble", "pixels"], "ensemble gives no embedding of its own"),
        (["pixels", "resnet5"], "unknown backbone 'resnet5'; did you mean resnet50"),
        ("pixels", "takes a list of str, got 'pixels'"),
        ([1, 2], "takes a list of str, got"),
    ],
    ids=str,
)
def test_wrong_members_are_told_at_plan_time(members: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        plan.checked(Trial(backbone=Variant("ensemble", members=members)))
