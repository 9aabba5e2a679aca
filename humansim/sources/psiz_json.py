"""Birds-16 and ImageNet-HSJ in their JSON release (psiz-datasets): a list of stimuli, and sequences of trials."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from humansim.errors import BadInput
from humansim.sources.rankings import KINDS, Rankings, in_order, person, plain_name, reason


def sequence_files(folder: Path) -> list[Path]:
    """The files of a release that hold sequences.

    Raises:
        BadInput: there are none.
    """
    files = sorted(folder.glob("train_seqs/*.json")) + sorted(folder.glob("test_seqs/*.json"))
    if not files:
        raise BadInput(f"{folder}: no train_seqs/*.json there")
    return files


def read_sequences(folder: Path) -> Rankings:
    """All trials of train_seqs/*.json and test_seqs/*.json, in the order of the files' names.

    Raises:
        BadInput: naming file, sequence and position of what is wrong.
    """
    files = sequence_files(folder)
    rows: list[tuple[int, list[int], int, int]] = []
    places: list[tuple[int, int, int]] = []
    failed = set()
    seen: dict[Any, Path] = {}
    for which, file in enumerate(files):
        for number, sequence in enumerate(_sequences(file)):
            try:
                steps, name, grade = sequence["sequence"], sequence["anonymous_id"], float(sequence["grade"])
                if not isinstance(steps, list):
                    raise ValueError("sequence: it is not a list")
                if not isinstance(name, str) or not name:
                    raise ValueError(f"anonymous_id: {name!r} names nobody")
                if not 0 <= grade <= 100:
                    raise ValueError(f"grade: {grade} does not lie from 0 to 100")
                judge = person(name)
            except (KeyError, TypeError, ValueError) as error:
                raise BadInput(f"{file}: data[{number}]: {reason(error)}") from None
            key = (str(sequence.get("sequence_id")), judge, str(sequence.get("time_begin")))
            if key in seen:
                raise BadInput(f"{file}: data[{number}]: the same sequence is in {seen[key]} already; remove one")
            seen[key] = file
            if grade < 100:
                failed.add(judge)
            for position, step in enumerate(steps):
                where = f"{file}: data[{number}].sequence[{position}]"
                try:
                    found = _timestep(step)
                    if 0 <= float(step.get("grade_objective", -1)) < 100:
                        failed.add(judge)
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    raise BadInput(f"{where}: {reason(error)}") from None
                if found is not None:
                    rows.append((*found, judge))
                    places.append((which, number, position))
    if not rows:
        raise BadInput(f"{folder}: its sequences hold no trial of the kinds {', '.join(KINDS)}")

    references = np.full((len(rows), max(len(row[1]) for row in rows)), -1)
    for i, (_, shown, _, _) in enumerate(rows):
        references[i, : len(shown)] = shown
    query, selected, judges = (np.array([row[i] for row in rows], dtype=np.int64) for i in (0, 2, 3))
    out = np.array(sorted(failed), dtype=np.int64)
    return Rankings(query, references, selected, judges, out, tuple(map(str, files)), np.array(places))


def _sequences(file: Path) -> list[dict[str, Any]]:
    try:
        data = json.loads(file.read_bytes())["data"]
        if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
            raise ValueError("its `data` is not a list of sequences")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"{file}: cannot be read as psiz sequences: {reason(error)}") from None
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
        raise BadInput(f"{file}: {reason(error)}") from None
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
        names[stimulus] = plain_name(fields[1], f"{file}, line {number}")
    return in_order(names, 1, file)
