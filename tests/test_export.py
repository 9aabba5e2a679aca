"""A metric given away: as a folder, a program, ONNX, in the MLflow registry; and what the README shows of it."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from finished import PLAIN, SSIM, TUNED, run_all
from mlflow import MlflowClient
from PIL import Image
from safetensors.torch import load_file, save_file

import humansim
from humansim import cli, export, plan, results, submitted, train
from humansim.described import final_metrics, run_name
from humansim.errors import BadInput
from humansim.ledger import Asked, Ledger
from humansim.metric import Metric
from humansim.results import Result
from humansim.root import Root
from humansim.spec import Sweep, Trial
from humansim.tracking import Tracker


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    return run_all(Root.at(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def metric(root: Root) -> Metric:
    return humansim.load(TUNED.id, root=root.path, device="cpu")


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)


@pytest.mark.parametrize("trial", [TUNED, PLAIN, SSIM], ids=["fine-tuned, head kept", "pixels", "ssim"])
def test_an_exported_folder_is_the_same_metric(trial: Trial, root: Root, tmp_path: Path, pictures: np.ndarray) -> None:
    metric = humansim.load(trial.id, root=root.path, device="cpu")
    export.write_folder(metric, tmp_path / "given")
    again = humansim.load(tmp_path / "given", device="cpu")
    assert torch.equal(again.distance(pictures[0], pictures), metric.distance(pictures[0], pictures))
    assert again.facts == metric.facts
    card = (tmp_path / "given" / "README.md").read_text()
    if trial == TUNED:
        assert "shares with the test part: 0 of " in card
    for said in ("judges were simulated", trial.id, "licence of the weights", "2AFC on the test part"):
        assert said in card
    with pytest.raises(BadInput, match="it is there already"):
        export.write_folder(metric, tmp_path / "given")


def test_a_folder_needs_no_published_weights(root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from humansim.backbones import weights

    def none(*_: object, **__: object) -> None:
        raise AssertionError("a published file was looked for")

    for name in ("fetch", "load"):
        monkeypatch.setattr(weights, name, none)
    with weights.given_elsewhere():
        for name in ("resnet50", "timm:resnet18", "clip_resnet50", "open_clip:RN50/openai"):
            assert train.make_backbone(Trial(backbone=name)).weights.find("random") < 0


def test_the_program_gives_the_embeddings_without_humansim(metric: Metric, root: Root, tmp_path: Path) -> None:
    file = tmp_path / "embed.pt2"
    assert export.write_program(metric, file) <= export.CLOSE
    images = torch.rand(7, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(torch.export.load(file).module()(images), metric.embed(images), rtol=1e-4, atol=1e-5)
    with pytest.raises(BadInput, match="no embedding to export"):
        export.write_program(humansim.load(SSIM.id, root=root.path), file)


def test_onnx_that_cannot_be_had_is_refused(root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = humansim.load(TUNED.id, root=root.path, device="cpu")
    metric.judge.precision = "bf16"
    with pytest.raises(BadInput, match="bf16, which onnxruntime does not"):
        export.write_onnx(metric, tmp_path / "embed.onnx")
    with pytest.raises(BadInput, match="no embedding to export"):
        export.write_onnx(humansim.load(SSIM.id, root=root.path), tmp_path / "embed.onnx")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"needs onnxscript and onnxruntime: pip install 'humansim\[onnx\]'"):
        export.write_onnx(metric, tmp_path / "embed.onnx")
    assert not list(tmp_path.iterdir())


def copied(root: Root, trial: Trial, to: Path) -> Path:
    import shutil

    shutil.copytree(results.folder(root, trial), to / "results" / trial.id)
    return to / "results" / trial.id


def test_damage_is_told(root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(match: str, what: object = TUNED.id) -> None:
        with pytest.raises(BadInput, match=match):
            humansim.load(what, root=tmp_path)

    folder = copied(root, TUNED, tmp_path)
    mistaken = TUNED.id[:-1] + ("0" if TUNED.id[-1] != "0" else "1")
    refused(f"no trial {mistaken} .*; did you mean {TUNED.id}", mistaken)
    refused("'shoes' is no trial, sweep or exported folder", "shoes")
    refused("no config.json there", tmp_path)
    tensors = load_file(folder / results.WEIGHTS)
    save_file({**tensors, "more": torch.zeros(1)}, folder / results.WEIGHTS)
    refused("these are weights of another network")
    (folder / results.WEIGHTS).write_bytes(b"none")
    refused("weights.safetensors: damaged")
    (folder / results.WEIGHTS).unlink()
    refused("weights are gone")
    (folder / results.ANSWERS).write_bytes(b"none")
    refused("answers.parquet: damaged")
    (folder / results.RESULT).unlink()
    refused("has not finished")
    given = tmp_path / "given"
    export.write_folder(humansim.load(PLAIN.id, root=root.path), given)
    (given / "model.safetensors").write_bytes(b"none")
    refused("not the file that was exported", given)
    (given / "config.json").write_text("{}")
    refused("config.json: damaged", given)
    with pytest.raises(BadInput, match="no such folder; name the one that was swept into"):
        humansim.load(TUNED.id, root=tmp_path / "nowhere")


def test_weights_that_have_changed_since_are_refused(root: Root, tmp_path: Path) -> None:
    file = copied(root, PLAIN, tmp_path) / results.RESULT
    result = results.Result.model_validate_json(file.read_bytes())
    result.provenance["weights"]["fingerprint"] = "0" * 64
    file.write_text(result.model_dump_json())
    with pytest.raises(BadInput, match=r"others than those it ran with .*not 000000000000"):
        humansim.load(PLAIN.id, root=tmp_path)


def test_the_command(root: Root, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "given"
    assert cli.main(["export", TUNED.id, "--to", str(to), "--program", "--onnx", "--root", str(root.path)]) == 0
    written = ["README.md", "config.json", "embed.onnx", "embed.pt2", "model.safetensors"]
    assert sorted(file.name for file in to.iterdir()) == written
    said = capsys.readouterr().out
    assert "The judges were simulated." in said
    assert re.search(r"ONNX: .*embed.onnx, largest difference \d\.\de-0\d", said)
    assert said.startswith("Metric: ")
    assert f"(fine-tuned), trial {TUNED.id}\n" in said
    assert cli.main(["export", PLAIN.id, "--to", str(tmp_path / "floor"), "--root", str(root.path)]) == 0
    assert "It is a floor" in capsys.readouterr().out  # a sweep's best by validation may be one
    assert cli.main(["export", TUNED.id, "--register", "shoes", "--onnx", "--root", str(root.path)]) == 2
    assert cli.main(["export", TUNED.id, "--to", str(to), "--root", str(root.path)]) == 2
    assert cli.main(["export", TUNED.id, "--root", str(root.path)]) == 2
    assert cli.main(["export", "0" * 16, "--to", str(tmp_path / "b"), "--root", str(root.path)]) == 2
    assert capsys.readouterr().err.count("humansim: error:") == 4


README = (
    (Path(__file__).parents[1] / "README.md")
    .read_text()
    .partition("## The winner as a metric")[2]
    .partition("\n## ")[0]
)


@pytest.fixture
def shoes(root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder as the README has it: images, and a root into which `shoes` was swept."""
    submitted.remember(Sweep(name="shoes", base=TUNED), root)
    (tmp_path / "humansim-runs").symlink_to(root.path)
    for name, colour in (("a", "red"), ("b", "blue"), ("query", "orange")):
        Image.new("RGB", (30, 20), colour).save(tmp_path / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_the_readme_shows_runs(shoes: Path) -> None:
    generated = torch.rand(2, 3, 32, 32).requires_grad_()
    exec(README.partition("```python\n")[2].partition("```")[0], {"generated": generated, "mask": torch.ones(20, 30)})
    assert generated.grad is not None
    assert generated.grad.abs().max() > 0


def commands() -> list[list[str]]:
    lines = [line.partition("  #")[0].split() for line in README.splitlines() if line.startswith("uv run humansim")]
    return [line[3:] for line in lines]


def test_its_first_command_runs_too(shoes: Path) -> None:
    first, _ = commands()
    assert cli.main(first) == 0
    assert humansim.load("shoes-metric").facts.result.trial == TUNED


@pytest.mark.slow
def test_registered_it_is_loaded_again_and_serves(shoes: Path, root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    import base64
    import warnings

    _, second = commands()
    uri = f"sqlite:///{shoes / 'mlflow.db'}"
    (shoes / "mlflow.db").touch()
    assert cli.main([*second, "--tracking", uri]) == 0
    expected = humansim.load(TUNED.id, device="cpu")
    metric = humansim.load("models:/shoes/1", tracking=uri, device="cpu")
    assert metric.facts == expected.facts
    distance = expected.distance("a.png", "b.png")
    assert torch.equal(metric.distance("a.png", "b.png"), distance)
    with pytest.raises(BadInput, match="model"):
        humansim.load("models:/nothing/1", tracking=uri)
    with pytest.raises(BadInput, match=r"^runs:/0"):
        humansim.load("runs:/0", tracking=uri)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        mlflow.set_tracking_uri(uri)
        served = mlflow.pyfunc.load_model("models:/shoes/1")
        tags = mlflow.MlflowClient(uri).get_model_version("shoes", "1").tags
    assert tags["shared_test_images"] == "0"
    sent = [base64.b64encode((shoes / f"{name}.png").read_bytes()).decode() for name in ("query", "a", "b")]
    rows = pd.DataFrame([sent, ["query.png", "a.png", "b.png"]], columns=["query", "a", "b"])
    found = served.predict(rows)
    assert found["distance"].tolist() == [distance.item()] * 2
    assert found["p_closer"].tolist() == [expected.p_closer("query.png", "a.png", "b.png").item()] * 2
    assert "p_closer" not in served.predict(rows[["a", "b"]])
    with pytest.raises(Exception, match="neither the path"):
        served.predict(rows[["a", "b"]].replace("a.png", "gone.png"))
    version = MlflowClient(uri).get_model_version("shoes", "1")
    (run,) = MlflowClient(uri).search_runs([mlflow.get_experiment_by_name("humansim-metrics").experiment_id])
    assert (version.run_id, run.info.run_name) == (run.info.run_id, run_name(TUNED, Trial()))
    assert run.data.metrics == final_metrics(expected.facts.result)
    assert run.data.params["backbone"] == "miniature:resnet50"


@pytest.mark.slow
def test_a_model_is_logged_to_its_trials_own_run_which_stays_as_it_was(
    shoes: Path, root: Root, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sweep = Sweep(name="shoes", base=TUNED, grid=[{"backbone": ["pixels"], "paradigm": [None]}, {}])
    submitted.remember(sweep, root)
    for trial in (TUNED, floor := plan.checked(TUNED.having({"paradigm": None, "backbone": "pixels"}))):
        Ledger(root, "shoes").append(Asked("a cell", 0, trial))
    train.run(floor, root, device="cpu")
    tracker = Tracker(root.tracking_uri, root, sweep)
    outcome = results.load(root, TUNED)
    assert outcome is not None
    tracker.ended(outcome)
    assert tracker.close() is None
    client = MlflowClient(root.tracking_uri)
    (before,) = client.search_runs(["1"])
    metric = humansim.load(f"runs:/{before.info.run_id}", root=root.path, device="cpu")
    assert metric.facts.result == outcome

    command = ["export", TUNED.id, "--to", str(shoes / "given"), "--root", str(root.path)]
    assert cli.main([*command, "--json"]) == 0
    above = json.loads(capsys.readouterr().out)["above_it"]
    floors = results.load(root, floor)
    assert isinstance(floors, Result)
    assert isinstance(outcome, Result)
    assert [one["backbone"] for one in above] == ["pixels"] * (floors.mean("test") >= outcome.mean("test"))
    assert "| best | floor `pixels` |" in (shoes / "given" / "README.md").read_text()

    assert export.register(metric, "lacquered", root=root.path) == "models:/lacquered/1"
    (after,) = client.search_runs(["1"])
    assert after.info.end_time == before.info.end_time
    assert after.info.status == "FINISHED"
    assert (after.data.metrics, after.data.params, after.data.tags) == (
        before.data.metrics,
        before.data.params,
        before.data.tags,
    )
    for name in ("2afc/test", "2afc/validation"):  # one epoch: no second point
        assert len(client.get_metric_history(before.info.run_id, name)) == 1
    assert client.get_experiment_by_name("humansim-metrics") is None
    version = client.get_model_version("lacquered", "1")
    assert version.run_id == before.info.run_id
    shared = outcome.provenance["shared"]["test"]["images"]
    tags = {"trial_id": TUNED.id, "sweep": "shoes", "judges": "simulated judges", "contaminated": "false"}
    tags |= {"shared_test_images": str(shared), "weights_licence": "none: random weights"}
    assert version.tags == tags | {"cell": before.data.tags["cell"]}
    tested = next(s for s in outcome.scores if s.part == "test" and s.measure == "cosine")
    told = (TUNED.id, "| floor `pixels` |", "simulated", f"**{100 * tested.score:.2f}**", f"{100 * tested.low:.2f} to")
    assert [what for what in told if what not in version.description] == []
    assert "perceptual" in client.get_registered_model("lacquered").description.lower()
    model = client.get_logged_model(version.source.rpartition("/")[2])
    assert {metric.key for metric in model.metrics} == set(final_metrics(outcome))
    for _ in range(2):  # whichever store MLflow was pointed at meanwhile
        assert humansim.load("models:/lacquered/1", root=root.path, device="cpu").facts == metric.facts

    moved = Root.at(shutil.copytree(root.path, shoes / "moved"))
    before_them = sorted(root.path.rglob("*"))
    assert export.register(metric, "lacquered", root=moved.path) == "models:/lacquered/2"  # where it lies now
    assert sorted(root.path.rglob("*")) == before_them
    assert Tracker(moved.tracking_uri, moved, sweep).close() is None
    place = MlflowClient(moved.tracking_uri).get_model_version_download_uri("lacquered", "1")
    model = MlflowClient(moved.tracking_uri).get_logged_model(version.source.rpartition("/")[2])
    assert [str(moved.path) in where for where in (place, model.artifact_location)] == [True, True]
    assert humansim.load("models:/lacquered/1", root=moved.path, device="cpu").facts == metric.facts
