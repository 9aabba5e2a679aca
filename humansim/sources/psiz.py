"""Birds-16 and ImageNet-HSJ as psiz releases them: JSON sequences, and HDF5 of both generations.

A psiz trial shows a query and references, of which the person selects the most similar in order: 2 of 8 (8rank2) or
1 of 2 (2rank1). From the folder of a release, `read` makes the evaluation sets of the thesis (4.2):

- `8rank2_similar`: the first choice against the second;
- `8rank2_dissimilar`: the first choice against a random one of the six not chosen;
- `2rank1_dissimilar`: the choice against the other (Birds-16 only).

A catch trial shows the query among its references: selecting the copy is right. People who failed one are left out,
and so are the catch trials (thesis, 4.2; psiz 0.4.1, `preprocess.py`, lenient grade, threshold 1).

On disk, inside the release's folder (at any depth where it says so):

    stimuli.txt and train_seqs/*.json, test_seqs/*.json     the JSON release, in any one subfolder; or
    obs.hdf5 and catalog.hdf5                               the HDF5 one (any names that hold "obs" and "catalog")
    images/                                                 the image files, by class or flat
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from humansim.errors import BadInput
from humansim.judgements import Count, Ints, Judgements, Triplets, mixed, text_key
from humansim.root import Root
from humansim.sources import source

KINDS = {"8rank2": (8, 2), "2rank1": (2, 1)}
BIRDS16 = ("birds16/8rank2_similar", "birds16/8rank2_dissimilar", "birds16/2rank1_dissimilar")
HSJ = ("hsj/8rank2_similar", "hsj/8rank2_dissimilar")
PUBLISHED = {"birds16": {"trials": 16_292, "images": 208}, "hsj": {"trials": 384_277, "images": 50_000}}


@dataclass(frozen=True)
class Rankings:
    """psiz trials as people answered them, whichever form they were released in.

    Attributes:
        query: stimulus of each trial [n], counted from 0.
        references: [n, m]; the selected ones in the order of choice, then the others by number; -1 where none.
        selected: how many were selected [n].
        judge: who answered [n]; -1 where unknown.
        failed: people whose release says that they failed, whatever the catch trials among the rows.
        locate: says where a trial comes from, for error messages.
    """

    query: Ints
    references: Ints
    selected: Ints
    judge: Ints
    failed: Ints = field(default_factory=lambda: np.arange(0))
    locate: Callable[[int], str] = str

    def __len__(self) -> int:
        return len(self.query)

    @property
    def catch(self) -> NDArray[np.bool_]:
        """Whether the query is among its own references [n]."""
        return np.asarray((self.references == self.query[:, None]).any(axis=1))

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether a catch trial's copy was selected [n]; False for other trials (psiz's lenient grade)."""
        chosen = np.arange(self.references.shape[1]) < self.selected[:, None]
        return np.asarray(((self.references == self.query[:, None]) & chosen).any(axis=1))

    @property
    def attentive(self) -> NDArray[np.bool_]:
        """Trials that count [n]: no catch trials, and none of a person who failed one."""
        wrong = self.judge[self.catch & ~self.right]
        out = np.union1d(wrong[wrong >= 0], self.failed)
        return ~self.catch & ~np.isin(self.judge, out)

    def of_kind(self, kind: str) -> NDArray[np.bool_]:
        """Whether a trial is 8rank2, or 2rank1 [n]."""
        shown, selected = KINDS[kind]
        return np.asarray(((self.references >= 0).sum(axis=1) == shown) & (self.selected == selected))


@source(sets=BIRDS16)
def birds16(root: Root, /, *, size: int | Literal["all"] = 1000, seed: int = 0) -> Judgements:
    """Birds-16 (psiz, OSF): 208 photographs of 16 species, 8-rank-2 and 2-rank-1 trials.

    Args:
        size: triplets of each set that are evaluated, or "all".
        seed: of the draw of these triplets.
    """
    return read(root.data / "birds16", BIRDS16, size, seed)


