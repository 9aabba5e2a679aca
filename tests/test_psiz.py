"""The two forms of psiz releases give the same judgements; catch trials and their rule; what cannot be is refused."""

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humansim.errors import BadInput
from humansim.sources.psiz import BIRDS16, occurrence, read, read_trials, triplets_of
from humansim.sources.psiz_hdf5 import read_catalog, read_observations
from humansim.sources.psiz_json import read_sequences, read_stimuli
from humansim.sources.rankings import Rankings

SHARED = Path(os.environ.get("HUMANSIM_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data")) / "psiz"
SETS = {"2rank1": (3, 1), "8rank2": (9, 2)}
Trial = tuple[list[int], int, int]  # stimuli from 0 (query, selected, others), how many selected, who


def asset(number: int) -> str:
    return "PZ001" + np.base_repr(number + 1, 36).zfill(7)


def sequence(trials: list[Trial], who: int, listed: np.random.Generator, **changes: Any) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        {"position": 0, "kind": "questionnaire:feedback", "grade_objective": -1, "interactions": []}
    ]
    for shown, selected, _ in trials:
        content = [{"kind": "content:query", "detail": asset(shown[0])}]
        # As in the real releases' test sequences, the selected ones are not listed first.
        for i, j in enumerate(listed.permutation(len(shown) - 1)):
            content.append({"kind": f"content:reference_{i}", "detail": asset(shown[1 + j])})
        ranks = range(selected)
        content += [{"kind": f"behavior:rank_{rank}", "detail": asset(shown[1 + rank])} for rank in ranks]
        content.append({"kind": "behavior:submit_response", "detail": ""})
        kind = f"rank:{len(shown) - 1}rank{selected}"
        steps.append({"position": len(steps), "kind": kind, "grade_objective": -1, "interactions": content})
    whole = {"sequence_id": who, "anonymous_id": f"person {who}", "time_begin": str(who), "grade": 100}
    return {**whole, "sequence": steps, **changes}


def write_json(folder: Path, trials: list[Trial], stimuli: int = 40) -> Path:
    (folder / "train_seqs").mkdir(parents=True)
    lines = [f"{np.base_repr(i + 1, 36).zfill(7)}|/birds_16/F/S/{i:03d}.jpg|F|S" for i in range(stimuli)]
    (folder / "stimuli.txt").write_text("\n".join(["local_id|filepath|taxonomic_family|common_name", *lines]))
    listed = np.random.default_rng(0)
    people = sorted({who for _, _, who in trials})
    data = [sequence([t for t in trials if t[2] == who], who, listed) for who in people]
    (folder / "train_seqs" / "seq_a.json").write_text(json.dumps({"version": "0.2", "data": data}))
    return folder


