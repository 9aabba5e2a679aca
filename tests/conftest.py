"""What several test files need."""

import os
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from humansim.root import Root
from humansim.sources.simulated_bapps import write_bapps
from humansim.sources.simulated_psiz import write_birds16

os.environ.pop("UV", None)  # by which commands that are shown begin with `uv run`, where `uv run pytest` runs this


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root.at(tmp_path / "runs", tmp_path / "data")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real human judgements: $HUMANSIM_SHARED_DATA, else shared/data beside the checkout; skips where it is not."""
    folder = Path(os.environ.get("HUMANSIM_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"the real data is not there: {folder}")
    return folder


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated releases as fetched, just large enough to prepare; to be read, not to be changed."""
    folder = tmp_path_factory.mktemp("raw")
    write_bapps(folder / "bapps", per_set=40, train=4)
    write_birds16(folder / "birds16", trials=600)
    return folder


@pytest.fixture
def judgements(tmp_path: Path) -> Path:
    """A small `table` folder: 40 images of one colour each, people go by the colour."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for i in range(40):
        Image.new("RGB", (12, 12), (6 * i, 0, 0)).save(folder / f"{i:02d}.png")
    rows = [(q, a, b) for q in range(40) for a in range(q % 3, 40, 7) for b in range(a + 1, 40, 9) if q not in (a, b)]
    frame = pd.DataFrame(rows, columns=["query", "left", "right"])
    frame["choice"] = ((frame.right - frame["query"]).abs() < (frame.left - frame["query"]).abs()) * 1.0
    for column in ("query", "left", "right"):
        frame[column] = [f"{i:02d}.png" for i in frame[column]]
    frame.to_csv(folder / "judgements.csv", index=False)
    return folder
