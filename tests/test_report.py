"""The report: what a supervisor reads."""

import base64
import io
import itertools
import re
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element

import html5lib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis import report
from analysis.answers import Answers
from analysis.gallery import MOST
from analysis.hypotheses import HYPOTHESES
from analysis.planted import planted
from analysis.report import gallery
from analysis.report.made import Store, Swept
from analysis.stats import Estimate, estimate, mean
from analysis.verdict import Verdict, evidence, judge, within_family
from humansim.errors import BadInput

SETS = ("bapps/cnn", "bapps/color", "hsj/8rank2_similar", "birds16/2rank1_dissimilar")
MODELS = {"resnet50": 0.62, "vit_b_16": 0.66, "clip_vit_b_16": 0.7, "dino_vit_b_16": 0.69}


def study(simulated: bool = True) -> tuple[pd.DataFrame, Answers]:
    """A small study whose truth is known: four models, fine-tuned in two ways under two protocols, pixels below."""
    scores = {"pixels": 0.55, **MODELS}
    rows = {name: {"model": name, "kind": "floor" if name == "pixels" else "pretrained"} for name in scores}
    for model, score in MODELS.items():
        for paradigm in ("triplet", "simclr"):
            for protocol, gain in (("heldout", 0.01), ("thesis", 0.03)):
                cell = f"{model} {paradigm} {protocol}"
                kind = "fine-tuned" if protocol == "heldout" else "contaminated"
                scores[cell] = score + gain
                rows[cell] = {"model": model, "kind": kind, "paradigm": paradigm, "protocol": protocol}
    answers = planted(scores, np.random.default_rng(0), sets=SETS, queries=120)
    trials = pd.DataFrame(
        [
            {
                "trial": f"{cell}#0",
                "cell": cell,
                "protocol": "heldout",
                "backbone": row["model"],
                "fit_on": "bapps" if "paradigm" in row else None,
                "measure": "cosine",
                "validation": 0.6,
                "simulated": simulated,
                "contaminated": row["kind"] == "contaminated",
                "shared.test.images": 16 if row["kind"] == "contaminated" else 0,
                "seed": 0.0 if "paradigm" in row else np.nan,
                "device": "NVIDIA H100",
                "version.torch": "2.11.0",
                "data": "d" * 64,
                "seconds": 60.0,
                "finished": 1_700_000_000_000,
            }
            | row
            for cell, row in rows.items()
        ]
    ).set_index("trial")
    return trials, answers


def judgements(answers: Answers, simulated: bool = True) -> dict[int, Verdict]:
    """Nine verdicts of all kinds; of H9 nothing has finished."""
    found = []
    for one in HYPOTHESES:
        better, worse = list(MODELS)[one.number % 4], list(MODELS)[(one.number + 1 + one.number % 2) % 4]
        contrast = mean([(better, "cosine")], SETS) - mean([(worse, "cosine")], SETS)
        parts = {name: estimate(answers, contrast.on([name]), resamples=500) for name in SETS if one.number < 9}
        partial = ("clip_resnet50x64 has not finished",) if one.number == 5 else ()
        effect = estimate(answers, contrast, resamples=2000) if one.number < 9 else Estimate.none()
        found.append(judge(one.claim, evidence(effect, 0.01), parts=parts, partial=partial, simulated=simulated))
    return {one.number: verdict for one, verdict in zip(HYPOTHESES, within_family(found), strict=True)}


def wall(folder: Path, name: str, simulated: bool = True) -> gallery.Wall:
    """Three triplets with noise for photographs, the hardest thing to keep small; the middle one is of one judge."""
    shown = pd.DataFrame(
        {
            "triplet": [3, 1, 4],
            "set": ["bapps/cnn", "hsj/8rank2_similar", "birds16/2rank1_dissimilar"],
            "query": ["q <1>.png", "q2.png", "q2.png"],
            "left": ["a & b.png", "l2.png", "wide.png"],
            "right": ["r1.png", "r2.png", "r3.png"],
            "choice": [0.2, 1.0, 0.75],
            "judges": [5, 1, 0],
            "people": ["left", "right", "right"],
            "agree": [0.8, 1.0, 0.75],
            "model_margin": [-0.251, -0.1, -0.999],
            "model_surer": [0.987, 0.75, 0.8],
            "came_margin": [-0.251, -0.1, -0.04],
            "came_surer": [0.987, 0.5, 0.1],
            "tuned_margin": [0.0312, 0.3, 0.0000234],
            "tuned_surer": [0.03, 0.9, 0.0],
            "weight": [0.3, 0.1, 0.02],
        }
    )
    place = folder.with_name(f"{folder.name} images")
    place.mkdir(exist_ok=True)
    files = {}
    for i, image in enumerate(sorted({*shown["query"], *shown["left"], *shown["right"]})):
        files[image] = place / f"{i}.png"
        size = (300, 900, 3) if image == "wide.png" else (256, 256, 3)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, size, dtype=np.uint8)).save(files[image])
    who = {"model": "the model"} if name == "against" else {"came": "as it came", "tuned": "fine-tuned"}
    return gallery.Wall(name, "resnet50 (62.0 % on test).", who, shown, files, simulated)