@source(sets=HSJ)
def hsj(root: Root, /, *, size: int | Literal["all"] = 1000, seed: int = 0) -> Judgements:
    """ImageNet-HSJ (psiz, OSF): 8-rank-2 trials on ImageNet's validation images.

    Args:
        size: triplets of each set that are evaluated, or "all".
        seed: of the draw of these triplets.
    """
    return read(root.data / "hsj", HSJ, size, seed)


def read(folder: Path, sets: tuple[str, ...], size: int | Literal["all"] = 1000, seed: int = 0) -> Judgements:
    """The evaluation sets of a release's folder; images are looked for, not opened.

    Raises:
        BadInput: naming the file and the trial that is wrong.
    """
    rankings, stimuli = read_trials(folder)
    shown = np.concatenate([rankings.query[:, None], rankings.references], axis=1)
    for row in np.flatnonzero((shown >= len(stimuli)).any(axis=1)):
        raise BadInput(
            f"{rankings.locate(int(row))}: stimulus {shown[row].max() + 1} does not exist; the catalogue of {folder} "
            f"lists {len(stimuli)}"
        )
    triplets = triplets_of(rankings, sets, seed)
    if len(triplets) == 0:
        raise BadInput(f"{folder}: no trial is left after the catch trials and the people who failed them")
    used = np.unique(np.concatenate([triplets.images.ravel(), triplets.others[triplets.others >= 0]]))
    names = [stimuli[i] for i in used]
    order = np.argsort(names, kind="stable")
    position = np.full(len(stimuli) + 1, -1)
    position[used[order]] = np.arange(len(used))
    ordered = tuple(names[i] for i in order)
    name = sets[0].partition("/")[0]
    return Judgements(
        name=name,
        folder=folder,
        images=ordered,
        triplets=triplets.relabelled(position),
        sets=sets,
        files=_find_images(folder, ordered),
        by="trial" if sets is BIRDS16 else "image",
        counts=(count(name, "trials", len(rankings)), count(name, "images", len(stimuli))),
        size=None if size == "all" else size,
        seed=seed,
    )


def count(name: str, what: str, found: int) -> Count:
    """So many trials, catch trials among them, or images of the catalogue, against what is published."""
    return Count(name, what, found, PUBLISHED[name][what])


def triplets_of(rankings: Rankings, sets: tuple[str, ...], seed: int = 0) -> Triplets:
    """The sets' triplets of all trials that count; images are stimuli, sides and random images drawn by the seed.

    What is drawn hangs on the seed and on what a trial shows, not on the order of the trials in a file.
    """
    parts = []
    for index, name in enumerate(sets):
        kind, _, contrast = name.partition("/")[2].partition("_")
        rows = np.flatnonzero(rankings.attentive & rankings.of_kind(kind))
        query, references = rankings.query[rows], rankings.references[rows, : KINDS[kind][0]]
        selected = KINDS[kind][1]
        others = references[:, selected:]
        draw = mixed(seed, text_key(name), query, *references.T, occurrence(query, *references.T))
        near, far = references[:, 0], references[:, 1]
        if kind == "8rank2" and contrast == "dissimilar":
            pick = (draw % np.uint64(others.shape[1])).astype(np.int64)
            far = others[np.arange(len(rows)), pick]
            others = np.where(others == far[:, None], -1, others)
        elif kind == "2rank1":
            others = np.full((len(rows), 0), -1)
        wide = np.full((len(rows), 6), -1)
        wide[:, : others.shape[1]] = others
        swap = (draw >> np.uint64(63)) == 1
        parts.append(
            Triplets(
                query=query,
                left=np.where(swap, far, near),
                right=np.where(swap, near, far),
                choice=swap.astype(np.float64),
                judges=np.ones(len(rows), dtype=np.int64),
                set=np.full(len(rows), index),
                trial=rows,
                judge=rankings.judge[rows],
                others=wide,
            )
        )
    return Triplets.concatenated(parts)


