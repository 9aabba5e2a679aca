"""The report on judgements that somebody brought: did fine-tuning help, and which model is best."""

import html
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_answers import BASE, PRETRAINED, TUNED, made
from test_report import signed

from analysis import report
from analysis.answers import cells, gathered
from analysis.gains import gains, leaders, varied
from analysis.hypotheses import verdicts
from analysis.numerals import scored
from analysis.report.tables import labels
from analysis.stats import estimate, mean
from humansim.spec import Trial

OTHER = BASE.having({"paradigm": "triplet", "paradigm.margin": 0.7})
SHARED = {"split": "trial", "contaminated": False, "test": {"images": 40}, "images": {"test": 40}}
AS_THE_THESIS = {**SHARED, "contaminated": True}


def under(protocol: str, *trials: Trial) -> list[Trial]:
    return [trial.having({"protocol": protocol}) for trial in trials]


def of(trial: Trial, **more: object) -> tuple:
    """As `made`, with pixels a floor under every protocol."""
    family = "none" if trial.backbone == PRETRAINED.backbone else "cnn"
    return made(trial, **{"backbone": {"family": family, "features": 7, "pretraining": None}, **more})


def summary_of(folder: Path) -> str:
    return (folder / report.TEXT).read_text().replace("\\", "").partition("## Summary")[2].partition("## ")[0]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pixels, a backbone as it came, and two margins, one with two seeds."""
    some = [PRETRAINED, BASE, *TUNED, OTHER]
    trials, answers = gathered(made(trial, shared=SHARED, device="cpu (x86_64)") for trial in some)
    folder = tmp_path_factory.mktemp("own")
    report.write(trials, answers, verdicts(trials, answers), folder)
    return folder


def test_the_summary_says_what_fine_tuning_gained(own: Path) -> None:
    """Paired, as `humansim compare` has it, by what was best on validation with its lowest seed."""
    trials, answers = gathered(made(trial) for trial in (BASE, *TUNED, OTHER))
    best = max((TUNED[0], OTHER), key=lambda trial: trials.loc[trial.id, "validation"])
    (tuned,), (came,) = (cells(trials.loc[[trial.id]]) for trial in (best, BASE))
    wanted = estimate(answers, mean([tuned], answers.sets) - mean([came], answers.sets))
    (row,) = pd.read_csv(own / "data" / "gains.csv").to_dict("records")
    low, high = wanted.interval()
    assert row["cell"] == tuned[0]
    numbers = [row[name] for name in ("effect", "low", "high", "p", "n")]
    assert numbers == pytest.approx([wanted.value, low, high, wanted.p(), wanted.n])
    assert row["contaminated"] is False
    summary = summary_of(own)
    gain = f"{signed(row['effect'])} points of 2AFC [{signed(row['low'])}, {signed(row['high'])}]"
    assert f"Fine-tuning efficientnet_lite0: {row['says']}. " in summary
    assert f" %: {gain}, p " in summary
    assert "on validation is " in summary
    measured = pd.read_csv(own / "data" / "measures.csv").set_index("cell")
    assert {tuned[0], came[0]} <= set(measured.index)
    assert measured.at[tuned[0], tuned[1]] == pytest.approx(row["score"])
    assert "the floor pixels " in summary
    assert "a fresh judge " in summary
    assert "Fit and test share 40 of 40 images: scores after fine-tuning are of new judgements" in summary


def test_a_number_has_one_interval_wherever_it_stands(own: Path) -> None:
    """In the summary, in tables, in their exact numbers and in what is said of figures."""
    told = html.unescape(re.sub(r"base64,[^\"]*", "", (own / report.PAGE).read_text()))
    (gain,) = pd.read_csv(own / "data" / "gains.csv").to_dict("records")
    ends = f"[{signed(gain['low'])}, {signed(gain['high'])}]"
    assert f"{signed(gain['effect'])} points of 2AFC {ends}" in told  # the summary
    assert f'>{ends}</td><td class="number">' in told.replace("\n", "")  # the table
    assert f"{signed(gain['effect'])} {ends} points for" in told  # the figure of gain and cost
    models = pd.read_csv(own / "data" / "models.csv").set_index("cell")
    (best,) = pd.read_csv(own / "data" / "gains.csv")["came_cell"]
    one = models.loc[best]
    assert f"[{100 * one['low']:.1f}, {100 * one['high']:.1f}]" in told
    exact = pd.read_csv(own / "data" / "scores.csv")
    _, answers = gathered(made(trial) for trial in (PRETRAINED, BASE, *TUNED, OTHER))
    for _, row in exact.iterrows():
        found = estimate(answers, mean([(row["cell"], row["measure"])], [row["set"]]))
        assert (row["low"], row["high"]) == pytest.approx(found.interval(), abs=1e-12)
    said = re.findall(r"scores highest, ([\d.]+ \[[\d., ]+\]) per cent", told)
    assert len(said) > 1
    assert set(said) <= {scored(row["score"], row["low"], row["high"]) for _, row in exact.iterrows()}
    assert "All on this page are made in one way" in re.sub("<[^>]*>", "", told)


def test_without_fine_tuning_the_summary_says_which_model_is_best_as_it_comes(tmp_path: Path) -> None:
    trials, answers = gathered(made(trial) for trial in (PRETRAINED, BASE))
    report.write(trials, answers, verdicts(trials, answers), tmp_path)
    summary = summary_of(tmp_path)
    assert "The best model as it comes is efficientnet_lite0: " in summary
    assert "Fine-tuning" not in summary
    assert "nine hypotheses" not in summary  # they are the study's
    missing = (tmp_path / report.TEXT).read_text().partition("## What is missing")[2]
    assert "The study's nine hypotheses compare many backbones" in missing


def test_what_the_grid_varied_is_told_of_with_what_each_value_gained(own: Path, tmp_path: Path) -> None:
    """The best on validation first; what a search chose inside is not told apart, and of how many it chose is said."""
    rows = pd.read_csv(own / "data" / "varied.csv")
    assert list(rows["fine_tuned"]) == [f"efficientnet_lite0 triplet, margin {margin}" for margin in (0.7, 0.5)]
    assert rows["validation"].is_monotonic_decreasing
    gain = pd.read_csv(own / "data" / "gains.csv").iloc[0]
    assert rows.loc[0, ["effect", "low", "high"]].tolist() == gain[["effect", "low", "high"]].tolist()
    assert "What the grid varied: of each combination" in summary_of(own)
    default = BASE.having({"paradigm": "triplet"})
    trials, answers = gathered(made(trial) for trial in (PRETRAINED, BASE, OTHER, default))
    assert labels(trials)[default.id] == "efficientnet_lite0 triplet, margin 1"  # which its trial leaves out
    faster = [trial.having({"lr": 1e-3}) for trial in (TUNED[0], OTHER)]
    trials, answers = gathered(made(trial) for trial in (PRETRAINED, BASE, *TUNED, OTHER, *faster))
    assert len(varied(trials, answers)) == 4
    both = varied(trials, answers, ["lr"])
    assert [one.tried for one in both] == [2, 2]
    for one in both:
        alike = trials[trials["paradigm.margin"] == trials.loc[trials["cell"] == one.cell, "paradigm.margin"].iloc[0]]
        assert one.validation == alike[alike["seed"] == 0]["validation"].max()
    (one,) = gains(trials, answers)
    assert (one.cell, one.tried) == (both[0].cell, 4)


def test_what_was_fitted_on_its_test_data_is_called_so(tmp_path: Path) -> None:
    some = under("thesis", PRETRAINED, BASE, *TUNED)
    trials, answers = gathered(made(trial, shared=AS_THE_THESIS) for trial in some)
    report.write(trials, answers, verdicts(trials, answers), tmp_path)
    (row,) = pd.read_csv(tmp_path / "data" / "gains.csv").to_dict("records")
    assert (row["protocol"], row["contaminated"]) == ("thesis", True)
    assert "fitted on what it is tested on" in summary_of(tmp_path)


def test_a_score_stands_beside_those_of_its_own_protocol() -> None:
    """The other protocol's test part holds other judgements."""
    some = [*under("heldout", PRETRAINED, BASE, *TUNED), *under("thesis", PRETRAINED, BASE, OTHER)]
    trials, answers = gathered(
        of(trial, triplets=range(60) if trial.protocol == "heldout" else range(60, 140)) for trial in some
    )
    assert [one.protocol for one in leaders(trials, answers)] == ["heldout", "thesis"]
    for one in leaders(trials, answers):
        floor, came = (
            estimate(answers, mean(cells(trials.loc[[trial.id]]), answers.sets), resamples=1).value
            for trial in under(one.protocol, PRETRAINED, BASE)
        )
        assert one.floors == {"pixels": pytest.approx(floor)}
        assert one.came is None if one.kind == "pretrained" else one.came == pytest.approx(came)
    for gain in gains(trials, answers):
        assert trials.loc[trials["cell"].isin([gain.cell, gain.before]), "protocol"].unique() == [gain.protocol]