def written(folder: Path, simulated: bool = True) -> Path:
    trials, answers = study(simulated)
    store = Store(
        "sqlite:////x/mlflow.db",
        "mlflow ui --backend-store-uri sqlite:////x/mlflow.db",
        "http://127.0.0.1:5000/#/experiments/1",
        {trial: f"{i:032x}" for i, trial in enumerate(trials.index)},
    )
    lacking = (("resnet50 triplet, to run", 9),)
    sweep = Swept(
        "thesis_heldout", "Does it gain & last?", "0123456789abcdef", "humansim sweep x", 70, 61, lacking, (store,)
    )
    report.write(
        trials,
        answers,
        judgements(answers, simulated),
        folder,
        sweeps=[sweep],
        left_out=["Left out: 5 % of <this> & that_one."],
        more=[gallery.section([wall(folder, name, simulated) for name in ("against", "mended")])],
    )
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(folder: Path) -> Element:
    """The page, read by the rules of HTML; an error in it is an error here."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse((folder / report.PAGE).read_bytes(), transport_encoding="utf-8")


def text(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def signed(share: float) -> str:
    return "\N{EN DASH}" if np.isnan(share) else f"{100 * share:+.2f}".replace("-", "\N{MINUS SIGN}")


def test_it_is_whole_and_nothing_else_is_written(folder: Path) -> None:
    assert {one.name for one in folder.iterdir()} == set(report.FILES)


def test_the_page_loads_nothing(page: Element) -> None:
    """What a browser would fetch: all of it lies in the page."""
    loading = [
        one.get(name)
        for one in page.iter()
        for name in ("src", "srcset", "data", "poster", "background", *(("href",) if one.tag == "link" else ()))
        if one.get(name) is not None
    ]
    assert loading
    assert all(value.startswith("data:") for value in loading)
    assert not list(page.iter("script"))
    styles = "".join(text(one) for one in page.iter("style"))
    assert "url(" not in styles
    assert "@import" not in styles


def test_the_page_has_one_title_headings_in_order_and_landmarks(page: Element) -> None:
    levels = [int(one.tag[1]) for one in page.iter() if one.tag in ("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for landmark in ("header", "nav", "main", "footer"):
        assert len(list(page.iter(landmark))) == 1
    assert page.find("body")[0].get("href") == "#content"


def test_links_within_lead_somewhere(page: Element, folder: Path) -> None:
    ids = [one.get("id") for one in page.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    for href in {one.get("href") for one in page.iter("a")}:
        if href.startswith("#"):
            assert href[1:] in ids
        elif not href.startswith("http"):
            assert (folder / href).is_file()
    for one in page.iter():
        if one.get("aria-labelledby"):
            assert one.get("aria-labelledby") in ids


def test_tables_and_images_tell_what_they_are(page: Element) -> None:
    tables = list(page.iter("table"))
    assert len(tables) > 10
    for one in tables:
        assert text(one.find("caption"))
        width = len(one.findall("thead/tr/th[@scope='col']"))
        for row in one.findall("tbody/tr"):
            assert len(row.findall("th[@scope='row']")) == 1
            assert len(row) == width
    assert all(one.get("alt") for one in page.iter("img"))


def test_every_number_of_the_verdicts_is_the_verdicts_own(page: Element, folder: Path) -> None:
    judged = judgements(study()[1])
    (table,) = [one for one in page.iter("table") if one.find("caption").get("id") == "table-verdicts"]
    rows = table.findall("tbody/tr")
    assert len(rows) == 9
    markdown = (folder / report.TEXT).read_text().replace("\\", "")
    latex = (folder / report.LATEX).read_text().replace("$-$", "\N{MINUS SIGN}").replace("--", "\N{EN DASH}")
    exact = pd.read_csv(folder / "data" / "verdicts.csv").set_index("hypothesis")
    for row, (number, verdict) in zip(rows, judged.items(), strict=True):
        low, high = verdict.interval
        shown = [text(cell) for cell in row]
        effect, interval = signed(verdict.effect), f"[{signed(low)}, {signed(high)}]" if low == low else signed(low)
        assert shown[0] == f"H{number}"
        assert shown[1].endswith(verdict.outcome)
        assert shown[2:5] == [verdict.claim, effect, interval]
        assert shown[5] == "> 1.00"
        if verdict.estimate.n:
            assert shown[6] == ("< 0.001" if verdict.p < 0.001 else f"{verdict.p:.3f}")
        assert shown[7] == f"{verdict.estimate.n:,}"
        section = text(page.find("body")).partition(f"H{number}. ")[2].partition(f"H{number + 1}. ")[0]
        assert (verdict.outcome == "untested") == (number == 9)
        if verdict.outcome == "untested":
            assert "points of 2AFC" not in section.partition("analysis/")[0]
            assert "untested: nothing to compare is among the finished trials" in text(page.find("body"))
            assert f"- H{number}. " in markdown
        else:
            assert f"{effect} points of 2AFC, 95 % interval {interval}" in section
        assert verdict.would_decide in section
        assert all(told in section for told in verdict.partial)
        assert HYPOTHESES[number - 1].file in section
        for other in (markdown, latex):
            (line,) = [one for one in other.splitlines() if re.match(rf"(\| )?H{number} [|&] ", one)]
            assert [effect in line, interval in line, verdict.outcome in line, verdict.claim in line] == [True] * 4
        assert exact.loc[number, ["effect", "low", "high", "p"]].tolist() == pytest.approx(
            [verdict.effect, low, high, verdict.p], rel=1e-12, nan_ok=True
        )


def test_a_verdict_is_followed_to_its_runs(page: Element, folder: Path) -> None:
    runs = pd.read_csv(folder / "data" / "runs.csv", keep_default_na=False).set_index("trial")
    judged, trials = judgements(study()[1]), study()[0]
    for number, verdict in judged.items():
        marked = runs.index[[f"H{number}" in one.split() for one in runs["hypotheses"]]]
        assert set(trials.loc[marked, "cell"]) == set(verdict.estimate.cells)
    links = {text(one): one.get("href") for one in page.iter("a")}
    for trial in trials.index:
        assert links[trial] == runs.loc[trial, "run"]
        assert links[trial].startswith("http://127.0.0.1:5000/#/experiments/1/runs/")


def test_scores_stand_beside_floor_ceilings_and_chance(page: Element) -> None:
    _, answers = study()
    (table,) = [one for one in page.iter("table") if one.find("caption").get("id") == "table-models"]
    rows = {text(row[0]): [text(cell) for cell in row] for row in table.findall("tbody/tr")}
    people = answers.people()
    assert rows["People: best possible"][2] == f"{100 * people['best'].mean():.1f}"
    assert rows["People: a fresh judge"][2] == f"{100 * people['fresh_judge'].mean():.1f}"
    assert rows["Chance"][2] == "50.0"
    scores = answers.scores().groupby("cell")["score"].mean()
    for model in ("pixels", *MODELS):
        assert rows[model][2] == f"{100 * scores[model]:.1f}"
    (table,) = [one for one in page.iter("table") if one.find("caption").get("id") == "table-tuned_heldout"]
    for row in table.findall("tbody/tr"):
        model = text(row[0])
        tuned = scores[f"{model} triplet heldout"]
        assert text(row[2]) == f"{100 * tuned:.1f} ({signed(tuned - scores[model])})"


def test_a_study_of_few_fine_tunings_tells_what_each_gained() -> None:
    """Of many, its tables and verdicts do."""
    trials, answers = study()
    assert report.told_of(trials, answers, of_study=True) == []
    assert len(report.told_of(trials, answers, of_study=False)) == len(MODELS)
    one = trials[trials["model"] == "resnet50"]
    alike = one[one["paradigm"].notna() & ~one["contaminated"]]  # all are as good on validation
    assert [gain.cell for gain in report.told_of(one, answers, of_study=True)] == [alike.sort_index()["cell"].iloc[0]]


def test_simulated_judges_are_told_everywhere(page: Element, folder: Path) -> None:
    assert "imulated" in text(page.find("head/title"))
    for one in (*page.iter("caption"), *page.iter("figcaption")):
        assert "imulated" in text(one)
    assert (folder / report.LATEX).read_text().count(r"Simulated judges.}") > 5
    assert "**Simulated judges.**" in (folder / report.TEXT).read_text()
    for file in (folder / "data").iterdir():
        assert (pd.read_csv(file)["judges_are"] == "simulated").all()


@pytest.mark.slow
def test_of_people_nothing_says_that_they_were_simulated(tmp_path: Path) -> None:
    real = written(tmp_path, simulated=False)
    for name in (report.PAGE, report.TEXT, report.LATEX):
        assert "imulated" not in re.sub(r"base64,[^\"]*", "", (real / name).read_text())


def test_what_has_to_run_for_links_is_said_where_they_are(page: Element, folder: Path) -> None:
    opened = "Links to runs open while this runs: mlflow ui --backend-store-uri sqlite:////x/mlflow.db"
    for name in ("hypotheses", "made"):
        (own,) = [one for one in page.iter("section") if one.get("aria-labelledby") == name]
        assert text(own).count(opened) == 1
    assert "while this runs: `mlflow ui " in (folder / report.TEXT).read_text()


def test_what_is_partial_is_said(page: Element) -> None:
    told = text(page.find("body"))
    assert told.count("thesis_heldout: 61 of 70 trials have finished.") == 2
    assert "resnet50 triplet, to run: 9" in told
    assert "H5: clip_resnet50x64 has not finished" in told
    assert "Left out: 5 % of <this> & that_one." in told


def test_in_the_gallery_a_triplet_is_seen_with_who_chose_what(page: Element) -> None:
    assert [one for one in page.iter("a") if one.get("href") == "#gallery"]
    figures = [one for one in page.iter("figure") if one.get("class") == "triplet"]
    assert len(figures) == 6
    images = [[image.get("alt") for image in one.iter("img")] for one in figures]
    assert images[0] == [
        "Left, chosen by 4 of 5 simulated judges: a & b.png",
        "Query: q <1>.png",
        "Right, chosen by the model: r1.png",
    ]
    assert images[1][0] == "Left, chosen by the model: l2.png"
    assert images[1][2] == "Right, chosen by the only simulated judge asked: r2.png"
    assert images[3][0] == "Left, chosen by 4 of 5 simulated judges and fine-tuned: a & b.png"
    assert images[3][2] == "Right, chosen by as it came: r1.png"
    captions = [text(one.find("figcaption")) for one in figures]
    assert captions[0] == (
        "bapps/cnn. 4 of 5 simulated judges chose left. The model: right, margin 25 %, "
        "surer than in 99 % of its answers."
    )
    assert "75.0 % of simulated judges chose right. The model: left, margin 100 %, " in captions[2]
    assert captions[3] == (
        "bapps/cnn. 4 of 5 simulated judges chose left. As it came: right, margin 25 %, surer than in 99 % of its "
        "answers. Fine-tuned: left, margin 3.1 %, surer than in 3 % of its answers."
    )
    assert "Fine-tuned: right, margin less than 0.01 %, surer than in 0 % of its answers." in captions[5]
    assert [text(one) for one in figures[0].iter("span")] == ["left: judges", "query", "right: model"]
    assert [text(one) for one in figures[3].iter("span")] == ["left: judges, fine-tuned", "query", "right: as it came"]


def changes(folder: Path) -> pd.DataFrame:
    """Twenty triplets of which people are clear: of eight fine-tuning mended, of none it broke any."""
    one = wall(folder, "mended").shown.iloc[[0] * 20].assign(triplet=range(20), query=[f"q{i}" for i in range(20)])
    margins = {"came_margin": [-0.1] * 8 + [0.1] * 12, "tuned_margin": 0.1, "model_margin": one["came_margin"]}
    return one.assign(**margins, came_surer=0.25, tuned_surer=[0.2] * 3 + [0.3] * 17)


def test_above_the_triplets_is_said_how_many_there_are_and_of_which_models(tmp_path: Path) -> None:
    found = changes(tmp_path)
    mended, broken = gallery.of_change(found, "resnet50 (60.0 %)", "resnet50 triplet (62.0 %)", lambda _: {}, False)
    assert mended.told == (
        "resnet50 (60.0 %), as it came, beside resnet50 triplet (62.0 %). People are clear on 20 of 20 test triplets; "
        "a close call is an answer among the 25 % of which a model is least sure. On 8 of these it was against them as "
        "it came and is with them after fine-tuning, on 5 of them by no close call:"
    )
    assert list(mended.shown["triplet"]) == [3, 4, 5, 6, 7]
    close = gallery.of_change(found.assign(tuned_surer=0.2), "a", "b", lambda _: {}, False)[0]
    assert close.told.endswith("is with them after fine-tuning, each time by a close call.")
    assert close.shown.empty
    assert broken.told == "On none of the same it was with them as it came and is against them after fine-tuning."
    sure = gallery.of_best(found, "resnet50 (60.0 %)", lambda _: {}, True)
    assert sure.told == (
        "resnet50 (60.0 %). Simulated judges are clear on 20 of 20 test triplets. On 20 of these it takes the other "
        "side, and is sure on 20 of these; 12 of them:"
    )
    unsure = gallery.of_best(found.assign(model_surer=0.7), "resnet50 (60.0 %)", lambda _: {}, False)
    assert unsure.told.endswith("On 20 of these it takes the other side, and is sure on none of these.")
    right = gallery.of_best(found.assign(model_margin=0.7), "resnet50 (60.0 %)", lambda _: {}, False)
    assert right.told.endswith("On none of these it takes the other side.")
    again = gallery.of_change(found, "a", "b", lambda _: {}, False, [sure])[0]
    assert not set(again.shown["triplet"]) & set(sure.shown["triplet"])


def test_why_no_change_is_shown_is_one_line(tmp_path: Path) -> None:
    html = gallery.section([wall(tmp_path, "against")], "Nothing was fine-tuned.").html
    assert html.rstrip().endswith("<p>Nothing was fine-tuned.</p>")


def test_the_gallery_keeps_to_its_budget_and_its_numbers_are_in_a_file(folder: Path, page: Element) -> None:
    data = pd.read_csv(folder / "data" / "gallery.csv")
    assert data["kind"].tolist() == ["against"] * 3 + ["mended"] * 3
    assert data["came_margin"].tolist() == [-0.251, -0.1, -0.04] * 2
    sources = [one.get("src") for figure in page.iter("figure") if figure.get("class") for one in figure.iter("img")]
    assert sum(map(len, sources)) <= gallery.BUDGET
    sizes = [Image.open(io.BytesIO(base64.b64decode(one.partition(",")[2]))).size for one in sources]
    assert len(sizes) == 18
    assert set(sizes) == {(160, 160), (160, 53)}  # as they were shown, not squashed


def test_many_triplets_are_shown_in_less_quality(tmp_path: Path) -> None:
    """Noise in each of 108, as many as there can be, still fits."""
    one = wall(tmp_path, "against")
    sizes = []
    for times in (1, MOST // len(one.shown)):
        many = replace(one, shown=pd.concat([one.shown] * times))
        found = re.findall(r'src="([^"]*)"', gallery.section([many] * 3).html)
        assert len(found) == 27 * times
        assert sum(map(len, found)) <= gallery.BUDGET
        sizes.append(len(found[0]))
    assert sizes[1] < sizes[0]


def test_what_is_special_in_latex_is_set_as_it_is() -> None:
    assert report.in_latex("a_b & 5 % of $x^2$ {#1} ~\\ <\N{MINUS SIGN}1>") == (
        r"a\_b \& 5 \% of \$x\textasciicircum{}2\$ \{\#1\} \textasciitilde{}\textbackslash{} $<$$-$1$>$"
    )


def test_latex_tables_are_balanced_and_as_wide_as_they_say(folder: Path) -> None:
    latex = (folder / report.LATEX).read_text()
    for table in latex.split(r"\begin{table}")[1:]:
        columns = re.sub(r"p\{[^}]*\}", "p", table.partition(r"\begin{tabular}{")[2].split("\n")[0].rstrip("}"))
        rows = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert len(rows) > 1
        assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {len(columns)}
        assert table.count("{") - table.count(r"\{") == table.count("}") - table.count(r"\}")


def test_an_image_that_is_gone_or_is_none_is_named(tmp_path: Path) -> None:
    one = wall(tmp_path, "against")
    one.files["r1.png"].write_bytes(b"no image")
    with pytest.raises(BadInput, match=r"png: it is not an image that can be read$"):
        gallery.section([one])
    one.files["r1.png"].unlink()
    with pytest.raises(BadInput, match=r"png: No such file or directory$"):
        gallery.section([one])
