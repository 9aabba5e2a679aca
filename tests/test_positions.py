"""Where images differ, and judging by a part of them: against naive loops, against LPIPS, and on a real photograph."""

import copy
import pickle

import lpips
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor, nn

from humansim import plan, train
from humansim.backbones.module import Scorer
from humansim.embedder import Embedder
from humansim.errors import BadInput
from humansim.material import resize_of
from humansim.metric import Facts, Metric
from humansim.root import Root
from humansim.spec import Trial, Variant

PIXELS = plan.checked(Trial(source=Variant("sample", queries=24, pairs=2), backbone="pixels", resolution=16))
NETS = PIXELS.having({"resolution": None})
TRIALS = {
    "pixels": PIXELS,
    "maps": NETS.having({"backbone": "miniature:efficientnet_v2_m"}),
    "norm behind the mean": NETS.having(
        {"backbone": Variant("timm:test_convnext", weights="random"), "resolution": 64}
    ),
    "layer of maps": NETS.having({"backbone": "miniature:resnet50", "layer": "5"}),
    "layer, flat": NETS.having({"backbone": "miniature:resnet50", "layer": "5", "pool": "flat"}),
    "layer of tokens": NETS.having({"backbone": "miniature:vit_b_16", "layer": "encoder.layers", "pool": "mean"}),
    "flat": NETS.having({"backbone": "miniature:alexnet", "resolution": 224}),
    "bf16": NETS.having({"backbone": "miniature:efficientnet_v2_m", "precision": "bf16"}),
    "real weights": NETS.having({"backbone": "efficientnet_lite0", "resolution": 160}),
    "real, earlier": NETS.having({"backbone": "efficientnet_lite0", "resolution": 160, "layer": "blocks.4"}),
    "real, cropped": NETS.having({"backbone": "efficientnet_lite0", "resolution": 160, "resize": "native"}),
    "class token": NETS.having({"backbone": "miniature:dino_vit_b_16"}),
    "attention pool": NETS.having({"backbone": "miniature:clip_resnet50"}),
    "projected class token": NETS.having({"backbone": "miniature:clip_vit_b_16"}),
    "ssim": NETS.having({"backbone": "ssim", "resolution": 32}),
    "lpips": NETS.having({"backbone": Variant("lpips", weights="random"), "resolution": 64}),
    "dists": NETS.having({"backbone": Variant("dists", weights="random"), "resolution": 64}),
    "ensemble": NETS.having(
        {
            "backbone": Variant("ensemble", members=("timm:test_convnext", "timm:test_resnet"), weights="random"),
            "resolution": 64,
        }
    ),
}
MASKED = ("pixels", "maps", "norm behind the mean", "layer of maps", "layer, flat", "layer of tokens", "flat", "bf16")
MAPPED = (*MASKED, "class token", "attention pool", "projected class token")


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    result = train.run(PIXELS, Root.at(tmp_path_factory.mktemp("runs")), device="cpu")
    return Facts(result=result, calibration={})


def made(name: str, facts: Facts, head: nn.Module | None = None) -> Metric:
    """A metric of a trial that was not fine-tuned, whatever its scores would be."""
    trial = plan.checked(TRIALS[name])
    network = train.make_backbone(trial)
    judge = network if isinstance(network, Scorer) else Embedder(network, head, trial.precision, keep_head=bool(head))
    scores = [score.model_copy(update={"measure": "own"}) for score in facts.result.scores]
    update = {"trial": trial} | ({"scores": tuple(scores)} if isinstance(judge, Scorer) else {})
    result = facts.result.model_copy(update=update)
    return Metric(judge, resize_of(trial), Facts(result=result, calibration={}))


@pytest.fixture(scope="module")
def pairs() -> Tensor:
    return torch.rand(2, 3, 3, 48, 64, generator=torch.Generator().manual_seed(0))


def features(metric: Metric, images: Tensor) -> Tensor:
    """What the network has at each position [n, s, s, d], by hand."""
    from humansim.accepted import resized

    backbone = metric.judge.backbone
    seen = {}
    squares = (resized(images, metric.rule) - backbone.mean) / backbone.std
    names = {"maps": "features", "layer of maps": "5", "layer of tokens": "encoder.layers", "class token": "norm"}
    name = names[next(name for name in names if plan.checked(TRIALS[name]) == metric.facts.result.trial)]
    hook = backbone.trunk.get_submodule(name).register_forward_hook(lambda m, given, out: seen.update(out=out))
    with torch.no_grad():
        backbone.trunk(squares)
    hook.remove()
    out = seen["out"]
    if out.ndim == 4:
        return out.permute(0, 2, 3, 1)
    side = round((out.shape[1] - 1) ** 0.5)
    return out[:, 1:].reshape(len(out), side, side, -1)


