"""Published metrics beside backbones: as their papers have them, each pair judged once, one measure of their own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from humansim import plan, tables, train
from humansim.backbones import backbone
from humansim.backbones.module import Scorer
from humansim.backbones.perceptual import ALEXNET, TRUNKS
from humansim.backbones.weights import files_of, find
from humansim.described import final_metrics
from humansim.embedder import BATCH, OWN, scored
from humansim.errors import BadInput
from humansim.judgements import Triplets
from humansim.root import Root
from humansim.spec import Trial, Variant


def make(name: str, **arguments: object) -> Scorer:
    made: Scorer = backbone.make(Variant(name, **arguments))
    return made.eval()


def images(count: int, side: int = 64, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.filterwarnings("ignore:The parameter 'pretrained':UserWarning", "ignore:Arguments other than:UserWarning")
@pytest.mark.parametrize("net", list(TRUNKS))
def test_lpips_is_what_its_authors_package_computes(net: str) -> None:
    import lpips as authors

    ours = make("lpips", net=net, weights="random")
    theirs = authors.LPIPS(net=net, pnet_rand=True, verbose=False).eval()
    trunk = ours.network.lpips.net.state_dict()
    assert [t.shape for t in trunk.values()] == [t.shape for t in theirs.net.state_dict().values()]
    theirs.net.load_state_dict(dict(zip(theirs.net.state_dict(), trunk.values(), strict=True)))
    a, b = images(4), images(4, seed=1)
    with torch.inference_mode():
        expected = theirs(a * 2 - 1, b * 2 - 1).flatten()
        found = ours(a, b)
    assert found.shape == (4,)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_lpips_on_the_example_of_its_authors(shared_data: Path) -> None:
    """0.722 and 0.138, as its repository's users report (issue 120)."""
    if find(ALEXNET) is None:
        pytest.skip(f"the weights are not on this machine: {ALEXNET.name}; humansim weights fetch lpips")
    files = sorted((shared_data / "lpips_example").rglob("ex_*.png"))
    by_name = {file.stem: torch.from_numpy(np.array(Image.open(file).convert("RGB"))) for file in files}
    reference, first, second = (by_name[f"ex_{name}"].permute(2, 0, 1)[None] / 255 for name in ("ref", "p0", "p1"))
    with torch.inference_mode():
        found = [make("lpips")(reference, other).item() for other in (first, second)]
    assert found == pytest.approx([0.722, 0.138], abs=1e-3)


def test_dists_is_the_formula_of_its_paper() -> None:
    """Ding et al. 2020, equations 2 to 5, in float64, over the layers and weights of the network."""
    network = make("dists", weights="random").network
    a, b = images(3, 48), images(3, 48, seed=1)
    with torch.inference_mode():
        of_a, of_b = (network.forward_once(x) for x in (a, b))
        found = make("dists", weights="random")(a, b)
    alpha, beta = (w.detach().double().flatten() for w in (network.alpha, network.beta))
    total = alpha.sum() + beta.sum()
    alike, at = torch.zeros(3, dtype=torch.float64), 0
    for x, y in zip(of_a, of_b, strict=True):
        x, y = x.double().flatten(2), y.double().flatten(2)
        for channel in range(x.shape[1]):
            p, q = x[:, channel], y[:, channel]
            luminance = (2 * p.mean(1) * q.mean(1) + 1e-6) / (p.mean(1) ** 2 + q.mean(1) ** 2 + 1e-6)
            together = ((p - p.mean(1, keepdim=True)) * (q - q.mean(1, keepdim=True))).mean(1)
            spread = p.var(1, unbiased=False) + q.var(1, unbiased=False)
            alike += (alpha[at] * luminance + beta[at] * (2 * together + 1e-6) / (spread + 1e-6)) / total
            at += 1
    assert at == len(alpha)
    torch.testing.assert_close(found.double(), 1 - alike, rtol=1e-3, atol=1e-5)


