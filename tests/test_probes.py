"""What a sweep will take: conditions, probes, predictions, their schedule; and predicted beside actual."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_search import result

from humansim import forecast, measuring, plan, probes, results, sources, train
from humansim.cli import main
from humansim.fit_sets import choose_fit, count_fit
from humansim.forecast import Expected
from humansim.launch.packing import READY, Packer, Place
from humansim.ledger import Asked, Ledger
from humansim.lengths import UNSURE, Lengths, counter
from humansim.material import prepare
from humansim.plan import checked
from humansim.probes import Probe, conditions, data_conditions
from humansim.results import Result
from humansim.root import Root
from humansim.search import Search
from humansim.spec import Sweep, Trial, Uniform, Variant
from humansim.splits import split
from humansim.virtual import Gpus

SAMPLE = Variant("sample", queries=24, pairs=2)
TINY = Trial(
    source=SAMPLE,
    backbone=Variant("miniature:alexnet"),
    paradigm=Variant("triplet"),
    fit_size=16,
    batch_size=8,
    epochs=3,
)
PRETRAINED = TINY.having({"paradigm": None})
DEVICE = probes.this_device()


def probe(trial: Trial, device: str = DEVICE, **more: float) -> Probe:
    """A made-up measurement in round numbers."""
    figures = {"setup": 1.0, "step": 0.5, "save": 0.25, "image": 0.01, "read": 2.0, "score": 3.0, **more}
    memory = {"peak_memory": 10**9, "device_memory": 0, "checkpoint": 300, "weights": 100, "answers": 10}
    return Probe(
        conditions=conditions(trial),
        data=data_conditions(trial),
        device=device,
        torch=probes.torch_version(),
        **{**memory, **figures},
    )


def finished(trial: Trial, root: Root, seconds: float, device: str = DEVICE) -> None:
    """A result of so many seconds, without what its parts took."""
    made = {"device": device, "fit": 16, "embedded": 0, "versions": {}}
    outcome = Result(
        trial=trial, scores=(), history=(), provenance=made, seconds={"all": seconds}, peak_memory=0, finished=1
    )
    results.save(root, outcome)


SAME = {
    "lr": 0.5,
    "seed": 3,
    "epochs": 7,
    "fit_on": "faces",
    "protocol": "thesis",
    "source": Variant("sample", queries=30),
    "fit_size": 500,
    "paradigm.margin": 0.3,  # a number in the objective is no work
    "resolution": 64,  # its own
    "backbone.init_seed": 5,
    "optimizer.weight_decay": 0.0,
}
OTHER = {
    "backbone": Variant("miniature:resnet50"),
    "paradigm": Variant("contrastive"),
    "paradigm.outputs": 64,
    "batch_size": 4,
    "resolution": 96,
    "precision": "bf16",
    "threads": 2,
    "tuning": Variant("head"),
    "head": "kept",
    "optimizer": Variant("sgd"),
    "batch_norm": "frozen",
    "layer": "2",
    "pool": "flat",
    "workers": 2,
}


@pytest.mark.parametrize("axis", SAME)
def test_what_changes_no_amount_of_work_is_measured_once(axis: str) -> None:
    assert conditions(TINY.having({axis: SAME[axis]})).key == conditions(TINY).key


@pytest.mark.parametrize("axis", OTHER)
def test_what_changes_speed_or_memory_is_measured_by_itself(axis: str) -> None:
    assert conditions(TINY.having({axis: OTHER[axis]})).key != conditions(TINY).key


def test_every_field_of_a_trial_is_either_a_condition_or_none() -> None:
    """A new field of Trial has to be sorted into one of the two above."""
    named = {axis.partition(".")[0] for axis in (*SAME, *OTHER)} | {"resize"}
    assert named == set(Trial.model_fields)


def test_a_number_that_switches_something_off_is_a_condition() -> None:
    sgd = TINY.having({"optimizer": Variant("sgd")})
    assert conditions(sgd.having({"optimizer.momentum": 0.5})).key == conditions(sgd).key
    assert conditions(sgd.having({"optimizer.momentum": 0.0})).key != conditions(sgd).key


def test_a_batch_is_no_larger_than_what_there_is_to_fit() -> None:
    assert conditions(TINY.having({"batch_size": 64})).batch == 16


def test_training_is_no_condition_of_what_trains_nothing() -> None:
    assert conditions(PRETRAINED.having({"batch_size": 4, "optimizer": "sgd"})) == conditions(PRETRAINED)


def test_data_costs_by_source_protocol_and_kind_of_data_point() -> None:
    key = data_conditions(TINY).key
    assert data_conditions(TINY.having({"paradigm": "contrastive", "fit_on": "faces", "lr": 1.0})).key == key
    for other in ({"paradigm": "simclr"}, {"protocol": "thesis"}, {"source": "sample"}, {"paradigm": None}):
        assert data_conditions(TINY.having(other)).key != key


@pytest.mark.parametrize("protocol", ["heldout", "thesis"])
@pytest.mark.parametrize("kind", ["triplet", "quadruplet", "singleton"])
@pytest.mark.parametrize("size", [1, 16, 10**6])
def test_data_points_are_counted_as_they_are_chosen(root: Root, protocol: str, kind: str, size: int) -> None:
    judgements = sources.read(SAMPLE, root)
    parts = split(judgements, protocol)
    for fit_on in (None, *judgements.sets):
        chosen = choose_fit(judgements, parts, kind, size, fit_on=fit_on)
        assert count_fit(judgements, parts, kind, size, fit_on) == len(chosen)


@pytest.mark.parametrize("trial", [TINY, PRETRAINED], ids=["fine-tuned", "pretrained"])
def test_what_there_is_to_do_is_counted_without_looking_at_images(root: Root, trial: Trial) -> None:
    counts, material = counter(root)(trial), prepare(trial, root)
    assert counts.evaluated == len(material.images_of("validation", "test"))
    assert counts.points == (0 if trial.paradigm is None else len(material.fit or ()))
    if trial.paradigm is not None:
        assert counts.validation == len(material.images_of("validation"))


def test_a_prediction_is_the_sum_of_its_parts() -> None:
    fixed = 2 + 1 + 100 * 0.01 + 3
    assert probes.duration(PRETRAINED, probe(PRETRAINED), 0, 0, 100) == fixed
    # Three epochs of two steps (16 data points by 8), 20 images of validation and a checkpoint.
    assert probes.duration(TINY, probe(TINY), 16, 20, 100) == pytest.approx(fixed + 3 * (2 * 0.5 + 20 * 0.01 + 0.25))


def test_probes_are_kept_and_the_newest_counts(root: Root) -> None:
    probes.keep(root, probe(TINY, step=1.0))
    probes.keep(root, probe(TINY, step=2.0))
    probes.keep(root, probe(TINY, device="another", step=3.0))
    probes.keep(root, probe(TINY).model_copy(update={"torch": "0.1"}))
    (root.path / "probes" / "damaged.json").write_text("{")
    assert sorted((one.device, one.step) for one in probes.kept(root)) == sorted([(DEVICE, 2.0), ("another", 3.0)])


@pytest.mark.parametrize(("gib", "share"), [(1, 1 / 8), (7, 1 / 8), (15, 1 / 4), (30, 1 / 2), (60, 1), (200, 1)])
def test_a_share_of_a_gpu_has_room_for_the_trial(gib: int, share: float) -> None:
    assert probe(TINY, peak_memory=gib * 2**30, device_memory=80 * 2**30).share == share


SWEEP = Sweep(
    name="tiny",
    base=TINY,
    grid=[{"paradigm": [None]}, {"paradigm": ["triplet", "simclr"]}],
    search={"lr": Uniform(low=1e-4, high=1e-2), "epochs": Uniform(low=1, high=5, step=1)},
    samples=2,
    repeats=2,
)


def to_run(root: Root) -> list[Expected]:
    return forecast.forecast(plan.plan(SWEEP, root), root, slots=1).to_run


def test_trials_come_in_the_order_of_the_search(root: Root) -> None:
    triplet = plan.cells(SWEEP)[1]
    order = [str(one.trial.paradigm) for one in to_run(root)]
    assert order == ["triplet", "simclr", "None", "triplet", "simclr", "triplet", "simclr"]
    assert {one.trial.epochs for one in to_run(root) if one.trial.paradigm} == {3}
    asked = triplet.trial.having({"lr": 0.001, "epochs": 1})
    Ledger(root, "tiny").append(Asked(triplet.key, 0, asked))
    assert to_run(root)[0].trial == asked
    assert len(to_run(root)) == 7
    finished(asked, root, 1.0)
    assert len(to_run(root)) == 6
    assert plan.plan(SWEEP, root).counts()["to run"] == 6


def test_what_is_not_measured_is_named_once(root: Root) -> None:
    ahead = forecast.forecast(plan.plan(SWEEP, root), root)
    assert [str(trial.paradigm) for trial in ahead.unmeasured] == ["triplet", "simclr", "None"]
    assert ahead.elapsed is None
    assert not root.path.joinpath("sample").exists()  # nothing is simulated to plan what is not measured
    for trial in ahead.unmeasured[:2]:
        probes.keep(root, probe(trial))
    ahead = forecast.forecast(plan.plan(SWEEP, root), root, device=DEVICE)
    assert [str(trial.paradigm) for trial in ahead.unmeasured] == ["None"]
    assert ahead.elapsed is None
    assert sum(one.seconds is not None for one in ahead.to_run) == 3 + 3


def measured_sweep(root: Root, sweep: Sweep = SWEEP) -> None:
    for trial in forecast.forecast(plan.plan(sweep, root), root).unmeasured:
        probes.keep(root, probe(trial))


def test_more_slots_end_sooner_and_cost_the_same(root: Root) -> None:
    measured_sweep(root)
    one, two, many = (forecast.forecast(plan.plan(SWEEP, root), root, slots=slots) for slots in (1, 2, 99))
    assert one.elapsed is not None
    assert two.elapsed is not None
    assert many.elapsed is not None
    assert one.elapsed > two.elapsed > many.elapsed
    assert one.device_hours == two.device_hours == pytest.approx(sum(e.seconds or 0 for e in one.to_run) / 3600)
    assert (one.checkpoints, many.checkpoints, one.disk) == (300, 5 * 300, 7 * 110)  # repeats wait
    assert one.spread == UNSURE


@pytest.mark.parametrize(("device", "slots"), [("cpu (any)", 1), ("cpu (any)", 3), ("NVIDIA L4", 1), ("NVIDIA L4", 3)])
def test_a_forecast_goes_the_way_of_the_search(root: Root, device: str, slots: int) -> None:
    """What is forecast is what the real search and the real packer do if each trial takes what is predicted."""
    kinds = [{"backbone": ["miniature:alexnet", "miniature:resnet50"], "paradigm": ["rotation"]}]
    sweep = Sweep(
        name="s",
        base=TINY,
        grid=[{"paradigm": [None]}, *kinds, {"epochs": [1, 4]}],
        search={"lr": Uniform(low=1e-4, high=1e-2)},
        samples=12,
        repeats=3,
        parallel=1,
    )
    for i, cell in enumerate(plan.cells(sweep)):
        peak, memory = (i + 1) * 2 * 2**30, 24 * 2**30 * (device == "NVIDIA L4")
        probes.keep(root, probe(cell.trial, device, step=0.5 + i, peak_memory=peak, device_memory=memory))
    ahead = forecast.forecast(plan.plan(sweep, root), root, slots=slots)
    assert ahead.device == device

    lengths = Lengths(root, [cell.trial for cell in plan.cells(sweep)])
    search = Search(sweep, Ledger(root, "s"), length=lengths.seconds)
    place = Place(cpus=8, memory=2**40, gpus=slots * ahead.on_gpu, gpu_memory=24 * 2**30)
    packer, cluster, asked = Packer(search, place, probes.Peaks(root).of), Gpus[Any](slots), []
    ready: list[Any] = []
    while True:
        while len(ready) < READY and (given := packer.next()) is not None:
            asked.append(search.cells_of(given[0])[0])
            ready.append(given)
        waiting = [
            (trial, share)
            for trial, share in ready
            if not cluster.start(
                (trial, share), (lengths.seconds(trial) or 0.0) + forecast.BETWEEN, share.gpu if ahead.on_gpu else 1.0
            )
        ]
        if len(waiting) == len(ready):
            ended = cluster.next()
            if ended is None:
                break
            trial, share = ended
            packer.end(result(trial), share)
        ready = waiting
    assert packer.done
    assert [one.cell.key for one in ahead.to_run] == asked
    assert ahead.elapsed == pytest.approx(forecast.START + cluster.now)


def test_kept_embeddings_cost_nothing(root: Root) -> None:
    sweep = Sweep(name="s", base=PRETRAINED, grid={"protocol": ["heldout", "all"]})
    measured_sweep(root, sweep)
    first, second = forecast.forecast(plan.plan(sweep, root), root).to_run
    images = counter(root)(first.trial).evaluated
    assert first.seconds == pytest.approx(6 + 0.01 * images)
    assert second.seconds == pytest.approx(6)
    finished(first.trial, root, 6.0)
    assert forecast.forecast(plan.plan(sweep, root), root).to_run[0].seconds == pytest.approx(6)


def test_finished_trials_stand_beside_what_was_predicted_and_correct_the_rest(root: Root) -> None:
    sweep = Sweep(name="s", base=TINY, grid={"lr": [0.1 * i for i in range(1, 13)]})
    measured_sweep(root, sweep)
    before = forecast.forecast(plan.plan(sweep, root), root)
    usual = before.to_run[0].seconds or 0.0
    factors = [1.8, 1.9, 2.0, 2.0, 2.0, 2.0, 2.0, 2.1, 2.2]
    for one, factor in zip(before.to_run, factors, strict=False):
        finished(one.trial, root, factor * (usual - 0.01 * counter(root)(TINY).evaluated))
    after = forecast.forecast(plan.plan(sweep, root), root)
    count, actual, predicted = after.compared()
    assert count == len(factors)
    assert actual / predicted == pytest.approx(2.0)
    assert after.to_run[0].seconds == pytest.approx(2 * usual)
    assert 0.9 < after.spread[0] < 0.97  # of three together: narrower than of one, a tenth of which lie below 0.9
    assert 1.03 < after.spread[1] < 1.1


def test_trials_of_another_sweep_correct_too(root: Root) -> None:
    one, other = (Sweep(name=name, base=TINY, grid={"lr": [lr]}) for name, lr in (("one", 0.1), ("other", 0.2)))
    measured_sweep(root, one)
    before = forecast.forecast(plan.plan(one, root), root).to_run[0].seconds or 0.0
    finished(plan.cells(other)[0].trial, root, 3 * (before - 0.01 * counter(root)(TINY).evaluated))
    after = forecast.forecast(plan.plan(one, root), root)
    assert after.to_run[0].seconds == pytest.approx(3 * before)
    assert after.compared()[0] == 0


def test_another_devices_trials_are_not_compared(root: Root) -> None:
    sweep = Sweep(name="s", base=TINY, grid={"lr": [0.1, 0.2]})
    measured_sweep(root, sweep)
    finished(plan.cells(sweep)[0].trial, root, 1.0, device="another")
    assert forecast.forecast(plan.plan(sweep, root), root, device=DEVICE).compared() == (0, 0, 0)


def test_a_device_that_is_measured_is_predicted_for(root: Root) -> None:
    sweep = Sweep(name="s", base=TINY)
    probes.keep(root, probe(checked(TINY), device="NVIDIA H100 80GB HBM3", device_memory=80 * 2**30))
    ahead = forecast.forecast(plan.plan(sweep, root), root)
    assert (ahead.device, ahead.on_gpu, ahead.unmeasured) == ("NVIDIA H100 80GB HBM3", True, [])


def test_data_that_is_not_there_is_named(root: Root) -> None:
    sweep = Sweep(name="s", base=TINY.having({"source": Variant("study")}))
    ahead = forecast.forecast(plan.plan(sweep, root), root)
    (why,) = ahead.missing_data.values()
    assert all(name in why for name in ("bapps", "hsj", "birds16"))


def test_a_trial_is_measured_in_its_own_pieces_and_leaves_nothing_behind(root: Root) -> None:
    found = measuring.probe(TINY, root, device="cpu", seconds=0.05)
    assert found.conditions == conditions(TINY)
    assert all(getattr(found, name) > 0 for name in (*probes.OF_DATA, "setup", "step", "save", "image"))
    assert found.checkpoint > found.weights > 0
    assert not list(root.path.glob(".probe-*"))
    assert not list(root.results.glob("*"))
    bare = measuring.probe(PRETRAINED, root, device="cpu", seconds=0.05)
    assert (bare.step, bare.checkpoint, bare.weights) == (0, 0, 0)
    assert bare.image > 0


def test_a_metric_of_pairs_is_measured(root: Root) -> None:
    trial = checked(Trial(source=SAMPLE, backbone=Variant("ssim"), resolution=32))
    found = measuring.probe(trial, root, device="cpu", seconds=0.01)
    assert found.image > 0
    assert counter(root)(trial).evaluated > 0


def test_a_finished_trial_tells_what_a_probe_would(root: Root) -> None:
    """Its parts add up to what it took; a sweep that gains a cell of the same conditions needs no probe."""
    outcome = train.run(checked(TINY), root, device="cpu")
    told = probes.of_result(outcome, root)
    assert told is not None
    counts = counter(root)(TINY)
    again = probes.duration(TINY, told, counts.points, counts.validation, outcome.provenance["embedded"])
    assert again == pytest.approx(sum(outcome.seconds.values()), rel=0.35)
    sweep = Sweep(name="s", base=TINY, grid={"seed": [0, 1]})
    ahead = forecast.forecast(plan.plan(sweep, root), root, device=outcome.provenance["device"])
    assert ahead.unmeasured == []
    assert ahead.elapsed is not None
    assert ahead.compared()[0] == 0  # nothing independent of it to compare it with


def test_plan_measures_and_tells(root: Root, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tiny.py"
    file.write_text(
        f"from humansim.spec import Sweep, Trial\nSWEEP = Sweep.model_validate_json({SWEEP.model_dump_json()!r})\n"
    )
    where = ["--root", str(root.path)]
    assert main(["plan", str(file), *where]) == 0
    assert "Not measured on" in (out := capsys.readouterr().out)
    assert "To run: " not in out
    assert main(["plan", str(file), *where, "--probe", "--price", "2", "--slots", "2"]) == 0
    out = capsys.readouterr().out
    assert "Not measured" not in out
    assert "To run: about" in out
    assert "cost" in out
    assert main(["plan", str(file), *where, "--json", "--price", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["to_run"]["trials"] == found["to_run"]["predicted"] == 7
    assert found["to_run"]["cost"] == pytest.approx(2 * found["to_run"]["device_hours"])
    assert found["to_run"]["interval"][0] < found["to_run"]["elapsed"] < found["to_run"]["interval"][1]
    assert [cell["to_run"]["memory"] > 0 for cell in found["cells"]] == [True] * 3


def test_plan_of_many_cells_is_short_unless_asked(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "full_small", "--root", str(root.path)]) == 0
    short = capsys.readouterr().out
    assert main(["plan", "full_small", "--root", str(root.path), "--cells"]) == 0
    assert len(short.splitlines()) < 80 < 600 < len(capsys.readouterr().out.splitlines())
    assert "624 trials in 624 cells; 624 to run" in short


@pytest.mark.parametrize("wrong", [["--slots", "0"], ["--price", "-1"]])
def test_wrong_circumstances_are_bad_input(root: Root, wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "full_small", "--root", str(root.path), *wrong]) == 2
    assert wrong[0] in capsys.readouterr().err


@pytest.mark.slow
def test_a_cluster_measures(root: Root) -> None:
    from humansim.launch import cluster, probing

    ended: dict[str, Probe | Exception] = {}
    wrong = TINY.having({"source": Variant("table", name="nowhere")})
    with cluster.connected():
        probing.measure([PRETRAINED, TINY, wrong], root, lambda trial, probe: ended.update({trial.id: probe}))
    assert {trial: type(ended[trial.id]).__name__ for trial in (PRETRAINED, TINY, wrong)} == {
        PRETRAINED: "Probe",
        TINY: "Probe",
        wrong: "BadInput",
    }