def write_hdf5(folder: Path, trials: list[Trial], base: int, stimuli: int = 40, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table = np.full((len(trials), 9), base - 1, dtype=np.int32)
    table[:, :] = 0 if base else -1
    for i, (shown, _, _) in enumerate(trials):
        table[i, : len(shown)] = np.array(shown) + base
    with h5py.File(folder / "obs.hdf5", "w") as file:
        columns: dict[str, Any] = {
            "stimulus_set": table,
            "n_select": np.array([selected for _, selected, _ in trials], dtype=np.int32),
            "agent_id": np.array([who for _, _, who in trials], dtype=np.int32),
            "is_ranked": np.ones(len(trials), dtype=bool),
            "class_name" if base else "trial_type": np.bytes_("RankObservations"),
        } | ({"mask_zero": True} if base else {})
        for name, value in (columns | changes).items():
            if value is not None:
                file[name] = value
    with h5py.File(folder / "catalog.hdf5", "w") as file:
        file["stimulus_id"] = np.arange(stimuli)[::-1] + base  # rows need sorting
        file["stimulus_filepath"] = np.array([f"Bird/F/S/{i:03d}.jpg" for i in range(stimuli)][::-1], dtype="S")
    return folder


@st.composite
def trials_of(draw: st.DrawFn, most: int = 12) -> list[Trial]:
    """Trials of both kinds by a few people, some of them catch trials, some of these failed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found: list[Trial] = []
    for _ in range(draw(st.integers(2, most))):
        width, selected = SETS[draw(st.sampled_from(sorted(SETS)))]
        shown = rng.permutation(40)[:width].tolist()
        if draw(st.integers(0, 3)) == 0:
            shown[0] = shown[draw(st.integers(1, width - 1))]
        # HDF5 does not keep the order of those that were not selected
        found.append(([*shown[: 1 + selected], *sorted(shown[1 + selected :])], selected, draw(st.integers(0, 3))))
    return sorted(found, key=lambda trial: trial[2])


@settings(deadline=None, max_examples=40)
@given(trials_of())
def test_all_three_forms_give_the_same_judgements(tmp_path_factory: pytest.TempPathFactory, trials: list) -> None:
    folder = tmp_path_factory.mktemp("forms")
    write_json(folder / "json", trials)
    forms = [read_trials(folder / "json")]
    forms += [read_trials(write_hdf5(folder / str(base), trials, base)) for base in (0, 1)]
    rankings, names = zip(*forms, strict=True)
    assert names[0] == names[1] == names[2] == [f"F/S/{i:03d}.jpg" for i in range(40)]
    width = max(len(shown) for shown, _, _ in trials) - 1
    for one in rankings:
        assert one.query.tolist() == [shown[0] for shown, _, _ in trials]
        assert [r[r >= 0].tolist() for r in one.references] == [shown[1:] for shown, _, _ in trials]
        assert (one.references[:, :width] == rankings[0].references[:, :width]).all()
        assert one.selected.tolist() == [selected for _, selected, _ in trials]
        assert len(np.unique(one.judge)) == len({who for _, _, who in trials})
        assert one.catch.tolist() == [shown[0] in shown[1:] for shown, _, _ in trials]
        assert one.attentive.tolist() == rankings[0].attentive.tolist()
        ours, theirs = triplets_of(one, BIRDS16), triplets_of(rankings[0], BIRDS16)
        assert (ours.images == theirs.images).all()
        assert (ours.choice == theirs.choice).all()
        assert (ours.others == theirs.others).all()


@settings(deadline=None, max_examples=60)
@given(trials_of(60), st.integers(0, 5))
def test_triplets_are_those_of_the_thesis(trials: list[Trial], seed: int) -> None:
    references = np.full((len(trials), 8), -1)
    for i, (shown, _, _) in enumerate(trials):
        references[i, : len(shown) - 1] = shown[1:]
    column = [np.array([trial[i] for trial in trials]) for i in (1, 2)]
    given = Rankings(np.array([t[0][0] for t in trials]), references, column[0], column[1])
    failed = {who for shown, n, who in trials if shown[0] in shown[1:] and shown[0] not in shown[1 : 1 + n]}
    counting = [i for i, (shown, _, who) in enumerate(trials) if who not in failed and shown[0] not in shown[1:]]
    assert np.flatnonzero(given.attentive).tolist() == counting
    triplets = triplets_of(given, BIRDS16, seed)
    for row in range(len(triplets)):
        shown, _, who = trials[triplets.trial[row]]
        name = BIRDS16[triplets.set[row]]
        left, right, choice = triplets.left[row], triplets.right[row], triplets.choice[row]
        near, far = (right, left) if choice == 1 else (left, right)
        assert choice in (0, 1)
        assert (triplets.query[row], near, triplets.judge[row]) == (shown[0], shown[1], who)
        assert len({shown[0], near, far}) == 3
        others = triplets.others[row][triplets.others[row] >= 0].tolist()
        if name.endswith("similar") and "dis" not in name:
            assert (far, others) == (shown[2], shown[3:])
        elif "8rank2" in name:
            assert far in shown[3:]
            assert sorted([*others, far]) == sorted(shown[3:])
        else:
            assert (far, others) == (shown[2], [])
    kinds = [sum(trials[i][1] == n for i in counting) for n in (2, 2, 1)]
    assert np.bincount(triplets.set, minlength=3).tolist() == kinds
    again = triplets_of(given, BIRDS16, seed)
    assert (again.images == triplets.images).all()


def test_sides_and_random_images_are_drawn_evenly() -> None:
    rng = np.random.default_rng(0)
    shown = np.stack([rng.permutation(200)[:9] for _ in range(3000)])
    given = Rankings(shown[:, 0], shown[:, 1:], np.full(3000, 2), np.zeros(3000, dtype=np.int64))
    triplets = triplets_of(given, BIRDS16)
    dissimilar = triplets[triplets.set == 1]
    assert abs(dissimilar.choice.mean() - 0.5) < 0.04
    far = np.where(dissimilar.choice == 1, dissimilar.left, dissimilar.right)
    place = (shown[:, 3:] == far[:, None]).argmax(axis=1)
    assert (np.abs(np.bincount(place, minlength=6) - 500) < 100).all()


def test_a_trial_shown_again_is_drawn_for_anew() -> None:
    assert occurrence(np.array([1, 2, 1, 1, 2]), np.array([5, 5, 5, 6, 5])).tolist() == [0, 0, 1, 0, 1]
    shown = np.tile(np.arange(9), (400, 1))
    given = Rankings(shown[:, 0], shown[:, 1:], np.full(400, 2), np.full(400, -1))
    triplets = triplets_of(given, BIRDS16)
    assert 0.4 < triplets.choice[triplets.set == 1].mean() < 0.6


def test_people_who_failed_by_their_grade_are_left_out(tmp_path: Path) -> None:
    trials: list[Trial] = [([0, 1, 2], 1, 0), ([3, 4, 5], 1, 1)]
    write_json(tmp_path, trials)
    file = tmp_path / "train_seqs" / "seq_a.json"
    document = json.loads(file.read_text())
    document["data"][0]["grade"] = 67
    file.write_text(json.dumps(document))
    assert read_sequences(tmp_path).attentive.tolist() == [False, True]


def test_a_trial_that_was_never_answered_is_no_trial(tmp_path: Path) -> None:
    write_json(tmp_path, [([0, 1, 2], 1, 0), ([3, 4, 5], 1, 0)])
    file = tmp_path / "train_seqs" / "seq_a.json"
    document = json.loads(file.read_text())
    step = document["data"][0]["sequence"][1]
    step["interactions"] = [one for one in step["interactions"] if not one["kind"].startswith("behavior")]
    file.write_text(json.dumps(document))
    assert read_sequences(tmp_path).query.tolist() == [3]


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real psiz files here (HUMANSIM_SHARED_DATA)")
def test_the_real_birds_are_the_same_from_json_and_hdf5() -> None:
    one = read_sequences(SHARED / "birds16_rank2019")
    names, base = read_catalog(SHARED / "hdf5" / "birds16_rank2019_catalog_v0.6.0.hdf5")
    two = read_observations(SHARED / "hdf5" / "birds16_rank2019_obs_v0.6.0.hdf5", base)
    assert (len(names), base) == (208, 1)
    for form in (one, two):
        assert (len(form), int(form.catch.sum()), int(form.right.sum())) == (60, 6, 6)
        assert form.of_kind("8rank2").all()
        assert form.attentive.sum() == 54
    assert (one.query == two.query).all()
    assert (one.references == two.references).all()
    ours, theirs = triplets_of(one, BIRDS16), triplets_of(two, BIRDS16)
    assert np.bincount(ours.set, minlength=3).tolist() == [54, 54, 0]
    for column in ("images", "choice", "set", "trial", "others"):
        assert (getattr(ours, column) == getattr(theirs, column)).all()
    assert read_stimuli(SHARED / "birds16_rank2019" / "stimuli.txt") == names[:10]  # ids in base 36: the tenth is A


# --- what cannot be ---

FINE: list[Trial] = [(list(range(9)), 2, 0), ([9, 10, 11], 1, 0), (list(range(12, 21)), 2, 1)]


def step_of(document: dict[str, Any]) -> dict[str, Any]:
    return document["data"][0]["sequence"][1]


SPOILED_JSON = {
    "no data": (lambda d: d.pop("data"), "'data' is missing"),
    "data no list": (lambda d: d.update(data=3), "not a list"),
    "no person": (lambda d: d["data"][0].pop("anonymous_id"), r"data\[0\]: 'anonymous_id' is missing"),
    "no grade": (lambda d: d["data"][0].pop("grade"), "'grade' is missing"),
    "twice": (lambda d: d["data"].append(d["data"][0]), "the same sequence"),
    "unknown kind": (lambda d: step_of(d).update(kind="rank:9rank3"), "rank:9rank3.*not known"),
    "no query": (lambda d: step_of(d)["interactions"].pop(0), r"sequence\[1\].*content:query"),
    "too few": (lambda d: step_of(d)["interactions"].pop(1), "shows 8 different references"),
    "rank gone": (lambda d: step_of(d)["interactions"].pop(9), "ranks 0 to 1"),
    "not shown": (lambda d: step_of(d)["interactions"][9].update(detail=asset(39)), "not among those"),
    "no asset": (lambda d: step_of(d)["interactions"][0].update(detail="?"), "is not an asset id"),
    "id 0": (lambda d: step_of(d)["interactions"][0].update(detail="PZ0010000000"), "numbers start at 1"),
    "out of range": (lambda d: step_of(d)["interactions"][0].update(detail=asset(40)), "stimulus 41 does not exist"),
}


@pytest.mark.parametrize("name", SPOILED_JSON)
def test_a_spoiled_sequence_is_one_clear_error(tmp_path: Path, name: str) -> None:
    spoil, message = SPOILED_JSON[name]
    file = write_json(tmp_path, FINE) / "train_seqs" / "seq_a.json"
    document = json.loads(file.read_text())
    spoil(document)
    file.write_text(json.dumps(document))
    with pytest.raises(BadInput, match=message) as caught:
        read(tmp_path, BIRDS16)
    assert "seq_a.json" in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_sequence_file_is_named(tmp_path: Path, share: float) -> None:
    file = write_json(tmp_path, FINE) / "train_seqs" / "seq_a.json"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(BadInput, match=r"seq_a\.json: cannot be read as psiz sequences"):
        read(tmp_path, BIRDS16)


def table(base: int) -> np.ndarray:
    rows = np.full((3, 9), 0 if base else -1, dtype=np.int32)
    for i, (shown, _, _) in enumerate(FINE):
        rows[i, : len(shown)] = np.array(shown) + base
    return rows


def spoiled(base: int, row: int, column: int, value: int) -> np.ndarray:
    rows = table(base)
    rows[row, column] = value
    return rows


SPOILED_HDF5 = {
    "no stimuli": (1, {"stimulus_set": None}, "'stimulus_set' is missing"),
    "no selection": (1, {"n_select": None}, "'n_select' is missing"),
    "one dimension": (1, {"stimulus_set": np.arange(3)}, "a table of whole numbers"),
    "floats": (1, {"stimulus_set": table(1).astype(float)}, "a table of whole numbers"),
    "too few selections": (1, {"n_select": np.array([2, 1])}, "for each of 3 trials"),
    "selects all": (1, {"n_select": np.array([8, 1, 2])}, "row 0: n_select: 8 of 8"),
    "selects none": (1, {"n_select": np.array([0, 1, 2])}, "row 0: n_select: 0 of 8"),
    "mixed bases": (1, {"stimulus_set": spoiled(1, 1, 8, -1)}, "row 1 .* mixed bases"),
    "below": (0, {"stimulus_set": spoiled(0, 1, 8, -2)}, "row 1 .* mixed bases"),
    "hole": (1, {"stimulus_set": spoiled(1, 0, 4, 0)}, "row 0 .*padding stands before"),
    "twice": (1, {"stimulus_set": spoiled(1, 0, 4, 4)}, "row 0 .*a reference is there twice"),
    "out of range": (1, {"stimulus_set": spoiled(1, 0, 4, 41)}, "row 0: stimulus 41 does not exist"),
}


@pytest.mark.parametrize("name", SPOILED_HDF5)
def test_a_spoiled_table_is_one_clear_error(tmp_path: Path, name: str) -> None:
    base, changes, message = SPOILED_HDF5[name]
    write_hdf5(tmp_path, FINE, base, **changes)
    with pytest.raises(BadInput, match=message) as caught:
        read(tmp_path, BIRDS16)
    assert "obs.hdf5" in str(caught.value)


@pytest.mark.parametrize("name", ["obs.hdf5", "catalog.hdf5"])
def test_a_truncated_hdf5_file_is_named(tmp_path: Path, name: str) -> None:
    file = write_hdf5(tmp_path, FINE, 1) / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(BadInput, match=rf"{name}: cannot be read as HDF5"):
        read(tmp_path, BIRDS16)


def test_files_of_two_generations_do_not_go_together(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "old", FINE, 0)
    write_hdf5(tmp_path / "new", FINE, 1)
    (tmp_path / "new" / "obs.hdf5").replace(tmp_path / "old" / "obs.hdf5")
    with pytest.raises(BadInput, match="not of the same generation"):
        read(tmp_path / "old", BIRDS16)


SPOILED_STIMULI = {
    "header": ("id|file\n1|a.jpg", "line 1: expected the columns"),
    "number": ("local_id|filepath\n?|a.jpg", "line 2: .* is not a stimulus"),
    "zero": ("local_id|filepath\n0|a.jpg", "line 2: .* is not a stimulus"),
    "fields": ("local_id|filepath\n1|a.jpg|x", "line 2: .* is not a stimulus"),
    "twice": ("local_id|filepath\n1|a.jpg\n1|b.jpg", "line 3: stimulus 1 is there twice"),
    "gap": ("local_id|filepath\n1|a.jpg\n3|b.jpg", "stimulus 2 is missing"),
    "same file": ("local_id|filepath\n1|a.jpg\n2|a.jpg", "the file of two stimuli"),
    "outside": ("local_id|filepath\n1|../a.jpg", "line 2: .*not a path inside"),
    "empty": ("", "line 1"),
}


@pytest.mark.parametrize("name", SPOILED_STIMULI)
def test_a_spoiled_list_of_stimuli_is_one_clear_error(tmp_path: Path, name: str) -> None:
    text, message = SPOILED_STIMULI[name]
    file = tmp_path / "stimuli.txt"
    file.write_text(text)
    with pytest.raises(BadInput, match=message):
        read_stimuli(file)


def test_missing_images_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    write_json(tmp_path, FINE)
    with pytest.raises(BadInput, match=r"image F/S/000\.jpg is missing, and 20 more of 21"):
        read(tmp_path, BIRDS16)


@pytest.mark.parametrize("layout", ["images/Bird/F/S", "images/F/S", "images", "F/S", "img/any/F/S"])
def test_images_are_found_however_they_were_unpacked(tmp_path: Path, layout: str) -> None:
    write_json(tmp_path, FINE)
    (tmp_path / layout).mkdir(parents=True, exist_ok=True)
    for i in range(40):
        (tmp_path / layout / f"{i:03d}.jpg").touch()
    found = read(tmp_path, BIRDS16)
    assert found.images == tuple(f"F/S/{i:03d}.jpg" for i in range(21))
    assert found.paths == tuple(tmp_path / layout / f"{i:03d}.jpg" for i in range(21))


def test_nothing_or_both_forms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder; humansim data fetch"):
        read(tmp_path / "nowhere", BIRDS16)
    with pytest.raises(BadInput, match="found neither"):
        read(tmp_path, BIRDS16)
    write_json(tmp_path / "a", FINE)
    write_hdf5(tmp_path / "b", FINE, 1)
    with pytest.raises(BadInput, match=r"stimuli\.txt.*obs\.hdf5"):
        read(tmp_path, BIRDS16)
