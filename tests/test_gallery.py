"""Where models and people disagree most: which triplets are chosen, and by which models."""

import numpy as np
import pandas as pd
import pytest
from small_study import study

from analysis import gallery
from analysis.gallery import compared, disagreements, groups, margin


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


def naive(frames: list[pd.DataFrame], n: int) -> list[int]:
    """Triplets in the order of `disagreements`, one after the other."""
    tests = [{row.triplet: row for row in frame.itertuples() if row.part == "test"} for frame in frames]
    found = []
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
        if abs(share - 0.5) < 1e-6:
            continue
        margins = []
        for test in tests:
            left, right = float(test[triplet].to_left_l2), float(test[triplet].to_right_l2)
            near, far = (left, right) if share < 0.5 else (right, left)  # of the majority's image, and of the other
            margins.append((near - far) / (near + far))
        if min(margins) > 0:
            found.append(((2 * share - 1) ** 2 * total * min(margins), triplet, asked.set, asked.query))
    found.sort(key=lambda item: (-round(item[0], 9), item[1]))
    once = {}
    for item in found:
        once.setdefault(item[2:], item)
    of_set: dict[str, list] = {}
    for item in once.values():
        of_set.setdefault(item[2], []).append(item)
    turns = sorted(
        ((turn, -item[0], item[1]) for items in of_set.values() for turn, item in enumerate(items)),
    )
    taken = {triplet for _, _, triplet in turns[:n]}
    return [
        item[1]
        for name in dict.fromkeys(x.set for x in tests[0].values())
        for item in of_set.get(name, [])
        if item[1] in taken
    ]


@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.parametrize("n", [4, 12, 1000])
def test_they_are_those_of_a_naive_loop(models: int, n: int) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        frames = [answers_of(rng)]
        frames += [judged_by(frames[0], rng) for _ in range(models - 1)]
        found = disagreements(compared([(frame, "l2") for frame in frames]), n)
        assert found["triplet"].tolist() == naive(frames, n)
        assert len(found) > 3


def test_the_surest_people_and_the_surest_model_come_first() -> None:
    frame = one(choice=[1.0, 1.0, 0.8, 0.0, 1.0, 0.5], to_left_l2=[1, 2.0, 1, 1, 4.0, 0.1])
    found = disagreements(compared([(frame, "l2")]))
    # 3: people are with the model; 4: the model is with people; 5: people are evenly split
    assert found["triplet"].tolist() == [0, 1, 2]
    assert found["margin"].tolist() == pytest.approx([2 / 4, 1 / 5, 2 / 4])
    assert found["disagreement"].tolist() == pytest.approx(
        [5 / 2, 5 / 5, 5 * 0.6**2 / 2]
    )  # four of five: chi-square 1.8
    assert set(found["people"]) == {"right"}
    assert set(found["models"]) == {"left"}


def test_more_judges_weigh_more_and_an_unknown_number_counts_as_one() -> None:
    found = disagreements(compared([(one(judges=[1, 5, 0, 2]), "l2")]))
    assert found["triplet"].tolist() == [1, 3, 0, 2]
    assert found["judges"].tolist() == [5, 2, 1, 0]


def test_rows_of_one_triplet_are_pooled_either_way_round() -> None:
    """Three judges said right of it, and two, whom it was shown the other way round, said its other side."""
    frame = one(
        query="q",
        left=["l", "r"],
        right=["r", "l"],
        choice=[1.0, 1.0],
        judges=[3, 2],
        to_left_l2=[1.0, 3.0],
        to_right_l2=[3.0, 1.0],
    )
    (found,) = disagreements(compared([(frame, "l2")])).to_dict("records")
    assert found["choice"] == pytest.approx(3 / 5)
    assert found["judges"] == 5


