"""Birds-16 and ImageNet-HSJ in HDF5, as psiz 0.4 to 0.8 released them: observations and a catalogue."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from humansim.errors import BadInput
from humansim.sources.rankings import Rankings, in_order, person, plain_name, reason


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
        names[number] = plain_name(text, f"{file}: stimulus {number}")
    base = int(ids.min())
    if base not in (0, 1):
        raise BadInput(f"{file}: its stimulus ids start at {base}; they start at 0 (psiz 0.4) or 1 (psiz 0.6)")
    return in_order(names, base, file), base


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
    from_one = (
        bool(mask)
        if mask is not None and np.size(mask) == 1 and bool(mask)
        else bool((zeros[:, -3:].all(axis=1)).any())
    )
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
    for row in np.flatnonzero(~there[:, 0] | (there[:, 1:] & ~there[:, :-1]).any(axis=1)):
        raise BadInput(f"{file}: row {row} of stimulus_set: {stimuli[row].tolist()}: padding stands before a stimulus")
    references, shown = ids[:, 1:], there[:, 1:].sum(axis=1)
    for row in np.flatnonzero((selected < 1) | (selected >= shown)):
        raise BadInput(f"{file}: row {row}: n_select: {selected[row]} of {shown[row]} references cannot be selected")
    ordered = np.sort(references, axis=1)
    for row in np.flatnonzero(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)):
        raise BadInput(f"{file}: row {row} of stimulus_set: {stimuli[row].tolist()}: a reference is there twice")
    # The selected ones stay first, in order of choice; the others come in any order and are sorted here.
    rest = np.arange(references.shape[1]) >= np.asarray(selected)[:, None]
    keys = np.where(rest, np.where(references < 0, 1 << 40, references), np.arange(references.shape[1]) - (1 << 20))
    references = np.take_along_axis(references, np.argsort(keys, axis=1, kind="stable"), axis=1)
    judge = np.full(count, -1, dtype=np.int64)
    if agent is not None:
        people, who = np.unique(agent, return_inverse=True)
        judge = np.array([person(f"{file.parent.name}/{one}") for one in people], dtype=np.int64)[who]
    place = np.stack([np.zeros(count, dtype=np.int64), np.arange(count)], axis=1)
    return Rankings(
        ids[:, 0],
        references,
        selected.astype(np.int64),
        judge,
        files=(str(file),),
        place=place,
        base=int(from_one or base == 1),
    )


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
        raise BadInput(f"{file}: cannot be read as HDF5: {reason(error)}") from None
    return found
