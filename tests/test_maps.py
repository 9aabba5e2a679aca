"""Maps of embeddings: the same every time, neighbours stay neighbours; and the command that writes them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from humansim import maps
from humansim.cli import main
from humansim.errors import BadInput

# Of umap and numba, about their own insides.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:umap", "ignore::UserWarning:sklearn")


def three_groups(each: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 16)) * 5
    group = np.repeat(np.arange(3), each)
    return (centres[group] + rng.normal(size=(len(group), 16)) * 0.3).astype(np.float32), group


def test_a_map_keeps_neighbours_and_is_the_same_every_time() -> None:
    embeddings, group = three_groups()
    place = maps.umap(embeddings, neighbors=8)
    assert place.shape == (len(embeddings), 2)
    apart = np.linalg.norm(place[:, None] - place[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (group[apart.argmin(axis=1)] == group).all()
    np.testing.assert_array_equal(maps.umap(embeddings, neighbors=8), place)
    assert not np.array_equal(maps.umap(embeddings, neighbors=8, seed=1), place)


def test_few_images_have_a_map_and_fewer_have_none() -> None:
    embeddings, _ = three_groups(2)
    assert np.isfinite(maps.umap(embeddings)).all()
    with pytest.raises(BadInput, match="four images or more, not 3"):
        maps.umap(embeddings[:3])
    with pytest.raises(BadInput, match="neighbors 1: a map takes two or more"):
        maps.umap(embeddings, neighbors=1)


def test_the_table_has_a_row_for_each_image() -> None:
    embeddings, _ = three_groups(2)
    table = maps.as_table(list("abcdef"), embeddings, embeddings[:, :2])
    assert list(table.columns[:4]) == ["image", "x", "y", "0"]
    np.testing.assert_array_equal(table.iloc[:, 3:].to_numpy(), embeddings)
    assert list(maps.as_table(list("abcdef"), embeddings).columns[:2]) == ["image", "0"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_command_writes_a_table(tmp_path: Path, judgements: Path, suffix: str) -> None:
    out = tmp_path / f"embedded{suffix}"
    where = ["--source", str(judgements), "--root", str(tmp_path / "root")]
    assert main(["embed", "pixels", *where, "--out", str(out), "--map", "resolution=8"]) == 0
    table = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert {"image", "x", "y", "0", "191"} <= set(table.columns)
    assert table.notna().all().all()
    assert table["image"].is_unique


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pixels", "--out", "x.txt"], "a table is written as .parquet or .csv"),
        (["pixels", "--out", "nowhere/x.csv"], "no folder"),
        (["ssim", "--out", "x.csv"], "backbone ssim judges pairs of images; it has no embeddings"),
        (["pixels", "--out", "x.csv", "--map", "--neighbors", "0"], "neighbors 0: a map takes two or more"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judgements: Path, capsys, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["embed", *arguments, "--source", str(judgements), "--root", str(tmp_path / "root")]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("x.*"))
