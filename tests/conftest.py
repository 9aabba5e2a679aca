"""What several test files need."""

import os
from pathlib import Path

import pytest

from humansim.root import Root


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
