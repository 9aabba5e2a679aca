"""Each loss is its paper's formula: against naive loops in float64, and libraries where these define the same."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from humansim.paradigms import Batch, Objective, paradigm
from humansim.spec import Variant

SUPERVISED = ("triplet", "contrastive", "quadruplet", "tuplet", "hinge", "logistic")


def points(k: int, count: int = 6, width: int = 5, seed: int = 0) -> Batch:
    """Data points whose images are their embeddings: [k, b, 3, 1, width]."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(k, count, 3, 1, width, generator=generator, dtype=torch.float64)
    numbers = torch.arange(k * count).reshape(k, count)
    return Batch(images, numbers, torch.rand(count, generator=generator) / 2 + 0.5)


def flat(images: Tensor) -> Tensor:
    """A network that gives an image's numbers."""
    return images.flatten(1)


def kind(name: str) -> int:
    return {"triplet": 3, "quadruplet": 4, "singleton": 1}[paradigm.entry(Variant(name)).facts["data"]]


def made(name: str, **arguments: object) -> Objective:
    objective: Objective = paradigm.make(Variant(name, **arguments))
    return objective


def euclidean(a: np.ndarray, b: np.ndarray) -> float:
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def squared(a: np.ndarray, b: np.ndarray) -> float:
    return euclidean(a, b) ** 2


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return 1 - dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def naive(name: str, batch: Batch, root: bool = True, m: float = 1.0, m2: float = 0.5, **options: object) -> float:
    """The loss as a loop over data points, each written as in its paper."""
    embedded = batch.images.flatten(2).numpy()
    d, losses = (euclidean if root else squared), []
    for i in range(embedded.shape[1]):
        q, p, n, *rest = embedded[:, i]
        if name == "triplet":
            losses.append(max(d(q, p) - d(q, n) + m, 0))
        elif name == "contrastive":
            losses += [d(q, p) ** 2 / 2, max(m - d(q, n), 0) ** 2 / 2]
        elif name == "quadruplet":
            other = d(n, rest[0]) if options.get("second") == "negatives" else d(p, rest[0])
            losses.append(max(d(q, p) - d(q, n) + m, 0) + max(d(q, p) - other + m2, 0))
        elif name == "hinge":
            losses.append(max(0.05 - (cosine(q, n) - cosine(q, p)), 0))
        elif name == "logistic":
            chance = 1 / (1 + math.exp(-(cosine(q, n) - cosine(q, p)) / 0.1))
            share = float(batch.share[i])
            losses.append(-share * math.log(chance) - (1 - share) * math.log(1 - chance))
        elif name == "tuplet":
            others = [embedded[2, (i + s) % embedded.shape[1]] for s in range(int(options.get("negatives", 1)))]
            losses.append(math.log(1 + sum(math.exp(d(q, p) - d(q, x)) for x in others)))
    return float(np.mean(losses))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("name", "arguments", "terms"),
    [
        ("triplet", {}, {}),
        ("triplet", {"margin": 0.2}, {"m": 0.2}),
        ("triplet", {"distance": "squared_euclidean"}, {"root": False}),
        ("contrastive", {}, {}),
        ("contrastive", {"margin": 1.7}, {"m": 1.7}),
        ("contrastive", {"distance": "squared_euclidean", "margin": 3.0}, {"root": False, "m": 3.0}),
        ("quadruplet", {}, {}),
        ("quadruplet", {"margin": 0.1, "second_margin": 0.05}, {"m": 0.1, "m2": 0.05}),
        ("quadruplet", {"second": "negatives"}, {"second": "negatives"}),
        ("hinge", {}, {}),
        ("logistic", {}, {}),
        ("tuplet", {}, {}),
        ("tuplet", {"negatives": 4}, {"negatives": 4}),
    ],
    ids=str,
)
def test_a_loss_is_its_formula(name: str, arguments: dict, terms: dict, seed: int) -> None:
    batch = points(kind(name), seed=seed)
    found = made(name, **arguments).loss(flat, batch)
    assert found.ndim == 0
    assert found.item() == pytest.approx(naive(name, batch, **terms), rel=1e-5)


@pytest.mark.parametrize("margin", [0.1, 1.0])
def test_triplet_is_pytorch_metric_learnings(margin: float) -> None:
    from pytorch_metric_learning import distances, losses, reducers

    batch = points(3)
    theirs = losses.TripletMarginLoss(
        margin=margin, distance=distances.LpDistance(normalize_embeddings=False), reducer=reducers.MeanReducer()
    )
    b = batch.images.shape[1]
    which = tuple(torch.arange(b) + b * i for i in range(3))
    expected = theirs(flat(batch.images.flatten(0, 1)), indices_tuple=which)
    assert made("triplet", margin=margin).loss(flat, batch).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", SUPERVISED)