def occurrence(*columns: Ints) -> Ints:
    """How often the same row came before it [n]."""
    _, group = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.concatenate([[0], np.flatnonzero(np.diff(group[order])) + 1]) if len(group) else np.arange(0)
    first = np.repeat(starts, np.diff([*starts, len(group)]))
    count = np.empty(len(group), dtype=np.int64)
    count[order] = np.arange(len(group)) - first
    return count


def read_trials(folder: Path) -> tuple[Rankings, list[str]]:
    """Trials and the stimuli's names (`Family/Species/file.jpg`, `wnid/file.JPEG`), from whichever form is there.

    Raises:
        BadInput: neither or both forms are there, or a file is wrong.
    """
    names, table = _files(folder)
    if table is None:
        return read_sequences(names.parent), read_stimuli(names)
    stimuli, base = read_catalog(names)
    return read_observations(table, base), stimuli


def read_names(folder: Path) -> list[str]:
    """The stimuli's names alone, from whichever form is there; the trials are not read.

    Raises:
        BadInput: neither or both forms are there, or the list of stimuli is wrong.
    """
    names, table = _files(folder)
    return read_stimuli(names) if table is None else read_catalog(names)[0]


def trial_files(folder: Path) -> list[Path]:
    """What holds trials in a release's folder: the one file of it says which form is there; more are too many."""
    return [*_below(folder, "stimuli.txt"), *_below(folder, "*obs*.hdf5")]


def _below(folder: Path, pattern: str) -> list[Path]:
    """Files at any depth; what a killed fetch left half-unpacked lies in a hidden folder, and is passed over."""
    found = sorted(folder.rglob(pattern))
    return [file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def _files(folder: Path) -> tuple[Path, Path | None]:
    """The list of stimuli, and the table of trials if it is the HDF5 form."""
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; humansim data fetch {folder.name} puts the release there")
    found = trial_files(folder)
    if len(found) != 1:
        named = ", ".join(map(str, found)) or "neither"
        raise BadInput(f"{folder}: it needs one stimuli.txt with train_seqs/, or one *obs*.hdf5; found {named}")
    if found[0].suffix == ".txt":
        return found[0], None
    catalogues = _below(folder, "*catalog*.hdf5")
    if len(catalogues) != 1:
        raise BadInput(f"{folder}: {len(catalogues)} files *catalog*.hdf5 found beside {found[0].name}; one is needed")
    return catalogues[0], found[0]


# --- JSON sequences (psiz-datasets) ---


def read_sequences(folder: Path) -> Rankings:
    """All trials of train_seqs/*.json and test_seqs/*.json, in the order of the files' names.

    Raises:
        BadInput: naming file, sequence and position of what is wrong.
    """
    files = sorted(folder.glob("train_seqs/*.json")) + sorted(folder.glob("test_seqs/*.json"))
    if not files:
        raise BadInput(f"{folder}: no train_seqs/*.json there")
    rows: list[tuple[int, list[int], int, int]] = []
    places: list[tuple[Path, int, int]] = []
    failed = set()
    seen: dict[Any, Path] = {}
    for file in files:
        for number, sequence in enumerate(_sequences(file)):
            try:
                person = _person(str(sequence["anonymous_id"]))
                steps = list(sequence["sequence"])
                grade = float(sequence["grade"])
            except (KeyError, TypeError, ValueError) as error:
                raise BadInput(f"{file}: data[{number}]: {_reason(error)}") from None
            key = (sequence.get("sequence_id"), person, sequence.get("time_begin"))
            if key in seen:
                raise BadInput(f"{file}: data[{number}]: the same sequence is in {seen[key]} already; remove one")
            seen[key] = file
            if grade < 100:
                failed.add(person)
            for position, step in enumerate(steps):
                where = f"{file}: data[{number}].sequence[{position}]"
                try:
                    found = _timestep(step)
                    if 0 <= float(step.get("grade_objective", -1)) < 100:
                        failed.add(person)
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    raise BadInput(f"{where}: {_reason(error)}") from None
                if found is not None:
                    rows.append((*found, person))
                    places.append((file, number, position))
    if not rows:
        raise BadInput(f"{folder}: its sequences hold no trial of the kinds {', '.join(KINDS)}")

    def locate(row: int) -> str:
        file, number, position = places[row]
        return f"{file}: data[{number}].sequence[{position}]"

    references = np.full((len(rows), max(len(row[1]) for row in rows)), -1)
    for i, (_, shown, _, _) in enumerate(rows):
        references[i, : len(shown)] = shown
    query, selected, judge = (np.array([row[i] for row in rows], dtype=np.int64) for i in (0, 2, 3))
    return Rankings(query, references, selected, judge, np.array(sorted(failed), dtype=np.int64), locate)


def _sequences(file: Path) -> list[dict[str, Any]]:
    try:
        data = json.loads(file.read_bytes())["data"]
        if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
            raise ValueError("its `data` is not a list of sequences")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"{file}: cannot be read as psiz sequences: {_reason(error)}") from None
    return data


