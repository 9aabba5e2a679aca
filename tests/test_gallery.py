"""The gallery: which triplets are chosen, and by which models."""

import numpy as np
import pandas as pd
import pytest
from small_study import study

from analysis.gallery import CLEAR, SURE, against, best, broken, judged, margin, mended, pair, taken


def answers_of(
    rng: np.random.Generator, sets: tuple[str, ...] = ("a/x", "a/y", "b/z"), n: int = 300, judges: int = 5
) -> pd.DataFrame:
    """As `train.score` writes them, few images, so that some triplets come twice and the other way round."""
    images = rng.integers(0, 6, (n, 3))
    frame = pd.DataFrame(
        {
            "triplet": rng.permutation(10 * n)[:n],
            "part": rng.choice(["validation", "test", "test"], n),
            "set": np.sort(rng.choice(sets, n)),
            "query": [f"q{i}" for i in images[:, 0]],
            "left": [f"i{i}" for i in images[:, 1]],
            "right": [f"i{i + 1}" for i in images[:, 1] + images[:, 2]],
            "choice": rng.integers(0, judges + 1, n) / judges,
            "judges": judges,
        }
    )
    swap = rng.random(n) < 0.5
    frame.loc[swap, ["left", "right"]] = frame.loc[swap, ["right", "left"]].to_numpy()
    return judged_by(frame, rng)


