"""The simulated releases have the forms of the real ones, the same judgements in each form, and the same bytes."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import h5py
import numpy as np
import pytest
from PIL import Image

from humansim.errors import BadInput
from humansim.sources.simulated_bapps import TRAIN, VAL, write_bapps
from humansim.sources.simulated_psiz import BIRDS, SYNSETS, Form, write_birds16, write_hsj

FORMS = get_args(Form)
STUDIES = {"birds16": write_birds16, "hsj": write_hsj}
JSON = {"birds16": "birds16_rank2019", "hsj": "ilsvrc2012_val_hsj"}

Trials = list[tuple[object, int, tuple[int, ...], tuple[int, ...]]]  # person, query, selected in order, others sorted


@pytest.fixture(scope="module")
def bapps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bapps")
    write_bapps(folder, per_set=12, train=30, seed=3)
    return folder


@pytest.fixture(scope="module")
def psiz(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    folders = {}
    for study, write in STUDIES.items():
        for form in FORMS:
            folders[study, form] = tmp_path_factory.mktemp(f"{study}-{form}")
            write(folders[study, form], form=form)
    return folders


def sequences(folder: Path, study: str) -> list[dict]:
    files = sorted((folder / JSON[study]).glob("*_seqs/*.json"), key=lambda file: file.name)
    return [one for file in files for one in json.loads(file.read_text())["data"]]


def details(step: dict, kind: str) -> list[int]:
    found = [one["detail"] for one in step["interactions"] if one["kind"].startswith(kind)]
    return [int(detail[5:], 36) - 1 for detail in found]


def from_json(folder: Path, study: str) -> Trials:
    people: dict[str, int] = {}
    found: Trials = []
    for sequence in sequences(folder, study):
        person = people.setdefault(sequence["anonymous_id"], len(people))
        for step in sequence["sequence"]:
            if step["kind"].startswith("rank:"):
                (query,), shown = details(step, "content:query"), details(step, "content:reference_")
                chosen = details(step, "behavior:rank_")
                found.append((person, query, tuple(chosen), tuple(sorted(set(shown) - set(chosen)))))
    return found


def from_hdf5(folder: Path) -> Trials:
    found: Trials = []
    with h5py.File(folder / "obs.hdf5") as given:
        from_one = "mask_zero" in given
        rows = given["stimulus_set"][()] - int(from_one)
        for row, select, person in zip(rows.tolist(), given["n_select"][()], given["agent_id"][()], strict=True):
            query, *references = [one for one in row if one >= 0]
            found.append((person, query, tuple(references[:select]), tuple(sorted(references[select:]))))
    return found


def decoded(psiz: dict[tuple[str, str], Path], study: str, form: str) -> Trials:
    return from_json(psiz[study, form], study) if form == "json" else from_hdf5(psiz[study, form])


def failed(trials: Trials) -> list[tuple[object, int]]:
    """Persons and kinds of catch trials in which the copy was not selected."""
    return [(person, len(chosen)) for person, query, chosen, others in trials if query in others]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# --- BAPPS ---


def test_bapps_has_the_release_s_folders_and_files(bapps: Path) -> None:
    for part, sets, count in (("val", VAL, 12), ("train", TRAIN, 30)):
        assert {place.name for place in (bapps / "2afc" / part).iterdir()} == set(sets)
        for name in sets:
            for which, suffix in (("ref", "png"), ("p0", "png"), ("p1", "png"), ("judge", "npy")):
                files = sorted(file.name for file in (bapps / "2afc" / part / name / which).iterdir())
                assert files == [f"{number:06d}.{suffix}" for number in range(count)]
    with Image.open(bapps / "2afc/val/color/p1/000003.png") as picture:
        assert (picture.size, picture.mode) == ((64, 64), "RGB")


def test_bapps_judges_are_five_in_val_and_two_in_train_where_they_tie(bapps: Path) -> None:
    for part, judges in (("val", 5), ("train", 2)):
        votes = [np.load(file) for file in (bapps / "2afc" / part).glob("*/judge/*.npy")]
        assert {(vote.shape, vote.dtype.name) for vote in votes} == {((1,), "float32")}
        counts = np.concatenate(votes).astype(float) * judges
        assert np.allclose(counts, counts.round(), atol=1e-6)
        assert set(counts.round().astype(int).tolist()) == set(range(judges + 1))


def test_bapps_never_shows_a_patch_twice(bapps: Path) -> None:
    patches = [file.read_bytes() for file in bapps.glob("2afc/*/*/ref/*.png")]
    assert len(set(patches)) == len(patches) == 12 * len(VAL) + 30 * len(TRAIN)


def test_bapps_judges_prefer_what_differs_less_from_the_reference(tmp_path: Path) -> None:
    write_bapps(tmp_path, per_set=40)
    place, agree = tmp_path / "2afc/val/color", []
    for number in range(40):
        ref, p0, p1 = (
            np.asarray(Image.open(place / which / f"{number:06d}.png"), dtype=float) for which in ("ref", "p0", "p1")
        )
        share = np.load(place / "judge" / f"{number:06d}.npy")[0]
        agree.append(share if abs(p1 - ref).mean() < abs(p0 - ref).mean() else 1 - share)
    assert np.mean(agree) > 0.65


def test_bapps_has_no_more_triplets_than_patches(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="1200 triplets need 1200 patches"):
        write_bapps(tmp_path, per_set=200)
    assert not list(tmp_path.iterdir())


# --- psiz ---


def test_birds16_has_208_images_of_16_species(psiz: dict[tuple[str, str], Path]) -> None:
    folder = psiz["birds16", "json"]
    lines = (folder / "birds16_rank2019/stimuli.txt").read_text().splitlines()
    assert lines[0] == "local_id|filepath|taxonomic_family|common_name"
    rows = [line.split("|") for line in lines[1:]]
    assert [int(row[0], 36) for row in rows] == list(range(1, 209))
    assert rows[9][0] == "000000A"
    assert {row[2] for row in rows} == set(BIRDS)
    assert len({row[3] for row in rows}) == 16
    files = [folder / "images/Bird" / row[1].removeprefix("/birds_16/") for row in rows]
    assert sorted(files) == sorted((folder / "images").rglob("*.jpg"))
    for file in files:
        with Image.open(file) as picture:
            assert picture.format == "JPEG"
            assert 64 <= picture.width == picture.height <= 96
    assert len({file.read_bytes() for file in files}) == 208


@pytest.mark.parametrize("flat", [False, True])
def test_hsj_has_12_images_of_each_of_20_synsets_by_class_or_flat(tmp_path: Path, flat: bool) -> None:
    write_hsj(tmp_path, trials=20, form="json", flat=flat)
    rows = [line.split("|") for line in (tmp_path / "ilsvrc2012_val_hsj/stimuli.txt").read_text().splitlines()]
    assert rows[0] == ["local_id", "filepath", "wordnet_id"]
    assert {row[2] for row in rows[1:]} == {label for labels in SYNSETS.values() for label in labels}
    names = [row[1].removeprefix("/ilsvrc_2012_val/") for row in rows[1:]]
    files = [tmp_path / "images" / (Path(name).name if flat else name) for name in names]
    assert len(files) == 240
    assert sorted(files) == sorted((tmp_path / "images").rglob("*.JPEG"))


@pytest.mark.parametrize("study", STUDIES)
def test_all_forms_hold_the_same_judgements_and_images(psiz: dict[tuple[str, str], Path], study: str) -> None:
    trials = decoded(psiz, study, "json")
    assert len(trials) == 240
    assert len({person for person, *_ in trials}) == 10
    images = {name: file for name, file in contents(psiz[study, "json"]).items() if name.startswith("images/")}
    for form in ("hdf5", "hdf5-0-based"):
        assert decoded(psiz, study, form) == trials
        assert {n: f for n, f in contents(psiz[study, form]).items() if n.startswith("images/")} == images


def test_birds16_has_both_kinds_of_trials_and_hsj_one(psiz: dict[tuple[str, str], Path]) -> None:
    kinds = {
        study: [(len(chosen) + len(others), len(chosen)) for _, _, chosen, others in decoded(psiz, study, "json")]
        for study in STUDIES
    }
    assert set(kinds["birds16"]) == {(8, 2), (2, 1)}
    assert 60 <= kinds["birds16"].count((2, 1)) <= 100
    assert set(kinds["hsj"]) == {(8, 2)}


@pytest.mark.parametrize("study", STUDIES)
def test_references_are_different_and_the_query_only_in_catch_trials(
    psiz: dict[tuple[str, str], Path], study: str
) -> None:
    trials = decoded(psiz, study, "hdf5")
    catch = [query in (*chosen, *others) for _, query, chosen, others in trials]
    assert sum(catch) == 24
    for _, _, chosen, others in trials:
        assert len({*chosen, *others}) in (2, 8)
    seconds = [chosen for _, query, chosen, _ in trials if chosen[1:] == (query,)]
    assert seconds  # right by psiz's lenient grade, not by its strict one


@pytest.mark.parametrize("study", STUDIES)
def test_two_people_fail_a_catch_trial_and_their_grades_say_so(psiz: dict[tuple[str, str], Path], study: str) -> None:
    assert {person for person, _ in failed(decoded(psiz, study, "json"))} == {0, 9}
    assert len(failed(decoded(psiz, study, "json"))) == 2
    grades: dict[str, list[int]] = {}
    for sequence in sequences(psiz[study, "json"], study):
        grades.setdefault(sequence["anonymous_id"], []).append(sequence["grade"])
        for step in sequence["sequence"]:
            copies = set(details(step, "content:query")) if step["kind"].startswith("rank:") else set()
            shown, chosen = (set(details(step, kind)) for kind in ("content:reference_", "behavior:rank_"))
            assert step["grade_objective"] == (100 * bool(copies & chosen) if copies & shown else -1)
        steps = [step["grade_objective"] for step in sequence["sequence"] if step["grade_objective"] >= 0]
        assert sequence["grade"] == round(sum(steps) / len(steps))
    # The first person's second sequence is blameless: only all of a person's sequences tell.
    assert list(grades.values()) == [[50, 100], [100, 100], *[[100]] * 7, [50]]


@pytest.mark.parametrize("study", STUDIES)
def test_some_json_sequences_list_the_selected_references_first_and_others_do_not(
    psiz: dict[tuple[str, str], Path], study: str
) -> None:
    first, feedback = [], []
    for sequence in sequences(psiz[study, "json"], study):
        steps = [step for step in sequence["sequence"] if step["kind"].startswith("rank:")]
        firsts = []
        for step in steps:
            chosen = details(step, "behavior:rank_")
            firsts.append(details(step, "content:reference_")[: len(chosen)] == chosen)
        first.append(all(firsts))
        assert all(firsts) or sum(firsts) < len(firsts) / 2
        feedback.append([step["kind"] for step in sequence["sequence"]].count("questionnaire:feedback"))
        assert [step["position"] for step in sequence["sequence"]] == list(range(sequence["n_timestep"]))
    assert 0 < sum(first) < len(first)
    assert set(feedback) == {0, 1}
    folders = {place.name for place in (psiz[study, "json"] / JSON[study]).glob("*_seqs")}
    assert folders == ({"train_seqs", "test_seqs"} if study == "hsj" else {"train_seqs"})


def test_json_has_the_keys_and_asset_ids_of_the_release(psiz: dict[tuple[str, str], Path]) -> None:
    for study, domain in (("birds16", "PZ001"), ("hsj", "PZ004")):
        sequence = sequences(psiz[study, "json"], study)[0]
        assert " ".join(sequence) == (
            "sequence_id anonymous_id design_id project stimulus_set protocol time_begin time_end n_timestep grade "
            "sequence"
        )
        step = sequence["sequence"][0]
        assert " ".join(step) == (
            "position kind time_begin time_end response_time_ms grade_subjective grade_objective interactions"
        )
        assert " ".join(step["interactions"][0]) == "time_begin kind detail"
        asset = step["interactions"][0]["detail"]
        assert asset.startswith(domain)
        assert len(asset) == 12


@pytest.mark.parametrize("study", STUDIES)
def test_hdf5_has_the_keys_types_and_ids_of_both_generations(psiz: dict[tuple[str, str], Path], study: str) -> None:
    common = {"stimulus_set", "n_select", "is_ranked", "agent_id", "session_id", "weight", "rt_ms"}
    padded = study == "birds16"
    for form, base, own in (
        ("hdf5", 1, {"class_name", "groups", "mask_zero"}),
        ("hdf5-0-based", 0, {"trial_type", "group_id"}),
    ):
        with h5py.File(psiz[study, form] / "obs.hdf5") as given:
            assert set(given) == common | own
            shown = given["stimulus_set"][()]
            assert (shown.shape, shown.dtype.name) == ((240, 9), "int32")
            assert shown.min() >= (base - 1 if padded else base)
            assert (shown == base - 1).any() == padded
            assert given["class_name" if base else "trial_type"][()] == b"RankObservations"
            assert given["groups"].shape == (240, 1) if base else given["group_id"].shape == (240,)
            if base:
                assert bool(given["mask_zero"][()]) is True
        with h5py.File(psiz[study, form] / "catalog.hdf5") as given:
            ids, paths = given["stimulus_id"][()].tolist(), given["stimulus_filepath"][()]
            assert ids == list(range(base, base + len(paths)))
            assert paths.dtype.kind == "S"
            assert all((psiz[study, form] / "images" / path.decode()).is_file() for path in paths)
            label = dict(zip(given["class_map_class_id"][()], given["class_map_label"][()], strict=True))
            for path, number in zip(paths, given["class_id"][()], strict=True):
                assert path.split(b"/")[-2] == label[number]


@pytest.mark.parametrize("study", STUDIES)
def test_people_choose_what_looks_alike(psiz: dict[tuple[str, str], Path], study: str) -> None:
    folder = psiz[study, "hdf5"]
    with h5py.File(folder / "catalog.hdf5") as given:
        files = [folder / "images" / path.decode() for path in given["stimulus_filepath"][()]]
    colour = np.stack([np.asarray(Image.open(file), dtype=float).mean(axis=(0, 1)) for file in files])
    label = [file.parent.name for file in files]
    near, same, unchosen = [], [], []
    for _, query, chosen, others in decoded(psiz, study, "hdf5"):
        if query not in (*chosen, *others):
            apart = [np.linalg.norm(colour[query] - colour[one]) for one in (chosen[0], others[0])]
            near.append(apart[0] < apart[1])
            same.append(label[query] == label[chosen[0]])
            unchosen += [label[query] == label[one] for one in others]
    assert np.mean(near) > 0.6  # what even mean colour sees
    assert np.mean(same) > 3 * np.mean(unchosen)


# --- all ---


@pytest.mark.parametrize("trials", [1, 2, 7, 39, 130])
def test_small_releases_have_as_many_trials_as_asked_for(tmp_path: Path, trials: int) -> None:
    write_birds16(tmp_path, trials=trials)
    found = from_json(tmp_path, "birds16")
    assert len(found) == trials
    assert len(failed(found)) == (1 if trials == 130 else 0)


@pytest.mark.parametrize("wrong", [{"trials": 0}, {"seed": -1}, {"form": "yaml"}])
@pytest.mark.parametrize("write", STUDIES.values())
def test_what_cannot_be_written_is_bad_input(tmp_path: Path, write: Callable, wrong: dict) -> None:
    with pytest.raises(BadInput, match=f"{next(iter(wrong))}"):
        write(tmp_path, **wrong)
    assert not list(tmp_path.iterdir())


def test_the_same_arguments_write_the_same_bytes_and_another_seed_others(
    tmp_path: Path, bapps: Path, psiz: dict[tuple[str, str], Path]
) -> None:
    time.sleep(1.1)  # were there times of writing in a file, they would be whole seconds
    write_bapps(tmp_path / "bapps", per_set=12, train=30, seed=3)
    assert contents(tmp_path / "bapps") == contents(bapps)
    for (study, form), folder in psiz.items():
        STUDIES[study](tmp_path / study / form, form=form)
        assert contents(tmp_path / study / form) == contents(folder)
    write_birds16(tmp_path / "other", form="hdf5", seed=1)
    assert from_hdf5(tmp_path / "other") != decoded(psiz, "birds16", "hdf5")


def test_all_three_are_written_in_a_few_seconds(tmp_path: Path) -> None:
    start = time.process_time()
    write_bapps(tmp_path / "bapps")
    write_birds16(tmp_path / "birds16")
    write_hsj(tmp_path / "hsj")
    assert time.process_time() - start < 8