def _timestep(step: dict[str, Any]) -> tuple[int, list[int], int] | None:
    """Query, references (selected ones first, in order) and number selected; None for what is no answered trial."""
    about, _, kind = str(step["kind"]).partition(":")
    if about != "rank":
        return None
    if kind not in KINDS:
        raise ValueError(f"kind: {step['kind']!r} is not known; known: {', '.join(f'rank:{k}' for k in KINDS)}")
    said = {str(one["kind"]): one.get("detail") for one in step["interactions"]}
    # Where the selected ones stand among the references differs from file to file: only the ranks tell.
    ranks = sorted((int(k.rpartition("_")[2]), _stimulus(v)) for k, v in said.items() if k.startswith("behavior:rank_"))
    if not ranks:
        return None  # shown, never answered
    shown = [_stimulus(value) for key, value in said.items() if key.startswith("content:reference_")]
    chosen = [stimulus for _, stimulus in ranks]
    wanted, select = KINDS[kind]
    if len(shown) != wanted or len(set(shown)) != wanted:
        raise ValueError(f"a trial {kind} shows {wanted} different references, and this one {len(set(shown))}")
    if [rank for rank, _ in ranks] != list(range(select)) or len(set(chosen)) != select:
        raise ValueError(f"a trial {kind} has the ranks 0 to {select - 1}, each another reference")
    if not set(chosen) <= set(shown):
        raise ValueError("a selected reference is not among those that were shown")
    return _stimulus(said["content:query"]), chosen + sorted(set(shown) - set(chosen)), select


def _stimulus(asset: Any) -> int:
    """Number from 0 of an asset id: two characters of domain, three of set, then the number from 1 in base 36."""
    text = str(asset)
    if len(text) < 6 or not text.isalnum():
        raise ValueError(f"{asset!r} is not an asset id such as PZ001000003E")
    number = int(text[5:], 36)
    if not 1 <= number < 1 << 31:
        raise ValueError(f"{asset!r} is no asset id: its number is {number}, and numbers start at 1")
    return number - 1