def test_ssim_is_scikit_images() -> None:
    from skimage.metrics import structural_similarity

    a, b = images(2), images(2, seed=1) * 0.3 + images(2) * 0.7
    with torch.inference_mode():
        found = make("ssim")(a, b).tolist()
    for i, value in enumerate(found):
        pair = [x[i].permute(1, 2, 0).numpy() for x in (a, b)]
        alike = structural_similarity(
            *pair, channel_axis=2, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert value == pytest.approx(1 - alike, abs=2e-3)


@pytest.mark.parametrize("variant", [Variant("lpips", weights="random"), Variant("dists", weights="random"), "ssim"])
def test_equal_images_are_at_distance_zero_and_sides_do_not_matter(variant: Variant | str) -> None:
    scorer = backbone.make(variant if isinstance(variant, Variant) else Variant(variant)).eval()
    a, b = images(2), images(2, seed=1)
    with torch.inference_mode():
        assert scorer(a, a).abs().max() < 1e-5
        torch.testing.assert_close(scorer(a, b), scorer(b, a), rtol=1e-4, atol=1e-6)
        assert (scorer(a, b) > 1e-3).all()


def test_trunks_are_files_like_any_other_and_random_ones_none() -> None:
    assert [file.name for file in files_of(Variant("lpips", net="vgg"))] == ["vgg16-397923af.pth"]
    assert files_of(Variant("dists")) == files_of(Variant("lpips", net="vgg"))
    assert files_of(Variant("lpips", weights="random")) == files_of(Variant("ssim")) == ()
    assert make("lpips", weights="random").fingerprint() != make("lpips", weights="random", init_seed=1).fingerprint()


class Counted(torch.nn.Module):
    """Mean absolute difference of brightness; notes what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[torch.Size] = []

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        self.shapes.append(a.shape)
        return (a - b).abs().mean(dim=(1, 2, 3))


def test_each_pair_is_judged_once_in_batches_of_one_shape() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
    shown = np.stack([rng.choice(40, 3, replace=False) for _ in range(90)])
    shown = np.concatenate([shown, shown[:, [0, 2, 1]], shown])  # mirrored, and twice
    nothing = np.full(len(shown), -1)
    triplets = Triplets(*shown.T, choice=nothing * 0.0, judges=nothing, set=nothing, trial=nothing, judge=nothing)
    counted, seen = Counted(), []
    (to_left, to_right) = scored(Scorer(counted, "none"), pixels, triplets, lambda *at: seen.append(at))[OWN]
    pairs = {frozenset(pair) for q, left, right in shown.tolist() for pair in ((q, left), (q, right))}
    assert counted.shapes == [torch.Size([BATCH, 3, 4, 4])] * -(-len(pairs) // BATCH)
    assert seen[-1] == (len(pairs), len(pairs))
    for i, (q, left, right) in enumerate(shown):
        for found, other in ((to_left[i], left), (to_right[i], right)):
            naive = np.abs(pixels[q].astype(float) - pixels[other].astype(float)).mean() / 255
            assert found == pytest.approx(naive, rel=1e-5)


def test_a_trial_of_a_metric_has_scores_under_its_own_measure(root: Root) -> None:
    trial = plan.checked(
        Trial(source=Variant("sample", queries=24, pairs=2), protocol="all", backbone="ssim", resolution=32)
    )
    result = train.run(trial, root)
    assert {score.measure for score in result.scores} == {OWN} == {result.measure}
    assert result.provenance["embedded"] == 0
    assert 0 < result.mean("test") == final_metrics(result)["2afc/test"] < 1
    assert "ceiling/best" in final_metrics(result)
    assert [row["axes"]["measure"] for row in tables.of_result(result) if row["axes"]] == [OWN]


def test_kinds_are_told_apart(root: Root) -> None:
    base = Trial(source=Variant("sample", queries=24, pairs=2), protocol="all", resolution=32)
    result = train.run(base.having({"backbone": "ssim"}), root)
    assert tables.kind(result) == "floor"
    network = {**result.provenance, "backbone": {"family": "cnn"}}
    for variant, kind in ((Variant("lpips", weights="random"), "untrained"), (Variant("lpips"), "metric")):
        other = result.model_copy(update={"trial": base.having({"backbone": variant}), "provenance": network})
        assert tables.kind(other) == kind


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paradigm": "triplet", "protocol": "heldout"}, "lpips is a published metric, used as it is"),
        ({"layer": "layer1"}, "layer: lpips is a metric of pairs, used as published; leave layer out"),
        ({"pool": "mean"}, "pool: lpips is a metric of pairs"),
        ({"precision": "bf16"}, "precision: lpips is a metric of pairs"),
    ],
)
def test_what_a_metric_cannot_do_is_told_at_plan_time(settings: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        plan.checked(Trial(protocol="all", backbone="lpips").having(settings))


def test_a_metric_has_no_embeddings(root: Root) -> None:
    with pytest.raises(BadInput, match="backbone ssim judges pairs of images; it has no embeddings"):
        train.embed(Trial(source=Variant("sample", queries=24, pairs=2), backbone="ssim", resolution=32), root)
