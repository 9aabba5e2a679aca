"""BAPPS 2AFC (Zhang et al. 2018) as its archives unpack: four folders a set, paired by the files' stems.

    <data>/bapps/2afc/val/<set>/{ref,p0,p1}/000000.png and judge/000000.npy      5 votes a triplet
    <data>/bapps/2afc/train/<set>/...                                            2 votes a triplet

A judge file holds one number: the share of people who found p1 more like ref. BAPPS calls the query "ref".
"""

import os
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from humansim.errors import BadInput
from humansim.judgements import Count, Judgements, Triplets, mixed, text_key
from humansim.root import Root
from humansim.sources import source
from humansim.sources.parsed import parsed
from humansim.sources.table import check_votes

VAL = ("traditional", "cnn", "superres", "deblur", "color", "frameinterp")
TRAIN = ("traditional", "cnn", "mix")
BAPPS = tuple(f"bapps/{name}" for name in VAL)
VOTES = {"val": 5, "train": 2}
PUBLISHED = {"traditional": 4720, "cnn": 4720, "superres": 10856, "deblur": 9440, "color": 4720, "frameinterp": 1888}
PUBLISHED_TRAIN = {"traditional": 56_600, "cnn": 38_100, "mix": 56_600}  # rounded, as the paper's table is
IMAGES = (".png", ".jpg", ".jpeg", ".ppm", ".bmp")  # what LPIPS's own loader takes
NOT_DATA = {"Thumbs.db", "desktop.ini"}


@source(sets=BAPPS)
def bapps(
    root: Root, /, *, part: Literal["val", "train"] = "val", size: int | Literal["all"] = 1000, seed: int = 0
) -> Judgements:
    """BAPPS 2AFC: image patches and distortions of them, by votes; six sets (part "train": three).

    Args:
        part: "val" (5 votes a triplet; the study's six sets) or "train" (2 votes).
        size: triplets of each set that are evaluated, or "all".
        seed: of the draw of these triplets, and of their sides.
    """
    return read(root.data / "bapps", part, size, seed, root)


def read(
    folder: Path,
    part: Literal["val", "train"] = "val",
    size: int | Literal["all"] = 1000,
    seed: int = 0,
    root: Root | None = None,
) -> Judgements:
    """All sets of a part; images are looked for, not opened.

    Args:
        root: where the votes are kept once they are read, if anywhere.

    Raises:
        BadInput: naming the file that is wrong or missing.
    """
    sets = VAL if part == "val" else TRAIN
    place = find(folder, part)
    if place is None:
        missing = folder / "2afc" / part
        fetch = f"humansim data fetch bapps --part {part} puts the release there"
        raise BadInput(f"{missing}: no such folder; {fetch}, --data names another place")
    names: list[str] = []
    votes: list[list[Path]] = []
    members = []
    for index, name in enumerate(sets):
        if not (place / name).is_dir():
            raise BadInput(f"{place / name}: no such folder; BAPPS {part} has {', '.join(sets)}")
        files = {which: _stems(place / name / which) for which in ("ref", "p0", "p1", "judge")}
        stems = sorted(set().union(*files.values()))
        for stem in stems:
            for which, there in files.items():
                if stem not in there:
                    suffix = ".npy" if which == "judge" else ".png"
                    raise BadInput(
                        f"{place / name / which / (stem + suffix)}: missing, though "
                        f"{next(place / name / w / files[w][stem] for w in files if stem in files[w])} is there"
                    )
        for number, stem in enumerate(stems):
            if stem != f"{number:06d}":
                raise BadInput(f"{place / name}: the triplets are not numbered without a gap: {number:06d} is missing")
        if not stems:
            raise BadInput(f"{place / name}: it holds no triplets")
        votes.append([place / name / "judge" / files["judge"][stem] for stem in stems])
        members.append(np.full(len(stems), index))
        names += [f"{name}/{which}/{files[which][stem]}" for stem in stems for which in ("ref", "p0", "p1")]
    code = np.argsort(np.argsort(np.array(names, dtype=object), kind="stable"), kind="stable").reshape(-1, 3)
    every = [file for files_of_set in votes for file in files_of_set]
    choice = parsed(root, place, every, lambda: {"choice": _shares(every, VOTES[part])})["choice"]
    member = np.concatenate(members)
    count = len(choice)
    within = np.concatenate([np.arange(len(one)) for one in members])
    keys = np.array([text_key(name) for name in sets], dtype=np.uint64)
    triplets = Triplets(
        query=code[:, 0],
        left=code[:, 1],
        right=code[:, 2],
        choice=choice,
        judges=np.full(count, VOTES[part]),
        set=member,
        trial=np.full(count, -1),
        judge=np.full(count, -1),
    )
    triplets = triplets.swapped((mixed(seed, keys[member], within) >> np.uint64(63)) == 1)
    return Judgements(
        name="bapps",
        folder=place,
        images=tuple(sorted(names)),
        triplets=triplets,
        sets=tuple(f"bapps/{name}" for name in sets),
        locate=lambda row: f"{place / sets[member[row]]}, triplet {within[row]:06d}",
        by="image",
        counts=tuple(_count(part, name, len(one)) for name, one in zip(sets, members, strict=True)),
        same_size=True,
        size=None if size == "all" else size,
        seed=seed,
    )


