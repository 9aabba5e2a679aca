"""A sweep is checked before anything is paid for, and what it asked for is written down where a crash cannot hurt."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humansim import plan, results, sweep_file
from humansim.errors import BadInput
from humansim.ledger import Asked, Ledger
from humansim.plan import cells, checked, wanted
from humansim.results import Failure, Result
from humansim.root import Root
from humansim.spec import Choice, Sweep, Trial, Uniform, Variant
from humansim.submitted import remember, remembered
from humansim.sweep_file import load_sweep

TRIPLET = Variant("triplet")
LR = {"lr": Uniform(low=1e-5, high=1e-2, log=True)}


def result(trial: Trial) -> Result:
    return Result(trial=trial, scores=(), history=(), provenance={}, seconds={}, peak_memory=0, finished=1)


def failure(trial: Trial) -> Failure:
    return Failure(trial=trial, kind="error", reason="made up", traceback="", finished=1)


def test_a_grid_is_the_product_of_its_axes_in_order() -> None:
    found = cells(Sweep(name="s", grid={"backbone": ["pixels", "efficientnet_lite0"], "resolution": [16, 32, 64]}))
    assert [(cell.trial.backbone.name, cell.trial.resolution) for cell in found] == [
        (backbone, resolution) for backbone in ("pixels", "efficientnet_lite0") for resolution in (16, 32, 64)
    ]
    assert str(found[0]) == "backbone=pixels resolution=16"


def test_a_sweep_without_a_grid_is_its_base_trial() -> None:
    (cell,) = cells(Sweep(name="s", base=Trial(resolution=64)))
    assert cell.trial == Trial(resolution=64)
    assert str(cell) == "(the base trial)"


def test_several_grids_are_joined_and_what_is_in_both_is_one_cell() -> None:
    sweep = Sweep(
        name="s",
        grid=[{"resolution": [16, 32]}, {"backbone": ["efficientnet_lite0", "pixels"], "resolution": [32]}],
    )
    assert [(cell.trial.backbone.name, cell.trial.resolution) for cell in cells(sweep)] == [
        ("efficientnet_lite0", 16),
        ("efficientnet_lite0", 32),
        ("pixels", 32),
    ]


def test_two_spellings_of_a_setting_are_one_cell() -> None:
    default = Variant("triplet", margin=1.0)
    sweep = Sweep(name="s", grid={"paradigm": ["triplet", TRIPLET, default], "lr": [1, 1.0], "optimizer": ["adam"]})
    assert len(cells(sweep)) == 1
    without_paradigm = Sweep(name="s", grid={"lr": [0.1, 0.2], "epochs": [1, 2]})
    assert len(cells(without_paradigm)) == 1


def test_a_cells_key_does_not_depend_on_the_order_of_axes_nor_on_the_start_of_what_is_searched() -> None:
    one = Sweep(name="s", grid={"paradigm": ["triplet"], "epochs": [3]}, search=LR)
    two = Sweep(name="t", base=Trial(lr=0.5, epochs=3), grid={"paradigm": [TRIPLET]}, search=LR)
    three = Sweep(name="s", grid={"paradigm": ["triplet"], "epochs": [4]}, search=LR)
    four = Sweep(name="s", grid={"paradigm": ["triplet"], "epochs": [3]}, search={"lr": Uniform(low=1e-5, high=1e-2)})
    keys = [cells(sweep)[0].key for sweep in (one, two, three, four)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_a_cell_without_a_paradigm_is_one_trial_and_has_no_search() -> None:
    sweep = Sweep(name="s", grid={"paradigm": [None, "triplet"]}, search=LR, samples=5, repeats=3)
    pretrained, tuned = cells(sweep)
    assert pretrained.search == {}
    assert wanted(sweep, pretrained) == 1
    assert tuned.search == LR
    assert wanted(sweep, tuned) == 5 + 3 - 1


def test_a_training_without_a_search_is_one_trial_and_its_repeats() -> None:
    sweep = Sweep(name="s", base=Trial(paradigm=TRIPLET), samples=9, repeats=3)
    assert wanted(sweep, cells(sweep)[0]) == 3


def test_a_checked_trial_is_in_its_normal_form() -> None:
    spelled_out = Trial(backbone=Variant("efficientnet_lite0", weights="imagenet", init_seed=0), paradigm=TRIPLET)
    assert checked(spelled_out).id == Trial(paradigm=TRIPLET).id
    assert checked(checked(spelled_out)) == checked(spelled_out)


WRONG = {
    "unknown axis": ({"grid": {"learning_rate": [0.1]}}, "unknown axis 'learning_rate'"),
    "unknown part": (
        {"grid": {"backbone": ["efficientnet_lite1"]}},
        "unknown backbone.*did you mean efficientnet_lite0",
    ),
    "unknown argument": ({"grid": {"paradigm": ["triplet"], "paradigm.margn": [1]}}, "no argument 'margn'.*margin"),
    "bad value": ({"grid": {"epochs": [3, 0]}}, "epochs"),
    "text for a number": ({"grid": {"lr": ["1e-3"]}}, "lr.*'1e-3'"),
    "bad argument": (
        {"grid": {"paradigm": ["triplet"], "paradigm.distance": ["cosine"]}},
        "paradigm.distance.*'cosine'",
    ),
    "missing argument": ({"grid": {"source": ["table"]}}, "source 'table' needs the argument"),
    "no variant": ({"grid": {"backbone": [3]}}, "backbone.*3"),
    "no variant, with an argument": ({"grid": {"backbone": [3], "backbone.weights": ["random"]}}, "backbone.*3"),
    "nothing to train": (
        {"grid": {"backbone": ["pixels"], "paradigm": ["triplet"]}},
        "backbone pixels has nothing to train",
    ),
    "nothing left to fit": ({"grid": {"protocol": ["all"], "paradigm": ["triplet"]}}, "protocol 'all'"),
    "searched axis unknown": (
        {"base": Trial(paradigm=TRIPLET), "search": {"rl": Uniform(low=1, high=2)}},
        "search.*unknown axis 'rl'",
    ),
    "searched axis unknown, nothing trained": ({"search": {"rl": Uniform(low=1, high=2)}}, "search.*unknown axis 'rl'"),
    "searched argument unknown": (
        {"base": Trial(paradigm=TRIPLET), "search": {"paradigm.x": Uniform(low=1, high=2)}},
        "'paradigm.x'.*no argument 'x'",
    ),
    "range leaves what is allowed": (
        {"base": Trial(paradigm=TRIPLET), "search": {"lr": Uniform(low=0, high=1)}},
        "search of 'lr'.*greater than 0",
    ),
    "fractions of an epoch": (
        {"base": Trial(paradigm=TRIPLET), "search": {"epochs": Uniform(low=1, high=5)}},
        "search of 'epochs'.*; step=1 draws whole numbers",
    ),
    "bad choice": (
        {"base": Trial(paradigm=TRIPLET), "search": {"paradigm.distance": Choice(values=("euclidean", "l1"))}},
        "'l1'",
    ),
}


@pytest.mark.parametrize(("wrong", "complaint"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_before_anything_runs(wrong: dict, complaint: str, root: Root) -> None:
    sweep = Sweep(name="s", **wrong)
    with pytest.raises(BadInput, match=complaint):
        cells(sweep)
    with pytest.raises(BadInput, match=complaint):
        plan.plan(sweep, root)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.py"


def test_a_sweep_is_loaded_by_path(file: Path) -> None:
    file.write_text('from humansim.spec import Sweep\n\nSWEEP = Sweep(name="mine", grid={"resolution": [16, 32]})\n')
    assert load_sweep(str(file)) == Sweep(name="mine", grid={"resolution": [16, 32]})


def test_every_sweep_that_comes_with_humansim_is_loaded_by_name_and_says_what_it_asks() -> None:
    names = [path.stem for path in sweep_file.folder_of_sweeps().glob("[!_]*.py")]
    assert "demo" in names
    for name in names:
        sweep = load_sweep(name)
        assert sweep.name == name
        assert sweep.question.endswith("?")
        assert cells(sweep)


def test_an_unknown_name_lists_near_ones() -> None:
    with pytest.raises(BadInput, match=r"unknown sweep 'dmeo'; did you mean demo.*or give a path that ends in \.py"):
        load_sweep("dmeo")


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(BadInput, match=f"{file}: no such file"):
        load_sweep(str(file))


IMPORT = "from humansim.spec import Sweep, Trial, Uniform\n"
WRONG_FILES = {
    "no SWEEP": (IMPORT, r": it must set SWEEP = Sweep\(\.\.\.\)"),
    "SWEEP of another kind": ("SWEEP = {'name': 'mine'}", r": it must set SWEEP = Sweep\(\.\.\.\)"),
    "syntax error": (IMPORT + "\nSWEEP = Sweep(name='mine'", ", line 3: SyntaxError"),
    "exception": (IMPORT + "\n\nx = 1 / 0\n", ", line 4: ZeroDivisionError: division by zero"),
    "exception further down": (IMPORT + "def f():\n    return [][1]\nf()\n", ", line 3: IndexError"),
    "misspelt import": ("from humansim.spec import Sweeep\n", ", line 1: ImportError"),
    "misspelt field": (IMPORT + "SWEEP = Sweep(name='mine', sampels=3)", ", line 2: Sweep.sampels"),
    "range": (
        IMPORT + "SPACE = {\n    'lr': Uniform(low=2.0, high=1.0)\n}",
        ", line 3: Uniform: low 2.0 must be below high 1.0",
    ),
    "misspelt field of the trial": (
        IMPORT + "SWEEP = Sweep(name='mine', base=Trial(epoch=3))",
        ", line 2: Trial.epoch",
    ),
    "bad value": (IMPORT + "SWEEP = Sweep(name='mine', samples='3')", ", line 2: Sweep.samples.*'3'"),
    "bad cell": (IMPORT + "SWEEP = Sweep(name='mine', grid={'lrr': [1]})", ": unknown axis 'lrr'"),
    "bad variant": (
        "from humansim.spec import Variant\nVariant('v', a=float('nan'))",
        ", line 2: variant 'v': nan has no canonical form",
    ),
}


@pytest.mark.parametrize(("text", "complaint"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_what_is_wrong_with_a_sweeps_file_names_the_file_and_the_place(file: Path, text: str, complaint: str) -> None:
    file.write_text(text)
    with pytest.raises(BadInput, match=f"^{file}{complaint}") as error:
        load_sweep(str(file))
    assert "\n" not in str(error.value)


def asked(*seeds: int) -> list[Asked]:
    return [Asked("cell", i, Trial(paradigm=TRIPLET, seed=seed)) for i, seed in enumerate(seeds)]


def test_a_ledger_gives_back_what_was_appended(root: Root) -> None:
    rich = Asked("é", 0, Trial(backbone=Variant("efficientnet_lite0", weights="random"), paradigm=TRIPLET, lr=1 / 3))
    for one in [*asked(3, 1, 2), rich]:
        Ledger(root, "s").append(one)
    assert Ledger(root, "s").read() == [*asked(3, 1, 2), rich]
    assert Ledger(root, "other").read() == []


def test_a_ledger_that_was_never_written_is_empty_and_makes_nothing(root: Root) -> None:
    assert Ledger(root, "s").read() == []
    assert not root.sweeps.exists()


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_torn_last_line_is_dropped_and_the_next_append_repairs_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    ledger = Ledger(Root.at(tmp_path_factory.mktemp("root")), "s")
    before, lost, after = asked(1, 2, 3)
    ledger.append(before)
    whole = ledger.file.stat().st_size
    ledger.append(lost)
    length = ledger.file.stat().st_size
    # Mostly near the ends of the line, where it is almost whole or hardly begun.
    cut = data.draw(st.integers(whole, length - 1) | st.sampled_from([whole, whole + 1, length - 2, length - 1]))
    ledger.file.write_bytes(ledger.file.read_bytes()[:cut])

    kept = ledger.read()
    # Either the trial had been asked for or it had not, and what comes next must not change that.
    assert kept in ([before], [before, lost])
    ledger.append(after)
    assert ledger.read() == [*kept, after]
    assert all(json.loads(line) for line in ledger.file.read_bytes().splitlines())


def test_a_torn_first_line_leaves_an_empty_ledger(root: Root) -> None:
    ledger = Ledger(root, "s")
    (one,) = asked(1)
    ledger.append(one)
    ledger.file.write_bytes(ledger.file.read_bytes()[:30])
    assert ledger.read() == []
    ledger.append(one)
    assert ledger.read() == [one]


@pytest.mark.parametrize(
    "damage", [b"{", b"nonsense", b'{"cell": "c"}', b'{"cell":"c","index":0,"trial":{"lr":"x"}}', b"3"]
)
def test_a_damaged_line_in_the_middle_is_bad_input_that_names_it(root: Root, damage: bytes) -> None:
    ledger = Ledger(root, "s")
    for one in asked(1, 2, 3):
        ledger.append(one)
    lines = ledger.file.read_bytes().splitlines()
    ledger.file.write_bytes(b"\n".join([lines[0], damage, lines[2], b""]))
    with pytest.raises(BadInput, match=f"{ledger.file}, line 2: damaged"):
        ledger.read()


def test_a_plan_counts_every_trial_by_its_state(root: Root) -> None:
    sweep = Sweep(
        name="s",
        grid=[{"resolution": [16, 32]}, {"paradigm": ["triplet"], "epochs": [1, 2]}],
        search=LR,
        samples=4,
        repeats=2,
    )
    fresh = plan.plan(sweep, root)
    assert len(fresh.cells) == 4
    assert fresh.counts() == {"to run": 2 + 2 * (4 + 1)}

    pretrained, other, tuned, _ = fresh.cells
    trials = [tuned.trial.having({"lr": lr}) for lr in (1e-3, 1e-4, 2e-4)]
    for i, trial in enumerate(trials):
        Ledger(root, "s").append(Asked(tuned.key, i, trial))
    results.save(root, result(pretrained.trial))
    results.save(root, result(trials[0]))
    results.save(root, failure(trials[1]))
    (results.folder(root, other.trial)).mkdir()
    (results.folder(root, other.trial) / results.CHECKPOINT).touch()
    planned = plan.plan(sweep, root)
    assert planned.counts() == {"finished": 2, "failed": 1, "resumable": 1, "to run": 1 + 2 + 5}
    assert sum(planned.counts().values()) == sum(wanted(sweep, cell) for cell in planned.cells)
    with results.claimed(root, trials[2]):
        assert plan.plan(sweep, root).counts()["running"] == 1


def test_planning_reads_and_writes_nothing(root: Root) -> None:
    plan.plan(Sweep(name="s", grid={"resolution": [16, 32]}), root)
    assert list(root.path.iterdir()) == []


def test_what_another_sweep_finished_is_finished(root: Root) -> None:
    results.save(root, result(Trial(resolution=16)))
    assert plan.plan(Sweep(name="s", grid={"resolution": [16, 32]}), root).counts() == {"finished": 1, "to run": 1}


def test_sweeps_are_remembered_by_name_with_the_same_cells(root: Root) -> None:
    random = Variant("efficientnet_lite0", weights="random")
    two = Sweep(name="two", grid={"backbone": [random, "pixels"]})
    one = Sweep(name="one", base=Trial(paradigm=TRIPLET), search=LR, samples=3)
    for sweep in (two, one):
        remember(sweep, root)
    found = list(remembered(root))
    assert [sweep.name for sweep in found] == ["one", "two"]
    assert found[0] == one
    assert [cell.key for cell in cells(found[1])] == [cell.key for cell in cells(two)]
    assert [str(cell) for cell in cells(found[1])] == [str(cell) for cell in cells(two)]


def test_submitting_again_remembers_the_newest(root: Root) -> None:
    remember(Sweep(name="s"), root)
    remember(Sweep(name="s", samples=7), root)
    assert list(remembered(root)) == [Sweep(name="s", samples=7)]


def test_a_damaged_memory_is_bad_input_that_names_the_file(root: Root) -> None:
    remember(Sweep(name="s"), root)
    file = root.sweeps / "s" / "sweep.json"
    file.write_text(file.read_text()[:20])
    with pytest.raises(BadInput, match=f"{file}: damaged"):
        list(remembered(root))
