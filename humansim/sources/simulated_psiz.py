"""Small simulated releases of Birds-16 and ImageNet-HSJ in their raw forms: readers run without a network.

Nothing in them is of the real studies but the forms and the kind of names. Pictures are cut from scikit-image's
photographs. A person selects the references that are least dissimilar: images of one class (a species) come from one
photograph, and images of a class are more alike than those of a family, those more than others; mean colour and each
person's noise come on top. So networks that see anything score above chance.

The same arguments write the same bytes, and every form of a study holds the same judgements. A folder takes one form.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from humansim.errors import BadInput

Form: TypeAlias = Literal["json", "hdf5", "hdf5-0-based"]

BIRDS = {  # family -> species -> the photograph that its images are cut from; what looks alike is in one family
    "Cardinalidae": {
        "Blue_Grosbeak": "astronaut.png",
        "Indigo_Bunting": "chelsea.png",
        "Painted_Bunting": "coffee.png",
        "Scarlet_Tanager": "rocket.jpg",
    },
    "Icteridae": {
        "Bobolink": "brick.png",
        "Hooded_Oriole": "grass.png",
        "Orchard_Oriole": "gravel.png",
        "Scott_Oriole": "camera.png",
    },
    "Parulidae": {
        "Canada_Warbler": "hubble_deep_field.jpg",
        "Hooded_Warbler": "ihc.png",
        "Kentucky_Warbler": "moon.png",
        "Magnolia_Warbler": "retina.jpg",
    },
    "Passerellidae": {
        "Fox_Sparrow": "coins.png",
        "Harris_Sparrow": "color.png",
        "Song_Sparrow": "motorcycle_left.png",
        "Vesper_Sparrow": "text.png",
    },
}
SYNSETS = {
    "fish": {
        "n01440764": "astronaut.png",
        "n01443537": "chelsea.png",
        "n01484850": "coffee.png",
        "n01491361": "rocket.jpg",
    },
    "bird": {
        "n01530575": "brick.png",
        "n01531178": "grass.png",
        "n01532829": "gravel.png",
        "n01534433": "camera.png",
    },
    "dog": {
        "n02085620": "hubble_deep_field.jpg",
        "n02085782": "ihc.png",
        "n02085936": "moon.png",
        "n02086079": "retina.jpg",
    },
    "cat": {
        "n02123045": "coins.png",
        "n02123159": "page.png",
        "n02123394": "cell.png",
        "n02123597": "text.png",
    },
    "car": {
        "n02701002": "motorcycle_left.png",
        "n02814533": "motorcycle_right.png",
        "n02930766": "color.png",
        "n03100240": "clock_motion.png",
    },
}
SIZES = (96, 80, 72, 64)  # of an image, in pixels; the largest of which the photograph has enough
FAMILY, CLASS, COLOUR = 0.6, 0.4, 0.8  # what another family, another class and another mean colour add
PERSON = 0.15  # noise of one look at one reference
SEQUENCE = 20  # trials, about
BEGIN = datetime(2016, 7, 27, 22, 51, 47)  # the simulated people's clock


@dataclass(frozen=True)
class _Stimulus:
    family: str
    label: str  # species or synset
    file: str
    colour: NDArray[np.float64]  # mean of the pixels, 0 to 1


@dataclass(frozen=True)
class _Trial:
    query: int
    shown: tuple[int, ...]  # the references as they stand on the screen
    chosen: tuple[int, ...]  # those selected, in order
    milliseconds: int

    @property
    def catch(self) -> bool:
        return self.query in self.shown

    @property
    def grade(self) -> int:
        """-1 if it is no catch trial, else 100 or 0: psiz's lenient grade, by which a copy chosen second is right."""
        return -1 if not self.catch else 100 * (self.query in self.chosen)

    @property
    def chosen_first(self) -> tuple[int, ...]:
        return *self.chosen, *(one for one in self.shown if one not in self.chosen)


