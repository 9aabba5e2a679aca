"""`humansim report` as a person calls it."""

import html
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from sweeping import humansim
from test_answers import BASE, PRETRAINED, logged

from analysis import answers, report
from humansim import cli, cli_report, own
from humansim.root import Root
from humansim.sources.simulated_psiz import write_birds16
from humansim.spec import Variant

SWEEP = """
from humansim.spec import Sweep, Trial, Variant

SWEEP = Sweep(
    name="tiny",
    question="Is it reported?",
    base=Trial(source=Variant("simulated", size=8), resolution=32, fit_size=16, batch_size=8, epochs=1),
    grid=[
        {"backbone": ["pixels", "miniature:resnet50", "miniature:dino_resnet50"], "protocol": ["thesis", "heldout"]},
        {"backbone": ["miniature:resnet50", "miniature:dino_resnet50"], "paradigm": ["triplet", "rotation"],
         "protocol": ["thesis", "heldout"]},
    ],
)
"""


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["report", *arguments]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [one for one in said if "error" in one] == said[-1:]
    return said[-1]


def test_bad_input_is_one_line_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Root.at(tmp_path / "runs")
    where = ("--root", str(root.path))
    assert "there is no such file; name the root" in refused(capsys, "made", *where)
    logged(root, [PRETRAINED])
    assert "no sweep 'maid' in sqlite" in refused(capsys, "maid", *where)
    assert "did you mean made" in refused(capsys, "made", "maid", *where)
    assert "--merge nowhere: no such folder" in refused(capsys, "made", "--merge", "nowhere", *where)
    assert "no_such_file.py: no such file" in refused(capsys, "no_such_file.py", *where)
    (mine := tmp_path / "thesis").mkdir()
    (mine / "chapter.tex").write_text("mine")
    said = refused(capsys, "made", "--out", str(mine), *where)
    assert "chapter.tex is no part of a report" in said
    assert [one.name for one in mine.iterdir()] == ["chapter.tex"]
    assert not (root.path / "reports").exists()


def commands(page: Path) -> list[list[str]]:
    """The commands under "The same again", as a shell takes them."""
    told = (
        html.unescape(page.read_text()).partition("The same again:")[2].partition("<code>")[2].partition("</code>")[0]
    )
    return [shlex.split(line, comments=True) for line in told.splitlines()]


def test_the_command_that_makes_it_again_can_be_pasted_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that was said of where things are, on the command line or in the environment, as absolute paths."""
    monkeypatch.chdir(tmp_path)
    root = Root.at("runs")
    logged(root, [PRETRAINED])
    (tmp_path / "mine.py").write_text("")
    for name in ("HUMANSIM_ROOT", "MLFLOW_TRACKING_URI", "UV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HUMANSIM_DATA", "pictures")
    monkeypatch.setenv("HUMANSIM_IMPORT", "json")
    monkeypatch.setattr(own, "_asked", [])  # what is asked for here is gone after it
    monkeypatch.setattr(own, "_state", {"begun": False})
    given = ("--merge", "runs", "--mlflow", "http://there:8080/", "--out", "for you")
    where = ("--root", "runs", "--import", "json", "--tracking", root.tracking_uri)
    assert cli.main(["report", "made", *given, *where]) == 0
    page = tmp_path / "for you" / report.PAGE
    absolute = (
        *("--root", str(tmp_path / "runs"), "--data", str(tmp_path / "pictures"), "--tracking", root.tracking_uri),
        *("--import", "json", "--import", "json"),
    )
    again = ["humansim", "report", "made", *absolute, "--merge", str(tmp_path / "runs"), *given[2:4], "--out"]
    sweep, told = commands(page)
    assert sweep == ["humansim", "sweep", "made", *absolute]
    assert told == [*again, str(tmp_path / "for you")]
    assert "http://there:8080/#/experiments/1/runs/" in page.read_text()
    assert "Links to runs open while" not in page.read_text()


def test_links_lead_to_the_server_or_it_is_said_what_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Root.at(tmp_path)
    uri = logged(root, [PRETRAINED])
    monkeypatch.setenv("UV", "uv")  # as `uv run` starts it
    (file,) = cli_report._stores(["made"], [uri])["made"].values()
    assert file.page == "http://127.0.0.1:5000/#/experiments/1"
    assert file.opens == f"uv run mlflow ui --backend-store-uri {uri}"
    (elsewhere,) = cli_report._stores(["made"], [uri], "http://there:8080/")["made"].values()
    assert (elsewhere.page, elsewhere.opens) == ("http://there:8080/#/experiments/1", "")
    assert "as http://127.0.0.1:5001" in refused(capsys, "made", "--root", str(tmp_path), "--mlflow", "there:8080")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A sweep's file, and a root with half of it."""
    folder = tmp_path_factory.mktemp("swept")
    (file := folder / "tiny.py").write_text(SWEEP)
    some = ("--only", "backbone=miniature:resnet50")
    done = humansim("sweep", str(file), "--root", str(folder / "runs"), "--serial", *some)
    assert done.returncode == 0, done.stderr
    return file, folder / "runs"


