"""The nine hypotheses: planted effects are found, their absence is too; what is missing is said; each runs alone."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sweeping import environment, humansim

from analysis import h5_filters
from analysis.answers import Answers, read
from analysis.hypotheses import HYPOTHESES, verdicts
from analysis.leakage import COLUMNS, leakage
from analysis.planted import MEASURE, planted_study
from humansim.published import BACKBONES, PARADIGMS, SUPERVISED
from humansim.root import Root
from humansim.sources.study import SETS

Row = Mapping[str, Any]
FINE_TUNED = (7, 8, 9)
ALL = {one.number: one for one in HYPOTHESES}


def more_filters(row: Row) -> float:
    of_series = row["pretraining.method"] == "CLIP" and row["family"] == "cnn"
    return h5_filters.SERIES.index(row["architecture"]) / 3 if of_series else 0


def matches(row: Row) -> bool:
    kind = "supervised" if row["paradigm"] in SUPERVISED else "self-supervised"
    return row["paradigm"] is not None and kind == row["pretraining.supervision"]


def as_ranked(row: Row, name: str) -> float:
    views = row["paradigm"] in ("simclr", "moco") and not name.startswith("bapps")
    return {"quadruplet": 2, "triplet": 1}.get(row["paradigm"], float(views))


# Of a trial, a set and a measure: how many effects it is above the others where the hypothesis is true.
PLANTED: dict[int, Callable[[Row, str, str], float]] = {
    1: lambda row, name, measure: row["pretraining.supervision"] != "supervised",
    2: lambda row, name, measure: row["pretraining.supervision"] == "self-supervised",
    3: lambda row, name, measure: measure == MEASURE,
    4: lambda row, name, measure: row["pretraining.language"],
    5: lambda row, name, measure: more_filters(row),
    6: lambda row, name, measure: row["family"] == "transformer",
    7: lambda row, name, measure: matches(row),
    8: lambda row, name, measure: as_ranked(row, name),
    9: lambda row, name, measure: row["paradigm"] in SUPERVISED and name.endswith("_similar"),
}


def study(number: int, effect: float, seed: int = 0, **shape: Any) -> tuple[pd.DataFrame, Answers]:
    """The sweep that feeds a hypothesis, and in it an effect that makes it true."""
    shape = {"fitted": ("heldout",) if number in FINE_TUNED else (), "queries": 20, "alike": 0.95} | shape
    return planted_study(lambda *of: 0.6 + effect * PLANTED[number](*of), np.random.default_rng(seed), **shape)


def smallest(number: int) -> float:
    return float(ALL[number].module.SMALLEST)


def test_there_are_nine_each_with_its_claim_and_its_bounds_said_beforehand() -> None:
    assert list(ALL) == list(range(1, 10))
    for one in HYPOTHESES:
        assert Path(__file__).parents[1].joinpath(one.file).is_file()
        assert one.module.__doc__.startswith(f"H{one.number}: ")
        points = f"Smallest effect that matters: {100 * smallest(one.number):g} point"
        for said in ("Contrast", points, "Resampled: query images", "Corrected for: the nine", "annot conclude"):
            assert said in " ".join(one.module.__doc__.split()), (one.file, said)


@pytest.mark.slow
@pytest.mark.parametrize("number", ALL)
def test_planted_effects_are_judged_as_they_should_be(number: int) -> None:
    many = 1200 if number in (3, 5) else 400
    found = {
        "an effect": ALL[number].verdict(*study(number, 4 * smallest(number), queries=many)),
        "none": ALL[number].verdict(*study(number, 0.0, queries=many)),
        "of just the smallest, few triplets": ALL[number].verdict(*study(number, smallest(number))),
    }
    assert {what: verdict.outcome for what, verdict in found.items()} == {
        "an effect": "supported",
        "none": "refuted",
        "of just the smallest, few triplets": "undecided",
    }
    assert found["an effect"].effect == pytest.approx(4 * smallest(number), rel=0.4)
    assert found["an effect"].partial == found["none"].partial


@pytest.mark.parametrize("number", ALL)
def test_where_nothing_has_finished_it_is_untested_which_is_not_undecided_and_says_what_is_missing(number: int) -> None:
    other = 1 if number in FINE_TUNED else 7  # the other half of the study
    trials, answers = study(other, 0.0)
    if number not in (*FINE_TUNED, 3):  # H3 lacks other measures; for the others only fine-tuned ones are left
        trials = trials[trials["kind"] == "fine-tuned"]
    verdict = ALL[number].verdict(trials, answers)
    assert (verdict.outcome, verdict.p, verdict.estimate.n) == ("untested", 1, 0)
    assert (verdict.tested_on, verdict.would_decide) == ("nothing", "")
    assert "nothing to test it on is among the finished trials" in str(verdict)
    assert any("not among the finished trials: " in said for said in verdict.partial)
    assert "nan" not in str(verdict)


@pytest.mark.parametrize("number", ALL)
def test_on_half_a_sweep_it_says_what_is_missing(number: int) -> None:
    """No DINO, no patches; of fine-tunings no jigsaw, and triplet not on all."""
    trials, answers = study(
        number, 0.0, backbones=[name for name in BACKBONES if "dino" not in name], sets=SETS[6:], queries=10
    )
    gone = (trials["paradigm"] == "jigsaw") | (
        (trials["paradigm"] == "triplet") & (trials["model"] == "alexnet") & (trials["fit_on"] == "hsj")
    )
    verdict = ALL[number].verdict(trials[~gone], answers)
    said = " ".join(verdict.partial)
    assert "not evaluated: bapps/traditional, bapps/cnn" in said
    assert ("not among the finished trials: ResNet-50, ViT-B/16, self-supervised" in said) == (number not in (5, 8, 9))
    assert ("not among the finished trials: jigsaw" in said) == (number in FINE_TUNED)
    assert ("alexnet on hsj" in said) == (number in FINE_TUNED)
    assert (verdict.estimate.n == 0) == (number == 7)  # a side of the interaction is not there
    if number in (2, 3, 8):
        assert verdict.outcome != "supported"  # one of its parts could not be tested


def test_heldout_is_preferred_to_what_is_contaminated_and_either_is_named() -> None:
    both = study(8, 0.0, fitted=("thesis", "heldout"), queries=5)
    assert "protocol heldout" in ALL[8].verdict(*both).tested_on
    leaky = ALL[8].verdict(*study(8, 0.0, fitted=("thesis",), queries=5))
    assert "protocol thesis" in leaky.tested_on
    assert any("leakage" in said for said in leaky.partial)


def test_a_backbone_that_was_read_in_several_ways_counts_once() -> None:
    trials, answers = study(1, 0.0)
    again = trials.assign(precision="bf16", cell=trials["cell"] + " bf16").iloc[:4]
    again.index = again.index + " bf16"
    both = pd.concat([trials.assign(precision="fp32"), again])
    assert ALL[1].verdict(both, answers) == ALL[1].verdict(trials, answers)


def test_the_nine_are_corrected_together_whichever_could_be_tested() -> None:
    trials, answers = study(1, 0.06, queries=60)
    alone, together = ALL[1].verdict(trials, answers), verdicts(trials, answers)
    assert list(together) == list(ALL)
    assert {one.family for one in together.values()} == {9}
    assert together[1].p == pytest.approx(9 * alone.p)
    assert {together[number].outcome for number in FINE_TUNED} == {"untested"}
    assert "(corrected for 9 claims)" in str(together[1])


def test_leakage_is_what_the_leaky_protocol_gained_more() -> None:
    def score(row: Row, name: str, measure: str) -> float:
        gain = 0.02 + 0.05 * (row["protocol"] == "thesis") * (row["paradigm"] in SUPERVISED)
        own = row["paradigm"] is not None and name.startswith(row["fit_on"])
        return 0.6 + gain * own

    rng = np.random.default_rng(0)
    shape = {"fitted": ("thesis", "heldout"), "backbones": BACKBONES[:2], "sets": SETS[5:9], "queries": 150}
    trials, answers = planted_study(score, rng, **shape)
    found = leakage(trials, answers)
    assert list(found.columns) == list(COLUMNS)
    assert set(found["paradigm"]) == {*PARADIGMS, "all"}
    for row in found.itertuples():
        leaked = {"all": 0.05 * 3 / 7}.get(row.paradigm, 0.05 if row.paradigm in SUPERVISED else 0.0)
        assert row.leaked == pytest.approx(row.gain_thesis - row.gain_heldout)
        assert row.low - 0.01 < leaked < row.high + 0.01
        assert row.n == 4 * 150
    # Fine-tunings without a twin under the other protocol, or without what they came from, say nothing.
    assert leakage(trials[trials["protocol"] == "thesis"], answers).empty
    assert leakage(trials[trials["paradigm"].notna()], answers).empty
    fewer = trials[~((trials["protocol"] == "heldout") & (trials["paradigm"] == "moco"))]
    assert "moco" not in set(leakage(fewer, answers)["paradigm"])


STORE = """
from humansim.published import BACKBONES
from humansim.spec import Sweep, Trial, Variant