def judged_by(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The same triplets as another model answers."""
    sides = {f"to_{side}_l2": rng.random(len(frame)).astype(np.float32) for side in ("left", "right")}
    return frame.assign(**sides)


def one(**columns: object) -> pd.DataFrame:
    """Triplets of a set with five judges each, all in the test part; every column may be a list."""
    n = max(len(value) for value in columns.values() if isinstance(value, list))
    told = {
        "triplet": list(range(n)),
        "part": "test",
        "set": "a/x",
        "query": [f"q{i}" for i in range(n)],
        "left": "l",
        "right": "r",
        "choice": 1.0,
        "judges": 5,
        "to_left_l2": 1.0,
        "to_right_l2": 3.0,
    }
    return pd.DataFrame(told | columns)


def naive(frames: list[pd.DataFrame]) -> dict[str, list[int]]:
    """Triplets of each kind in the order of `taken`, one after the other: of the first model, and of both."""
    tests = [{row.triplet: row for row in frame.itertuples() if row.part == "test"} for frame in frames]
    clear = {}
    for triplet, asked in tests[0].items():
        votes = total = 0.0
        for other in tests[0].values():
            if (other.set, other.query) != (asked.set, asked.query):
                continue
            if (other.left, other.right) == (asked.left, asked.right):
                votes, total = votes + other.choice * other.judges, total + other.judges
            elif (other.left, other.right) == (asked.right, asked.left):
                votes, total = votes + (1 - other.choice) * other.judges, total + other.judges
        share = votes / total
        if max(share, 1 - share) > CLEAR - 1e-9:
            clear[triplet] = (share, total)
    margins: list[dict[int, float]] = [{}, {}]
    for test, own in zip(tests, margins, strict=True):
        for triplet, row in test.items():
            near, far = row.to_left_l2, row.to_right_l2  # positive: right
            own[triplet] = (float(near) - float(far)) / (float(near) + float(far))
    kinds: dict[str, list[tuple]] = {"against": [], "mended": [], "broken": []}
    for triplet, (share, total) in clear.items():
        came, tuned = (own[triplet] if share > 0.5 else -own[triplet] for own in margins)
        less_sure = sum(abs(other) < abs(came) for other in margins[0].values())
        row = (tests[0][triplet].set, triplet, tests[0][triplet].query)
        votes = (2 * share - 1) ** 2 * total
        if came < 0 and less_sure >= SURE * len(margins[0]):
            kinds["against"].append((votes * -came, *row))
        if came * tuned < 0:
            kinds["mended" if tuned > 0 else "broken"].append((votes * min(abs(came), abs(tuned)), *row))
    found = {}
    for kind, rows in kinds.items():
        rows.sort(key=lambda row: (-round(row[0], 9), row[2]))
        once = {}
        for row in rows:
            once.setdefault((row[1], row[3]), row)
        of_set: dict[str, list] = {}
        for row in once.values():
            of_set.setdefault(row[1], []).append(row)
        turns = sorted((turn, -row[0], row[2]) for own in of_set.values() for turn, row in enumerate(own))
        some = {triplet for _, _, triplet in turns[:6]}
        found[kind] = [row[2] for name in sorted(of_set) for row in of_set[name] if row[2] in some]
    return found


def test_they_are_those_of_a_naive_loop() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        came = answers_of(rng)
        tuned = judged_by(came, rng)
        both = judged(came=(came, "l2"), tuned=(tuned, "l2"))
        found = {
            "against": against(judged(model=(came, "l2"))),
            "mended": mended(both),
            "broken": broken(both),
        }
        wanted = naive([came, tuned])
        assert {kind: taken(some, n=6)["triplet"].tolist() for kind, some in found.items()} == wanted
        assert min(map(len, wanted.values())) > 3


def strongest(frame: pd.DataFrame, **more: pd.DataFrame) -> list[int]:
    """Of one model those on which it is against people; of two, those that were mended."""
    if not more:
        return against(judged(model=(frame, "l2")))["triplet"].tolist()
    return mended(judged(came=(frame, "l2"), tuned=(more["tuned"], "l2")))["triplet"].tolist()


def test_a_triplet_counts_only_where_people_are_clear_and_the_model_is_sure() -> None:
    """Of eight answers the model is sure of the two with the largest margins."""
    near = [1.0, 2.0, 2.9, 2.8, 2.7, 2.6, 2.5, 2.4]
    assert strongest(one(to_left_l2=near)) == [0, 1]
    assert strongest(one(to_left_l2=near, choice=[0.6] + [1.0] * 7)) == [1]  # three of five are not clear
    assert strongest(one(to_left_l2=near, choice=[0.75] * 8, judges=4)) == [0, 1]  # three of four are
    assert strongest(one(to_left_l2=near, choice=[0.0, 0.0, *[1.0] * 6])) == []  # where it is sure, it is with people


def test_a_model_that_is_as_sure_of_all_is_sure_of_none() -> None:
    assert strongest(one(to_left_l2=[3.0] * 8)) == []
    assert strongest(one(to_left_l2=[1.0] * 8)) == []


def test_the_surest_people_and_the_surest_model_come_first() -> None:
    margins = {"to_left_l2": [1.0, 1.5, 1.0, 1.0], "to_right_l2": 3.0}
    weak = pd.DataFrame(one(query=[f"w{i}" for i in range(12)], to_left_l2=2.9))
    frame = pd.concat([one(choice=[1.0, 1.0, 0.8, 1.0], judges=[5, 5, 5, 10], **margins), weak], ignore_index=True)
    frame["triplet"] = range(16)
    # chi-square of the votes times the margin: 5/2, 5/3, 1.8/2, 10/2
    assert strongest(frame) == [3, 0, 1, 2]


def test_a_change_is_as_sure_as_the_less_sure_of_both_models() -> None:
    came = one(to_left_l2=[1.0, 2.0, 1.0, 4.0])
    tuned = one(to_left_l2=[4.0, 9.0, 9.0, 1.0])
    found = judged(came=(came, "l2"), tuned=(tuned, "l2"))
    assert mended(found)["triplet"].tolist() == [2, 1, 0]  # 1/2 and 1/2, 1/5 and 1/2, 1/2 and 1/7
    assert broken(found)["triplet"].tolist() == [3]
    assert found["came_margin"].tolist() == pytest.approx([-1 / 2, -1 / 5, -1 / 2, 1 / 7])


def test_more_judges_weigh_more_and_an_unknown_number_counts_as_one() -> None:
    came, tuned = one(judges=[1, 5, 0, 2]), one(to_left_l2=[4.0] * 4)
    assert strongest(came, tuned=tuned) == [1, 3, 0, 2]


def test_rows_of_one_triplet_are_pooled_either_way_round() -> None:
    """Three judges said right of it, and two, whom it was shown the other way round, said its other side."""
    frame = one(query="q", left=["l", "r"], right=["r", "l"], choice=[1.0, 1.0], judges=[3, 2])
    found = judged(model=(frame, "l2"))
    assert found["agree"].tolist() == pytest.approx([3 / 5] * 2)
    assert found["judges"].tolist() == [5, 5]
    assert found["people"].tolist() == ["right", "left"]


def test_sets_take_turns_a_query_is_shown_once_and_nothing_twice() -> None:
    came = one(set=["a/x"] * 30 + ["b/z"] * 2, judges=[5] * 30 + [1] * 2)
    tuned = came.assign(to_left_l2=4.0)

    def shown(n: int, besides: tuple = (), **same: str) -> pd.DataFrame:
        found = judged(came=(came.assign(**same), "l2"), tuned=(tuned.assign(**same), "l2"))
        return taken(mended(found), besides, n)

    assert shown(4)["set"].tolist() == ["a/x", "a/x", "b/z", "b/z"]
    assert shown(8)["set"].value_counts().to_dict() == {"a/x": 6, "b/z": 2}
    assert shown(8, query="q")["set"].tolist() == ["a/x", "b/z"]
    again = shown(4, (shown(8),))
    assert again["set"].tolist() == ["a/x"] * 4
    assert not set(again["triplet"]) & set(shown(8)["triplet"])


def test_only_the_test_part_that_all_were_asked_counts() -> None:
    came, tuned = one(part=["test", "validation", "test"]), one(part=["test", "test", "validation"], to_left_l2=4.0)
    assert judged(model=(came, "l2"))["triplet"].tolist() == [0, 2]
    assert strongest(came, tuned=tuned) == [0]
    assert strongest(came.assign(choice=0.0), tuned=tuned) == []


def test_a_margin_is_a_share_also_of_distances_that_round_to_less_than_none() -> None:
    frame = one(to_left_l2=[0.0, -1e-8, -1e-8, 0.3], to_right_l2=[0.0, 0.0, 0.2, 0.1])
    assert margin(frame, "l2").tolist() == pytest.approx([0, 0, -1, 0.5])


MODELS = {"resnet50": 0.58, "clip_vit_b_16": 0.7}


def test_the_best_model_is_the_best_on_validation_fine_tuned_or_not() -> None:
    """The test part, by which CLIP is far ahead, does not choose; nor is a floor shown."""
    trials, answers = study(MODELS, {"triplet": 0.04}, queries=500, sets=("shoes/all",))
    trials["fit_on"] = None
    validated = trials.assign(validation=[0.7 if "resnet50." in trial else 0.6 for trial in trials.index])
    validated.loc["pixels#0", "validation"] = 0.9
    assert best(validated, answers) == ("resnet50.triplet.shoes#0", "the best on validation")
    assert best(validated[validated["kind"] == "floor"], answers) is None


def test_without_validation_the_best_model_is_one_as_it_comes() -> None:
    trials, answers = study(MODELS, {"triplet": 0.04}, queries=500)
    as_it_comes = ("clip_vit_b_16#0", "the best of those that were not fine-tuned")
    assert best(trials, answers) == as_it_comes
    trials = trials.assign(validation=0.6)  # fitted on releases: their validation scores are of different sets
    assert best(trials, answers) == as_it_comes


def test_the_pair_is_the_best_on_validation_and_the_backbone_that_it_came_from() -> None:
    trials, answers = study(MODELS, {"triplet": 0.04, "simclr": -0.05}, queries=500, sets=("shoes/all",))
    trials["validation"] = [0.7 if trial == "resnet50.simclr.shoes#0" else 0.6 for trial in trials.index]
    found = pair(trials, answers)
    assert found is not None
    assert (found[0].before, found[0].cell) == ("resnet50", "resnet50.simclr.shoes")
    assert found[1] == "the best on validation"


def test_what_was_fitted_on_different_data_is_not_compared_on_validation() -> None:
    """The easiest would win; it is what most were fitted on that counts."""
    trials, answers = study(MODELS, {"triplet": 0.04}, queries=200)
    trials["validation"] = [0.9 if "hsj" in trial else 0.6 for trial in trials.index]
    found = pair(trials[trials.index != "resnet50.triplet.hsj#0"], answers)
    assert found is not None
    assert found[0].fit_on == "bapps"
    assert found[1] == "the best on validation of what was fitted on bapps"


def test_what_was_not_asked_the_same_or_was_fitted_on_its_test_is_no_pair() -> None:
    trials, answers = study(MODELS, {"triplet": 0.04}, queries=200, sets=("shoes/all",))
    leaky = trials.assign(contaminated=trials["kind"] == "fine-tuned")
    assert pair(leaky, answers) is None
    other = trials.assign(data=["other" if kind == "fine-tuned" else "d" for kind in trials["kind"]])
    assert pair(other, answers) is None
    assert pair(trials[trials["kind"] != "pretrained"], answers) is None
    assert pair(trials[trials["paradigm"].isna()], answers) is None
