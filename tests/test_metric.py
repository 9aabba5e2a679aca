"""A finished trial as a metric: what it takes, refuses and gives; in the place of LPIPS and of torchmetrics."""

import re
import subprocess
import sys
from pathlib import Path

import lpips
import numpy as np
import pandas as pd
import pytest
import torch
from finished import PLAIN, SSIM, TUNED, run_all
from PIL import Image

import humansim
from humansim import plan, results, submitted, train
from humansim.calibration import p_right, reliability, temperature_of
from humansim.errors import BadInput
from humansim.metric import Metric
from humansim.root import Root
from humansim.spec import Sweep, Variant


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    return run_all(Root.at(tmp_path_factory.mktemp("runs")))


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
    heading, summed, _, *bins = str(told).splitlines()  # what a person reads of it
    assert heading.startswith(f"4,000 triplets of the test part: Brier score {told.brier:.4f}")
    assert re.match(r"On average 0\.\d points (surer|less sure) than people agree", summed)
    assert [line.split()[1] for line in bins] == [f"{100 * one.confidence:.1f}" for one in told.bins]


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
