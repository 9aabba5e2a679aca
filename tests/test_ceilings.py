"""Every score beside chance, floor and people: against plain loops."""

from dataclasses import replace

import numpy as np
import pytest
from small_study import study

from analysis.ceilings import COLUMNS, answered, table
from analysis.planted import HIGHEST, MEASURE
from analysis.stats import estimate, mean
from humansim.scores import ceilings


def test_a_row_for_each_cell_and_set_by_plain_loops() -> None:
    trials, answers = study(paradigms={"triplet": 0.05})
    found = table(trials, answers)
    assert list(found.columns) == list(COLUMNS)
    assert len(found) == len(answers.repeats) * len(answers.sets)
    for _, row in found.iterrows():
        here = answers.set == answers.sets.index(row["set"])
        earned = answers.credit(f"{row['cell']}#0", MEASURE)[here]
        people = ceilings(answers.choice[here], answers.judges[here])
        assert row["score"] == pytest.approx(np.mean(earned))
        assert (row["n"], row["clusters"]) == (here.sum(), len(np.unique(answers.query[here])))
        assert (row["plug_in"], row["fresh_judge"], row["best_possible"]) == pytest.approx(tuple(vars(people).values()))
        assert row["explained"] == pytest.approx((np.mean(earned) - 0.5) / (people.best - 0.5))
        assert row["over_fresh_judge"] == pytest.approx(np.mean(earned) - people.fresh_judge)
        assert row["beyond_fresh_judge"] == (row["over_low"] > 0)
        floor = answers.credit("pixels#0", MEASURE)[here].mean()
        assert (row["chance"], row["floor"]) == pytest.approx((0.5, floor))


def test_intervals_are_those_of_the_statistics() -> None:
    """To the last digit, whatever else is in the table: a number has one interval."""
    trials, answers = study()
    for _, row in table(trials, answers).iterrows():
        one = estimate(answers, mean([(row["cell"], MEASURE)], [row["set"]]))
        assert (row["low"], row["high"]) == one.interval()


def test_a_model_is_beyond_a_fresh_judge_only_where_its_interval_is() -> None:
    """A fresh judge scores 2/3 on planted votes; the majority's own answers 0.8."""
    trials, answers = study({"resnet50": 0.58, "alexnet": 0.665, "vit_b_16": HIGHEST}, queries=600, floor=False)
    found = table(trials, answers)
    assert found.groupby("model")["beyond_fresh_judge"].agg(["any", "all"]).to_dict("index") == {
        "resnet50": {"any": False, "all": False},
        "alexnet": {"any": False, "all": False},
        "vit_b_16": {"any": True, "all": True},
    }


def test_the_best_are_all_that_are_not_shown_to_be_worse() -> None:
    trials, answers = study({"resnet50": 0.58, "alexnet": 0.70, "vit_b_16": 0.70}, queries=600, seed=2)
    best = table(trials, answers).groupby("model")["best"].all()
    assert best.to_dict() == {"alexnet": True, "pixels": False, "resnet50": False, "vit_b_16": True}


def test_what_was_fitted_on_the_test_is_no_rival_to_what_was_not() -> None:
    trials, answers = study({"resnet50": 0.6}, {"triplet": 0.1}, kind="contaminated", queries=600)
    best = table(trials, answers).groupby("kind")["best"].any()
    assert best.to_dict() == {"contaminated": True, "floor": False, "pretrained": True}
    honest = table(trials.assign(kind=trials["kind"].replace("contaminated", "fine-tuned")), answers)
    assert honest.groupby("kind")["best"].any().to_dict() == {"fine-tuned": True, "floor": False, "pretrained": False}


def test_groups_average_their_sets() -> None:
    trials, answers = study()
    each, both = table(trials, answers), table(trials, answers, groups={"patches": ["bapps/cnn", "bapps/color"]})
    own = each[each["set"].str.startswith("bapps")].groupby("cell")[["score", "fresh_judge", "best_possible"]].mean()
    assert both["set"].unique().tolist() == ["patches"]
    for _, row in both.iterrows():
        assert row[["score", "fresh_judge", "best_possible"]].tolist() == pytest.approx(own.loc[row["cell"]].tolist())


def test_another_measure_is_of_those_that_have_it() -> None:
    trials, answers = study()
    found = table(trials, answers, measure="l2")
    assert set(found["model"]) == {"resnet50", "clip_vit_b_16", "dino_vit_b_16"}  # pixels has cosine alone
    assert found["floor"].isna().all()
    assert set(found["measure"]) == {"l2"}


def test_a_set_that_a_cell_did_not_answer_has_no_row() -> None:
    trials, answers = study()
    nearer = answers.nearer.copy()
    nearer[answers.rows["resnet50#0", MEASURE], answers.set == 0] = 3
    partial = replace(answers, nearer=nearer)
    assert not answered(partial, "resnet50", MEASURE, ["bapps/cnn"])
    found = table(trials, partial)
    assert len(found[found["cell"] == "resnet50"]) == 2
    assert len(found[found["cell"] == "pixels"]) == 3


def test_one_judge_says_nothing_of_a_fresh_one() -> None:
    trials, answers = study()
    found = table(trials, replace(answers, judges=np.ones_like(answers.judges)))
    assert found[["fresh_judge", "over_fresh_judge", "over_low", "over_high"]].isna().all(axis=None)
    assert not found["beyond_fresh_judge"].any()
    assert found[["score", "low", "high", "explained"]].notna().all(axis=None)


def test_tables_without_trials_are_empty() -> None:
    trials, answers = study()
    assert table(trials.iloc[:0], answers).empty