@dataclass(frozen=True)
class _Sequence:
    person: int
    name: str  # the person's, in JSON
    trials: tuple[_Trial, ...]


def write_birds16(folder: Path, *, trials: int = 240, form: Form = "json", seed: int = 0) -> None:
    """Writes a Birds-16: 208 images of 16 species in 4 families; trials 8rank2, and 2rank1 for about a third.

    Args:
        folder: gets `images/Bird/<Family>/<Species>/` and, as JSON, `birds16_rank2019/stimuli.txt` and
            `birds16_rank2019/train_seqs/`, else `obs.hdf5` and `catalog.hdf5`.
        trials: all that people answer, catch trials among them.
        form: JSON sequences; HDF5 as psiz 0.6 wrote it; or HDF5 as psiz 0.4.1 did, with ids from 0.
        seed: of the images and the people.
    """
    rng = _started(trials, form, seed)
    stimuli, number = [], 36600
    for family, label, pictures in _pictures(BIRDS, 13, rng):
        views = np.sort(rng.choice(np.arange(1, 61), len(pictures), replace=False))
        for view, pixels in zip(views, pictures, strict=True):
            number += int(rng.integers(1, 30))
            file = f"{label}_{view:04d}_{number}.jpg"
            stimuli.append(_write_image(folder / "images" / "Bird" / family / label, family, label, file, pixels))
    sequences = _answered(stimuli, trials, 1 / 3, rng)
    if form == "json":
        place = folder / "birds16_rank2019"
        rows = [
            (f"/birds_16/{one.family}/{one.label}/{one.file}", one.family, one.label.replace("_", " "))
            for one in stimuli
        ]
        _write_stimuli(place, ("taxonomic_family", "common_name"), rows)
        about = {"project": "rank:Birds16", "stimulus_set": "Birds16", "protocol": "birds-1"}
        for person, answered in _by_person(sequences):
            _write_sequences(place / "train_seqs", "PZ001", about, answered, shuffled=person % 3 == 1)
    else:
        paths = [f"Bird/{one.family}/{one.label}/{one.file}" for one in stimuli]
        _write_hdf5(folder, stimuli, paths, sequences, from_one=form == "hdf5")


def write_hsj(folder: Path, *, trials: int = 240, form: Form = "hdf5", seed: int = 0, flat: bool = False) -> None:
    """Writes an ImageNet-HSJ: 240 images of 20 synsets; trials 8rank2.

    Args:
        folder: gets `images/<synset>/` and, as JSON, `ilsvrc2012_val_hsj/stimuli.txt`, `train_seqs/` and
            `test_seqs/` there, else `obs.hdf5` and `catalog.hdf5`.
        trials: all that people answer, catch trials among them.
        form: JSON sequences; HDF5 as psiz 0.6 wrote it; or HDF5 as psiz 0.4.1 did, with ids from 0.
        seed: of the images and the people.
        flat: whether all images lie in `images/`, as ImageNet's own archive unpacks.
    """
    rng = _started(trials, form, seed)
    numbers = iter(rng.choice(np.arange(1, 50001), 12 * 20, replace=False))
    stimuli = []
    for family, label, pictures in _pictures(SYNSETS, 12, rng):
        for pixels in pictures:
            place = folder / "images" if flat else folder / "images" / label
            file = f"ILSVRC2012_val_{next(numbers):08d}.JPEG"
            # Mirrored: some photographs serve Birds-16 too, and no image is in both.
            stimuli.append(_write_image(place, family, label, file, pixels[:, ::-1]))
    sequences = _answered(stimuli, trials, 0.0, rng)
    if form == "json":
        place = folder / "ilsvrc2012_val_hsj"
        rows = [(f"/ilsvrc_2012_val/{one.label}/{one.file}", one.label) for one in stimuli]
        _write_stimuli(place, ("wordnet_id",), rows)
        about = {"project": "rank:ILSVRC2012-val", "stimulus_set": "ILSVRC2012-val", "protocol": "protocol_0-2.json"}
        for person, answered in _by_person(sequences):
            test = person > 0.7 * sequences[-1].person
            _write_sequences(place / ("test_seqs" if test else "train_seqs"), "PZ004", about, answered, shuffled=test)
    else:
        _write_hdf5(folder, stimuli, [f"{one.label}/{one.file}" for one in stimuli], sequences, from_one=form == "hdf5")