def test_sets_take_turns_and_a_query_is_shown_once() -> None:
    frame = one(set=["a/x"] * 30 + ["b/z"] * 2, judges=[5] * 30 + [1] * 2)
    assert disagreements(compared([(frame, "l2")]), 4)["set"].tolist() == ["a/x", "a/x", "b/z", "b/z"]
    assert disagreements(compared([(frame, "l2")]), 8)["set"].value_counts().to_dict() == {"a/x": 6, "b/z": 2}
    assert disagreements(compared([(frame.assign(query="q"), "l2")]))["set"].tolist() == ["a/x", "b/z"]


def test_what_all_get_wrong_is_as_sure_as_the_least_sure_of_them() -> None:
    frames = [one(to_left_l2=[1.0, 2.0, 4.0]), one(to_left_l2=[2.0, 1.0, 1.0])]
    found = disagreements(compared([(frame, "l2") for frame in frames]))
    assert found["triplet"].tolist() == [0, 1]
    assert found["margin"].tolist() == pytest.approx([1 / 5, 1 / 5])
    assert found["margin_most"].tolist() == pytest.approx([1 / 2, 1 / 2])
    assert found["surer"].tolist() == pytest.approx([0, 1 / 3])


def test_only_the_test_part_that_all_were_asked_counts() -> None:
    first, second = one(part=["test", "validation", "test"]), one(part=["test", "test", "validation"])
    assert disagreements(compared([(first, "l2")]))["triplet"].tolist() == [0, 2]
    assert disagreements(compared([(first, "l2"), (second, "l2")]))["triplet"].tolist() == [0]
    assert disagreements(compared([(first.assign(choice=0.0), "l2")])).empty


def test_a_margin_is_a_share_also_of_distances_that_round_to_less_than_none() -> None:
    frame = one(to_left_l2=[0.0, -1e-8, -1e-8, 0.3], to_right_l2=[0.0, 0.0, 0.2, 0.1])
    assert margin(frame, "l2").tolist() == pytest.approx([0, 0, -1, 0.5])


def test_the_best_models_are_found_among_those_that_are_no_floors() -> None:
    models = {"resnet50": 0.58, "clip_vit_b_16": 0.7, "dino_vit_b_16": 0.64}
    trials, answers = study(models, {"triplet": 0.04, "simclr": -0.05}, queries=2000)
    found = {group.name: group.trials for group in groups(trials, answers)}
    assert found["pretrained"] == ("clip_vit_b_16#0",)
    assert trials["model"][found["tuned"][0]] == "clip_vit_b_16"
    assert trials["paradigm"][found["tuned"][0]] == "triplet"
    assert trials.loc[list(found["all"]), "model"].tolist() == ["clip_vit_b_16", "dino_vit_b_16", "resnet50"]
    validated = trials.assign(validation=[0.7 if "simclr" in trial else 0.6 for trial in trials.index])
    (tuned,) = [group for group in groups(validated, answers) if group.name == "tuned"]
    assert validated["paradigm"][tuned.trials[0]] == "simclr"  # the test part chooses none of those that were searched
    leaky = trials.assign(kind=trials["kind"].replace("fine-tuned", "contaminated"))
    assert [group.name for group in groups(leaky, answers)] == ["pretrained", "all"]
    assert groups(trials[trials["kind"] == "floor"], answers) == []


def test_what_several_get_wrong_is_asked_of_models_that_saw_the_same_data() -> None:
    trials, answers = study({"resnet50": 0.58, "clip_vit_b_16": 0.66}, queries=1000)
    assert [group.name for group in groups(trials, answers)] == ["pretrained", "all"]
    trials["data"] = ["d", "e", "d"]
    assert [group.name for group in groups(trials, answers)] == ["pretrained"]


def test_at_most_the_good_ones_are_asked() -> None:
    trials, answers = study({f"timm:{i}": 0.5 + 0.02 * i for i in range(8)}, queries=1000)
    (_, everyone) = groups(trials, answers)
    assert len(everyone.trials) == gallery.GOOD
    assert everyone.trials[0] == "timm:7#0"