def test_a_step_down_the_gradient_brings_the_positive_nearer_than_the_negative(name: str) -> None:
    batch = points(kind(name), count=16)
    embedded = batch.images.clone().requires_grad_()
    arguments = {"margin": 3.0} if name == "contrastive" else {}  # otherwise some negatives are far enough
    made(name, **arguments).loss(flat, Batch(embedded, batch.numbers, batch.share)).backward()
    assert embedded.grad is not None
    moved = (embedded - 0.5 * embedded.grad).detach()

    def advantage(images: Tensor) -> Tensor:
        q, p, n = (flat(side) for side in images[:3])
        if name in ("hinge", "logistic"):
            return torch.cosine_similarity(q, p) - torch.cosine_similarity(q, n)
        return (q - n).norm(dim=1) - (q - p).norm(dim=1)

    assert (advantage(moved) - advantage(embedded.detach())).mean() > 1e-4


@pytest.mark.parametrize("name", SUPERVISED)
def test_equal_images_have_a_finite_loss_and_gradient(name: str) -> None:
    batch = points(kind(name))
    same = torch.full_like(batch.images, 0.3).requires_grad_()
    loss = made(name).loss(flat, Batch(same, batch.numbers, batch.share))
    loss.backward()
    assert loss.isfinite()
    assert same.grad is not None
    assert same.grad.isfinite().all()


def test_an_even_vote_pulls_the_distances_together_where_other_losses_push_them_apart() -> None:
    batch = points(3, count=1)
    even = Batch(batch.images.clone().requires_grad_(), batch.numbers, torch.tensor([0.5]))
    q, p, n = batch.images[:, 0].flatten(1).numpy()
    before = abs(cosine(q, p) - cosine(q, n))
    made("logistic").loss(flat, even).backward()
    assert even.images.grad is not None
    moved = (even.images - 0.05 * even.images.grad).detach()[:, 0].flatten(1).numpy()
    assert abs(cosine(moved[0], moved[1]) - cosine(moved[0], moved[2])) < before


def test_a_tuplets_negatives_double_with_the_quality_of_an_epoch_and_are_remembered() -> None:
    objective = made("tuplet", negatives=1, most=4, grow_at=0.5)
    assert objective.memory is not None
    good, bad = points(3), points(3)
    good.images[1], good.images[2] = good.images[0], 1 - good.images[0]
    bad.images[2], bad.images[1] = bad.images[0], 1 - bad.images[0]
    counts = []
    for batch in (good, bad, good, good):
        objective.loss(flat, batch)
        objective.after_epoch()
        counts.append(int(objective.memory.count))
    assert counts == [2, 2, 4, 4]
    again = made("tuplet")
    again.memory.load_state_dict(objective.memory.state_dict())
    assert int(again.memory.count) == 4


def test_a_tuplet_leaves_out_what_the_data_point_itself_shows() -> None:
    batch = points(3, count=3)
    batch.numbers[2, 1] = batch.numbers[0, 0]  # the next point's negative is this point's query
    batch.images[2, 1] = batch.images[0, 0]
    embedded = batch.images.flatten(2).numpy()
    q, p, n = embedded
    allowed = [(0,), (1, 2), (2, 0)]
    expected = np.mean(
        [
            math.log(1 + sum(math.exp(euclidean(q[i], p[i]) - euclidean(q[i], n[j])) for j in some))
            for i, some in enumerate(allowed)
        ]
    )
    assert made("tuplet", negatives=2).loss(flat, batch).item() == pytest.approx(expected, rel=1e-5)