def _started(trials: int, form: Form, seed: int) -> np.random.Generator:
    if trials < 1 or seed < 0 or form not in ("json", "hdf5", "hdf5-0-based"):
        raise BadInput(
            "simulated psiz release: trials go from 1, seed from 0; form is json, hdf5 or hdf5-0-based; "
            f"given {trials}, {seed}, {form}"
        )
    return np.random.default_rng(seed)


# --- images ---


def _pictures(
    families: dict[str, dict[str, str]], count: int, rng: np.random.Generator
) -> list[tuple[str, str, list[NDArray[np.uint8]]]]:
    """Family, label and that many square pieces of the label's photograph; no two pieces overlap."""
    import skimage

    found = []
    for family, labels in families.items():
        for label, file in labels.items():
            with Image.open(Path(skimage.__file__).parent / "data" / file) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            high, wide, _ = pixels.shape
            size = next(size for size in SIZES if (high // size) * (wide // size) >= count)
            corners = [(y, x) for y in range(0, high - size + 1, size) for x in range(0, wide - size + 1, size)]
            pieces = [pixels[y : y + size, x : x + size] for y, x in corners]
            pieces.sort(key=lambda piece: -float(piece.std()))  # sky and walls say nothing
            found.append((family, label, [pieces[i] for i in rng.permutation(count)]))
    return found


def _write_image(place: Path, family: str, label: str, file: str, pixels: NDArray[np.uint8]) -> _Stimulus:
    place.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(place / file, format="JPEG", quality=95)
    return _Stimulus(family, label, file, pixels.mean(axis=(0, 1)) / 255)


# --- people ---


def _answered(stimuli: list[_Stimulus], trials: int, pairs: float, rng: np.random.Generator) -> list[_Sequence]:
    """All sequences, a person's one after the other.

    Some people answer two. The first and the last fail a catch trial each, the first in one of two sequences; where
    people are few, only the first does, or none.

    Args:
        stimuli: what can be shown.
        trials: in all.
        pairs: the share of them that are 2rank1.
        rng: of the people.
    """
    apart, kin = _dissimilarities(stimuli)
    lengths = [len(part) for part in np.array_split(np.arange(trials), max(1, round(trials / SEQUENCE)))]
    twice = len(lengths) // 6
    people = len(lengths) - twice
    names = [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(people)]
    fail = {0, people - 1} if people >= 8 else {0} if people >= 3 else set()
    who = [person for person in range(people) for _ in range(2 if person < twice else 1)]
    sequences = []
    for person, length in zip(who, lengths, strict=True):
        catches = rng.permutation(length) < max(1, length // 10)
        answers = []
        for catch in catches:
            wrong = bool(catch) and person in fail
            if wrong:
                fail.remove(person)
            answers.append(_answer(apart, kin, bool(rng.random() < pairs), bool(catch), wrong, rng))
        sequences.append(_Sequence(person, names[person], tuple(answers)))
    return sequences


def _dissimilarities(stimuli: list[_Stimulus]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Dissimilarity of every two stimuli, and whether they are of one family."""
    family, label = (np.array([getattr(one, name) for one in stimuli]) for name in ("family", "label"))
    kin, alike = family[:, None] == family, label[:, None] == label
    colour = np.stack([one.colour for one in stimuli])
    far: NDArray[np.float64] = np.linalg.norm(colour[:, None] - colour, axis=2)
    apart: NDArray[np.float64] = FAMILY * ~kin + CLASS * ~alike + COLOUR * far
    return apart, kin


def _answer(
    apart: NDArray[np.float64], kin: NDArray[np.bool_], pair: bool, catch: bool, wrong: bool, rng: np.random.Generator
) -> _Trial:
    """One trial: some references are of the query's family, which drawing at random would rarely give."""
    query = int(rng.integers(len(apart)))
    count, select = (2, 1) if pair else (8, 2)
    related = np.argsort(apart[query], kind="stable")[1:25]
    near = rng.choice(related, 1 if pair else 3, replace=False)
    rest = np.setdiff1d(np.arange(len(apart)), [query, *near])
    shown = np.concatenate([near, rng.choice(rest, count - len(near), replace=False)])
    if catch:
        shown[-1] = query
    shown = rng.permutation(shown)
    order = shown[np.argsort(apart[query, shown] + rng.normal(0, PERSON, count), kind="stable")].tolist()
    if catch:
        order.remove(query)
        # Nobody attentive overlooks the copy, but not everybody chooses it first.
        second = not pair and rng.random() < 0.2
        order.insert(count - 1 if wrong else int(second), query)
    milliseconds = round(1500 + rng.lognormal(9.0, 0.5))
    return _Trial(query, tuple(shown.tolist()), tuple(order[:select]), milliseconds)


def _by_person(sequences: list[_Sequence]) -> list[tuple[int, list[tuple[int, _Sequence]]]]:
    people = sorted({one.person for one in sequences})
    return [(who, [(i, one) for i, one in enumerate(sequences) if one.person == who]) for who in people]


# --- JSON ---


def _write_stimuli(place: Path, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    place.mkdir(parents=True, exist_ok=True)
    lines = ["|".join(("local_id", "filepath", *columns))]
    lines += ["|".join((_local_id(stimulus), *row)) for stimulus, row in enumerate(rows)]
    (place / "stimuli.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _write_sequences(
    place: Path, domain: str, about: dict[str, str], answered: list[tuple[int, _Sequence]], *, shuffled: bool
) -> None:
    """One person's file. Releases differ in whether they list the selected references first, and so do these."""
    place.mkdir(parents=True, exist_ok=True)
    data = [_sequence(number, one, domain, about, shuffled) for number, one in answered]
    text = json.dumps({"version": "1.0", "data": data}, indent=4)
    (place / f"seq_{answered[0][1].person:04d}.json").write_text(text, encoding="utf-8", newline="\n")


def _sequence(number: int, one: _Sequence, domain: str, about: dict[str, str], shuffled: bool) -> dict[str, Any]:
    begin = now = BEGIN + timedelta(hours=number)
    steps = []
    for position, trial in enumerate(one.trials):
        now += timedelta(seconds=2)
        steps.append(_timestep(position, trial, domain, now, shuffled))
        now += timedelta(milliseconds=trial.milliseconds)
    if shuffled:  # the later protocols ask in the end how it was
        steps.append(_step(len(steps), "questionnaire:feedback", now, 9000, -1, [_submitted(now)]))
        now += timedelta(milliseconds=9000)
    grades = [trial.grade for trial in one.trials if trial.catch]
    return {
        "sequence_id": number + 7,
        "anonymous_id": one.name,
        "design_id": 2,
        **about,
        "time_begin": _time(begin),
        "time_end": _time(now),
        "n_timestep": len(steps),
        "grade": round(sum(grades) / len(grades)),
        "sequence": steps,
    }


def _timestep(position: int, trial: _Trial, domain: str, begin: datetime, shuffled: bool) -> dict[str, Any]:
    end = begin + timedelta(milliseconds=trial.milliseconds)
    listed = trial.shown if shuffled else trial.chosen_first
    said = [("content:query", trial.query)]
    said += [(f"content:reference_{i}", one) for i, one in enumerate(listed)]
    happened = [_interaction(begin, kind, _asset(domain, one)) for kind, one in said]
    happened += [_interaction(end, f"behavior:rank_{i}", _asset(domain, one)) for i, one in enumerate(trial.chosen)]
    if shuffled:  # the release that does not list them first has these, too
        happened.append(_submitted(end))
    kind = f"rank:{len(trial.shown)}rank{len(trial.chosen)}"
    return _step(position, kind, begin, trial.milliseconds, trial.grade, happened)


def _step(
    position: int, kind: str, begin: datetime, milliseconds: int, grade: int, happened: list[dict[str, str]]
) -> dict[str, Any]:
    return {
        "position": position,
        "kind": kind,
        "time_begin": _time(begin),
        "time_end": _time(begin + timedelta(milliseconds=milliseconds)),
        "response_time_ms": milliseconds,
        "grade_subjective": 100,
        "grade_objective": grade,
        "interactions": happened,
    }


def _interaction(time: datetime, kind: str, detail: str) -> dict[str, str]:
    return {"time_begin": _time(time), "kind": kind, "detail": detail}


def _submitted(time: datetime) -> dict[str, str]:
    return _interaction(time, "behavior:submit_response", "NA")


def _time(time: datetime) -> str:
    return time.isoformat(timespec="seconds")


def _asset(domain: str, stimulus: int) -> str:
    return domain + _local_id(stimulus)


def _local_id(stimulus: int) -> str:
    """From 1, in base 36: the tenth stimulus is 000000A."""
    return f"{np.base_repr(stimulus + 1, 36):0>7}"


# --- HDF5 ---


def _write_hdf5(
    folder: Path, stimuli: list[_Stimulus], paths: list[str], sequences: list[_Sequence], *, from_one: bool
) -> None:
    """`obs.hdf5` and `catalog.hdf5`: ids from 1, padded with 0 (psiz 0.6); else from 0, padded with -1 (psiz 0.4.1)."""
    base, padding = (1, 0) if from_one else (0, -1)
    rows = [(number, one.person, trial) for number, one in enumerate(sequences) for trial in one.trials]
    count = len(rows)
    shown = np.full((count, 1 + max(len(trial.shown) for _, _, trial in rows)), padding, dtype=np.int32)
    for row, (_, _, trial) in enumerate(rows):
        ids = np.array([trial.query, *trial.chosen_first]) + base
        shown[row, : len(ids)] = ids
    observations: dict[str, Any] = {
        "stimulus_set": shown,
        "n_select": np.array([len(trial.chosen) for _, _, trial in rows], dtype=np.int32),
        "is_ranked": np.ones(count, dtype=np.bool_),
        "agent_id": np.array([person for _, person, _ in rows], dtype=np.int32),
        "session_id": np.array([number for number, _, _ in rows], dtype=np.int32),
        "weight": np.ones(count),
        "rt_ms": np.array([float(trial.milliseconds) for _, _, trial in rows]),
    }
    if from_one:
        groups = np.zeros((count, 1), dtype=np.int32)
        observations |= {"class_name": "RankObservations", "groups": groups, "mask_zero": True}
    else:
        group = np.zeros(count, dtype=np.int32)
        observations |= {"trial_type": np.bytes_("RankObservations"), "group_id": group}
    labels = list(dict.fromkeys(one.label for one in stimuli))
    catalog = {
        "stimulus_id": np.arange(len(stimuli)) + base,
        "stimulus_filepath": np.array(paths, dtype=np.bytes_),
        "class_id": np.array([labels.index(one.label) + 1 for one in stimuli]),
        "class_map_class_id": np.arange(len(labels) + 1),
        "class_map_label": np.array(["unknown", *labels], dtype=np.bytes_),  # 0 stands for no class, as in HSJ
    }
    _write_datasets(folder / "obs.hdf5", observations)
    _write_datasets(folder / "catalog.hdf5", catalog)


def _write_datasets(file: Path, datasets: dict[str, Any]) -> None:
    import h5py

    with h5py.File(file, "w") as given:
        for name, value in datasets.items():
            given.create_dataset(name, data=value, track_times=False)  # the time of writing would change the bytes
