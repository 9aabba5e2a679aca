"""Results in MLflow: a real SQLite store, one run a trial, however often a thing is logged."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from humansim import backlog, results, tracking
from humansim.described import cell_name, final_metrics, run_name
from humansim.errors import BadInput
from humansim.plan import base_of, cells, checked, spelt_out
from humansim.results import Failure, Result, Score, held_to
from humansim.root import Root
from humansim.spec import Sweep, Trial, Uniform, Variant
from humansim.sweep_file import folder_of_sweeps, load_sweep
from humansim.tracking import Tracker, how_to_open, tracking_uri

BASE = Trial(resolution=64)
SWEEP = Sweep(name="tracked", question="Is it logged?", base=BASE, search={"lr": Uniform(low=1e-5, high=1e-2)})
TRIAL = BASE.having({"paradigm": "triplet", "lr": 0.00123456, "epochs": 2})
HISTORY = tuple(
    {"epoch": e, "loss": 1 / e, "validation": 0.5 + e / 10, "lr": 1e-3, "seconds": 2.0, "images_per_second": 9.0}
    | {"time": 1_700_000_000_000.0 + 1000 * e}
    for e in (1.0, 2.0)
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    return Root.at(tmp_path_factory.mktemp("tracking"))


@pytest.fixture(scope="module")
def client(root: Root) -> MlflowClient:
    return MlflowClient(root.tracking_uri)


def result(root: Root, trial: Trial) -> Result:
    people = {"plug_in": 0.8, "fresh_judge": 0.75, "best": 0.9}
    scores = tuple(
        Score(set=s, part=part, measure=m, n=9, score=0.7, low=0.6, high=0.8, accuracy=0.7, **people)
        for s in ("sample/kind", "odd#name")
        for part in ("validation", "test")
        for m in ("cosine", "l1")
    )
    provenance = {
        "simulated_judges": True,
        "weights": {"origin": "somewhere"},
        "data": "f" * 64,
        "backbone": {
            "family": "cnn",
            "features": 1280,
            "pretraining": {"supervision": "supervised", "language": False},
        },
    }
    made = Result(
        trial=trial,
        scores=scores,
        history=HISTORY if trial.paradigm else (),
        provenance=provenance,
        seconds={"train": 4.0},
        peak_memory=2**30,
        finished=1_700_000_009_000,
    )
    results.save(root, made)
    (results.folder(root, trial) / results.ANSWERS).write_bytes(b"answers")
    return made


def runs(client: MlflowClient, trial: Trial, name: str = "tracked") -> list[Run]:
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], f"tags.trial_id = '{trial.id}'"))


def test_a_result_is_one_finished_run_however_often_and_wherever_it_is_logged(root: Root, client: MlflowClient) -> None:
    made = result(root, TRIAL)
    tracker = Tracker(root.tracking_uri, root, SWEEP)
    tracker.epoch(TRIAL, dict(HISTORY[0]))
    assert tracker.close() is None
    for _ in range(2):  # the driver was killed after the first epoch; then the sweep is submitted twice
        tracker = Tracker(root.tracking_uri, root, SWEEP)
        tracker.epoch(TRIAL, dict(HISTORY[0]))
        tracker.epoch(TRIAL, dict(HISTORY[1]))
        tracker.ended(made)
        tracker.ended(made)
        assert tracker.close() is None
    (run,) = runs(client, TRIAL)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "lr=0.00123 · triplet · e2 · efficientnet_lite0"
    assert run.data.params["lr"] == "0.00123456"
    assert run.data.tags["cell"] == "triplet · e2 · efficientnet_lite0"  # what all that the search tries have in common
    known = {"backbone.family": "cnn", "backbone.features": "1280", "pretraining.supervision": "supervised"}
    assert known.items() <= run.data.tags.items()
    assert run.data.tags["pretraining.language"] == "False"
    assert run.data.params["paradigm"] == "triplet"
    assert run.data.tags["judges"] == "simulated judges"
    note = run.data.tags["mlflow.note.content"]  # what its page says first
    assert "**70.00 %** (mean of 2 sets, cosine; chance is 50 %" in note
    assert "Simulated judges" in note
    assert f'humansim.load("{TRIAL.id}")' in note
    assert {k: v for k, v in run.data.metrics.items() if k.startswith("2afc/")} == {
        "2afc/test": 0.7,
        "2afc/validation": 0.7,
        "2afc/cosine/sample/kind": 0.7,
        "2afc/cosine/odd_name": 0.7,
        "2afc/l1/sample/kind": 0.7,
        "2afc/l1/odd_name": 0.7,
    }
    curve = client.get_metric_history(run.info.run_id, "2afc/validation")
    assert [(point.step, point.value) for point in curve] == [(1, 0.6), (2, 0.7)]
    (tested,) = client.get_metric_history(run.info.run_id, "2afc/test")
    assert tested.step == 0  # of such metrics MLflow's charts make bars, of others curves
    shown = {one.tags[0].value: (one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs}
    assert shown == {"training": ("sample heldout fit", "f" * 16), "evaluation": ("sample heldout test", "f" * 16)}
    experiment = client.get_experiment_by_name("tracked")
    assert experiment is not None
    assert experiment.tags["mlflow.note.content"].startswith(SWEEP.question)
    assert Path(experiment.artifact_location.removeprefix("file://")).is_relative_to(root.path)


def test_an_experiment_offers_views_of_scores_and_of_cells(root: Root, client: MlflowClient) -> None:
    """As MLflow's interface writes a view that a person saves: a tag with JSON, in which the state is JSON again."""
    grid = [{"backbone": ["pixels"]}, {"paradigm": ["triplet"], "paradigm.margin": [0.5, 1.0]}]
    assert Tracker(root.tracking_uri, root, SWEEP.model_copy(update={"name": "views", "grid": grid})).close() is None
    tags = getattr(client.get_experiment_by_name("views"), "tags", {})
    prefix = "mlflow.sharedViewState."
    views = [json.loads(value) for key, value in sorted(tags.items()) if key.startswith(prefix)]
    assert [view["name"] for view in views] == ["Cells", "Scores"]
    cells, scores = (json.loads(view["state"]) for view in views)
    told = ["metrics.`2afc/validation`", "metrics.`2afc/test`"]
    varied = ["params.`backbone`", "params.`paradigm`", "params.`paradigm.margin`", "params.`lr`"]
    assert cells["selectedColumns"] == scores["selectedColumns"] == told + varied
    assert cells["columnOrder"] == ["attributes.`Run Name`", *told, *varied] == [*cells["columnWidths"]]
    assert (scores["orderByKey"], scores["orderByAsc"]) == ("metrics.`2afc/validation`", False)
    assert cells["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "cell"}]
    assert tags["mlflow.experiment.primaryMetric.name"] == "2afc/test"


def test_a_failure_that_is_retried_becomes_the_same_run_finished(root: Root, client: MlflowClient) -> None:
    trial = TRIAL.having({"seed": 1})
    failure = Failure(trial=trial, kind="oom", reason="too big", traceback="Traceback ...", finished=1_700_000_000_000)
    tracker = Tracker(root.tracking_uri, root, SWEEP)
    tracker.ended(failure)
    assert tracker.close() is None
    (run,) = runs(client, trial)
    assert (run.info.status, run.data.tags["failure"], run.data.tags["failure.reason"]) == ("FAILED", "oom", "too big")
    assert [artifact.path for artifact in client.list_artifacts(run.info.run_id)] == ["traceback.txt"]
    tracker = Tracker(root.tracking_uri, root, SWEEP)
    tracker.ended(result(root, trial))
    assert tracker.close() is None
    (again,) = runs(client, trial)
    assert again.info.run_id == run.info.run_id
    assert again.info.status == "FINISHED"
    assert not [tag for tag in again.data.tags if tag.startswith("failure")]


def test_a_pruned_trial_is_a_killed_run_with_its_curve_and_goes_on_as_the_same_run(
    root: Root, client: MlflowClient
) -> None:
    trial = TRIAL.having({"seed": 14})
    made = result(root, trial)
    given_up = held_to(made, {1: 1.0})
    for _ in range(2):  # the sweep is submitted twice
        tracker = Tracker(root.tracking_uri, root, SWEEP)
        tracker.ended(given_up)
        assert tracker.close() is None
    (run,) = runs(client, trial)
    assert (run.info.status, run.data.tags["pruned"]) == ("KILLED", "1")
    assert run.data.tags["judges"] == "simulated judges"
    curve = client.get_metric_history(run.info.run_id, "2afc/validation")
    assert [(point.step, point.value) for point in curve] == [(1, 0.6)]
    assert "2afc/test" not in run.data.metrics
    tracker = Tracker(root.tracking_uri, root, SWEEP)
    tracker.ended(made)
    assert tracker.close() is None
    (again,) = runs(client, trial)
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "FINISHED")
    assert "pruned" not in again.data.tags


