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

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from humansim.errors import BadInput
from humansim.judgements import Count, Ints, Judgements, Triplets, mixed, text_key
from humansim.root import Root
from humansim.sources import source
from humansim.sources.parsed import Arrays, parsed
from humansim.sources.psiz_hdf5 import read_catalog, read_observations
from humansim.sources.psiz_json import read_sequences, read_stimuli, sequence_files
from humansim.sources.rankings import KINDS, Rankings

BIRDS16 = ("birds16/8rank2_similar", "birds16/8rank2_dissimilar", "birds16/2rank1_dissimilar")
HSJ = ("hsj/8rank2_similar", "hsj/8rank2_dissimilar")
PUBLISHED = {"birds16": {"trials": 16_292, "images": 208}, "hsj": {"trials": 384_277, "images": 50_000}}


@source(sets=BIRDS16)
def birds16(root: Root, /, *, size: int | Literal["all"] = 1000, seed: int = 0) -> Judgements:
    """Birds-16 (psiz, OSF): 208 photographs of 16 species, 8-rank-2 and 2-rank-1 trials.

    Args:
        size: triplets of each set that are evaluated, or "all".
        seed: of the draw of these triplets.
    """
    return read(root.data / "birds16", BIRDS16, size, seed, root)


@source(sets=HSJ)
def hsj(root: Root, /, *, size: int | Literal["all"] = 1000, seed: int = 0) -> Judgements:
    """ImageNet-HSJ (psiz, OSF): 8-rank-2 trials on ImageNet's validation images.

    Args:
        size: triplets of each set that are evaluated, or "all".
        seed: of the draw of these triplets.
    """
    return read(root.data / "hsj", HSJ, size, seed, root)


def read(
    folder: Path,
    sets: tuple[str, ...],
    size: int | Literal["all"] = 1000,
    seed: int = 0,
    root: Root | None = None,
) -> Judgements:
    """The evaluation sets of a release's folder; images are looked for, not opened.

    Args:
        root: where what was parsed is kept, if anywhere.

    Raises:
        BadInput: naming the file and the trial that is wrong.
    """
    rankings, stimuli = read_trials(folder, root)
    shown = np.concatenate([rankings.query[:, None], rankings.references], axis=1)
    for row in np.flatnonzero((shown >= len(stimuli)).any(axis=1)):
        raise BadInput(
            f"{rankings.locate(int(row))}: stimulus {shown[row].max() + rankings.base} does not exist; the catalogue "
            f"of {folder} lists {len(stimuli)}"
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


def read_trials(folder: Path, root: Root | None = None) -> tuple[Rankings, list[str]]:
    """Trials and the stimuli's names (`Family/Species/file.jpg`, `wnid/file.JPEG`), from whichever form is there.

    Args:
        root: where what was parsed is kept, if anywhere.

    Raises:
        BadInput: neither or both forms are there, or a file is wrong.
    """
    names, table = _files(folder)

    def read_files() -> Arrays:
        if table is None:
            rankings, stimuli = read_sequences(names.parent), read_stimuli(names)
        else:
            stimuli, base = read_catalog(names)
            rankings = read_observations(table, base)
        return {
            **vars(rankings),
            "files": np.array(rankings.files),
            "base": np.array(rankings.base),
            "stimuli": np.array(stimuli),
        }

    files = [names, *(sequence_files(names.parent) if table is None else [table])]
    found: dict[str, Any] = dict(parsed(root, folder, files, read_files))
    stimuli: list[str] = found.pop("stimuli").tolist()
    plain = {"files": tuple(found["files"].tolist()), "base": int(found["base"])}
    return Rankings(**{**found, **plain}), stimuli


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
        fetch = f"humansim data fetch {folder.name} puts the release there"
        raise BadInput(f"{folder}: no such folder; {fetch}, --data names another place")
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
    flat: dict[str, list[str]] = {}
    for name in names:
        flat.setdefault(name.rpartition("/")[2], []).append(name)
    found: dict[str, Path] = {}
    for parent, folders, files in os.walk(place, followlinks=True):
        folders.sort()  # where a file is there twice, the same one on every machine
        above = Path(parent)
        for name in files:
            for whole in flat.get(name, []):
                by_class = above.name == whole.rpartition("/")[0].rpartition("/")[2]
                if by_class or (whole not in found and len(flat[name]) == 1):
                    found[whole] = above / name
    return found