def find(folder: Path, part: str) -> Path | None:
    """The folder that holds a part's sets, where an archive or a script of LPIPS's puts it; None if it is not there."""
    places = [folder / above / part for above in ("2afc", "dataset/2afc", "")]
    return next((place for place in places if holds_any(place)), None)


def holds_any(folder: Path) -> bool:
    """Whether it is a folder that is not empty."""
    return folder.is_dir() and any(folder.iterdir())


def counts(folder: Path, part: Literal["val", "train"]) -> tuple[Count, ...]:
    """How many triplets each set of a part has, by its votes; nothing is opened."""
    place = find(folder, part) or folder
    judges = {name: place / name / "judge" for name in (VAL if part == "val" else TRAIN)}
    return tuple(_count(part, name, sum(1 for _ in judge.glob("[!.]*.npy"))) for name, judge in judges.items())


def _count(part: str, name: str, found: int) -> Count:
    published = PUBLISHED if part == "val" else PUBLISHED_TRAIN
    return Count(f"bapps/{name}", "triplets", found, published[name], rounded=part == "train")


def _stems(folder: Path) -> dict[str, str]:
    """Stem -> file name of all files in a folder; hidden files and those of file managers are passed over."""
    judge = folder.name == "judge"
    found: dict[str, str] = {}
    try:
        entries = sorted(entry.name for entry in os.scandir(folder))
    except OSError as error:
        raise BadInput(f"{folder}: {error.strerror}; a set has the folders ref, p0, p1 and judge") from None
    for name in entries:
        if name.startswith(".") or name in NOT_DATA:
            continue
        stem, suffix = os.path.splitext(name)  # noqa: PTH122 (a hundred thousand of them)
        if suffix.lower() not in ((".npy",) if judge else IMAGES):
            wanted = "a vote (.npy)" if judge else f"an image ({', '.join(IMAGES)})"
            raise BadInput(f"{folder / name}: it is not {wanted}; remove it")
        if stem in found:
            raise BadInput(f"{folder / name}: {found[stem]} has the same number; remove one")
        found[stem] = name
    return found


def _shares(files: list[Path], judges: int) -> NDArray[np.float64]:
    share = np.array([_vote(file) for file in files])
    check_votes(share, judges, lambda row: str(files[row]))
    return np.asarray(np.rint(share * judges) / judges)  # on disk they are rounded to 32 bits


def _vote(file: Path) -> float:
    try:
        with open(file, "rb") as stream:
            value = np.load(stream, allow_pickle=False)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub" or value.size != 1:
            held = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else "an archive"
            raise ValueError(f"it holds {held}, not one number")
    except Exception as error:  # numpy, zipfile and tokenize raise nearly anything over a damaged file
        raise BadInput(f"{file}: cannot be read as a vote: {str(error).strip() or type(error).__name__}") from None
    share = float(value.reshape(()))
    if not 0 <= share <= 1:
        raise BadInput(f"{file}: {share} is not a share between 0 and 1")
    return share
