"""From image files through `humansim.load` to the very distances that the trial has stored: bit for bit, on a CPU."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import humansim
from humansim import plan, results, train
from humansim.material import prepare
from humansim.root import Root
from humansim.spec import Trial, Variant

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
    "ensemble": PRETRAINED.having(
        {"backbone": Variant("ensemble", members=("efficientnet_lite0", "timm:test_resnet"), weights="random")}
    ),
    "pixels": PRETRAINED.having({"backbone": "pixels"}),
    "ssim": PRETRAINED.having({"backbone": "ssim"}),
    "lpips": PRETRAINED.having({"backbone": Variant("lpips", weights="random"), "resolution": 64}),
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
def test_files_give_the_stored_distances(trial: Trial, root: Root, tmp_path: Path) -> None:
    trial = plan.checked(trial)
    train.run(trial, root, device="cpu")
    answers, place = stored(root, trial)
    metric = humansim.load(trial.id, root=root.path, device="cpu")
    columns = {name: [place[image] for image in answers[name]] for name in ("query", "left", "right")}
    for measure in metric.measures:
        for side in ("left", "right"):
            found = metric.distance(columns["query"], columns[side], measure).numpy()
            expected = answers[f"to_{side}_{measure}"].to_numpy()
            assert found.dtype == expected.dtype == np.float32
            np.testing.assert_array_equal(found, expected)
