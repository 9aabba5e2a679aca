"""Whoever has only some of a release sees it: how much is there against what is published, and no error."""

import json
import shutil
from pathlib import Path

import pytest

from humansim.cli import main
from humansim.judgements import Count, joined
from humansim.sources import bapps, psiz, releases

PER_SET = 40  # of the simulated releases


def command(name: str, *arguments: str, data: Path, root: Path) -> list[str]:
    return ["data", name, *arguments, "--data", str(data), "--root", str(root)]


@pytest.mark.parametrize(
    ("count", "text", "complete"),
    [
        (Count("bapps/cnn", "triplets", 4000, 4720), "bapps/cnn: 4,000 of 4,720 published triplets", False),
        (Count("bapps/cnn", "triplets", 4720, 4720), "bapps/cnn: 4,720 of 4,720 published triplets", True),
        (Count("bapps/mix", "triplets", 56_582, 56_600, rounded=True), "56,582 of about 56,600", True),
        (Count("bapps/mix", "triplets", 56_500, 56_600, rounded=True), "56,500 of about 56,600", False),
        (Count("hsj", "trials", 25_273, 384_277), "hsj: 25,273 of 384,277 published trials", False),
        (Count("hsj", "trials", 390_000, 384_277), "390,000 trials, and 384,277 are published", False),
    ],
)
def test_a_count_says_what_is_there_of_what_is_published(count: Count, text: str, complete: bool) -> None:
    assert text in str(count)
    assert count.complete == complete


def test_every_release_is_counted_and_a_join_keeps_the_counts(raw: Path) -> None:
    val, train = bapps.read(raw / "bapps"), bapps.read(raw / "bapps", "train")
    birds = psiz.read(raw / "birds16", psiz.BIRDS16)
    assert [(one.of, one.found, one.published) for one in val.counts] == [
        (f"bapps/{name}", PER_SET, bapps.PUBLISHED[name]) for name in bapps.VAL
    ]
    assert [(one.of, one.found, one.rounded) for one in train.counts] == [
        (f"bapps/{name}", 4, True) for name in bapps.TRAIN
    ]
    assert [(one.what, one.found, one.published) for one in birds.counts] == [
        ("trials", 600, 16_292),
        ("images", 208, 208),
    ]
    assert joined("both", [val, birds]).counts == val.counts + birds.counts
    assert releases.counts(raw, "bapps", "val") == val.counts
    assert releases.counts(raw, "bapps", "train") == train.counts
    assert releases.counts(raw, "birds16", "images") == birds.counts[1:]


def test_prepare_and_verify_say_what_is_missing(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("prepare", "verify"):
        arguments = command(name, "bapps", "--size", "5", "--resolution", "16", data=raw, root=tmp_path)
        assert main(arguments) == 0
        said = capsys.readouterr().out
        for one in bapps.VAL:
            assert f"bapps/{one}: {PER_SET} of {bapps.PUBLISHED[one]:,} published triplets" in said.splitlines()
        assert main([*arguments, "--json"]) == 0
        counts = json.loads(capsys.readouterr().out)["counts"]
        assert {(one["of"], one["found"], one["complete"]) for one in counts} == {
            (f"bapps/{name}", PER_SET, False) for name in bapps.VAL
        }


def test_prepare_says_that_all_is_there(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bapps, "PUBLISHED", dict.fromkeys(bapps.VAL, PER_SET))
    assert main(command("prepare", "bapps", "--size", "5", "--resolution", "16", data=raw, root=tmp_path)) == 0
    said = capsys.readouterr().out.splitlines()
    assert "bapps is complete: as many triplets as are published" in said
    assert not any("of 40 published" in line for line in said)
    assert main(command("list", "--json", data=raw, root=tmp_path)) == 0
    assert "yes" in {row["complete"] for row in json.loads(capsys.readouterr().out) if row["release"] == "bapps"}


def test_list_says_what_is_missing_and_reads_no_trial(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(psiz, "read_sequences")
    some = tmp_path / "some"
    shutil.copytree(raw / "birds16", some / "birds16")
    (some / "bapps").symlink_to(raw / "bapps")
    next((some / "birds16" / "images").rglob("*.jpg")).unlink()
    assert main(command("list", "--json", data=some, root=tmp_path)) == 0
    said = {(row["release"], row["part"]): row["complete"] for row in json.loads(capsys.readouterr().out)}
    assert f"bapps/cnn: {PER_SET} of 4,720 published triplets" in said["bapps", "val"]
    assert "bapps/mix: 4 of about 56,600 published triplets" in said["bapps", "train"]
    assert said["birds16", "judgements"] == "prepare counts the trials"
    assert said["birds16", "images"] == "birds16: 207 of 208 published images"
    assert said["hsj", "images"] == said["hsj", "judgements"] == ""
    shutil.rmtree(some / "birds16" / "birds16_rank2019")
    assert main(command("list", "--json", data=some, root=tmp_path)) == 0
    said = {(row["release"], row["part"]): row["complete"] for row in json.loads(capsys.readouterr().out)}
    assert said["birds16", "images"] == "birds16: 207 of 208 published images"  # by counting files


def test_list_shows_a_damaged_release_and_goes_on(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = tmp_path / "some"
    shutil.copytree(raw / "birds16", some / "birds16")
    (some / "birds16" / "birds16_rank2019" / "stimuli.txt").write_text("?")
    assert main(command("list", "--json", data=some, root=tmp_path)) == 0
    assert "birds16: 0 of 208 published images" in capsys.readouterr().out