def test_nt_xent_is_its_formula_and_lightlys() -> None:
    from lightly.loss import NTXentLoss

    from humansim.paradigms.simclr import nt_xent

    z = torch.randn(10, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit = (z / z.norm(dim=1, keepdim=True)).numpy()
    losses = []
    for i in range(10):
        logits = {j: float(unit[i] @ unit[j]) / 0.5 for j in range(10) if j != i}
        losses.append(-logits[(i + 5) % 10] + math.log(sum(math.exp(x) for x in logits.values())))
    found = nt_xent(z, 0.5).item()
    assert found == pytest.approx(np.mean(losses), rel=1e-9)
    assert NTXentLoss(temperature=0.5)(z[:5].float(), z[5:].float()).item() == pytest.approx(found, rel=1e-5)


def test_info_nce_is_its_formula() -> None:
    from humansim.paradigms.moco import info_nce

    generator = torch.Generator().manual_seed(0)
    q, k, queue = (torch.nn.functional.normalize(torch.randn(n, 6, generator=generator), dim=1) for n in (4, 4, 9))
    losses = []
    for i in range(4):
        own = math.exp(float(q[i] @ k[i]) / 0.07)
        others = sum(math.exp(float(q[i] @ queue[j]) / 0.07) for j in range(9))
        losses.append(-math.log(own / (own + others)))
    assert info_nce(q, k, queue, 0.07).item() == pytest.approx(np.mean(losses), rel=1e-4)


class Seen(torch.nn.Module):
    """A network that notes what it is shown."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3, outputs)
        self.images: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.images.append(images.detach())
        return self.head(images.mean(dim=(2, 3)))


def singles(count: int = 5, side: int = 24) -> Batch:
    images = torch.rand(1, count, 3, side, side, generator=torch.Generator().manual_seed(3))
    return Batch(images, torch.arange(count)[None], torch.ones(count))


@pytest.mark.parametrize("every", [True, False])
def test_rotations_are_labelled_by_what_they_are(every: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, network, labels = singles(), Seen(4), []
    plain = torch.nn.functional.cross_entropy
    monkeypatch.setattr(
        torch.nn.functional, "cross_entropy", lambda logits, target: (labels.append(target), plain(logits, target))[1]
    )
    torch.manual_seed(0)
    made("rotation", every=every, crop=False).loss(network, batch)
    (shown,), (target,) = network.images, labels
    assert len(shown) == len(target) == (20 if every else 5)
    for i, (image, quarter) in enumerate(zip(shown, target.tolist(), strict=True)):
        assert torch.equal(image, batch.images[0, i % 5].rot90(quarter, (1, 2)))
    if every:
        assert sorted(target.tolist()) == sorted([0, 1, 2, 3] * 5)


def test_a_jigsaw_is_labelled_by_the_order_of_its_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    from humansim.pretext import permutations

    tile = torch.arange(9).view(3, 3).repeat_interleave(8, 0).repeat_interleave(8, 1) / 9  # each tile its own grey
    batch = Batch(tile.expand(1, 40, 3, 24, 24), torch.arange(40)[None], torch.ones(40))
    network, labels = Seen(36), []
    plain = torch.nn.functional.cross_entropy
    monkeypatch.setattr(
        torch.nn.functional, "cross_entropy", lambda logits, target: (labels.append(target), plain(logits, target))[1]
    )
    torch.manual_seed(0)
    made("jigsaw", normalised=False).loss(network, batch)
    (shown,), (target,) = network.images, labels
    assert shown.shape == (40, 3, 24, 24)
    assert len(set(target.tolist())) > 10
    for image, which in zip(shown, target.tolist(), strict=True):
        order = (image[0, 4::8, 4::8].flatten() * 9).round().int().tolist()
        assert order == permutations()[which].tolist()


@pytest.mark.parametrize("name", ["simclr", "moco"])
def test_two_views_of_each_image_are_seen_and_differ(name: str) -> None:
    batch, network = singles(), Seen(8)
    objective = made(name, outputs=8)
    objective.begin(network)
    objective.before_step(network)
    loss = objective.loss(network, batch)
    shown = torch.cat([*network.images, *getattr(getattr(objective.memory, "encoder", None), "images", [])])
    assert loss.isfinite()
    assert loss.requires_grad
    assert shown.shape == (10, 3, 24, 24)
    assert not any(torch.equal(shown[i], shown[i + 5]) for i in range(5))


def test_mocos_queue_turns_and_its_encoder_follows() -> None:
    objective, network = made("moco", outputs=8, queue=12, momentum=0.9), Seen(8)
    objective.begin(network)
    memory = objective.memory
    assert memory is not None
    start, first = network.head.weight.detach().clone(), memory.keys.clone()
    with torch.no_grad():
        network.head.weight += 1
    objective.before_step(network)
    torch.testing.assert_close(memory.encoder.head.weight, start + 0.1)
    for step, changed in enumerate(([0, 1, 2, 3, 4], range(10), range(12))):
        objective.loss(network, singles())
        assert (memory.keys != first).any(dim=1).nonzero().flatten().tolist() == list(changed)
        assert int(memory.at) == (5 * (step + 1)) % 12
    torch.testing.assert_close(memory.keys.norm(dim=1), torch.ones(12))
    assert not any(p.requires_grad for p in memory.encoder.parameters())
    assert set(objective.memory.state_dict()) == {"keys", "at", "encoder.head.weight", "encoder.head.bias"}
