"""Tunings: exactly what each says is trained, all else keeps its bits, and what is saved is a plain backbone again."""

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from humansim import plan, results, train
from humansim.backbones import backbone
from humansim.backbones.module import Backbone
from humansim.embedder import Embedder, distances
from humansim.errors import BadInput
from humansim.fitting import _train
from humansim.machine import set_up
from humansim.material import prepare
from humansim.paradigms import Batch, paradigm
from humansim.root import Root
from humansim.spec import Trial, Variant
from humansim.tunings import Tuning, tuning

TINY = Trial(
    source=Variant("sample", queries=24, pairs=2),
    resolution=32,
    paradigm=Variant("triplet", outputs=8),
    fit_size=16,
    batch_size=8,
    epochs=1,
    lr=1e-3,
)
TUNED = [
    TINY,
    TINY.having({"tuning": Variant("last_blocks", count=2)}),
    TINY.having({"tuning": "head", "head": "kept"}),
    TINY.having({"tuning": Variant("lora", rank=4)}),
    TINY.having({"tuning": Variant("lora", rank=4), "head": "kept"}),
]
NAMES = [f"{trial.tuning.name}-{trial.head}" for trial in TUNED]
Ran = tuple[Root, Trial, dict[str, object]]
BLOCKS = ("blocks.0", "blocks.1", "blocks.2")