@pytest.mark.parametrize("name", ["maps", "layer of maps", "layer of tokens", "class token"])
@pytest.mark.parametrize("measure", ["cosine", "l2", "l1"])
def test_a_map_is_the_distance_at_each_position_brought_to_the_images_size(
    name: str, measure: str, facts: Facts, pairs: Tensor
) -> None:
    metric = made(name, facts)
    first, second = features(metric, pairs[0]), features(metric, pairs[1])
    side = first.shape[1]
    grid = torch.zeros(3, 1, side, side)
    for i in range(3):
        for y in range(side):
            for x in range(side):
                a, b = first[i, y, x].double(), second[i, y, x].double()
                grid[i, 0, y, x] = {
                    "cosine": 1 - nn.functional.cosine_similarity(a, b, dim=0),
                    "l2": (a - b).square().sum().sqrt(),
                    "l1": (a - b).abs().sum(),
                }[measure]
    expected = nn.functional.interpolate(grid, (48, 64), mode="bilinear", align_corners=False)
    found = metric.distance_map(pairs[0], pairs[1], measure)
    assert found.shape == (3, 1, 48, 64)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["maps", "layer of maps", "layer of tokens"])
@pytest.mark.parametrize("measure", ["cosine", "l2", "l1"])
def test_a_mask_makes_the_embedding_a_weighted_mean(name: str, measure: str, facts: Facts, pairs: Tensor) -> None:
    metric = made(name, facts)
    first, second = features(metric, pairs[0]), features(metric, pairs[1])
    side = first.shape[1]
    mask = torch.rand(3, 1, 48, 64, generator=torch.Generator().manual_seed(1))
    high, wide = 48 // side, 64 // side
    expected = []
    for i in range(3):
        means, total = [0.0, 0.0], 0.0
        for y in range(side):
            for x in range(side):
                weight = mask[i, 0, y * high : (y + 1) * high, x * wide : (x + 1) * wide].double().mean()
                means = [m + weight * f[i, y, x] for m, f in zip(means, (first, second), strict=True)]
                total += weight
        a, b = (m / total for m in means)
        distances = {"cosine": 1 - nn.functional.cosine_similarity(a, b, dim=0)}
        distances |= {"l2": (a - b).norm(), "l1": (a - b).abs().sum()}
        expected.append(distances[measure])
    found = metric.distance(pairs[0], pairs[1], measure, mask)
    torch.testing.assert_close(found, torch.stack(expected).float(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", MASKED)
def test_a_mask_of_ones_changes_no_bit(name: str, facts: Facts, pairs: Tensor) -> None:
    metric = made(name, facts)
    for measure in metric.measures:
        expected = metric.distance(pairs[0], pairs[1], measure)
        for mask in (torch.ones(48, 64), np.ones((3, 1, 48, 64), bool)):
            assert torch.equal(metric.distance(pairs[0], pairs[1], measure, mask=mask), expected)


@pytest.mark.parametrize("name", MASKED)
def test_what_is_outside_the_mask_does_not_count(name: str, facts: Facts, pairs: Tensor) -> None:
    """The images differ on the right, beyond what features on the left look at; the mask is on the left or right."""
    metric = made(name, facts)
    a = pairs[0, :1]
    b = a.clone()
    b[..., 44:] = 1 - b[..., 44:]
    left, right = torch.zeros(2, 48, 64)
    left[:, :16], right[:, 48:] = 1, 1
    inside, outside, whole = (metric.distance(a, b, "l1", mask=m).item() for m in (right, left, None))
    assert outside < whole < inside
    if name in ("pixels", "layer of maps"):  # the others look farther than that
        assert outside < 1e-3 * whole


@pytest.mark.parametrize("name", ["pixels", "layer, flat", "flat"])
def test_of_a_flat_embedding_the_map_is_its_parts(name: str, facts: Facts) -> None:
    metric = made(name, facts)
    side = metric._grid.side
    images = torch.rand(2, 1, 3, side, side, generator=torch.Generator().manual_seed(0))
    for measure, power in (("l1", 1), ("l2", 2)):
        whole = metric.distance(*images, measure)
        parts = metric.distance_map(*images, measure).pow(power).sum().pow(1 / power)
        assert parts.item() == pytest.approx(whole.item(), rel=1e-4)


@pytest.mark.parametrize("measure", ["l2", "l1"])
def test_a_mean_is_no_farther_than_its_parts_on_the_average_and_a_kept_head_is_linear(
    measure: str, facts: Facts, pairs: Tensor
) -> None:
    torch.manual_seed(0)
    metric = made("maps", facts, head=nn.Linear(64, 5))
    images = [nn.functional.interpolate(some, (8, 8)) for some in pairs]  # as large as the grid
    grid = metric.distance_map(*images, measure)
    assert (grid.mean((1, 2, 3)) >= metric.distance(*images, measure) * (1 - 1e-5)).all()
    from humansim import positions

    squares = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        at_each = positions.features(metric.judge, metric._grid, squares)
        assert at_each.shape == (2, 5, 8, 8)
        torch.testing.assert_close(at_each.mean((2, 3)), metric.embed(squares), rtol=1e-4, atol=1e-5)


def cornered(rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
    """A photograph [256, 320, 3], and the same with another photograph's piece in a corner."""
    photograph = np.asarray(Image.fromarray(data.astronaut()).resize((320, 256)))
    other = photograph.copy()
    other[rows, columns] = np.asarray(Image.fromarray(data.coffee()).resize((320, 256)))[rows, columns]
    return photograph, other


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("real, earlier", 5),
        pytest.param("real weights", 2.5, marks=pytest.mark.slow),
        pytest.param("real, cropped", 2.5, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("corner", ["top left", "bottom right"])
def test_a_planted_difference_is_found_where_it_is(name: str, times: float, corner: str, facts: Facts) -> None:
    rows, columns = (slice(0, 96), slice(32, 128)) if corner == "top left" else (slice(160, 256), slice(192, 288))
    photograph, other = cornered(rows, columns)
    metric = made(name, facts)
    found = metric.distance_map(photograph, other)[0, 0]
    assert found.shape == (256, 320)
    share, area = found[rows, columns].sum() / found.sum(), 96 * 96 / (256 * 320)
    assert share > times * area
    mask = np.zeros((256, 320))
    mask[rows, columns] = 1
    inside, outside = (metric.distance(photograph, other, mask=m).item() for m in (mask, 1 - mask))
    assert inside > times * outside


def test_a_cropped_map_is_zero_where_the_network_does_not_look(facts: Facts) -> None:
    photograph, other = cornered(slice(0, 256), slice(0, 320))
    found = made("real, cropped", facts).distance_map(photograph, other)[0, 0]
    rows, columns = slice(16, 240), slice(48, 272)  # 160 of the shorter side's 183 pixels: 0.875 of 256
    assert (found[rows, columns] > 0).all()
    found[rows, columns] = 0
    assert (found == 0).all()


@pytest.mark.filterwarnings("ignore:The parameter 'pretrained':UserWarning", "ignore:Arguments other than:UserWarning")
def test_the_map_of_lpips_is_the_packages(facts: Facts) -> None:
    metric = made("lpips", facts)
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, spatial=True, verbose=False).eval()
    theirs.net.load_state_dict(metric.judge.network.lpips.net.state_dict())
    a, b = torch.rand(2, 3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = metric.lpips(spatial=True)(2 * a - 1, 2 * b - 1)
    torch.testing.assert_close(found, theirs(2 * a - 1, 2 * b - 1).detach(), rtol=1e-4, atol=1e-6)
    before = metric.distance(a, b)
    assert before.shape == (3,)  # the map leaves no trace


def test_the_mean_of_ssims_map_is_ssim(facts: Facts) -> None:
    metric = made("ssim", facts)
    a, b = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(metric.distance_map(a, b).mean((1, 2, 3)), metric.distance(a, b))


@pytest.mark.parametrize("name", [*MAPPED, "ssim", "lpips"])
def test_gradients_flow_and_equal_images_are_at_zero(name: str, facts: Facts, pairs: Tensor) -> None:
    metric = made(name, facts)
    image = pairs[0].clone().requires_grad_()
    asked = [lambda: metric.distance_map(image, pairs[1]).mean()]
    if name in MASKED:
        mask = torch.rand(48, 64, generator=torch.Generator().manual_seed(2)).requires_grad_()
        asked.append(lambda: metric.distance(image, pairs[1], mask=mask).mean())
    for one in asked:
        image.grad = None
        one().backward()
        assert image.grad.isfinite().all()
        assert image.grad.abs().max() > 0
    if name in MASKED:
        assert mask.grad.abs().max() > 0
    for measure in metric.measures:
        assert (metric.distance_map(image.detach(), image.detach(), measure).abs() < 1e-6).all()
        image.grad = None
        metric.distance_map(image, image.detach().clone(), measure).sum().backward()
        assert image.grad.isfinite().all()


def test_one_image_against_many_with_masks_of_their_own_in_more_than_a_batch(facts: Facts) -> None:
    metric = made("pixels", facts)
    one, many = torch.rand(1, 3, 16, 16), torch.rand(70, 3, 16, 16)
    masks = torch.rand(70, 1, 16, 16)
    found, where = metric.distance(one, many, mask=masks), metric.distance_map(one, many)
    assert where.shape == (70, 1, 16, 16)
    for i in (0, 63, 64, 69):
        assert found[i].item() == pytest.approx(metric.distance(one, many[i], mask=masks[i : i + 1]).item(), rel=1e-5)
        assert torch.equal(where[i], metric.distance_map(one, many[i])[0])
    with_one_mask = metric.distance(many, one, mask=masks[0, 0])
    assert torch.equal(with_one_mask[3:4], metric.distance(many[3], one, mask=masks[0, 0]))


@pytest.mark.parametrize("name", ["class token", "projected class token", "attention pool"])
def test_an_embedding_that_is_no_mean_over_positions_takes_no_mask(name: str, facts: Facts, pairs: Tensor) -> None:
    with pytest.raises(BadInput, match=r"no mean over positions.*layer='\w+' and pool='mean' can be masked"):
        made(name, facts).distance(pairs[0], pairs[1], mask=torch.ones(48, 64))


def test_what_cannot_be_mapped_or_masked_is_refused(facts: Facts, pairs: Tensor) -> None:
    a, b = pairs
    with pytest.raises(BadInput, match="an ensemble has no positions of its own"):
        made("ensemble", facts).distance_map(a, b)
    with pytest.raises(BadInput, match="compares images as a whole and has no map"):
        made("dists", facts).distance_map(a, b)
    with pytest.raises(BadInput, match="published metric; weight its distance_map"):
        made("ssim", facts).distance(a, b, mask=torch.ones(48, 64))
    metric = made("pixels", facts)
    for mask, message in (
        (torch.ones(64, 48), r"\[64, 48\] of float32; give \[48, 64\] or \[n, 1, 48, 64\]"),
        (torch.ones(3, 3, 48, 64), r"give \[48, 64\] or \[n, 1, 48, 64\]"),
        (torch.zeros(48, 64), "0 wherever the metric looks"),
        (torch.cat([torch.ones(2, 1, 48, 64), torch.zeros(1, 1, 48, 64)]), "0 wherever the metric looks"),
        (torch.ones(2, 1, 48, 64), "2 of them for 3 pairs"),
        (np.full((48, 64), 255, np.uint8), "from 255 to 255; 1 is what counts"),
        (torch.full((48, 64), float("nan")), "from nan to nan"),
        ("mask.png", "mask: str; give a torch tensor"),
    ):
        with pytest.raises(BadInput, match=message):
            metric.distance(a, b, mask=mask)
    with pytest.raises(BadInput, match=r"of several sizes .*40 x 40, 48 x 64"):
        metric.distance_map([a[0], a[1, :, :40, :40]], b[:2])
    with pytest.raises(BadInput, match="2 images and 3"):
        metric.distance_map(a[:2], b)
    with pytest.raises(BadInput, match="image: int; give a path"):
        metric.distance_map([3], b)
    with pytest.raises(BadInput, match=r"image: a numpy array \[48, 64\].*an array \[h, w, 3\]"):
        metric.distance_map([np.zeros((48, 64), np.uint8)], b)
    for nothing in ([], torch.zeros(0, 3, 48, 64)):
        with pytest.raises(BadInput, match="none are given"):
            metric.distance_map(nothing, nothing)
        with pytest.raises(BadInput, match="none are given"):
            metric.distance(nothing, nothing, mask=torch.ones(48, 64))


@pytest.mark.parametrize("name", ["layer of tokens", "lpips", "ssim", "ensemble"])
def test_it_is_copied_pickled_and_left_alone_by_its_callers_autocast(name: str, facts: Facts, pairs: Tensor) -> None:
    metric = made(name, facts)
    expected = metric.distance(*pairs)
    if name == "layer of tokens":
        metric.distance_map(*pairs)  # which remembers where positions are
    for again in (copy.deepcopy(metric), pickle.loads(pickle.dumps(metric)), nn.DataParallel(metric)):
        assert torch.equal(again(*pairs), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(metric(*pairs), expected)
        image = pairs[0].clone().requires_grad_()
        torch.testing.assert_close(metric(image, pairs[1]), expected, rtol=1e-5, atol=1e-6)
