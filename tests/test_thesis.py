"""The thesis's fine-tunings: Table B.1 as published, the sweeps of 168 and 616, and a slice of 616 in small, by Ray."""

from pathlib import Path

import mlflow
import pytest
import torch
from sweeping import humansim, last_json, reported

from humansim import plan, sweep_file
from humansim.backbones import backbone
from humansim.paradigms import paradigm
from humansim.published import BACKBONES, BASE_MODELS, PARADIGMS, RELEASES, SELF_SUPERVISED, SUPERVISED, TABLE_B1
from humansim.root import Root
from humansim.sources.study import SETS
from humansim.spec import Variant

# As the thesis prints it: (base models, paradigms) -> learning rate, epochs, batch size.
PRINTED = [
    ("resnet50 efficientnet_v2_m alexnet clip_resnet50 dino_resnet50", "ALL", 1e-4, 20, 64),
    ("vit_b_16", "ALL", 1e-6, 30, 32),
    ("clip_vit_b_16", "ALL", 1e-5, 25, 32),
    ("dino_vit_b_16", "ALL", 1e-6, 25, 32),
    ("resnet50 efficientnet_v2_m clip_resnet50 dino_resnet50", "simclr", 1e-4, 25, 64),
    ("resnet50 efficientnet_v2_m clip_resnet50 dino_resnet50", "moco", 1e-4, 25, 32),
    ("resnet50 clip_resnet50 dino_resnet50", "rotation jigsaw", 1e-4, 25, 32),
    ("efficientnet_v2_m", "rotation", 1e-3, 25, 16),
    ("efficientnet_v2_m", "jigsaw", 1e-4, 25, 16),
    ("vit_b_16 clip_vit_b_16 dino_vit_b_16", "simclr", 1e-5, 30, 64),
    ("vit_b_16", "moco", 1e-5, 30, 16),
    ("vit_b_16", "rotation", 1e-5, 30, 32),
    ("vit_b_16", "jigsaw", 1e-5, 20, 32),
    ("clip_vit_b_16 dino_vit_b_16", "moco rotation jigsaw", 1e-5, 30, 32),
    ("alexnet", "simclr rotation jigsaw", 1e-3, 30, 32),
    ("alexnet", "moco", 1e-3, 30, 64),
]


def test_table_b1_is_as_printed() -> None:
    printed = {
        (name, trained): tuple(values)
        for names, paradigms, *values in PRINTED
        for name in names.split()
        for trained in (SUPERVISED if paradigms == "ALL" else paradigms.split())
    }
    assert printed == TABLE_B1
    assert len(printed) == 56


def test_the_names_are_registered() -> None:
    for name in BACKBONES:
        assert "native" in backbone.entry(Variant(name)).facts
    for name in PARADIGMS:
        single = paradigm.entry(Variant(name)).facts["data"] == "singleton"
        assert single == (name in SELF_SUPERVISED)
    assert [name.partition("/")[0] for name in SETS] == ["bapps"] * 6 + ["hsj"] * 2 + ["birds16"] * 3
    assert {name.partition("/")[0] for name in SETS} == set(RELEASES)


@pytest.mark.parametrize(
    ("name", "fine_tunings"),
    [
        *(("thesis", 168), ("thesis_heldout", 168), ("full", 616)),
        *(("thesis_small", 168), ("thesis_heldout_small", 168), ("full_small", 616)),
    ],
)
def test_a_sweep_has_the_thesis_number_of_fine_tunings_beside_the_eight_as_pretrained(
    name: str, fine_tunings: int
) -> None:
    cells = plan.cells(sweep_file.load_sweep(name))
    trained = [cell.trial for cell in cells if cell.trial.paradigm is not None]
    assert len(trained) == len({trial.id for trial in trained}) == fine_tunings
    assert len(cells) == fine_tunings + 8
    assert {trial.protocol for trial in trained} == {"thesis" if name in ("thesis", "thesis_small") else "heldout"}
    if not name.endswith("small"):
        for trial in trained:
            values = (trial.lr, trial.epochs, trial.batch_size)
            assert values == TABLE_B1[trial.backbone.name, trial.paradigm.name]
            assert (trial.fit_size, trial.optimizer) == (1000, Variant("adam"))


@pytest.mark.parametrize("name", BACKBONES)
def test_a_miniature_is_of_its_base_models_kind(name: str) -> None:
    """The same modules of the same libraries, fewer; so what works with one works with the other."""
    small = backbone.make(Variant(f"miniature:{name}")).eval()
    large = backbone.make(Variant(name, weights="random"))
    kinds = {type(module) for module in small.trunk.modules() if not isinstance(module, torch.nn.Sequential)}
    assert kinds <= {type(module) for module in large.trunk.modules()} | {torch.nn.Identity}
    assert sum(p.numel() for p in small.parameters()) < 0.02 * sum(p.numel() for p in large.parameters())
    with torch.inference_mode():
        found = small(torch.rand(3, 3, 64, 64))
    assert found.shape[0] == 3
    assert found.std(dim=0).max() > 0  # it tells images apart
    own, original = (backbone.facts(Variant(one)) for one in (f"miniature:{name}", name))
    assert (own["architecture"], own["family"]) == (original["architecture"], original["family"])
    assert own["pretraining"].supervision == original["pretraining"].supervision
    assert own["pretraining"].images == 0  # and says that it has learnt nothing


SLICE = """
from humansim.sweep_file import load_sweep
from humansim.published import PARADIGMS
from humansim.sources.study import SETS

SMALL = load_sweep("full_small")
PRETRAINED, TRAINED = SMALL.grid
ONE = {"backbone": TRAINED["backbone"][:1], "paradigm": [PARADIGMS[0]], "fit_on": [*SETS]}
SWEEP = SMALL.model_copy(update={"name": "slice", "grid": [PRETRAINED, {**TRAINED, "fit_on": [SETS[0]]}, ONE]})
"""


@pytest.mark.slow
def test_every_model_paradigm_and_set_in_small_finishes_once_and_lands_in_mlflow(tmp_path: Path) -> None:
    """Each model with each paradigm, and each set, out of `full_small`: all 624 are `humansim sweep full_small`."""
    file, root = tmp_path / "slice.py", Root.at(tmp_path)
    file.write_text(SLICE)
    done = humansim("sweep", str(file), "--root", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    count = 8 + 8 * 7 + 10
    assert last_json(done)["states"] == {"finished": count, "to run": 0}
    client = mlflow.MlflowClient(root.tracking_uri)
    experiment = client.get_experiment_by_name("slice")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    expected = {trial.id for trial in plan.plan(sweep_file.load_sweep(str(file)), root).known}
    assert expected < {cell.trial.id for cell in plan.cells(sweep_file.load_sweep("full_small"))}
    assert len(runs) == len(expected) == count
    assert {run.data.tags["trial_id"] for run in runs} == expected
    assert {run.info.status for run in runs} == {"FINISHED"}
    trained = [run.data.params for run in runs if "paradigm" in run.data.params]
    assert {(run["backbone"], run["paradigm"]) for run in trained} == {
        (f"miniature:{name}", paradigm) for name in BASE_MODELS for paradigm in PARADIGMS
    }
    assert {run["fit_on"] for run in trained} == set(SETS)
    again = humansim("sweep", str(file), "--root", str(tmp_path))
    assert again.returncode == 0, again.stderr
    assert "starting Ray" not in again.stderr
    tested = reported(str(file), root)
    assert tested[7] > 0
    assert tested[8] > 0