def test_only_what_was_fitted_on_the_same_sets_is_chosen_among() -> None:
    """Their validation scores are of different sets, and the easiest would win."""
    fitted = [TUNED[0].having({"fit_on": name}) for name in ("one/x", "one/y")]
    trials, answers = gathered(made(trial) for trial in (PRETRAINED, BASE, *fitted))
    found = gains(trials, answers)
    tied = {trials.loc[trials["cell"] == one.cell, "fit_on"].item(): one.tied for one in found}
    assert tied == {"one/x": 0, "one/y": 1}  # the former has no validation part
    assert leaders(trials, answers) == []


def test_no_difference_is_claimed_of_a_wide_interval_around_zero() -> None:
    trials, answers = gathered(made(trial) for trial in (BASE, *TUNED))
    (gain,) = gains(trials, answers)
    wide = replace(gain, difference=replace(gain.difference, value=0.0, draws=np.linspace(-0.1, 0.1, 1001)))
    assert wide.means == "undecided: too few queries to tell"
    assert replace(gain, difference=replace(wide.difference, draws=np.zeros(1001))).means == "the same credit"


def test_the_studys_hypotheses_are_one_line(own: Path) -> None:
    """Nothing can test them: no row, no section, no figure; the exact table says so of each."""
    for name in (report.PAGE, report.TEXT, report.LATEX):
        told = (own / name).read_text()
        assert "undecided: Cosine" not in told
        assert "H3. " not in told
        assert "large vision models" not in told.lower()
    assert "on these judgements: H1, H2, H3, H4, H5, H6, H7, H8, H9." in (own / report.PAGE).read_text()
    exact = pd.read_csv(own / "data" / "verdicts.csv")
    assert exact["outcome"].tolist() == ["untested"] * 9
    assert exact["tested_on"].tolist() == ["nothing"] * 9
    assert not list((own / "figures").glob("effects*"))


def test_one_is_not_spoken_of_as_many_a_cpu_is_none_of_the_gpus_and_shared_images_have_their_number(own: Path) -> None:
    told = (own / report.TEXT).read_text()
    assert not re.findall(r"(?<![\d.,+])1 (?:backbone|cell|group|run|set|trial|triplet)s\b", told)
    assert "CPU-hours" in told
    assert "GPU" not in told
    assert "shared at most 40 of 40 images" in told


@pytest.mark.parametrize(
    ("rates", "told"),
    [
        ((5.72748e-4, 1e-3), ["lr 0.000573", "lr 0.001"]),
        ((5.72748e-4, 5.72749e-4), ["lr 0.000572748", "lr 0.000572749"]),
    ],
)
def test_numbers_in_names_have_three_digits_unless_that_makes_two_of_one(
    rates: tuple[float, float], told: list[str]
) -> None:
    trials, _ = gathered(made(TUNED[0].having({"lr": rate})) for rate in rates)
    named = labels(trials)
    assert [named[str(cell)].rpartition(", ")[2] for cell in trials.sort_values("lr")["cell"]] == told
