"""Numbers that others can check: real images, real judgements, real weights (see the data's own records)."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sweeping import humansim, last_json

from humansim.cli import main
from humansim.embedder import Embedder, distances
from humansim.images import open_store
from humansim.root import Root
from humansim.scores import ceilings, two_afc
from humansim.sources.table import read_table
from humansim.spec import Variant

# 2AFC in per cent, squashed bicubic to 224 (network) and 32 (pixels): cosine, l2, l1
PUBLISHED = {
    ("zappos85", "efficientnet_lite0"): (74.953, 72.509, 70.849),
    ("zappos85", "pixels"): (60.006, 60.612, 61.246),
    ("objects92", "efficientnet_lite0"): (59.099, 57.400, 57.136),
    ("objects92", "pixels"): (51.655, 51.511, 51.777),
}


@pytest.fixture(scope="module")
def tables(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """zappos85 and objects92 as `table` folders, sides randomised."""
    folder = tmp_path_factory.mktemp("tables")
    zappos = folder / "zappos85"
    shutil.copytree(shared_data / "zappos85" / "images", zappos / "images")
    head, close, far = pd.read_csv(shared_data / "zappos85" / "deconflicted_triplets.csv.gz", header=None).to_numpy().T
    swap = np.random.default_rng(0).random(len(head)) < 0.5  # the winner is always listed first

    def jpeg(rows: np.ndarray) -> list[str]:
        return [f"images/{row}.jpg" for row in rows]

    left, right = np.where(swap, far, close), np.where(swap, close, far)
    columns = {"query": jpeg(head), "left": jpeg(left), "right": jpeg(right), "choice": swap.astype(int)}
    pd.DataFrame(columns).to_csv(zappos / "judgements.csv", index=False)

    objects = folder / "objects92"
    shutil.copytree(shared_data / "objects92" / "derived_png", objects / "images")
    people = np.load(shared_data / "objects92" / "derived_rdms_16x92x92_f64.npy")
    rows = []
    for query in range(92):
        a, b = np.triu_indices(91, 1)
        others = np.delete(np.arange(92), query)
        left, right = others[a], others[b]
        choice = (people[:, query, right] < people[:, query, left]).mean(axis=0)
        names = [[f"images/{i:02d}.png" for i in side] for side in (left, right)]
        rows.append(pd.DataFrame({"left": names[0], "right": names[1], "choice": choice}))
        rows[-1].insert(0, "query", f"images/{query:02d}.png")
    pd.concat(rows).assign(judges=16).to_parquet(objects / "judgements.parquet", index=False)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backbone"), PUBLISHED, ids=lambda part: str(part))
def test_evaluate_gives_the_published_numbers(tables: Path, tmp_path: Path, name: str, backbone: str) -> None:
    done = humansim("evaluate", backbone, "--source", str(tables / name), "--root", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    found = {score["measure"]: 100 * score["score"] for score in last_json(done)["scores"]}
    expected = dict(zip(("cosine", "l2", "l1"), PUBLISHED[name, backbone], strict=True))
    assert found == pytest.approx(expected, abs=0.01)


def test_pixels_give_the_published_numbers_in_this_process(tables: Path, root: Root) -> None:
    from humansim.backbones import backbone

    judgements = read_table(tables / "objects92")
    store = open_store(root, judgements, 32)
    rows = np.arange(len(judgements.images))
    found = distances(Embedder(backbone.make(Variant("pixels"))).embed(store.pixels, rows), rows, judgements.triplets)
    scores = [100 * two_afc(*sides, judgements.triplets.choice) for sides in found.values()]
    assert scores == pytest.approx(PUBLISHED["objects92", "pixels"], abs=0.01)
    human = ceilings(judgements.triplets.choice, judgements.triplets.judges)
    assert 100 * human.plug_in == pytest.approx(64.462, abs=0.001)
    assert 100 * human.best == pytest.approx(71.688, abs=0.001)


def test_always_left_scores_chance_on_zappos(tables: Path) -> None:
    choice = read_table(tables / "zappos85").triplets.choice
    assert 100 * two_afc(np.zeros(len(choice)), np.ones(len(choice)), choice) == pytest.approx(50, abs=0.3)


@pytest.mark.parametrize(("name", "expected"), [("cnn", 82.8708), ("superres", 71.1883), ("deblur", 61.0381)])
def test_score_gives_the_published_numbers_of_real_votes(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, expected: float
) -> None:
    """These three sets have tied distances."""
    votes = pd.read_csv(shared_data / "bapps_votes" / "alex_vanilla" / f"{name}.csv.gz", header=None)
    table = votes[[1, 2, 4]].set_axis(["to_left", "to_right", "choice"], axis=1)
    table.to_csv(tmp_path / "distances.csv", index=False)
    assert main(["score", str(tmp_path / "distances.csv"), "--judges", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 100 * found["score"] == pytest.approx(expected, abs=0.001)
    assert found["ties"] == {"cnn": 11, "superres": 56, "deblur": 4}[name]
    people = {"cnn": (84.35, 80.4, 88.47), "superres": (73.60, 67.0, 80.12), "deblur": (66.09, 57.6, 74.00)}[name]
    assert 100 * found["plug_in"] == pytest.approx(people[0], abs=0.006)
    assert 100 * found["fresh_judge"] == pytest.approx(people[1], abs=0.06)
    assert 100 * found["best"] == pytest.approx(people[2], abs=0.006)