def test_a_store_that_breaks_loses_nothing_and_is_made_up_for(
    root: Root, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [TRIAL.having({"seed": seed}) for seed in (2, 3)]
    made = [result(root, trial) for trial in trials]
    tracker = Tracker(root.tracking_uri, root, SWEEP)
    with monkeypatch.context() as broken:
        broken.setattr(backlog, "PATIENCE", 0.1)
        broken.setattr(type(tracker.client), "log_batch", _breaks)
        for one in made:
            tracker.ended(one)
        assert tracker.close() == "gone"
    tracker = Tracker(root.tracking_uri, root, SWEEP)
    for one in made:
        tracker.ended(one)
    assert tracker.close() is None
    assert [run.info.status for trial in trials for run in runs(client, trial)] == ["FINISHED", "FINISHED"]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def _breaks(*given: object, **more: object) -> None:
    raise ConnectionError("gone")


def test_a_run_made_before_the_answer_was_lost_is_found_again(
    root: Root, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = TRIAL.having({"seed": 4})
    tracker = Tracker(root.tracking_uri, root, SWEEP)
    create, lost = tracker.client.create_run, []

    def made_but_not_told(*given: object, **more: object) -> Run:
        run = create(*given, **more)  # type: ignore[arg-type]
        if not lost:
            lost.append(run)
            raise ConnectionError("gone")
        return run

    monkeypatch.setattr(tracker.client, "create_run", made_but_not_told)
    tracker.ended(result(root, trial))
    assert tracker.close() is None
    (run,) = runs(client, trial)
    assert run.info.run_id == lost[0].info.run_id
    assert run.info.status == "FINISHED"


def test_of_two_runs_of_a_trial_one_stays(root: Root, client: MlflowClient) -> None:
    """Made by two processes at once, neither of which saw the other's, before they were killed."""
    trial = TRIAL.having({"seed": 5})
    tracker = Tracker(root.tracking_uri, root, SWEEP)
    for _ in range(2):
        client.create_run(tracker.experiment, tags={"trial_id": trial.id})
    tracker.ended(result(root, trial))
    assert tracker.close() is None
    (run,) = runs(client, trial)
    assert run.info.status == "FINISHED"


def test_a_run_that_a_person_deletes_while_its_trial_runs_is_made_again(root: Root, client: MlflowClient) -> None:
    trial = TRIAL.having({"seed": 6})
    tracker = Tracker(root.tracking_uri, root, SWEEP)
    tracker.epoch(trial, dict(HISTORY[0]))
    until(lambda: bool(runs(client, trial)) and "train/loss" in runs(client, trial)[0].data.metrics)
    client.delete_run(runs(client, trial)[0].info.run_id)
    tracker.epoch(trial, dict(HISTORY[1]))
    tracker.ended(result(root, trial))
    assert tracker.close() is None
    (run,) = runs(client, trial)
    assert run.info.status == "FINISHED"
    assert [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")] == [1, 2]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Root, Root]:
    """A database, and the roots of two people who write to it."""
    place = tmp_path_factory.mktemp("both")
    return f"sqlite:///{place}/both.db", Root.at(place / "one"), Root.at(place / "other")


def test_two_people_who_run_the_same_trial_have_one_run_with_one_curve(both: tuple[str, Root, Root]) -> None:
    uri, one, other = both
    client = MlflowClient(uri)
    first, second = Tracker(uri, one, SWEEP), Tracker(uri, other, SWEEP)
    later = [{**row, "time": row["time"] + 500} for row in HISTORY]
    first.epoch(TRIAL, dict(HISTORY[0]))
    until(lambda: bool(runs(client, TRIAL)))
    for row in later:
        second.epoch(TRIAL, row)
    second.ended(Failure(trial=TRIAL, kind="oom", reason="too big", traceback="", finished=1_700_000_000_000))
    assert second.close() is None  # another's run is not failed for it
    first.ended(result(one, TRIAL))
    assert first.close() is None
    second = Tracker(uri, other, SWEEP)
    second.ended(result(other, TRIAL).model_copy(update={"history": tuple(later)}))
    assert second.close() is None
    (run,) = runs(client, TRIAL)
    assert (run.info.status, run.data.tags["root"]) == ("FINISHED", str(one.path))
    points = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.timestamp) for point in points] == [(row["epoch"], row["time"]) for row in HISTORY]


def test_a_run_that_another_left_behind_is_finished_by_whoever_finishes(both: tuple[str, Root, Root]) -> None:
    uri, one, other = both
    trial = TRIAL.having({"seed": 1})
    dead = Tracker(uri, one, SWEEP)
    dead.epoch(trial, dict(HISTORY[0]))
    assert dead.close() is None
    tracker = Tracker(uri, other, SWEEP)
    tracker.ended(result(other, trial))
    assert tracker.close() is None
    (run,) = runs(MlflowClient(uri), trial)
    assert (run.info.status, run.data.tags["root"]) == ("FINISHED", str(other.path))


def test_the_same_sweep_from_two_roots_at_once_makes_each_run_once(both: tuple[str, Root, Root]) -> None:
    uri, *roots = both
    sweep = SWEEP.model_copy(update={"name": "at-once"})
    trials = [TRIAL.having({"seed": seed}) for seed in range(12)]
    trackers = [Tracker(uri, root, sweep) for root in roots]
    for trial in trials:
        for tracker, root in zip(trackers, roots, strict=True):
            tracker.ended(result(root, trial))
    assert [tracker.close() for tracker in trackers] == [None, None]
    for trial in trials:
        (run,) = runs(MlflowClient(uri), trial, "at-once")
        assert run.info.status == "FINISHED"


def test_a_deleted_experiment_is_an_error_that_says_how_to_restore_it(root: Root, client: MlflowClient) -> None:
    deleted = SWEEP.model_copy(update={"name": "deleted"})
    assert Tracker(root.tracking_uri, root, deleted).close() is None
    experiment = client.get_experiment_by_name("deleted")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(BadInput, match=f"experiment 'deleted' was deleted .* restore -x {experiment.experiment_id}"):
        Tracker(root.tracking_uri, root, deleted)


def test_a_store_that_cannot_be_opened_is_named(root: Root, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=f"tracking store sqlite:///{tmp_path}/file/mlflow.db cannot be used"):
        Tracker(f"sqlite:///{tmp_path}/file/mlflow.db", root, SWEEP)


def test_a_name_says_first_what_differs_between_the_runs_of_a_sweep() -> None:
    """MLflow's table shows the first twenty characters or so."""
    base = Trial(source=Variant("table", name="shoes"), epochs=5)
    tuned = base.having({"paradigm": "triplet", "paradigm.margin": 0.5, "lr": 0.0000151})
    search = ("lr", "epochs", "batch_size")
    assert run_name(tuned, base, search) == "lr=1.51e-5 e5 b64 · triplet margin=0.5 · efficientnet_lite0"
    repeat = tuned.having({"seed": 2})
    assert run_name(repeat, base, ("lr",)) == "s2 lr=1.51e-5 · triplet margin=0.5 · efficientnet_lite0"
    margins = run_name(tuned, base, ("paradigm.margin",)), cell_name(tuned, base, ("paradigm.margin", "lr"))
    assert margins == ("margin=0.5 · triplet · lr=1.51e-5 · efficientnet_lite0", "triplet · efficientnet_lite0")
    assert cell_name(tuned, base, ("backbone", "lr")) == "triplet margin=0.5"
    assert [run_name(tuned.having({"lr": lr}), base, ("lr",)).split()[0] for lr in (1e-3, 3e-4, 2.5e-10, 0.1)] == [
        *("lr=0.001", "lr=3e-4", "lr=2.5e-10", "lr=0.1"),
    ]
    full = base.having({"paradigm": "simclr", "fit_on": "bapps/cnn", "precision": "bf16", "head": "kept"})
    assert run_name(full, base) == "simclr · bf16 · bapps/cnn · head=kept · efficientnet_lite0"


@pytest.mark.parametrize("name", [file.stem for file in sorted(folder_of_sweeps().glob("[!_]*.py"))])
def test_no_two_cells_of_a_sweep_share_a_name(name: str) -> None:
    sweep = load_sweep(name)
    names = [cell_name(cell.trial, base_of(sweep), list(sweep.search)) for cell in cells(sweep)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("axis", "value"),
    [
        *(("layer", "blocks.4"), ("pool", "flat"), ("precision", "bf16"), ("resize", "native"), ("head", "kept")),
        *(("tuning", "lora"), ("fit_on", "bapps"), ("optimizer", "sgd"), ("protocol", "thesis"), ("epochs", 3)),
    ],
)
def test_a_cell_at_its_default_is_told_from_one_at_the_sweeps_base(axis: str, value: object) -> None:
    default = Trial.model_fields[axis].default
    base = Trial(source=Variant("study", size=1000), paradigm=Variant("triplet")).having({axis: value})
    one, other = (base.having({axis: own}) for own in (value, default))
    names = [cell_name(trial, base) for trial in (one, other)]
    assert names[0] == "triplet · efficientnet_lite0"
    assert names[1] != names[0]
    assert cell_name(base.having({"paradigm": None}), base).endswith("pretrained")


def test_values_that_nearly_agree_are_two_cells() -> None:
    base = Trial(paradigm=Variant("triplet"))
    names = {cell_name(base.having({"lr": lr}), base) for lr in (0.0012341, 0.0012344, 0.00012341, 0.00012344)}
    assert len(names) == 4


def test_what_all_trials_of_a_sweep_share_goes_without_saying() -> None:
    base = Trial(source=Variant("study", size=1000), epochs=3)  # 1000 is the study's own size
    sweep = Sweep(name="s", base=base, grid=[{"backbone": ["efficientnet_lite0"], "paradigm": ["triplet"]}])
    (cell,) = cells(sweep)
    assert cell_name(cell.trial, base_of(sweep)) == "triplet · efficientnet_lite0"


def test_what_a_sweep_varies_is_a_param_also_at_its_default() -> None:
    axes = ["backbone", "paradigm.margin", "tuning.rank", "lr"]
    trial = checked(BASE.having({"paradigm": "triplet", "paradigm.margin": 1.0}))
    assert trial.settings() | {"paradigm.margin": 1.0} == spelt_out(trial, axes)
    assert "paradigm.margin" not in trial.settings()
    assert spelt_out(BASE, axes) == BASE.settings()  # without a paradigm nothing of it


def test_a_pretrained_run_shows_no_training_fields(root: Root) -> None:
    trial = BASE.having({"backbone": Variant("efficientnet_lite0", weights="random")})
    assert run_name(trial, BASE, ("lr",)) == "efficientnet_lite0 weights=random · pretrained"
    assert "lr" not in trial.settings()
    base = BASE.having({"epochs": 3, "optimizer": "sgd"})
    assert run_name(base.having({"paradigm": "triplet"}), base) == "triplet · efficientnet_lite0"
    assert final_metrics(result(root, trial))["2afc/validation"] == 0.7


def test_the_store_is_the_option_then_the_variable_then_sqlite(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("UV", raising=False)
    assert tracking_uri(root) == f"sqlite:///{root.path}/mlflow.db"
    assert how_to_open(tracking_uri(root)) == f"mlflow ui --backend-store-uri sqlite:///{root.path}/mlflow.db"
    monkeypatch.setenv("UV", "uv")  # as `uv run` sets it
    assert how_to_open(tracking_uri(root)).startswith("uv run mlflow ui ")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri(root) == how_to_open(tracking_uri(root)) == "http://127.0.0.1:5000"
    assert tracking_uri(root, "sqlite:////other.db") == "sqlite:////other.db"


def test_a_slip_of_a_program_is_not_told_as_a_server_that_does_not_answer(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs its own trial, is not waited for, and is named."""
    said: list[str] = []
    trials = [TRIAL.having({"seed": seed}) for seed in (20, 21)]
    made = [result(root, trial) for trial in trials]

    def slips(one: Result) -> str:
        return {trials[1].id: "a note"}[one.trial.id]

    monkeypatch.setattr(tracking, "note_of", slips)
    tracker = Tracker(root.tracking_uri, root, SWEEP, said.append)
    for one in made:
        tracker.ended(one)
    assert tracker.close() == f"KeyError: '{trials[0].id}'"
    assert said == []
    (run,) = runs(tracker.client, trials[1])
    assert run.info.status == "FINISHED"