SMALL = [f"miniature:{name}" for name in BACKBONES]
TUNED = [f"miniature:{name}" for name in ("resnet50", "dino_resnet50")]
PARADIGMS = ["quadruplet", "triplet", "rotation"]

SWEEP = Sweep(
    name="store",
    base=Trial(source=Variant("simulated", size=4), fit_size=8, batch_size=4, epochs=1),
    grid=[
        {"backbone": SMALL},
        {"backbone": TUNED, "paradigm": PARADIGMS, "fit_on": ["hsj"], "protocol": ["heldout", "thesis"]},
        {"backbone": TUNED, "protocol": ["thesis"]},
    ],
)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """What a small real sweep left in MLflow: eleven backbones in miniature, two of them fine-tuned."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "store.py").write_text(STORE)
    done = humansim("sweep", str(folder / "store.py"), "--root", str(folder / "root"), "--serial")
    assert done.returncode == 0, done.stderr
    return Root.at(folder / "root")


@pytest.mark.slow
def test_all_nine_run_on_what_a_sweep_left_in_mlflow(store: Root) -> None:
    trials, answers = read((store.tracking_uri, "store"))
    found = verdicts(trials, answers)
    assert all("judges simulated" in str(verdict) for verdict in found.values())
    assert all(verdict.estimate.n > 0 for verdict in found.values())
    assert set(leakage(trials, answers)["paradigm"]) == {"quadruplet", "triplet", "rotation", "all"}


@pytest.mark.slow
def test_each_runs_alone(store: Root) -> None:
    def run(*command: str) -> "subprocess.CompletedProcess[str]":
        arguments = [sys.executable, *command, "--root", str(store.path)]
        return subprocess.run(arguments, env=environment(), capture_output=True, text=True, check=False)

    as_file = run("analysis/h3_similarity_measure.py", "--sweep", "store")
    assert (as_file.returncode, as_file.stderr) == (0, "")
    assert ALL[3].claim in as_file.stdout
    assert "By itself: humansim report corrects p for all nine" in as_file.stdout
    as_module = run("-m", "analysis.h3_similarity_measure", "--sweep", "store")
    assert as_module.stdout == as_file.stdout
    missing = run("analysis/h9_difficulty.py", "--sweep", "stor")
    assert missing.returncode == 2
    assert "no sweep 'stor'" in missing.stderr
    assert "did you mean store" in missing.stderr
