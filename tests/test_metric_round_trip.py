"""From image files through `humansim.load` to the very distances that the trial has stored: bit for bit, on a CPU.

Of every paradigm, every family of backbones and every tuning; from the trial's own files, and from an exported folder.
As a program and as ONNX, without humansim, within what was checked when they were written.
"""

from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch

import humansim
from humansim import export, plan, results, train
from humansim.backbones import backbone
from humansim.material import prepare
from humansim.paradigms import paradigm
from humansim.root import Root
from humansim.spec import Trial, Variant
from humansim.tunings import tuning

TINY = Trial(
    source=Variant("sample", queries=24, pairs=2),
    resolution=32,
    paradigm=Variant("triplet", outputs=8),
    fit_size=16,
    batch_size=8,
    epochs=1,
    lr=1e-3,
)
SMALL = TINY.having({"resolution": None, "backbone": "miniature:resnet50"})
PRETRAINED = TINY.having({"paradigm": None})
MINIATURES = [f"miniature:{name}" for name in ("efficientnet_v2_m", "vit_b_16", "alexnet", "clip_vit_b_16")]
MINIATURES += [f"miniature:{name}" for name in ("clip_resnet50", "dino_vit_b_16", "dino_resnet50")]
PARADIGMS = [
    *("contrastive", "quadruplet", "hinge", "logistic", "tuplet", "rotation", "jigsaw"),
    *("simclr", "moco"),
]
TRIALS = {
    **{name: SMALL.having({"backbone": name}) for name in MINIATURES},
    **{name: SMALL.having({"paradigm": name}) for name in PARADIGMS},
    "lite, fine-tuned": TINY,
    "head kept": SMALL.having({"head": "kept"}),
    "head alone": SMALL.having({"head": "kept", "tuning": "head"}),
    "last blocks, head kept": TINY.having({"tuning": "last_blocks", "head": "kept"}),
    "lora, head kept": SMALL.having({"tuning": Variant("lora", rank=2), "head": "kept"}),
    "lora, attention": SMALL.having(
        {"backbone": "miniature:vit_b_16", "tuning": Variant("lora", rank=2, targets="qkv")}
    ),
    "lora": SMALL.having({"tuning": Variant("lora", rank=2)}),
    "last blocks": TINY.having({"tuning": "last_blocks"}),
    "layer and pool": SMALL.having({"backbone": "miniature:vit_b_16", "layer": "encoder.layers", "pool": "mean"}),
    "bf16": SMALL.having({"precision": "bf16"}),
    "two threads": SMALL.having({"threads": 2}),
    "lite": PRETRAINED,
    "lite, native, layer": PRETRAINED.having(
        {"resize": "native", "resolution": 48, "layer": "blocks.2", "pool": "flat"}
    ),
    "timm": PRETRAINED.having({"backbone": Variant("timm:resnet18", weights="random")}),
    "torchvision": PRETRAINED.having({"backbone": Variant("torchvision:resnet18", weights="random")}),
    "timm, fine-tuned": TINY.having({"backbone": Variant("timm:resnet18", weights="random")}),
    "torchvision, fine-tuned": TINY.having({"backbone": Variant("torchvision:resnet18", weights="random")}),
    "dino_resnet50": PRETRAINED.having({"backbone": Variant("dino_resnet50", weights="random")}),
    "dino_vit_b_16": PRETRAINED.having({"backbone": Variant("dino_vit_b_16", weights="random")}),
    "siglip2_vit_b_16": PRETRAINED.having({"backbone": Variant("siglip2_vit_b_16", weights="random")}),
    "open_clip": PRETRAINED.having(
        {"backbone": Variant("open_clip:convnext_base/laion400m_s13b_b51k", weights="random")}
    ),
    "ensemble, fine-tuned": TINY.having(
        {"backbone": Variant("ensemble", members=("efficientnet_lite0", "timm:test_resnet"), weights="random")}
    ),
    "ensemble": PRETRAINED.having(
        {"backbone": Variant("ensemble", members=("efficientnet_lite0", "timm:test_resnet"), weights="random")}
    ),
    "pixels": PRETRAINED.having({"backbone": "pixels"}),
    "ssim": PRETRAINED.having({"backbone": "ssim"}),
    "lpips": PRETRAINED.having({"backbone": Variant("lpips", weights="random"), "resolution": 64}),
    "dists": PRETRAINED.having({"backbone": Variant("dists", weights="random"), "resolution": 64}),
    "no validation": PRETRAINED.having({"backbone": "pixels", "protocol": "all"}),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    return Root.at(tmp_path_factory.mktemp("runs"))


def stored(root: Root, trial: Trial) -> tuple[pd.DataFrame, dict[str, Path]]:
    """Some of a trial's answers, more than a batch, and where the image of each name lies."""
    judgements = prepare(trial, root).judgements
    answers = pd.read_parquet(results.folder(root, trial) / results.ANSWERS)
    return answers.sample(min(len(answers), 70), random_state=0), dict(
        zip(judgements.images, judgements.paths, strict=True)
    )


QUICK = ("miniature:vit_b_16", "tuplet", "head kept", "lora", "bf16", "lite", "pixels", "ssim", "no validation")


@pytest.mark.parametrize(
    "trial",
    [pytest.param(t, id=name, marks=() if name in QUICK else pytest.mark.slow) for name, t in TRIALS.items()],
)
def test_files_give_the_stored_distances_also_after_export(trial: Trial, root: Root, tmp_path: Path) -> None:
    trial = plan.checked(trial)
    train.run(trial, root, device="cpu")
    answers, place = stored(root, trial)
    export.write_folder(humansim.load(trial.id, root=root.path, device="cpu"), tmp_path / "given")
    columns = {name: [place[image] for image in answers[name]] for name in ("query", "left", "right")}
    for metric in (
        humansim.load(trial.id, root=root.path, device="cpu"),
        humansim.load(tmp_path / "given", device="cpu"),
    ):
        for measure in metric.measures:
            for side in ("left", "right"):
                found = metric.distance(columns["query"], columns[side], measure).numpy()
                expected = answers[f"to_{side}_{measure}"].to_numpy()
                assert found.dtype == expected.dtype == np.float32
                np.testing.assert_array_equal(found, expected)


def test_nothing_is_left_out() -> None:
    trials = list(TRIALS.values())
    assert {one.paradigm.name for one in trials if one.paradigm} == {entry.name for entry in paradigm}
    assert {one.tuning.name for one in trials} == {entry.name for entry in tuning}
    families = {entry.function.__module__ for entry in backbone if entry.function.__module__.startswith("humansim.")}
    assert {backbone.entry(one.backbone).function.__module__ for one in trials} == families


NETWORKS = [*MINIATURES, "head kept", "layer and pool", "timm", "torchvision", "pixels", "dino_vit_b_16", "ensemble"]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "head kept" else pytest.mark.slow) for n in NETWORKS]
)
def test_without_humansim_it_embeds_nearly_the_same(name: str, root: Root, tmp_path: Path) -> None:
    trial = plan.checked(TRIALS[name])
    train.run(trial, root, device="cpu")
    metric = humansim.load(trial.id, root=root.path, device="cpu")
    side = metric.rule.resolution
    images = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(5))
    expected = metric.embed(images)  # they are as large as the network's: nothing is resized
    assert export.write_program(metric, tmp_path / "embed.pt2") <= export.CLOSE
    assert export.write_onnx(metric, tmp_path / "embed.onnx") <= export.CLOSE
    assert sorted(file.name for file in tmp_path.iterdir()) == ["embed.onnx", "embed.pt2"]
    session = onnxruntime.InferenceSession(tmp_path / "embed.onnx", providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["images"]
    for some in (images, images[:1]):
        (found,) = session.run(["embeddings"], {"images": some.numpy()})
        np.testing.assert_allclose(found, expected[: len(some)], atol=export.CLOSE * float(expected.abs().max()))
    found = torch.export.load(tmp_path / "embed.pt2").module()(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=export.CLOSE * float(expected.abs().max()))
