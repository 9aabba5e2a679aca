"""The tables that the analysis reads: from MLflow, out of one store or several."""

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from tracking_server import TrackingServer

from analysis.answers import LEFT, RIGHT, TIED, UNASKED, Answers, cells, chosen, gathered, read
from analysis.stats import estimate, mean
from humansim import results, scores, tracked, tracking
from humansim.errors import BadInput
from humansim.results import Result, Score
from humansim.root import Root
from humansim.spec import Sweep, Trial, Variant

SETS = ("one/x", "one/y")
BASE = Trial(source=Variant("sample"), resolution=64)
PRETRAINED = BASE.having({"backbone": "pixels"})
TUNED = [BASE.having({"paradigm": "triplet", "paradigm.margin": 0.5, "seed": seed}) for seed in (0, 1)]
SWEEP = Sweep(name="made", question="Are they read?", base=BASE)


def answers_of(trial: Trial, triplets: Iterable[int] = range(60)) -> pd.DataFrame:
    """As `train.score` writes them: what is asked hangs on the triplet alone, how it is answered on the trial too."""
    found = []
    for i in triplets:
        asked, told = np.random.default_rng(i), np.random.default_rng([i, int(trial.id, 16)])
        row = {
            "triplet": i,
            "part": "validation" if i % 6 == 5 else "test",
            "set": SETS[i % 2],
            "query": f"{i // 4}.png",
            "left": "a.png",
            "right": "b.png",
            "choice": asked.integers(0, 6) / 5,
            "judges": 5,
            "cluster": -1 - i // 4,
        }
        for measure in ("cosine", "l1"):
            row |= {f"to_{side}_{measure}": np.float32(told.integers(0, 9)) for side in ("left", "right")}
        found.append(row)
    return pd.DataFrame(found)


def result_of(trial: Trial, answers: pd.DataFrame, **provenance: object) -> Result:
    scored = [
        Score(
            set=name,
            part=part,
            measure=measure,
            low=None,
            high=None,
            **{k: v for k, v in scores.summary(*columns).items() if k in ("n", "score", "accuracy")},
            **vars(scores.ceilings(columns[2], 5)),
        )
        for (part, name), some in answers.groupby(["part", "set"])
        for measure in ("cosine", "l1")
        for columns in [[some[f"to_left_{measure}"], some[f"to_right_{measure}"], some["choice"]]]
    ]
    made = {
        "device": "a CPU",
        "data": "d" * 64,
        "weights": {"origin": "somewhere", "fingerprint": str(trial.backbone) * 4},
        "simulated_judges": False,
        "shared": {"split": "image", "contaminated": False, "test": {"images": 3}},
        "backbone": {
            "family": "none" if trial == PRETRAINED else "cnn",
            "features": 7,
            "pretraining": {"supervision": "supervised", "language": False},
        },
    }
    return Result(
        trial=trial,
        scores=tuple(scored),
        history=({"epoch": 1.0, "time": 1.7e12, "seconds": 1.0, "loss": 1.0, "lr": 1e-4},) if trial.paradigm else (),
        provenance=made | provenance,
        seconds={"train": 4.0, "embed": 2.0},
        peak_memory=2**30,
        finished=1_700_000_009_000,
    )


def made(trial: Trial, origin: str = "here", triplets: Iterable[int] = range(60), **provenance: object) -> tuple:
    answers = answers_of(trial, triplets)
    return origin, result_of(trial, answers, **provenance), answers


def logged(root: Root, trials: Iterable[Trial], uri: str | None = None) -> str:
    """A store as a sweep leaves it."""
    uri = uri or root.tracking_uri
    tracker = tracking.Tracker(uri, root, SWEEP)
    for trial in trials:
        _, result, answers = made(trial)
        results.save(root, result)
        answers.to_parquet(results.folder(root, trial) / results.ANSWERS, index=False)
        tracker.ended(result)
    assert tracker.close() is None
    return uri


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Root:
    root = Root.at(tmp_path_factory.mktemp("store"))
    logged(root, [PRETRAINED, *TUNED])
    return root


def same(one: Answers, two: Answers) -> bool:
    arrays = ("set", "choice", "judges", "judgement", "query", "nearer")
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in arrays) and (
        (one.sets, one.rows, one.repeats, one.trained) == (two.sets, two.rows, two.repeats, two.trained)
    )


def test_some_runs_can_be_read_alone(store: Root) -> None:
    runs = tracked.pages(store.tracking_uri, "made")[1]
    wanted = [runs[trial.id] for trial in TUNED]
    found = {result.trial.id: frame for result, frame in tracked.read(store.tracking_uri, "made", wanted)}
    assert set(found) == {trial.id for trial in TUNED}
    pd.testing.assert_frame_equal(found[TUNED[0].id], answers_of(TUNED[0]))