def read_stimuli(file: Path) -> list[str]:
    """Names of a release's stimuli, in the order of their numbers: `local_id|filepath|...`.

    Raises:
        BadInput: naming the line that is wrong.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise BadInput(f"{file}: {_reason(error)}") from None
    header = lines[0].split("|") if lines else []
    if header[:2] != ["local_id", "filepath"]:
        raise BadInput(f"{file}, line 1: expected the columns local_id|filepath|..., found {'|'.join(header)!r}")
    names: dict[int, str] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        fields = line.split("|")
        try:
            stimulus = int(fields[0], 36)
            if len(fields) != len(header) or not fields[0].isalnum() or stimulus < 1:
                raise ValueError
        except ValueError:
            raise BadInput(
                f"{file}, line {number}: {line!r} is not a stimulus: {'|'.join(header)}, numbers in base 36 from 1"
            ) from None
        if stimulus in names:
            raise BadInput(f"{file}, line {number}: stimulus {fields[0]} is there twice")
        names[stimulus] = _plain_name(fields[1], f"{file}, line {number}")
    return _in_order(names, 1, file)


# --- HDF5 (psiz 0.4 to 0.8) ---


def read_catalog(file: Path) -> tuple[list[str], int]:
    """Names of the stimuli in the order of their ids, and whether these start at 0 or at 1.

    Raises:
        BadInput: what is wrong with the file.
    """
    ids, paths = _datasets(file, ("stimulus_id", "stimulus_filepath"), ())
    if ids.ndim != 1 or paths.shape != ids.shape or ids.dtype.kind not in "iu" or len(ids) == 0:
        raise BadInput(f"{file}: stimulus_id {ids.shape} and stimulus_filepath {paths.shape} are not one list of files")
    names: dict[int, str] = {}
    for number, path in zip(ids.tolist(), paths.tolist(), strict=True):
        if number in names:
            raise BadInput(f"{file}: stimulus_id {number} is there twice")
        text = path.decode("utf-8", "replace") if isinstance(path, bytes) else str(path)
        names[number] = _plain_name(text, f"{file}: stimulus {number}")
    base = int(ids.min())
    if base not in (0, 1):
        raise BadInput(f"{file}: its stimulus ids start at {base}; they start at 0 (psiz 0.4) or 1 (psiz 0.6)")
    return _in_order(names, base, file), base


def read_observations(file: Path, base: int | None = None) -> Rankings:
    """Trials of an HDF5 file of either generation: ids from 0 padded with -1, or from 1 padded with 0.

    Args:
        base: where the catalogue's ids start, if known; the trials have to agree with it.

    Raises:
        BadInput: naming the row that is wrong.
    """
    optional = ("agent_id", "mask_zero")
    stimuli, selected, agent, mask = _datasets(file, ("stimulus_set", "n_select"), optional)
    if stimuli.ndim != 2 or stimuli.dtype.kind not in "iu" or stimuli.shape[1] < 3 or len(stimuli) == 0:
        raise BadInput(f"{file}: stimulus_set: a table of whole numbers [trials, 1 + references], not {stimuli.shape}")
    count = len(stimuli)
    for name, column in (("n_select", selected), ("agent_id", agent)):
        if column is not None and (column.shape != (count,) or column.dtype.kind not in "iu"):
            raise BadInput(
                f"{file}: {name}: {column.shape} of {column.dtype} is not one whole number for each of {count} trials"
            )
    ids = stimuli.astype(np.int64)
    zeros = ids == 0
    # A stimulus is shown once, or twice in a catch trial: more zeros than that at a row's end are padding.
    from_one = bool(mask) if mask is not None and bool(mask) else bool((zeros[:, -3:].all(axis=1)).any())
    for row in np.flatnonzero((ids < (0 if from_one else -1)).any(axis=1)):
        low = "ids from 1 padded with 0" if from_one else "ids from 0 padded with -1"
        raise BadInput(f"{file}: row {row} of stimulus_set holds {ids[row].min()}, but the file has {low}: mixed bases")
    padded = (zeros if from_one else ids == -1).any()
    if base is not None and from_one != (base == 1) and (padded or from_one or zeros.any()):
        raise BadInput(
            f"{file}: its ids start at {int(from_one)}, those of the catalogue at {base}: the two are not of the same "
            "generation of psiz (0.4 and 0.6); fetch both from one"
        )
    ids -= int(from_one or base == 1)
    there = ids >= 0
    locate = _Row(file)
    for row in np.flatnonzero(~there[:, 0] | (there[:, 1:] & ~there[:, :-1]).any(axis=1)):
        raise BadInput(f"{locate(int(row))} of stimulus_set: {stimuli[row].tolist()}: padding stands before a stimulus")
    references, shown = ids[:, 1:], there[:, 1:].sum(axis=1)
    for row in np.flatnonzero((selected < 1) | (selected >= shown)):
        raise BadInput(f"{locate(int(row))}: n_select: {selected[row]} of {shown[row]} references cannot be selected")
    ordered = np.sort(references, axis=1)
    for row in np.flatnonzero(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)):
        raise BadInput(f"{locate(int(row))} of stimulus_set: {stimuli[row].tolist()}: a reference is there twice")
    # The selected ones stay first, in order of choice; the others come in any order and are sorted here.
    rest = np.arange(references.shape[1]) >= np.asarray(selected)[:, None]
    keys = np.where(rest, np.where(references < 0, 1 << 40, references), np.arange(references.shape[1]) - (1 << 20))
    references = np.take_along_axis(references, np.argsort(keys, axis=1, kind="stable"), axis=1)
    judge = np.full(count, -1, dtype=np.int64)
    if agent is not None:
        people, who = np.unique(agent, return_inverse=True)
        judge = np.array([_person(f"{file.parent.name}/{one}") for one in people], dtype=np.int64)[who]
    return Rankings(ids[:, 0], references, selected.astype(np.int64), judge, locate=locate)


@dataclass(frozen=True)
class _Row:
    file: Path

    def __call__(self, row: int) -> str:
        return f"{self.file}: row {row}"


def _datasets(file: Path, required: Iterable[str], optional: Iterable[str]) -> list[Any]:
    """Root datasets of an HDF5 file; None for an optional one that is not there."""
    import h5py

    found: list[Any] = []
    try:
        with h5py.File(file, "r") as given:
            for name in required:
                if name not in given:
                    raise BadInput(f"{file}: dataset {name!r} is missing; found {', '.join(given)}")
            found = [given[name][()] if name in given else None for name in (*required, *optional)]
    except BadInput:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise BadInput(f"{file}: cannot be read as HDF5: {_reason(error)}") from None
    return found


# --- both ---


def _plain_name(path: str, where: str) -> str:
    """A path of a catalogue without the prefix that differs from release to release."""
    name = path.replace("\\", "/").lstrip("/")
    for prefix in ("birds_16/", "Bird/", "ilsvrc_2012_val/"):
        name = name.removeprefix(prefix)
    if not name or any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
        raise BadInput(f"{where}: {path!r} is not a path inside a folder of images")
    return name


def _in_order(names: dict[int, str], base: int, file: Path) -> list[str]:
    for number in range(base, base + len(names)):
        if number not in names:
            raise BadInput(f"{file}: stimulus {number} is missing; the ids go from {base} to {max(names)} with a gap")
    twice = [name for name, often in Counter(names.values()).items() if often > 1]
    if twice:
        raise BadInput(f"{file}: {twice[0]} is the file of two stimuli")
    return [names[number] for number in range(base, base + len(names))]


def _find_images(folder: Path, names: tuple[str, ...]) -> tuple[Path, ...]:
    """The image files by name, in `images/` or beside it, whichever folders stand above; also all in one folder.

    Raises:
        BadInput: naming the first that is missing, and how many are.
    """
    place = next(place for place in (folder / "images", folder / "img", folder) if place.is_dir())
    found = images_in(place, names)
    missing = [name for name in names if name not in found]
    if missing:
        raise BadInput(
            f"{place}: image {missing[0]} is missing, and {len(missing) - 1} more of {len(names)}; "
            f"how to get them: humansim data fetch {folder.name} --help"
        )
    return tuple(found[name] for name in names)


def images_in(place: Path, names: Sequence[str]) -> dict[str, Path]:
    """Where the images of these names are in a folder, by class or flat; those that are missing are left out."""
    wanted, flat = set(names), {name.rpartition("/")[2]: name for name in names}
    found: dict[str, Path] = {}
    for parent, _, files in os.walk(place, followlinks=True):
        above = Path(parent)
        for name in files:
            whole = flat.get(name)
            if whole is None or whole not in wanted:
                continue
            by_class = above.name == whole.rpartition("/")[0].rpartition("/")[2]
            if by_class or whole not in found:
                found[whole] = above / name
    return found


def _person(name: str) -> int:
    return text_key(name) >> 1  # fits a signed number


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing"
    return str(error).strip().replace("\n", " ") or type(error).__name__
