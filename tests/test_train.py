"""A trial: real network, real images; the same bits interrupted or not; wrong data is refused before training."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from humansim import plan, results, tables, train
from humansim.backbones import backbone
from humansim.errors import BadInput
from humansim.material import prepare
from humansim.results import Pruned, Result, State
from humansim.root import Root
from humansim.scores import two_afc
from humansim.spec import Trial, Variant

TINY = Trial(
    source=Variant("sample", queries=24, pairs=2),
    resolution=32,
    paradigm=Variant("triplet", outputs=8),
    fit_size=24,
    batch_size=8,
    epochs=3,
    lr=1e-3,
)


def without_times(result: Result) -> dict[str, object]:
    history = [{k: v for k, v in row.items() if k in ("epoch", "loss", "validation", "lr")} for row in result.history]
    return {"scores": result.scores, "history": history, "data": result.provenance["data"]}


class Killed(BaseException):
    """Stands for a SIGKILL between two epochs: nothing in the trial may catch it."""


@pytest.mark.parametrize(
    ("paradigm", "tuning"),
    [
        ("triplet", {}),
        ("tuplet", {}),
        ("moco", {}),
        *(
            pytest.param(name, tuning, marks=pytest.mark.slow)
            for name, tuning in (
                ("quadruplet", {}),
                ("rotation", {}),
                ("jigsaw", {}),
                ("simclr", {}),
                ("triplet", {"tuning": Variant("lora", rank=4)}),
                ("moco", {"tuning": Variant("lora", rank=4)}),
                ("triplet", {"tuning": "last_blocks"}),
                ("triplet", {"tuning": "head", "head": "kept"}),
            )
        ),
    ],
)
def test_an_interrupted_trial_ends_with_the_same_bits_and_trains_no_epoch_twice(
    tmp_path: Path, paradigm: str, tuning: dict[str, object]
) -> None:
    options = {"rotation": {}, "jigsaw": {}, "tuplet": {"grow_at": 0.0}, "moco": {"queue": 40}}.get(
        paradigm, {"outputs": 8}
    )
    tiny = TINY.having({"paradigm": Variant(paradigm, **options), **tuning})
    calm, rough = Root.at(tmp_path / "calm"), Root.at(tmp_path / "rough")
    expected = train.run(tiny, calm)
    epochs: list[float] = []

    def kill_after_each_new_epoch(row: dict[str, float]) -> None:
        if row["epoch"] not in epochs:
            epochs.append(row["epoch"])
            raise Killed

    for _ in range(tiny.epochs):
        with pytest.raises(Killed):
            train.run(tiny, rough, report=kill_after_each_new_epoch)
        assert results.state(rough, tiny) is State.RESUMABLE
    torch.manual_seed(999)  # whatever the process did before
    found = train.run(tiny, rough)
    assert epochs == [1, 2, 3]
    assert without_times(found) == without_times(expected)
    answers = [pd.read_parquet(results.folder(r, tiny) / results.ANSWERS) for r in (calm, rough)]
    pd.testing.assert_frame_equal(*answers, check_exact=True)
    weights = [(results.folder(r, tiny) / results.WEIGHTS).read_bytes() for r in (calm, rough)]
    assert weights[0] == weights[1]


MINIATURE = TINY.having({"backbone": "miniature:resnet50"})


def test_below_its_bar_a_trial_ends_after_that_epoch_interrupted_or_not(tmp_path: Path) -> None:
    calm, rough = Root.at(tmp_path / "calm"), Root.at(tmp_path / "rough")
    whole = train.run(MINIATURE, calm)
    bar = {1: whole.history[0]["validation"], 2: 1.0, 3: 1.0}
    seen: list[float] = []

    def kill_after_the_first_epoch(row: dict[str, float]) -> None:
        seen.append(row["epoch"])
        if len(seen) == 1:
            raise Killed

    with pytest.raises(Killed):
        train.run(MINIATURE, rough, report=kill_after_the_first_epoch, bar=bar)
    pruned = train.run(MINIATURE, rough, report=kill_after_the_first_epoch, bar=bar)
    assert isinstance(pruned, Pruned)
    assert seen == [1, 1, 2]
    assert losses(pruned) == losses(whole)[:2]
    assert pruned.provenance["data"] == whole.provenance["data"]
    folder = results.folder(rough, MINIATURE)
    assert sorted(file.name for file in folder.iterdir()) == ["lock", "pruned.json", "trial.json"]
    assert train.run(MINIATURE, rough, report=_kill, bar=bar) == pruned  # read, not run
    assert without_times(train.run(MINIATURE, rough)) == without_times(whole)  # who has no bar runs it to its end
    cut = train.run(MINIATURE, rough, report=_kill, bar=bar)
    assert isinstance(cut, Pruned)
    assert losses(cut) == losses(pruned)


def test_a_training_that_another_search_took_further_is_given_up_where_the_bar_says(root: Root) -> None:
    def kill_after_the_second_epoch(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        train.run(MINIATURE, root, report=kill_after_the_second_epoch)
    seen: list[float] = []
    pruned = train.run(MINIATURE, root, report=lambda row: seen.append(row["epoch"]), bar={1: 1.0})
    assert isinstance(pruned, Pruned)
    assert pruned.epoch == 1
    assert seen == [1]


def losses(outcome: Result | Pruned) -> list[float]:
    return [row["loss"] for row in outcome.history]


def test_a_finished_trial_is_read_and_not_run_again(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrained = TINY.having({"paradigm": None, "backbone": "pixels"})
    first = train.run(pretrained, root)
    monkeypatch.setattr(train, "prepare", None)
    assert train.run(pretrained, root) == first


def test_training_lowers_its_loss_and_learns_on_what_it_fits(root: Root) -> None:
    result = train.run(TINY.having({"epochs": 6}), root)
    losses = [row["loss"] for row in result.history]
    assert losses[-1] < losses[0]
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4, 5, 6]


def test_answers_give_the_scores(root: Root) -> None:
    result = train.run(TINY.having({"paradigm": None}), root)
    answers = pd.read_parquet(results.folder(root, result.trial) / results.ANSWERS)
    for score in result.scores:
        some = answers[(answers.part == score.part) & (answers.set == score.set)]
        columns = (some[f"to_left_{score.measure}"], some[f"to_right_{score.measure}"], some.choice)
        assert score.score == two_afc(*columns)
        assert score.n == len(some)
        assert score.low is not None
        assert score.high is not None
        assert score.low <= score.score <= score.high <= 1
        assert score.score <= score.best


def test_fit_validation_and_test_share_no_image_and_the_result_says_so(root: Root) -> None:
    result = train.run(TINY.having({"epochs": 1}), root)
    shared = result.provenance["shared"]
    assert shared["split"] == "image"
    nothing = {"images": 0, "near_duplicates": 0, "triplets": 0, "trials": 0, "judges": 0}
    assert shared["validation"] == shared["test"] == nothing
    material = prepare(TINY, root)
    fitted = set(material.judgements.triplets[material.fit.rows].images.ravel())
    tested = set(material.images_of("validation", "test"))
    assert fitted
    assert not fitted & tested
    assert result.provenance["fit"] == len(material.fit) == TINY.fit_size


def test_repeats_differ_by_their_seed_and_share_their_test_set(root: Root) -> None:
    first, second = (train.run(TINY.having({"epochs": 1, "seed": seed}), root) for seed in (0, 1))
    assert first.history[0]["loss"] != second.history[0]["loss"]
    sets = [pd.read_parquet(results.folder(root, r.trial) / results.ANSWERS)["triplet"] for r in (first, second)]
    assert sets[0].equals(sets[1])


def test_the_number_of_threads_is_the_trials_and_put_back_afterwards(root: Root) -> None:
    before = torch.get_num_threads()
    train.run(TINY.having({"paradigm": None, "backbone": "pixels", "threads": before + 1}), root)
    assert torch.get_num_threads() == before


def test_a_loss_that_is_no_number_ends_the_trial_with_the_reason(root: Root) -> None:
    with pytest.raises(
        FloatingPointError, match=r"the loss (is (nan|inf) in step|has exploded).*: try a lower learning rate"
    ):
        train.run(TINY.having({"lr": 1e18}), root)
    assert results.state(root, TINY) is State.TO_RUN


def test_a_checkpoint_made_from_other_data_is_not_gone_on_from(root: Root) -> None:
    table = root.data / "mine"
    prepare(TINY, root)
    made = next((root.path / "sample").glob("*/judgements.csv"))
    table.parent.mkdir()
    made.parent.rename(table)
    trial = TINY.having({"source": Variant("table", name="mine")})
    with pytest.raises(Killed):
        train.run(trial, root, report=_kill)
    frame = pd.read_csv(table / "judgements.csv")
    frame["choice"] = 1 - frame["choice"]
    frame.to_csv(table / "judgements.csv", index=False)
    seen: list[float] = []
    train.run(trial, root, report=lambda row: seen.append(row["epoch"]))
    assert seen == [1, 2, 3]


def _kill(row: dict[str, float]) -> None:
    raise Killed


@pytest.mark.parametrize(("batch_norm", "kept"), [("batch", False), ("frozen", True)])
def test_frozen_batch_norm_keeps_the_statistics_of_pretraining(root: Root, batch_norm: str, kept: bool) -> None:
    from safetensors.torch import load_file

    trial = TINY.having({"epochs": 1, "batch_norm": batch_norm})
    train.run(trial, root)
    pretrained = backbone.make(TINY.backbone).state_dict()
    trained = load_file(results.folder(root, trial) / results.WEIGHTS)
    assert torch.equal(trained["trunk.bn1.running_mean"], pretrained["trunk.bn1.running_mean"]) is kept
    assert not torch.equal(trained["trunk.bn1.weight"], pretrained["trunk.bn1.weight"])


def test_pixels_cannot_be_trained() -> None:
    with pytest.raises(BadInput, match="backbone pixels has nothing to train"):
        plan.checked(TINY.having({"backbone": "pixels"}))


def test_a_backbone_that_cannot_be_made_says_which(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def broken(*given: object, **more: object) -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(timm, "create_model", broken)
    trial = TINY.having({"backbone": Variant("timm:resnet18", weights="random"), "paradigm": None})
    with pytest.raises(BadInput, match=r"backbone timm:resnet18.*: it could not be made: RuntimeError: no such thing"):
        train.run(trial, root)


def test_what_the_thesis_fits_on_is_evaluated_on_and_the_result_says_so(root: Root) -> None:
    trial = TINY.having({"protocol": "thesis", "epochs": 1})
    result = train.run(trial, root)
    shared = result.provenance["shared"]
    assert shared["contaminated"]
    assert shared["test"]["triplets"] > 0
    assert shared["pretraining"] == {} or shared["pretraining"]["data"]
    assert tables.kind(result) == "contaminated"


def test_one_release_of_the_study_is_fitted_on_and_all_eleven_sets_are_evaluated(root: Root) -> None:
    small = Variant("simulated", size=10, per_set=40)
    trial = TINY.having({"source": small, "fit_on": "birds16", "fit_size": 16, "epochs": 1, "resolution": 32})
    result = train.run(trial, root)
    assert len({score.set for score in result.scores}) == 11
    assert result.provenance["fit"] == 16
    assert {score.n for score in result.scores if score.part == "test"} == {10}
    validated = [s.score for s in result.scores if (s.part, s.measure) == ("validation", "cosine")]
    birds = [
        s.score
        for s in result.scores
        if (s.part, s.measure) == ("validation", "cosine") and s.set.startswith("birds16/")
    ]
    assert len(birds) == 3
    assert len(validated) == 11
    assert result.mean("validation") == pytest.approx(np.mean(birds))
    assert result.history[0]["validation"] == pytest.approx(np.mean(birds))
