"""The figures: their numbers are those of the tables, the same tables give the same bytes, and gaps stay blank."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from small_study import SCORES, SETS, study

from analysis.answers import UNASKED, Answers
from analysis.ceilings import table
from analysis.figures import birds, cost, depth, draw, forests, heat, pictures, scores
from analysis.figures.look import style
from analysis.figures.subjects import GROUPS, groups, short
from analysis.planted import MEASURE
from analysis.stats import Contrast, estimate, mean
from analysis.verdict import Verdict, evidence, judge, within_family
from humansim.errors import BadInput

PARADIGMS = {"triplet": 0.06, "simclr": 0.0, "jigsaw": -0.06}
PATCHES = ["bapps/cnn", "bapps/color"]


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    with style():
        yield


def with_gid(ax: Axes, gid: str) -> list[tuple[float, float]]:
    """Where the lines of a kind begin, in data."""
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in ax.lines if line.get_gid() == gid]


def panel(figure: Figure, title: str) -> Axes:
    return next(ax for ax in figure.axes if ax.get_title(loc="left") == title)


def score(answers: Answers, cell: str, measure: str, sets: list[str]) -> float:
    """The plain way, in per cent."""
    earned = answers.credit(f"{cell}#0", measure)
    return 100 * float(np.mean([earned[answers.set == answers.sets.index(name)].mean() for name in sets]))


def verdicts(answers: Answers) -> dict[int, Verdict]:
    """Three claims, each with a part for each set."""
    best, worst, other = ([(cell, MEASURE)] for cell in ("clip_vit_b_16", "resnet50", "dino_vit_b_16"))
    found = []
    for first, second in ((best, worst), (worst, other), (best, other)):
        contrast = mean(first, answers.sets) - mean(second, answers.sets)
        parts = {name: estimate(answers, contrast.on([name])) for name in answers.sets}
        said = evidence(estimate(answers, contrast), 0.02)
        found.append(judge("One is better than the other.", said, parts=parts))
    return dict(enumerate(within_family(found), 1))


def test_pretrained_scores_are_those_of_the_answers_a_third_for_each_measure() -> None:
    trials, answers = study()
    made = scores.pretrained(trials, answers)
    assert made is not None
    for title, sets in (("BAPPS: CNN, colour", PATCHES), ("ImageNet-HSJ: similar", ["hsj/8rank2_similar"])):
        order = ["resnet50", "clip_vit_b_16", "dino_vit_b_16"]  # of the thesis's table
        wanted = [
            (4 * third + i, score(answers, model, measure, sets))
            for third, measure in enumerate((MEASURE, "l2"))
            for i, model in enumerate(order)
        ]
        dots = with_gid(panel(made.figure, title), "score")
        assert np.array(sorted(dots)) == pytest.approx(np.array(wanted))
    people = answers.people().loc[PATCHES].mean()
    lines = {line.get_gid(): line.get_ydata()[0] for line in panel(made.figure, "BAPPS: CNN, colour").lines}
    assert lines["fresh judge"] == pytest.approx(100 * people["fresh_judge"])
    assert lines["pixels"] == pytest.approx(score(answers, "pixels", MEASURE, PATCHES))
    assert "CLIP ViT-B/16" in made.alt
    assert "simulated" not in made.title + made.caption


def test_intervals_are_drawn_for_every_score() -> None:
    trials, answers = study(measures=(MEASURE,))
    made = scores.pretrained(trials, answers)
    assert made is not None
    found = table(trials, answers, groups={"patches": PATCHES}).set_index("model")
    ax = panel(made.figure, "BAPPS: CNN, colour")
    bars = {tuple(line.get_ydata()) for line in ax.lines if len(line.get_xdata()) == 2 and np.ptp(line.get_ydata()) > 0}
    drawn = np.array(sorted(bar for bar in bars if bar != (0.0, 1.0)))  # which are the lines between thirds
    wanted = sorted(found.loc[list(SCORES), ["low", "high"]].to_numpy().tolist())
    assert drawn == pytest.approx(100 * np.array(wanted), abs=1e-9)  # those of the table, whatever is drawn beside


@pytest.mark.parametrize(
    ("models", "queries", "filled", "count"),
    [
        ({"resnet50": 0.55, "alexnet": 0.6, "vit_b_16": 0.74}, 600, True, 1),
        ({"resnet50": 0.55, "efficientnet_v2_m": 0.55, "alexnet": 0.70, "vit_b_16": 0.70}, 600, False, 2),
        ({"resnet50": 0.55, "alexnet": 0.70, "vit_b_16": 0.70}, 600, False, 0),
        ({"resnet50": 0.66, "alexnet": 0.66, "vit_b_16": 0.66}, 30, False, 0),
    ],
    ids=["one is best", "two of four are", "two of three are", "nothing is told apart"],
)
def test_the_best_is_marked_only_where_statistics_say_so(
    models: dict[str, float], queries: int, filled: bool, count: int
) -> None:
    trials, answers = study(models, measures=(MEASURE,), sets=("hsj/8rank2_similar",), queries=queries, floor=False)
    made = scores.pretrained(trials, answers)
    assert made is not None
    marks = [line for line in panel(made.figure, "ImageNet-HSJ: similar").lines if line.get_gid() == "best"]
    assert len(marks) == count
    assert all((mark.get_markerfacecolor() != "white") == filled for mark in marks)
    assert ("nothing is told apart" in made.alt) == (queries == 30)


def test_fine_tuned_scores_stand_in_clusters_beside_what_was_before() -> None:
    trials, answers = study(paradigms=PARADIGMS)
    made = scores.fine_tuned(trials, answers)
    assert made is not None
    for title, sets, release in (
        ("BAPPS: CNN, colour", PATCHES, "bapps"),
        ("ImageNet-HSJ: similar", ["hsj/8rank2_similar"], "hsj"),
    ):
        ax = panel(made.figure, title)
        order = ["resnet50", "clip_vit_b_16", "dino_vit_b_16"]
        wanted = [
            (5 * i + j, score(answers, f"{model}.{paradigm}.{release}", MEASURE, sets))
            for i, model in enumerate(order)
            for j, paradigm in enumerate(PARADIGMS)
        ]
        assert np.array(sorted(with_gid(ax, "score"))) == pytest.approx(np.array(wanted))
        before = sorted(with_gid(ax, "before"))
        assert [y for _, y in before] == pytest.approx([score(answers, model, MEASURE, sets) for model in order])
        assert [label.get_text() for label in ax.get_xticklabels()] == [short(model) for model in order]


def test_fitted_on_each_set_is_scored_on_that_set() -> None:
    """The sweep `full`: a panel of two sets shows the mean of two fine-tunings, each on its own."""
    trials, answers = study({"resnet50": 0.6}, {"triplet": 0.05}, sets=("bapps/cnn", "hsj/8rank2_similar"))
    trials.loc[trials["fit_on"] == "bapps", "fit_on"] = "bapps/cnn"
    made = scores.fine_tuned(trials, answers)
    assert made is not None
    dots = with_gid(panel(made.figure, "BAPPS: CNN, colour"), "score")
    assert [y for _, y in dots] == pytest.approx([score(answers, "resnet50.triplet.bapps", MEASURE, ["bapps/cnn"])])


def test_what_was_fitted_on_the_test_has_a_figure_of_its_own_that_says_so() -> None:
    trials, answers = study(paradigms=PARADIGMS, kind="contaminated")
    assert scores.fine_tuned(trials, answers) is None
    made = scores.fine_tuned(trials, answers, "contaminated")
    assert made is not None
    assert "fitted on what they are evaluated on" in made.title
    assert "leakage" in made.caption


def test_the_heat_map_has_the_tables_numbers_and_people_in_its_first_rows() -> None:
    trials, answers = study(queries=500)
    made = heat.models_by_sets(trials, answers)
    assert made is not None
    ax = made.figure.axes[0]
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows == ["best possible", "a fresh judge", "chance", "ResNet-50", "CLIP ViT-B/16", "DINO ViT-B/16", "pixels"]
    told = np.full((len(rows), len(SETS)), np.nan)
    for text in ax.texts:
        told[round(text.get_position()[1]), round(text.get_position()[0])] = float(text.get_text())
    cells = ["resnet50", "clip_vit_b_16", "dino_vit_b_16", "pixels"]
    assert told[3:] == pytest.approx(
        np.array([[score(answers, c, MEASURE, [s]) for s in SETS] for c in cells]), abs=0.051
    )
    people = answers.people().loc[list(SETS)]
    assert told[:3] == pytest.approx(100 * np.array([people["best"], people["fresh_judge"], [0.5] * 3]), abs=0.051)
    shade = np.ma.filled(ax.images[0].get_array(), np.nan)
    found = table(trials, answers).pivot(index="cell", columns="set", values=["explained", "best"])
    assert shade[3:] == pytest.approx(found["explained"].loc[cells, list(SETS)].to_numpy(float))
    assert shade[0] == pytest.approx(1)
    framed = np.zeros((len(cells), len(SETS)), dtype=bool)
    for patch in ax.patches:
        framed[round(patch.get_y() + 0.43) - 3, round(patch.get_x() + 0.46)] = True
    best = found["best"].loc[cells, list(SETS)].to_numpy(bool)
    assert (framed == best & (best.mean(axis=0) <= 0.5)).all()  # where half of the models are shown to be worse
    assert framed.any()


def test_forests_have_the_verdicts_numbers() -> None:
    _, answers = study()
    given = verdicts(answers)
    made = forests.of_hypotheses(given)
    assert made is not None
    ax = made.figure.axes[0]
    assert [x for x, _ in with_gid(ax, "effect")] == pytest.approx([100 * one.effect for one in given.values()])
    bars = [line.get_xdata() for line in ax.lines if line.get_gid() == "interval"]
    assert np.array(bars) == pytest.approx(100 * np.array([one.interval for one in given.values()]))
    told = [text.get_text() for text in ax.texts if text.get_gid() == "told"]
    assert [text.partition(",")[0] for text in told] == [one.outcome for one in given.values()]
    shades = [shade.get_datalim(ax.transData) for shade in ax.collections if shade.get_gid() == "smallest"]
    assert [(box.x0, box.x1) for box in shades] == [pytest.approx((-2, 2))] * 3
    one = forests.of_parts(1, given[1])
    assert one is not None
    parts = [given[1].estimate, *given[1].parts.values()]
    assert [x for x, _ in with_gid(one.figure.axes[0], "effect")] == pytest.approx([100 * part.value for part in parts])
    assert forests.of_parts(1, replace(given[1], parts={})) is None
    assert forests.of_hypotheses({}) is None


def test_a_hypothesis_without_data_has_a_row_that_says_so() -> None:
    _, answers = study()
    given = verdicts(answers)
    nothing = replace(given[2].estimate, value=np.nan, se=np.nan, draws=np.full(9, np.nan), n=0)
    given[2] = replace(given[2], estimate=nothing, outcome="untested", parts={"one": nothing})
    made = forests.of_hypotheses(given)
    assert made is not None
    assert len(with_gid(made.figure.axes[0], "effect")) == 2
    assert "H2, untested: no data yet." in made.alt
    assert forests.of_parts(2, given[2]) is None


def test_depth_curves_run_from_the_first_layer_to_the_end() -> None:
    layers = ("layer1", "layer2", "layer4")  # the third has not finished: the others stay in their places
    trials, answers = study(measures=(MEASURE,), layers=layers)
    made = depth.curves(trials, answers)
    assert made is not None
    ax = panel(made.figure, "BAPPS: CNN, colour")
    (curve,) = [line for line in ax.lines if line.get_gid() == "curve"]
    assert curve.get_xdata().tolist() == [0.25, 0.5, 1]
    wanted = [score(answers, f"resnet50@{layer}", MEASURE, PATCHES) for layer in layers]
    assert curve.get_ydata().tolist() == pytest.approx(wanted)
    assert [y for _, y in with_gid(ax, "end")] == pytest.approx([score(answers, "resnet50", MEASURE, PATCHES)])
    assert depth.curves(*study()) is None


def test_layers_of_an_unknown_network_are_in_the_order_of_their_numbers() -> None:
    rows = pd.DataFrame({"backbone": "mine", "layer": ["blocks.10", "blocks.2", "blocks.1"]})
    assert depth.depths(rows, rows) == pytest.approx([1, 2 / 3, 1 / 3])


def test_gain_stands_against_minutes_of_training() -> None:
    trials, answers = study(paradigms=PARADIGMS)
    found = cost.gains(trials, answers).set_index(["model", "paradigm"])
    for (model, paradigm), row in found.iterrows():
        gain = np.mean(
            [
                score(answers, f"{model}.{paradigm}.{release}", MEASURE, sets) - score(answers, model, MEASURE, sets)
                for release, sets in (("bapps", PATCHES), ("hsj", ["hsj/8rank2_similar"]))
            ]
        )
        assert 100 * row["gain"] == pytest.approx(gain)
        assert row["minutes"] == pytest.approx(1 + list(PARADIGMS).index(paradigm))
        assert row["low"] < row["gain"] < row["high"]
        contrast = sum(
            (
                mean([(f"{model}.{paradigm}.{name}", MEASURE)], sets) - mean([(model, MEASURE)], sets)
                for name, sets in (("bapps", PATCHES), ("hsj", ["hsj/8rank2_similar"]))
            ),
            Contrast({}),
        )
        assert (row["low"], row["high"]) == pytest.approx(estimate(answers, 0.5 * contrast).interval(), abs=1e-9)
    made = cost.against_gain(trials, answers)
    assert made is not None
    dots = with_gid(panel(made.figure, "ResNet-50"), "gain")
    assert dots == [pytest.approx((row["minutes"], 100 * row["gain"])) for _, row in found.loc["resnet50"].iterrows()]


def test_sets_that_the_thesis_did_not_have_are_panels_of_their_own() -> None:
    _, answers = study(sets=("shoes/all", "bapps/cnn"))
    assert groups(answers) == {"BAPPS: CNN, colour": ("bapps/cnn",), "shoes/all": ("shoes/all",)}
    assert sorted(name for sets in GROUPS.values() for name in sets)[0] == "bapps/cnn"


def test_a_birds_family_is_in_its_path() -> None:
    assert birds.family("birds16/images/Bird/Icteridae/Orchard_Oriole/03.jpg") == "Icteridae"
    assert birds.family("03.jpg") == ""


def test_neighbours_of_ones_own_family_by_plain_loops() -> None:
    rng = np.random.default_rng(0)
    embedded, labels = rng.standard_normal((30, 5)).astype(np.float32), ["a", "b", "c"] * 10
    for i, found in enumerate(birds.alike(embedded, labels, 4)):
        cosine = [e @ embedded[i] / np.linalg.norm(e) for e in embedded]
        nearest = [j for j in np.argsort(cosine)[::-1] if j != i][:4]
        assert found == pytest.approx(np.mean([labels[j] == labels[i] for j in nearest]))
    with pytest.raises(BadInput, match="30 embeddings and 2 families"):
        birds.maps_of({"resnet50": (embedded, ["a", "b"])})


@pytest.mark.slow  # the map compiles itself
def test_every_image_is_on_the_map_in_its_familys_colour(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = ["Icteridae", "Paridae"] * 20
    embedded = (rng.standard_normal((40, 8)) + 4 * (np.arange(40) % 2)[:, None]).astype(np.float32)
    trials, answers = study()
    given = {"clip_vit_b_16": (embedded, labels), "dino_resnet50": (embedded[::-1], labels[::-1])}
    made = birds.maps_of(given)
    assert made is not None
    for ax in made.figure.axes:
        counts = {line.get_gid(): len(line.get_xdata()) for line in ax.lines}
        assert counts == {"Icteridae": 20, "Paridae": 20}
    first, second = (
        next(one for one in draw(trials, answers, {}, tmp_path / name, given) if one.name == "birds") for name in "ab"
    )
    assert first.png.read_bytes() == second.png.read_bytes()


def test_the_same_tables_give_the_same_bytes(tmp_path: Path) -> None:
    """And simulated judges are named in each, also for who does not see it."""
    trials, answers = study(queries=60, sets=("hsj/8rank2_similar",))
    trials = trials.assign(simulated=True)
    given = {1: replace(verdicts(answers)[1], simulated=True, parts={})}
    once, again = (draw(trials, answers, given, tmp_path / name) for name in ("once", "again"))
    assert [one.name for one in once] == ["pretrained", "scores-by-set", "effects"]
    for first, second in zip(once, again, strict=True):
        assert first.png.read_bytes() == second.png.read_bytes()
        assert first.svg.read_bytes() == second.svg.read_bytes()
        with Image.open(first.png) as png:
            assert png.width == 1800
        text = first.svg.read_text()
        root = ElementTree.fromstring(text)
        title, description = (root.find(f"{{http://www.w3.org/2000/svg}}{tag}") for tag in ("title", "desc"))
        assert title is not None
        assert description is not None
        assert (title.text, description.text) == (first.title, first.alt)
        assert root.get("role") == "img"
        assert "simulated judges" in first.title
        assert first.title in first.alt
        assert "udges are simulated" in first.caption
        assert "simulated judges" in re.sub(r"<(title|desc)\b.*?</\1>", "", text, flags=re.DOTALL)  # text is text


@pytest.mark.slow
def test_all_figures_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    trials, answers = study(paradigms=PARADIGMS, layers=("layer1", "layer4"), queries=60)
    given = verdicts(answers)
    once, again = (draw(trials, answers, given, tmp_path / name) for name in ("once", "again"))
    names = ["pretrained", "scores-by-set", "fine-tuned", "gain-and-cost", "depth", "effects"]
    assert [one.name for one in once] == [*names, "effects-h1", "effects-h2", "effects-h3"]
    for first, second in zip(once, again, strict=True):
        assert first.png.read_bytes() == second.png.read_bytes()
        assert first.svg.read_bytes() == second.svg.read_bytes()


def test_partial_tables_leave_gaps() -> None:
    trials, answers = study(paradigms=PARADIGMS, layers=("layer1", "layer4"), queries=40)
    nearer = answers.nearer.copy()
    nearer[answers.rows["clip_vit_b_16#0", MEASURE], answers.set == 0] = UNASKED
    gone = ["dino_vit_b_16.triplet.bapps", "resnet50", "pixels"]
    some = trials[~trials["cell"].isin(gone)]
    partial = replace(
        answers,
        nearer=nearer,
        repeats={cell: ids for cell, ids in answers.repeats.items() if cell not in gone},
        rows={pair: row for pair, row in answers.rows.items() if pair[0].removesuffix("#0") not in gone},
    )
    made = {one.name: one for one in pictures(some, partial, {}, {}) if one is not None}
    assert set(made) == {"pretrained", "scores-by-set", "fine-tuned", "gain-and-cost", "depth"}
    ax = panel(made["fine-tuned"].figure, "BAPPS: CNN, colour")
    assert len(with_gid(ax, "score")) == 8
    assert len(with_gid(ax, "before")) == 1  # DINO's: of ResNet-50 there is none, CLIP's lacks a set


def test_sweeps_without_fine_tuning_have_no_columns_of_it() -> None:
    trials, answers = study()
    plain = trials.drop(columns=["paradigm", "fit_on", "layer", "pool", "seed", "pretraining.supervision"])
    assert [one.name for one in pictures(plain, answers, {}, {}) if one is not None] == ["pretrained", "scores-by-set"]


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    trials, answers = study()
    assert draw(trials.iloc[:0], answers, {}, tmp_path) == []
