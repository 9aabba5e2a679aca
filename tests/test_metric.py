"""A finished trial as a metric: what it takes, refuses and gives; in the place of LPIPS and of torchmetrics."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import lpips
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from safetensors.torch import load_file, save_file

import humansim
from humansim import cli, export, plan, results, submitted, train
from humansim.calibration import p_right, reliability, temperature_of
from humansim.described import final_metrics, run_name
from humansim.errors import BadInput
from humansim.ledger import Asked, Ledger
from humansim.metric import Metric
from humansim.root import Root
from humansim.spec import Sweep, Trial, Variant
from humansim.tracking import Tracker

TUNED = plan.checked(
    Trial(
        source=Variant("sample", queries=24, pairs=2),
        backbone="miniature:resnet50",
        paradigm=Variant("triplet", outputs=8),
        head="kept",
        fit_size=16,
        batch_size=8,
        epochs=1,
    )
)
PLAIN = plan.checked(TUNED.having({"paradigm": None, "backbone": "pixels", "resolution": 16}))
SSIM = plan.checked(PLAIN.having({"backbone": "ssim", "protocol": "all", "resolution": 32}))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    root = Root.at(tmp_path_factory.mktemp("runs"))
    for trial in (TUNED, PLAIN, SSIM):
        train.run(trial, root, device="cpu")
    return root


@pytest.fixture(scope="module")
def metric(root: Root) -> Metric:
    return humansim.load(TUNED.id, root=root.path, device="cpu")


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)


def test_humansim_is_imported_without_torch() -> None:
    code = "import sys, humansim; print('torch' in sys.modules, callable(humansim.load), 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "True", "True"]


def test_however_a_picture_is_given_it_is_the_same(metric: Metric, pictures: np.ndarray, tmp_path: Path) -> None:
    expected = metric.embed(pictures)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    opened = [Image.fromarray(array) for array in pictures]
    for picture, path in zip(opened, paths, strict=True):
        picture.save(path)
    channels_first = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    for given in (list(pictures), opened, paths, [*map(str, paths)], channels_first, [paths[0], *opened[1:]]):
        assert torch.equal(metric.embed(given), expected)
    side = metric.rule.resolution
    small = np.stack([np.asarray(one.resize((side, side), Image.Resampling.BICUBIC)) for one in opened])
    assert torch.equal(metric.embed(small), expected)
    floats = torch.from_numpy(small).permute(0, 3, 1, 2) / 255  # as large as the network's: nothing is resized
    assert torch.equal(metric.embed(floats), expected)
    assert torch.equal(metric.embed(floats.permute(0, 2, 3, 1).numpy()), expected)


def test_floats_are_resized_nearly_as_pillow_does(root: Root) -> None:
    smooth = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)).resize((50, 40))
    pixels = humansim.load(PLAIN.id, root=root.path, device="cpu")
    floats = torch.from_numpy(np.asarray(smooth) / np.float32(255)).permute(2, 0, 1)
    assert (pixels.embed(floats) - pixels.embed(smooth)).abs().max() < 3 / 255  # Pillow rounds after each of two passes


def test_one_image_is_held_against_many_and_equal_ones_are_at_zero(metric: Metric, pictures: np.ndarray) -> None:
    for measure in ("cosine", "l2", "l1"):
        found = metric.distance(pictures[0], pictures, measure)
        assert found.shape == (3,)
        assert found[0] == 0
        assert (found[1:] > 0).all()
        assert torch.equal(found, torch.cat([metric.distance(pictures[0], one, measure) for one in pictures]))
    assert torch.equal(metric(pictures, pictures[0]), metric.distance(pictures[0], pictures, "cosine"))


def test_more_images_than_a_batch_are_as_each_alone(root: Root) -> None:
    many = np.random.default_rng(1).integers(0, 256, (150, 16, 16, 3), dtype=np.uint8)
    ssim = humansim.load(SSIM.id, root=root.path, device="cpu")
    whole = ssim.distance(many[0], many)
    assert whole.shape == (150,)
    assert torch.equal(whole[140:], ssim.distance(many[0], many[140:]))


@pytest.mark.parametrize("measure", ["cosine", "l2", "l1"])
def test_it_is_a_loss_whose_gradient_is_right_and_finite_at_equal_images(root: Root, measure: str) -> None:
    pixels = humansim.load(PLAIN.id, root=root.path, device="cpu").double()
    a = torch.rand(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    b = torch.rand(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(lambda x: pixels.distance(x, b, measure), (a[:1, :, :, :],), eps=1e-6, atol=1e-4)
    pixels.distance(a, a.detach().clone(), measure).sum().backward()
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_an_image_learns_to_look_like_another_and_the_weights_stay(metric: Metric, pictures: np.ndarray) -> None:
    before = {name: tensor.clone() for name, tensor in metric.state_dict().items()}
    torch.manual_seed(0)
    image = torch.rand(1, 3, 50, 50).requires_grad_()
    update = torch.optim.Adam([image], lr=0.02)
    target = pictures[0]
    metric.train()
    losses = []
    for _ in range(8):
        loss = metric.distance(image, target).mean()
        update.zero_grad()
        loss.backward()
        update.step()
        image.data.clamp_(0, 1)
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in metric.state_dict().items())


def test_dtype_follows_the_module(root: Root, pictures: np.ndarray) -> None:
    exact = humansim.load(TUNED.id, root=root.path, device="cpu").double()
    rough = humansim.load(TUNED.id, root=root.path, device="cpu").bfloat16()
    a, b = pictures[:1], pictures[1:2]
    assert exact.distance(a, b).dtype == torch.float64
    assert rough.distance(a, b).dtype == torch.float32
    assert rough.distance(a, b).item() == pytest.approx(exact.distance(a, b).item(), rel=0.1)


NOT_IMAGES = [
    (np.zeros((4, 4), np.uint8), r"numpy array \[4, 4\] of uint8; give \[h, w, 3\]"),
    (np.zeros((1, 4, 4, 4), np.uint8), r"RGB is \[n, h, w, 3\]: .*leave alpha out"),
    (torch.zeros(2, 1, 8, 8), r"RGB is \[n, 3, h, w\]: repeat a grey channel"),
    (torch.zeros(2, 8, 8, 3), r"RGB is \[n, 3, h, w\]"),
    (torch.full((1, 3, 8, 8), 200.0), "floats from 200 to 200; .* divide them by 255"),
    (torch.full((1, 3, 8, 8), -0.5), r"of \[-1, 1\] make \(x \+ 1\) / 2"),
    (torch.full((1, 3, 8, 8), float("nan")), "floats from nan to nan"),
    (torch.zeros(1, 3, 8, 8, dtype=torch.int64), "of int64; give uint8 of 0 to 255, or floats of 0 to 1"),
    (np.zeros((1, 1, 40, 3), np.uint8), "40 x 1 pixels; a side has at least 2"),
    (Image.new("F", (9, 9)), "Pillow picture of mode F"),
    (Path("nowhere.png"), "nowhere.png: No such file"),
    (Path(__file__), "is no image that can be read"),
    ([3.0], "image: float; give a path"),
    ([], "none are given"),
    (3, "images: int; give paths"),
]


@pytest.mark.parametrize(("given", "message"), NOT_IMAGES, ids=[message[:30] for _, message in NOT_IMAGES])
def test_what_is_no_image_is_refused(metric: Metric, given: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        metric.embed(given)


def test_what_cannot_be_asked_is_refused(metric: Metric, root: Root, pictures: np.ndarray) -> None:
    with pytest.raises(BadInput, match="2 images and 3; give as many, or one"):
        metric.distance(pictures[:2], pictures)
    with pytest.raises(BadInput, match="unknown measure 'dot'"):
        metric.distance(pictures, pictures, "dot")
    ssim = humansim.load(SSIM.id, root=root.path)
    with pytest.raises(BadInput, match="has no embeddings; use distance"):
        ssim.embed(pictures)
    with pytest.raises(BadInput, match=r"no validation part \(protocol 'all'\) to calibrate .*'heldout'"):
        ssim.p_closer(pictures, pictures, pictures)


def test_a_temperature_is_found_again_and_votes_count() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.uniform(size=(2, 4000))
    choice = rng.binomial(5, p_right(left, right, 0.25)) / 5
    found, bounded = temperature_of(left, right, choice, np.full(4000, 5))
    assert found == pytest.approx(0.25, rel=0.1)
    assert not bounded

    def likelihood(temperature: float) -> float:
        p = p_right(left, right, temperature)
        return float(choice @ np.log(p) + (1 - choice) @ np.log(1 - p))

    assert found == pytest.approx(max(np.geomspace(0.1, 1, 2000), key=likelihood), rel=2e-3)
    doubled = temperature_of(left, right, choice, np.where(np.arange(4000) < 2000, 2, 1))[0]
    repeated = [np.concatenate([x, x[:2000]]) for x in (left, right, choice)]
    assert doubled == pytest.approx(temperature_of(*repeated)[0], rel=1e-5)
    told = reliability("test", left, right, choice, found)
    assert told.ece < 0.03 < told.ece_uncalibrated
    assert told.brier < told.brier_uncalibrated
    assert sum(one.n for one in told.bins) == 4000


def test_votes_that_never_err_or_say_nothing_leave_the_temperature_at_a_bound() -> None:
    assert temperature_of([0.0, 0.0, 1.0], [1.0, 2.0, 0.5], [0.0, 0.0, 1.0])[1]
    assert temperature_of([0.0, 0.0], [1.0, 2.0], [1.0, 1.0])[1]
    assert temperature_of([1.0], [1.0], [0.4])[1]


def test_p_closer_is_the_calibrated_probability(metric: Metric, root: Root, pictures: np.ndarray) -> None:
    a, b = pictures[1], pictures[2]
    found = metric.p_closer(pictures[0], a, b).item()
    calibration = metric.facts.calibration["cosine"]
    distances = metric.distance(pictures[0], [a, b]).tolist()
    assert found == pytest.approx(p_right(*distances, calibration.temperature).item(), rel=1e-5)
    assert found + metric.p_closer(pictures[0], b, a).item() == pytest.approx(1)
    answers = pd.read_parquet(results.folder(root, TUNED) / results.ANSWERS)
    some = answers[answers.part == "validation"]
    columns = (some.to_left_cosine, some.to_right_cosine, some.choice, some.judges)
    assert calibration.temperature == temperature_of(*columns)[0]
    assert calibration.validation.n == len(some)


@pytest.mark.filterwarnings("ignore:The parameter 'pretrained':UserWarning", "ignore:Arguments other than:UserWarning")
def test_in_the_place_of_lpips(root: Root) -> None:
    """The real package and ours, with the same weights: the same call, the same shape, the same numbers."""
    trial = plan.checked(PLAIN.having({"backbone": Variant("lpips", weights="random"), "resolution": 64}))
    train.run(trial, root, device="cpu")
    ours = humansim.load(trial.id, root=root.path, device="cpu").lpips()
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    trunk = ours.metric.judge.network.lpips.net
    theirs.net.load_state_dict(trunk.state_dict())
    a, b = torch.rand(2, 3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for given, options in (((2 * a - 1, 2 * b - 1), {}), ((a, b), {"normalize": True})):
        found = ours(*given, **options)
        assert found.shape == (3, 1, 1, 1)
        torch.testing.assert_close(found, theirs(*given, **options).detach(), rtol=1e-4, atol=1e-6)
    with pytest.raises(BadInput, match="not a sum over layers"):
        ours(a, b, retPerLayer=True)
    with pytest.raises(BadInput, match="give a float tensor"):
        ours(a.numpy(), b)


def test_in_the_place_of_a_torchmetric(metric: Metric) -> None:
    images = torch.rand(2, 5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    each = metric.distance(*images)
    whole = metric.torchmetric(normalize=True)
    assert whole(images[0, :3], images[1, :3]).item() == pytest.approx(each[:3].mean().item(), rel=1e-5)
    whole.update(images[0, 3:], images[1, 3:])
    assert whole.compute().item() == pytest.approx(each.mean().item(), rel=1e-5)
    whole.reset()
    assert whole.seen == 0
    summed = metric.torchmetric(reduction="sum")
    summed.update(*(2 * images - 1))
    assert summed.compute().item() == pytest.approx(each.sum().item(), rel=1e-4)


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


def test_a_sweep_stands_for_its_best_by_validation(root: Root) -> None:
    from humansim.loading import best_of

    pixels = {"paradigm": [None], "backbone": ["pixels"], "resolution": [16]}
    sweep = Sweep(name="two", base=TUNED, grid=[{"head": ["kept"]}, pixels])
    submitted.remember(sweep, root)
    validation = {}
    for trial in (TUNED, PLAIN):
        scores = results.last(root, trial).scores
        validation[trial.id] = np.mean([s.score for s in scores if (s.part, s.measure) == ("validation", "cosine")])
    assert best_of("two", root) == max(validation, key=validation.__getitem__)


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
    shoes: Path, root: Root, monkeypatch: pytest.MonkeyPatch
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
    assert Tracker(moved.tracking_uri, moved, sweep).close() is None  # the sweep is submitted again where it lies now
    place = MlflowClient(moved.tracking_uri).get_model_version_download_uri("lacquered", "1")
    model = MlflowClient(moved.tracking_uri).get_logged_model(version.source.rpartition("/")[2])
    assert [str(moved.path) in where for where in (place, model.artifact_location)] == [True, True]
    assert humansim.load("models:/lacquered/1", root=moved.path, device="cpu").facts == metric.facts
