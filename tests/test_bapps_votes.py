"""The analysis on real votes: two networks' distances on all 36,344 triplets of BAPPS val, five people each."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.answers import LEFT, RIGHT, TIED, Answers
from analysis.stats import Estimate, estimate, holm, mean
from analysis.verdict import evidence, judge, within_family

ALEX, VGG = "alex_vanilla", "vgg_shift_tolerant"
SETS = ("traditional", "cnn", "superres", "deblur", "color", "frameinterp")
# Per cent; published, or recomputed by others.
PUBLISHED = {
    ALEX: (77.4788, 82.8708, 71.1883, 61.0381, 65.2331, 62.4258),
    VGG: (78.8347, 83.5275, 71.0667, 61.2013, 64.5763, 63.0297),
}
PEOPLE = {
    "plug_in": (80.84, 84.35, 73.60, 66.09, 68.83, 68.61),
    "fresh_judge": (76.1, 80.4, 67.0, 57.6, 61.0, 60.8),
    "best": (85.78, 88.47, 80.12, 74.00, 76.41, 75.97),
}


@pytest.fixture(scope="module")
def votes(shared_data: Path) -> Answers:
    folder = shared_data / "bapps_votes"
    if not folder.is_dir():
        pytest.skip(f"the real votes are not there: {folder}")
    columns = ["path", "left", "right", "score", "choice"]
    frames = {
        network: pd.concat(
            [pd.read_csv(folder / network / f"{name}.csv.gz", header=None, names=columns) for name in SETS],
            keys=SETS,
            names=["set"],
        ).reset_index(level="set")
        for network in (ALEX, VGG)
    }
    alex, vgg = frames[ALEX], frames[VGG]
    assert (alex["path"].to_numpy() == vgg["path"].to_numpy()).all()
    assert alex.groupby("set")["path"].nunique().sum() == len(alex)  # every triplet has a query of its own
    n = len(alex)
    return Answers(
        sets=SETS,
        set=pd.Categorical(alex["set"], categories=SETS).codes.astype(np.int64),
        choice=alex["choice"].to_numpy().round(1),  # fifths, to the last bit
        judges=np.full(n, 5),
        judgement=np.arange(n),
        query=np.arange(n),
        rows={(ALEX, "own"): 0, (VGG, "own"): 1},
        nearer=np.stack(
            [
                np.where(f["right"] < f["left"], RIGHT, np.where(f["left"] < f["right"], LEFT, TIED)).astype(np.uint8)
                for f in (alex, vgg)
            ]
        ),
        repeats={ALEX: (ALEX,), VGG: (VGG,)},
        trained=frozenset(),
    )


def compared(votes: Answers, *sets: str) -> Estimate:
    return estimate(votes, mean([(VGG, "own")], sets) - mean([(ALEX, "own")], sets))


def test_the_published_scores_are_reproduced(votes: Answers) -> None:
    found = votes.scores().set_index(["cell", "set"])["score"]
    for network, published in PUBLISHED.items():
        assert [100 * found[network, name] for name in SETS] == pytest.approx(published, abs=1e-4)


def test_the_human_rows_are_reproduced(votes: Answers) -> None:
    people = votes.people().loc[list(SETS)]
    assert people["n"].tolist() == [4720, 4720, 10856, 9440, 4720, 1888]
    assert (100 * people["plug_in"]).tolist() == pytest.approx(PEOPLE["plug_in"], abs=0.0051)
    assert (100 * people["fresh_judge"]).tolist() == pytest.approx(PEOPLE["fresh_judge"], abs=0.051)
    assert (100 * people["best"]).tolist() == pytest.approx(PEOPLE["best"], abs=0.0051)
    assert 100 * people["fresh_judge"].mean() == pytest.approx(67.2, abs=0.051)


def test_which_network_is_better_on_which_set(votes: Answers) -> None:
    found = {name: compared(votes, name) for name in SETS}
    for i, one in enumerate(found.values()):
        assert 100 * one.value == pytest.approx(PUBLISHED[VGG][i] - PUBLISHED[ALEX][i], abs=1e-3)
        difference = (votes.credit(VGG, "own") - votes.credit(ALEX, "own"))[votes.set == i]
        assert one.se == pytest.approx(difference.std(ddof=1) / np.sqrt(len(difference)), rel=0.03)
        low, high = one.interval()
        assert (low, high) == pytest.approx((one.value - 1.96 * one.se, one.value + 1.96 * one.se), abs=0.1 * one.se)
    corrected = dict(zip(SETS, holm([one.p() for one in found.values()]), strict=True))
    better = {name for name in SETS if corrected[name] < 0.05}
    assert better == {"traditional", "cnn"}  # vgg_shift_tolerant's; of the other four it cannot be said
    assert all(found[name].value > 0 for name in better)


def test_whether_it_matters_is_another_question(votes: Answers) -> None:
    verdicts = within_family([judge(name, evidence(compared(votes, name), 0.01)) for name in SETS])
    assert {one.claim: one.outcome for one in verdicts} == {
        "traditional": "undecided",
        "cnn": "undecided",
        "superres": "refuted",
        "deblur": "refuted",
        "color": "refuted",
        "frameinterp": "undecided",
    }
    whole = judge("all six", evidence(compared(votes, *SETS), 0.01))
    assert (whole.outcome, round(100 * whole.effect, 2)) == ("refuted", 0.33)
    assert judge("they are alike", evidence(whole.estimate, 0.01, "same")).outcome == "supported"