def test_what_was_logged_is_read_back(store: Root) -> None:
    trials, answers = read((store.tracking_uri, "made"))
    assert set(trials.index) == {trial.id for trial in (PRETRAINED, *TUNED)}
    assert answers.sets == SETS
    assert len(answers.choice) == 50  # of 60: the rest is validation
    found = answers.scores().set_index(["trial", "measure", "set"])
    for trial in (PRETRAINED, *TUNED):
        frame = answers_of(trial)
        test = frame[frame["part"] == "test"]
        for measure in ("cosine", "l1"):
            exact = scores.credit(test[f"to_left_{measure}"], test[f"to_right_{measure}"], test["choice"])
            assert answers.credit(trial.id, measure).tolist() == exact.tolist()
        for score in result_of(trial, frame).scores:
            if score.part == "test":
                assert found.loc[(trial.id, score.measure, score.set)].tolist()[1:] == [
                    pytest.approx(score.score, abs=1e-12),
                    score.n,
                ]
                people = answers.people().loc[score.set]
                assert (people["plug_in"], people["best"]) == pytest.approx((score.plug_in, score.best))


def test_a_row_of_trials_tells_what_the_trial_was(store: Root) -> None:
    trials, _ = read((store.tracking_uri, "made"))
    tuned = trials.loc[TUNED[1].id]
    expected = {
        "cell": TUNED[0].id,
        "model": "efficientnet_lite0",
        "kind": "fine-tuned",
        "paradigm": "triplet",
        "paradigm.margin": 0.5,
        "seed": 1,
        "protocol": "heldout",
        "family": "cnn",
        "pretraining.supervision": "supervised",
        "pretraining.language": False,
        "simulated": False,
        "contaminated": False,
        "shared.test.images": 3,
        "seconds": 6,
        "seconds.train": 4,
        "epochs_run": 1,
        "measure": "cosine",
    }
    assert {name: tuned[name] for name in expected} == expected
    assert tuned["validation"] == pytest.approx(result_of(TUNED[1], answers_of(TUNED[1])).mean("validation"))
    assert trials.loc[PRETRAINED.id, "kind"] == "floor"
    assert pd.isna(trials.loc[PRETRAINED.id, "lr"])


def test_repeats_are_one_cell(store: Root) -> None:
    trials, answers = read((store.tracking_uri, "made"))
    assert set(answers.repeats[TUNED[0].id]) == {trial.id for trial in TUNED}
    assert answers.trained == {TUNED[0].id}
    tuned = cells(trials[trials["paradigm"] == "triplet"])
    assert tuned == [(TUNED[0].id, "cosine")]
    assert cells(trials[trials["kind"] == "floor"], "l1") == [(PRETRAINED.id, "l1")]
    assert estimate(answers, mean(tuned, SETS), resamples=10).repeats == 2


def test_of_a_search_the_best_on_validation_is_chosen_with_its_repeats() -> None:
    tried = [BASE.having({"paradigm": "triplet", "lr": lr}) for lr in (1e-5, 1e-3)]
    tried += [BASE.having({"paradigm": "simclr", "lr": 1e-5})]
    trials, _ = gathered(made(trial) for trial in [*tried, *(trial.having({"seed": 1}) for trial in tried)])
    best = max(tried[:2], key=lambda trial: result_of(trial, answers_of(trial)).mean("validation"))
    kept = {trial.id for one in (best, tried[2]) for trial in (one, one.having({"seed": 1}))}
    assert set(chosen(trials, ["model", "paradigm"]).index) == kept


def test_a_store_that_was_copied_here_is_read_here(store: Root, tmp_path: Path) -> None:
    """What another lab sends: the database says where the artifacts lay over there."""
    moved = shutil.copytree(store.path, tmp_path / "from elsewhere")
    _, before = read((store.tracking_uri, "made"))
    for file in (moved / "artifacts").rglob(results.ANSWERS):  # read from the copy, not from where it was copied from
        frame = pd.read_parquet(file)
        frame["to_left_l1"], frame["to_right_l1"] = frame["to_right_l1"], frame["to_left_l1"]
        frame.to_parquet(file, index=False)
    _, after = read((f"sqlite:///{moved}/mlflow.db", "made"))
    turned = np.array([RIGHT, LEFT, TIED, UNASKED])
    l1 = [row for (_, measure), row in before.rows.items() if measure == "l1"]
    assert (after.nearer[l1] == turned[before.nearer[l1]]).all()


@pytest.mark.slow
def test_a_tracking_server_is_read(store: Root, tmp_path: Path) -> None:
    with TrackingServer(tmp_path / "server") as server:
        logged(Root.at(tmp_path / "root"), [PRETRAINED, *TUNED], server.uri)
        assert tracked.pages(server.uri, "made", "http://elsewhere")[0].startswith(f"{server.uri}/#/experiments/")
        _, answers = read((server.uri, "made"))
    assert same(answers, read((store.tracking_uri, "made"))[1])