@pytest.fixture(scope="module", params=TUNED, ids=NAMES)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Where a trial ran, the trial, and its last checkpoint."""
    root, trial, saved = Root.at(tmp_path_factory.mktemp("runs")), request.param, {}
    checkpoint = results.folder(root, trial) / results.CHECKPOINT
    train.run(trial, root, report=lambda row: saved.update(torch.load(checkpoint)))
    return root, trial, saved


def small(name: str) -> Backbone:
    """A network of three blocks on images of 32 pixels; each library has an attention of its own."""
    import open_clip.transformer
    import timm
    import torchvision

    torch.manual_seed(0)
    if name == "timm":
        trunk = timm.create_model(
            "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=3, num_heads=2, num_classes=0
        )
    elif name == "torchvision":
        trunk = torchvision.models.VisionTransformer(32, 8, num_layers=3, num_heads=2, hidden_dim=32, mlp_dim=64)
        trunk.heads = nn.Identity()
    elif name == "open_clip":
        trunk = open_clip.transformer.VisionTransformer(32, 8, 32, 3, 2, 2.0, output_dim=16)
    elif name == "convolutions":
        blocks = [nn.Sequential(nn.Conv2d(32, 32, 3), nn.BatchNorm2d(32), nn.Conv2d(32, 32, 3, groups=32))] * 3
        trunk = nn.Sequential(nn.Conv2d(3, 32, 3), *map(copy.deepcopy, blocks), nn.AdaptiveAvgPool2d(1))
    return Backbone(trunk, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "random").eval()


def tuned(variant: Variant, network: Backbone, blocks: tuple[str, ...] = ()) -> Tuning:
    made: Tuning = tuning.make(variant)
    made.prepare(network, blocks, torch.rand(1, 3, 32, 32))
    return made


def trained(network: nn.Module) -> list[str]:
    return [name.removeprefix("trunk.") for name, p in network.named_parameters() if p.requires_grad]


def moved(network: nn.Module) -> nn.Module:
    """Its trained parameters elsewhere, as after some steps."""
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    return network


def embedded(network: Backbone) -> Tensor:
    torch.manual_seed(1)
    with torch.inference_mode():
        return network.eval()(torch.rand(2, 3, 32, 32))


SMALL = ["timm", "torchvision", "open_clip", "convolutions"]


# What is trained, and that it is all that changes.


def test_what_is_trained_changes_and_all_else_keeps_its_bits_batch_norms_too(ran: Ran) -> None:
    root, trial, _ = ran
    before = backbone.make(trial.backbone).state_dict()
    after = load_file(results.folder(root, trial) / results.WEIGHTS)
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    behind = ("trunk.blocks.5.", "trunk.blocks.6.", "trunk.conv_head.", "trunk.bn2.")
    matrices = {name for name, t in before.items() if t.ndim > 1 and t.numel() > 4 * (len(t) + t[0].numel())}
    expected = {
        "whole": set(before),
        "last_blocks": {name for name in before if name.startswith(behind)},
        "head": set(),
        "lora": matrices,
    }
    assert changed == expected[trial.tuning.name]
    own = {"head.weight", "head.bias"} if trial.head == "kept" else set()
    assert set(after) == {*before, *own}


def test_only_what_is_trained_goes_to_the_optimiser(ran: Ran) -> None:
    _, trial, saved = ran
    network = backbone.make(trial.backbone)
    tuned(trial.tuning, network, backbone.entry(trial.backbone).facts["layers"])
    moments = [state["exp_avg"].shape for state in saved["optimizer"]["state"].values()]
    assert moments == [p.shape for p in network.parameters() if p.requires_grad] + [(8, 1280), (8,)]


def test_under_whole_nothing_is_frozen() -> None:
    network = small("timm")
    tuned(Variant("whole"), network)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_under_head_the_pass_through_the_backbone_keeps_nothing_for_a_gradient() -> None:
    network = small("timm")
    tuned(Variant("head"), network)
    embedder = Embedder(network, nn.Linear(32, 4))
    assert not embedder.backbone(torch.rand(2, 3, 32, 32)).requires_grad
    assert embedder(torch.rand(2, 3, 32, 32)).requires_grad


@pytest.mark.parametrize(
    ("name", "blocks", "behind"),
    [
        ("timm", BLOCKS, ("blocks.2.", "norm.")),
        (
            "torchvision",
            tuple(f"encoder.layers.encoder_layer_{i}" for i in range(3)),
            ("encoder.layers.encoder_layer_2.", "encoder.ln."),
        ),
        (
            "open_clip",
            tuple(f"transformer.resblocks.{i}" for i in range(3)),
            ("transformer.resblocks.2.", "ln_post.", "proj"),
        ),
        ("convolutions", ("1", "2", "3"), ("3.",)),
    ],
)
def test_the_last_block_and_what_comes_behind_it(name: str, blocks: tuple[str, ...], behind: tuple[str, ...]) -> None:
    network = small(name)
    tuned(Variant("last_blocks"), network, blocks)
    every = [name.removeprefix("trunk.") for name, _ in network.named_parameters()]
    assert trained(network) == [name for name in every if name.startswith(behind)]
    assert trained(network)


@pytest.mark.parametrize(
    ("layer", "behind"),
    [("blocks.1", ("blocks.1.",)), ("blocks.1.attn", ("blocks.1.norm1.", "blocks.1.attn.")), ("norm", ("blocks.2.",))],
)
def test_read_at_a_layer_the_last_blocks_are_those_up_to_it(layer: str, behind: tuple[str, ...]) -> None:
    network = small("timm").read_at(layer)
    tuned(Variant("last_blocks"), network, BLOCKS)
    behind = (*behind, "norm.") if layer == "norm" else behind
    assert trained(network) == [n for n in trained(small("timm")) if n.startswith(behind)]
    network = small("timm").read_at("blocks.0.attn")
    with pytest.raises(BadInput, match=r"1 of 1 blocks up to layer 'blocks\.0\.attn'"):
        tuned(Variant("last_blocks"), network, BLOCKS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "behind"),
    [
        ("resnet50", ["layer4"]),
        ("efficientnet_v2_m", ["features.8"]),
        ("vit_b_16", ["encoder.layers.encoder_layer_11", "encoder.ln"]),
        ("alexnet", ["features.10"]),
        ("clip_vit_b_16", ["transformer.resblocks.11", "ln_post", "proj"]),
        ("clip_resnet50", ["layer4", "attnpool"]),
        ("dino_vit_b_16", ["blocks.11", "norm"]),
        ("dino_resnet50", ["layer4"]),
    ],
)
def test_the_eight_base_models_last_blocks_and_low_ranks(name: str, behind: list[str]) -> None:
    made = Variant(name, weights="random")
    network: Backbone = backbone.make(made).eval()
    every, blocks = trained(network), backbone.entry(made).facts["layers"]
    images = torch.rand(2, 3, 224, 224)
    last: Tuning = tuning.make(Variant("last_blocks"))
    last.prepare(network, blocks, images[:1])
    assert trained(network) == [name for name in every if any(f"{name}.".startswith(f"{part}.") for part in behind)]
    network.requires_grad_(True)
    with torch.inference_mode():
        before = network(images)
        low: Tuning = tuning.make(Variant("lora"))
        low.prepare(network, blocks, images[:1])
        assert torch.equal(network(images), before)
    moved(network)
    with torch.inference_mode():
        after = network(images)
        assert not torch.equal(after, before)
        low.finish(network)
        assert torch.equal(network(images), after)
    assert sorted(name.removeprefix("trunk.") for name, _ in network.named_parameters()) == sorted(every)


# LoRA.


@pytest.mark.parametrize("targets", ["all", "qkv"])
@pytest.mark.parametrize("name", SMALL)
def test_a_low_rank_change_is_none_at_first_and_part_of_the_weights_at_last(name: str, targets: str) -> None:
    network = small(name)
    before, names, first = embedded(network), [n for n, _ in network.named_parameters()], network.fingerprint()
    if (name, targets) == ("convolutions", "qkv"):
        with pytest.raises(BadInput, match=r"no weights \(qkv\)"):
            tuned(Variant("lora", rank=2, targets=targets), network)
        return
    made = tuned(Variant("lora", rank=2, targets=targets), network)
    assert torch.equal(embedded(network), before)
    assert all(name.endswith((".0.a", ".0.b")) for name in trained(network))
    embedder = Embedder(network, nn.Linear(before.shape[1], 4))
    embedder(torch.rand(2, 3, 32, 32)).sum().backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    assert reached == {f"trunk.{name}" for name in trained(network)}  # attention does not pass the change by
    after = embedded(moved(network))
    assert not torch.equal(after, before)
    made.finish(network.train())
    assert torch.equal(embedded(network), after)
    assert sorted(n for n, _ in network.named_parameters()) == sorted(names)
    assert network.fingerprint() != first
    assert {type(module).__name__ for module in network.modules()} == {
        type(module).__name__ for module in small(name).modules()
    }


def test_the_targets_are_matrices_larger_than_their_change() -> None:
    def adapted(name: str, **arguments: object) -> list[str]:
        network = small(name)
        tuned(Variant("lora", **{"rank": 2, **arguments}), network)
        found = [n.removesuffix(".original") for n, _ in network.named_parameters() if n.endswith(".original")]
        return [n.removeprefix("trunk.").replace("parametrizations.", "") for n in found]

    convolutions = ["0.weight", "1.0.weight", "2.0.weight", "3.0.weight"]  # and not the depthwise 1.2.weight
    assert adapted("convolutions", rank=8) == convolutions
    in_a_block = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
    inside = [f"blocks.{i}.{part}.weight" for i in range(3) for part in in_a_block]
    assert adapted("timm") == ["patch_embed.proj.weight", *inside]
    assert adapted("timm", targets="qkv") == [f"blocks.{i}.attn.qkv.weight" for i in range(3)]
    resblocks = [f"transformer.resblocks.{i}.attn.in_proj_weight" for i in range(3)]
    assert adapted("open_clip", targets="qkv") == resblocks
    assert "proj" in adapted("open_clip")
    with pytest.raises(BadInput, match=r"no weights .* larger than their change of rank 1000"):
        tuned(Variant("lora", rank=1000), small("timm"))


def test_the_change_is_alpha_over_rank_times_b_a() -> None:
    network = small("convolutions")
    tuned(Variant("lora", rank=2, alpha=3.0), network)
    layer = moved(network).trunk[0]
    (change,) = layer.parametrizations["weight"]
    expected = layer.parametrizations["weight"].original + 3 / 2 * (change.b @ change.a).reshape(32, 3, 3, 3)
    torch.testing.assert_close(layer.weight, expected)


def test_dropout_passes_over_some_inputs_of_a_change_while_training_and_keeps_its_mean() -> None:
    network = small("timm")
    tuned(Variant("lora", rank=2, dropout=0.25), network)
    layer = moved(network).trunk.blocks[0].mlp.fc1
    original = layer.parametrizations["weight"].original
    whole = (layer.weight - original).detach()
    network.train()
    drawn = torch.stack([(layer.weight - original).detach() for _ in range(100)])
    columns = drawn.abs().amax(dim=1)
    assert 0.2 < (columns == 0).float().mean() < 0.3
    assert torch.allclose(drawn[drawn != 0], (whole / 0.75).expand_as(drawn)[drawn != 0], atol=1e-6)


def test_a_low_rank_change_begins_at_random_by_torchs_seed_with_b_at_zero() -> None:
    def begun(seed: int) -> tuple[Tensor, Tensor]:
        network = small("timm")
        torch.manual_seed(seed)
        tuned(Variant("lora", rank=2), network)
        (change,) = network.trunk.blocks[0].attn.qkv.parametrizations["weight"]
        return change.a, change.b

    (a, b), (again, _), (other, _) = (begun(seed) for seed in (0, 0, 1))
    assert torch.equal(a, again)
    assert not torch.equal(a, other)
    assert 0.9 < a.abs().max() * 32**0.5 <= 1
    assert not b.any()


def test_a_low_rank_change_leaves_a_weight_where_it_lies_in_memory() -> None:
    network = small("convolutions")
    Embedder(network)
    before = {name: parameter.stride() for name, parameter in network.named_parameters()}
    made = tuned(Variant("lora", rank=2), network)
    made.finish(network)
    assert {name: parameter.stride() for name, parameter in network.named_parameters()} == before


def test_bf16_sees_the_weights_that_are_saved() -> None:
    network = small("open_clip")
    made = tuned(Variant("lora", rank=2), network)
    moved(network)
    with torch.autocast("cpu", torch.bfloat16):
        during = network.trunk.transformer.resblocks[0].attn.in_proj_weight.detach().clone()
    made.finish(network)
    assert torch.equal(network.trunk.transformer.resblocks[0].attn.in_proj_weight, during)


# What is frozen is as in evaluation.


def test_what_is_not_trained_is_in_evaluation_mode_and_the_rest_in_training_mode() -> None:
    network = small("convolutions")
    tuned(Variant("last_blocks"), network, ("1", "2", "3"))
    embedder = Embedder(network, nn.Linear(32, 4))
    _train(embedder, frozen=False)
    assert [network.trunk[i].training for i in range(4)] == [False, False, False, True]
    assert network.trunk[3][1].training
    assert embedder.head.training
    _train(embedder, frozen=True)
    assert network.trunk[3].training
    assert not network.trunk[3][1].training


def test_under_lora_batch_norms_keep_their_statistics() -> None:
    network = small("convolutions")
    tuned(Variant("lora", rank=2), network)
    _train(Embedder(network, nn.Linear(32, 4)), frozen=False)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [norm.training for norm in norms] == [False, False, False]
    assert network.trunk[0].parametrizations["weight"][0].training  # its dropout


@pytest.mark.parametrize("trial", TUNED[:4], ids=NAMES[:4])
def test_mocos_momentum_encoder_follows_what_is_trained(trial: Trial) -> None:
    network = small("timm")
    tuned(trial.tuning, network, (*BLOCKS, "norm"))
    embedder = Embedder(network, nn.Linear(32, 4))
    objective = paradigm.make(Variant("moco", momentum=0.5, queue=8, outputs=4))
    objective.begin(embedder)
    start = copy.deepcopy(embedder.state_dict())
    moved(embedder)
    objective.before_step(embedder)
    assert not any(parameter.requires_grad for parameter in objective.memory.encoder.parameters())
    for name, key in objective.memory.encoder.state_dict().items():
        torch.testing.assert_close(key, start[name].lerp(embedder.state_dict()[name], 0.5))
    images = torch.rand(1, 2, 3, 32, 32)
    objective.loss(embedder, Batch(images, torch.zeros(1, 2, dtype=torch.int64), torch.ones(2))).backward()


# The head, and what is saved.


def test_a_kept_head_is_evaluated_and_a_removed_one_is_not() -> None:
    network, head = small("timm"), nn.Linear(32, 4)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    removed = Embedder(network, head).embed(pixels, np.arange(5))
    kept = Embedder(network, head, keep_head=True).embed(pixels, np.arange(5))
    assert removed.shape == (5, 32)
    with torch.inference_mode():
        assert torch.equal(kept, head(removed))


def test_the_saved_weights_on_a_plain_backbone_give_the_answers_again(ran: Ran) -> None:
    root, trial, _ = ran
    network = backbone.make(trial.backbone)
    saved = load_file(results.folder(root, trial) / results.WEIGHTS)
    head = {name.removeprefix("head."): saved.pop(name) for name in list(saved) if name.startswith("head.")}
    network.load_state_dict(saved)
    top = nn.Linear(*reversed(head["weight"].shape)) if head else None
    if top is not None:
        top.load_state_dict(head)
    material = prepare(trial, root)
    rows = material.images_of("validation", "test")
    answers = pd.read_parquet(results.folder(root, trial) / results.ANSWERS)
    triplets = material.judgements.triplets[answers["triplet"].to_numpy()]
    with set_up(trial.threads):
        found = Embedder(network, top, keep_head=bool(head)).embed(material.store, rows, fixed=True)
    for measure, (to_left, to_right) in distances(found, rows, triplets).items():
        np.testing.assert_array_equal(answers[f"to_left_{measure}"], to_left)
        np.testing.assert_array_equal(answers[f"to_right_{measure}"], to_right)


# What is refused before anything is paid for.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tuning": "head"}, "trains the projection head alone: without it nothing changes; set head='kept'"),
        ({"tuning": "heads"}, "unknown tuning 'heads'; did you mean head"),
        ({"paradigm": "rotation", "head": "kept"}, "rotation's outputs are classes of its own making"),
        ({"paradigm": "jigsaw", "head": "kept"}, "jigsaw's outputs are classes of its own making"),
        ({"tuning": Variant("last_blocks", count=0)}, r"tuning\.count: 0 of 7 blocks"),
        (
            {"tuning": Variant("last_blocks", count=7)},
            r"7 of 7 blocks; at least .* the first one is not",
        ),
        (
            {"tuning": Variant("last_blocks", count=3), "layer": "blocks.2"},
            r"tuning\.count: 3 of 3 blocks up to layer 'blocks\.2'",
        ),
        ({"tuning": "last_blocks", "backbone": "ensemble"}, "which blocks ensemble has is not known; use whole, lora"),
        ({"tuning": Variant("lora", rank=0)}, r"tuning\.rank: at least 1, not 0"),
        ({"tuning": Variant("lora", alpha=0.0)}, r"tuning\.alpha: above 0, not 0"),
        ({"tuning": Variant("lora", dropout=1.0)}, r"tuning\.dropout: a share from 0 to below 1, not 1\.0"),
        ({"tuning": Variant("lora", targets="qkv")}, r"tuning\.targets 'qkv': efficientnet_lite0 is no transformer"),
        ({"tuning": Variant("lora", targets="mlp")}, r"tuning\.targets: 'lora' takes .*, got 'mlp'"),
        ({"tuning": "whole", "tuning.rank": 4}, "tuning 'whole' has no argument 'rank'"),
    ],
)
def test_what_cannot_be_is_refused_in_the_plan(settings: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        plan.checked(TINY.having(settings))


def test_without_a_paradigm_tuning_and_head_have_no_part() -> None:
    idle = Trial(tuning="head", head="removed")
    assert plan.checked(idle).id == Trial().id


def test_a_default_written_out_is_the_same_trial() -> None:
    spelt = TINY.having({"tuning": Variant("lora", rank=16, alpha=0.5, dropout=0.3, targets="all")})
    assert plan.checked(spelt).id == TINY.having({"tuning": "lora"}).id != TINY.id
    assert TINY.having({"tuning": "whole", "head": "removed"}).id == TINY.id


def test_a_tuning_is_an_axis_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from humansim.cli import main

    assert main(["list", "tunings"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("whole", "head", "last_blocks", "lora"))
    assert main(["run", "paradigm=triplet", "tuning=head", "--root", str(tmp_path)]) != 0
    assert "set head='kept'" in capsys.readouterr().err