@pytest.mark.slow
def test_half_a_sweep_is_reported_then_the_whole_out_of_two_stores(swept: tuple[Path, Path], tmp_path: Path) -> None:
    file, one = swept
    out = tmp_path / "for my supervisor"
    done = humansim("report", str(file), "--root", str(one), "--out", str(out))
    assert done.returncode == 0, done.stderr
    page = out / report.PAGE
    assert done.stdout.splitlines()[-1] == f"Report: {page}"
    assert "tiny is partial: 6 of 14 trials have finished" in done.stderr
    told = page.read_text()
    assert "tiny: 6 of 14 trials have finished." in told
    assert "miniature:dino_resnet50 triplet, to run: 2" in told
    assert "Simulated judges" in told

    two = tmp_path / "runs"
    others = ("--only", "backbone=miniature:dino_resnet50", "--only", "backbone=pixels")
    assert humansim("sweep", str(file), "--root", str(two), "--serial", *others).returncode == 0
    done = humansim(
        "report", "tiny", "--root", str(one), "--merge", str(two), "--out", str(out)
    )  # in place of the half
    assert done.returncode == 0, done.stderr
    assert {child.name for child in out.iterdir()} == set(report.FILES)
    told = page.read_text()
    assert "partial" not in done.stderr
    assert "trials have finished" not in told
    runs = pd.read_csv(out / "data" / "runs.csv", keep_default_na=False)
    assert len(runs) == 14
    assert runs["run"].str.match(r"http://127.0.0.1:5000/#/experiments/\d+/runs/[0-9a-f]{32}").all()
    assert runs["version.torch"].all()
    leaked = pd.read_csv(out / "data" / "leakage.csv")
    assert set(leaked["paradigm"]) == {"triplet", "rotation", "all"}
    assert "Is it reported?" in told
    shown = pd.read_csv(out / "data" / "gallery.csv")
    assert set(shown["kind"]) <= {"against", "mended", "broken"}
    assert told.count('<figure class="triplet">') == len(shown)
    assert (shown.loc[shown["kind"] == "against", "model_surer"] >= 0.75).all()
    assert len(page.read_bytes()) < 5_000_000
    _, again = commands(page)
    before = re.sub(r"\d+:\d+ UTC", "", told)
    done = humansim(*again[again.index("humansim") + 1 :])
    assert done.returncode == 0, done.stderr
    assert re.sub(r"\d+:\d+ UTC", "", page.read_text()) == before


def test_why_there_is_no_map_of_the_birds_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And with photographs and weights at hand there is one: of each image its embedding and its family."""
    monkeypatch.setenv("HUMANSIM_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    root = Root.at(tmp_path / "runs")
    told = []
    for backbone in ("pixels", "dino_resnet50"):
        maps, left_out = cli_report.birds(root, pd.DataFrame({"backbone": [backbone]}))
        assert maps is None
        told += left_out
    assert "none of clip_vit_b_16" in told[0]
    assert "the photographs are not in" in told[1]
    write_birds16(root.data / "birds16", trials=600)
    maps, left_out = cli_report.birds(root, pd.DataFrame({"backbone": ["dino_resnet50"]}))
    assert maps is None
    assert "the weights of dino_resnet50 are not on this machine" in left_out[0]
    embeddings, families = cli_report.embedded_birds(root, Variant("pixels"))
    assert len(embeddings) == len(families)
    assert len(set(families)) == 4


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (Variant("table", name="shoes"), "no such folder; --data DIR names the one that shoes lies in"),
        (Variant("sample", queries=4, pairs=1), "has other triplets here than those that were judged"),
    ],
)
def test_why_there_is_no_gallery_is_said(tmp_path: Path, source: Variant, why: str) -> None:
    """Of another lab's store: its images are not here, or those of the same name are not what was judged."""
    root = Root.at(tmp_path)
    uri = logged(root, [BASE.having({"source": source, "backbone": "miniature:resnet50"})])
    stores = cli_report._stores(["made"], [uri])
    sections, left_out = cli_report.gallery(root, *answers.read((uri, "made")), stores)
    assert sections == []
    assert "The gallery is left out: " in left_out[0]
    assert why in left_out[0]