def test_what_is_not_there_is_said(store: Root, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no such file"):
        read((f"sqlite:///{tmp_path}/mlflow.db", "made"))
    assert not (tmp_path / "mlflow.db").exists()  # a client would make one
    with pytest.raises(BadInput, match=r"no sweep 'maid' in sqlite.*; did you mean made"):
        read((store.tracking_uri, "maid"))
    copy = tmp_path / "copy"
    shutil.copytree(store.path, copy)
    client = MlflowClient(f"sqlite:///{copy}/mlflow.db")
    (experiment,) = [one for one in client.search_experiments() if one.name == "made"]
    runs = client.search_runs([experiment.experiment_id])
    damaged = copy / "artifacts" / "made" / runs[0].info.run_id / "artifacts" / results.ANSWERS
    damaged.write_bytes(b"half a file")
    with pytest.raises(BadInput, match=rf"{damaged}: damaged"):
        read((f"sqlite:///{copy}/mlflow.db", "made"))
    for run in runs:
        client.set_terminated(run.info.run_id, "FAILED")
    with pytest.raises(BadInput, match="no trial has finished: there is nothing to analyse yet"):
        read((f"sqlite:///{copy}/mlflow.db", "made"))


def test_halves_of_a_sweep_merge_to_the_whole(store: Root, tmp_path: Path) -> None:
    halves = [Root.at(tmp_path / name) for name in ("one", "two")]
    logged(halves[0], [TUNED[1], PRETRAINED])
    logged(halves[1], [TUNED[0], PRETRAINED])  # what both have run is one trial
    whole = read((store.tracking_uri, "made"))
    for order in (halves, halves[::-1]):
        trials, answers = read(*((half.tracking_uri, "made") for half in order))
        assert same(answers, whole[1])
        pd.testing.assert_frame_equal(trials.drop(columns="origin"), whole[0].drop(columns="origin"))


def test_trials_that_were_asked_other_triplets_stand_side_by_side() -> None:
    thesis = PRETRAINED.having({"protocol": "thesis", "resolution": 32})
    _, answers = gathered([made(PRETRAINED, triplets=range(40)), made(thesis, triplets=range(30, 60))])
    assert len(answers.choice) == len({i for i in range(60) if i % 6 != 5})
    both = answers.asked(PRETRAINED.id, "l1") & answers.asked(thesis.id, "l1")
    assert both.sum() == len([i for i in range(30, 40) if i % 6 != 5])
    for trial, asked in ((PRETRAINED, range(40)), (thesis, range(30, 60))):
        frame = answers_of(trial, asked)
        expected = result_of(trial, frame).mean("test", "l1")
        assert answers.scores().query("trial == @trial.id and measure == 'l1'")["score"].mean() == pytest.approx(
            expected
        )
        assert np.isnan(answers.credit(trial.id, "l1")).sum() == len(answers.choice) - (frame["part"] == "test").sum()


def test_queries_and_judgement_trials_of_different_data_are_different() -> None:
    other = answers_of(PRETRAINED)
    other["set"] = other["set"].str.replace("one", "two")
    elsewhere = PRETRAINED.having({"source": Variant("simulated")})
    _, answers = gathered([made(PRETRAINED), ("there", result_of(elsewhere, other, data="e" * 64), other)])
    assert answers.sets == (*SETS, "two/x", "two/y")
    for unit in (answers.query, answers.judgement):
        assert not set(unit[answers.set < 2]) & set(unit[answers.set >= 2])
        assert len(np.unique(unit)) == 2 * 15


CONFLICTS = {
    "data of a trial": (made(TUNED[0], "there", data="e" * 64), "differ in data .dddddddddddd and eeeeeeeeeeee."),
    "weights of a trial": (
        made(TUNED[0], "there", weights={"origin": "", "fingerprint": "w" * 64}),
        "differ in weights .* and wwwwwwwwwwww",
    ),
    "data of a set": (
        made(PRETRAINED, "there", data="e" * 64),
        "set one/x stands for different data: .*in trial .*there.*; analyse them apart",
    ),
    "weights of a backbone": (
        made(TUNED[1], "there", weights={"origin": "", "fingerprint": "w" * 64}),
        "backbone efficientnet_lite0 stands for different weights: .*wwwwwwwwwwww in trial",
    ),
}


@pytest.mark.parametrize("what", CONFLICTS)
def test_conflicting_fingerprints_are_refused(what: str) -> None:
    other, said = CONFLICTS[what]
    for order in ([made(TUNED[0]), other], [other, made(TUNED[0])]):
        with pytest.raises(BadInput, match=said if order[0] is not other else what.split()[0]):
            gathered(order)


def test_a_trial_with_two_outcomes_is_refused_saying_what_differs() -> None:
    answers = answers_of(TUNED[0])
    flipped = answers.assign(to_left_l1=answers["to_right_l1"], to_right_l1=answers["to_left_l1"])
    again = ("made in b.db", result_of(TUNED[0], flipped, device="a GPU"), flipped)
    with pytest.raises(BadInput) as refused:
        gathered([made(TUNED[0], "made in a.db"), again])
    for said in (
        TUNED[0].id,
        "in made in a.db and in made in b.db",
        "run on a CPU and a GPU",
        "differ in scores (one/",
    ):
        assert said in str(refused.value)


def test_results_are_analysed_without_torch_ray_or_mlflow() -> None:
    code = "import sys, analysis.verdict, analysis.planted\n"
    code += "print(sorted({'torch', 'ray', 'mlflow', 'optuna'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
