"""Two commands at once on one fresh root make what one alone makes."""

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest
from sweeping import command, environment

from humansim import images, sources
from humansim.root import Root
from humansim.spec import Variant


def prepare(root: Path, *more: str) -> subprocess.Popen[str]:
    arguments = command("data", "prepare", "simulated", "--size", "20", "--root", str(root), *more)
    return subprocess.Popen(
        arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def sums(folder: Path) -> dict[str, str]:
    files = [file for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock"]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.slow
def test_two_preparations_at_once_make_what_one_alone_makes(tmp_path: Path) -> None:
    both = [prepare(tmp_path / "shared") for _ in range(2)]
    said = [one.communicate(timeout=300) for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    alone = prepare(tmp_path / "alone", "--workers", "1")
    told, _ = alone.communicate(timeout=300)
    assert alone.returncode == 0
    assert {out.replace("shared", "alone") for out, _ in said} == {told}

    sets = sums(tmp_path / "shared" / "sets")
    assert sets == sums(tmp_path / "alone" / "sets")
    assert len(sets) == 11 + 11 + 9
    assert sums(tmp_path / "shared" / "sample") == sums(tmp_path / "alone" / "sample")

    stores = []
    for name in ("shared", "alone"):
        root = Root.at(tmp_path / name)
        judgements = sources.read(Variant("simulated"), root)
        assert judgements.counts == ()  # what is simulated is not held to what is published
        stores.append(images.open_store(root, judgements, 224))
        assert images.verify(root) == len(stores[-1].pixels)
        assert not [file for file in root.path.rglob(".*") if file.suffix != ".lock"]  # nothing half-made is left
    one, other = stores
    assert one.contents == other.contents
    assert (one.sizes == other.sizes).all()
    assert len(one.pixels) == len(other.pixels)  # nothing is there twice
    every = np.arange(len(one))
    assert (one[every] == other[every]).all()
