"""Bring your own judgements: a folder with images and `judgements.csv` or `judgements.parquet`.

| column | what | |
|---|---|---|
| query, left, right | image paths relative to the folder | required |
| choice | share of people who chose right, 0 to 1 | required |
| judges | how many people that is | optional |
| set | name of the evaluation set | optional: the folder's name |
| trial | id of the judgement trial: rows of one trial are not independent | optional |
| judge | id of the person | optional |

Further columns are passed over.
"""

import difflib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from humansim.errors import BadInput
from humansim.judgements import Judgements, Triplets
from humansim.root import Root
from humansim.sources import source

if TYPE_CHECKING:  # it takes long to import, and most commands read no table
    import pandas as pd

REQUIRED = ("query", "left", "right", "choice")
OPTIONAL = ("judges", "set", "trial", "judge")
FILES = ("judgements.csv", "judgements.parquet")


@source()
def table(root: Root, /, *, name: str) -> Judgements:
    """Your own judgements: the folder of that name in the data folder, with judgements.csv or .parquet."""
    if PurePosixPath(name).name != name or name == "..":
        raise BadInput(f"source.name: {name!r} is not the plain name of a folder in {root.data}")
    if not (root.data / name).is_dir():
        raise BadInput(f"{root.data / name}: no such folder; --data DIR names the one that {name} lies in")
    return read_table(root.data / name)


def read_table(folder: Path) -> Judgements:
    """Reads and checks a folder of judgements; images are looked for, not opened.

    Raises:
        BadInput: naming the file and the row or field that is wrong.
    """
    import pandas as pd

    found = [folder / name for name in FILES if (folder / name).is_file()]
    if len(found) != 1:
        what = "both" if found else "neither"
        raise BadInput(f"{folder}: {what} of judgements.csv and judgements.parquet found there; one is needed")
    file = found[0]
    frame, unit = read_frame(file, REQUIRED, OPTIONAL)

    def at(row: Any) -> str:
        return f"{file}, {unit} {frame.index[row]}"

    paths = {}
    for column in ("query", "left", "right"):
        for row in np.flatnonzero(frame[column].isna() | (frame[column].astype(str) == "")):
            raise BadInput(f"{at(row)}: {column} is empty; it needs an image path relative to {folder}")
        paths[column] = frame[column].astype(str)
    code, names = pd.factorize(pd.concat(list(paths.values()), ignore_index=True))
    unique, position = np.unique([str(PurePosixPath(name)) for name in names], return_inverse=True)
    query, left, right = position[code].reshape(3, -1).astype(np.int64)
    present = {name: _is_inside(folder, name) for name in unique}
    if not all(present.values()):
        rows = np.flatnonzero(~np.array([present[n] for n in unique])[np.stack([query, left, right])].all(axis=0))
        for column, used in (("query", query), ("left", left), ("right", right)):
            name = str(unique[used[rows[0]]])
            if not present[name]:
                outside = PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
                why = "is not a path inside the folder" if outside else "does not exist"
                gone = sum(not there for there in present.values())
                more = f" ({gone} such images in all)" if gone > 1 else ""
                raise BadInput(f"{at(rows[0])}: {column}: image {folder / name} {why}{more}")
    for row in np.flatnonzero(left == right):
        raise BadInput(f"{at(row)}: left and right are the same image {unique[left[row]]}")

    choice = numbers(frame, "choice", at)
    for row in np.flatnonzero(~((choice >= 0) & (choice <= 1))):
        hint = "; divide per cent by 100" if 2 < choice.max() <= 100 else ""
        raise BadInput(f"{at(row)}: choice: {frame['choice'].iloc[row]!r} is not a share between 0 and 1{hint}")
    judges = np.zeros(len(frame), dtype=np.int64)
    if "judges" in frame:
        judges = counts(frame, "judges", at)
        check_votes(choice, judges, at)
    if "set" in frame:
        for row in np.flatnonzero(frame["set"].isna() | (frame["set"].astype(str).str.strip() == "")):
            raise BadInput(f"{at(row)}: set is empty; name the evaluation set, or leave the column out")
        sets, member = np.unique(frame["set"].astype(str).to_numpy(dtype=object), return_inverse=True)
    else:
        sets, member = np.array([folder.name], dtype=object), np.zeros(len(frame), dtype=np.int64)
    triplets = Triplets(
        query=query,
        left=left,
        right=right,
        choice=choice,
        judges=judges,
        set=member.astype(np.int64),
        trial=_ids(frame, "trial"),
        judge=_ids(frame, "judge"),
    )
    return Judgements(folder.name, folder, tuple(map(str, unique)), triplets, tuple(map(str, sets)), locate=at)


def read_frame(file: Path, required: tuple[str, ...], optional: tuple[str, ...]) -> "tuple[pd.DataFrame, str]":
    """A CSV (also .gz) or parquet table with its known columns, and what its index counts: "line" or "row".

    Raises:
        BadInput: unreadable, empty, a column missing, twice there or misspelt.
    """
    import pandas as pd

    kind = "parquet" if file.suffix == ".parquet" else "CSV"
    try:
        if kind == "parquet":
            import pyarrow.parquet as parquet

            header = parquet.read_schema(file).names
        else:
            options: dict[str, Any] = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
            header = pd.read_csv(file, header=None, nrows=1, **options).iloc[0].tolist()
        header = [str(name) for name in header]
        for name in header:
            if header.count(name) > 1 and name in required + optional:
                raise BadInput(f"{file}: column {name!r} is there {header.count(name)} times; keep one")
        for name in required:
            if name not in header:
                close = difflib.get_close_matches(name, header, n=1, cutoff=0.6)
                hint = f" (did you mean to rename {close[0]!r}?)" if close else ""
                if len(header) == 1 and (other := next((mark for mark in ";\t" if mark in header[0]), None)):
                    hint = f" (fields are separated by {other!r}; write them with commas)"
                raise BadInput(f"{file}: column {name!r} is missing{hint}; found {', '.join(header)}")
        for name in optional:
            close = difflib.get_close_matches(name, set(header) - {*required, *optional}, n=1, cutoff=0.85)
            if name not in header and close:
                raise BadInput(f"{file}: column {close[0]!r} is not known; did you mean {name!r}?")
        use = [name for name in header if name in required + optional]
        if kind == "parquet":
            frame = parquet.read_table(file, columns=use).to_pandas(ignore_metadata=True)
            frame.index += 1
        else:
            frame = pd.read_csv(file, skip_blank_lines=False, **options)  # usecols would hide lines that are too long
            if not isinstance(frame.index, pd.RangeIndex):
                raise BadInput(f"{file}, line 2: there are more fields than the header has columns")
            frame = frame[use]
            frame.index += 2  # a file's first line is its header
            frame = frame[~(frame.isna() | (frame == "")).all(axis=1)]
    except BadInput:
        raise
    except FileNotFoundError:
        raise BadInput(f"{file}: no such file") from None
    except pd.errors.EmptyDataError:
        raise BadInput(f"{file}: the file is empty; it needs the columns {', '.join(required)}") from None
    except (OSError, ValueError, UnicodeError, EOFError) as error:  # pandas' and pyarrow's own are among these
        reason = str(error).strip().replace("\n", " ")
        raise BadInput(f"{file}: cannot be read as a {kind} table: {reason}") from None
    if frame.empty:
        raise BadInput(f"{file}: the table has no rows")
    return frame, "row" if kind == "parquet" else "line"


def numbers(frame: "pd.DataFrame", column: str, at: Any) -> np.ndarray:
    """A column as float64, finite.

    Raises:
        BadInput: naming the first row whose value is not a finite number.
    """
    import pandas as pd

    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    for row in np.flatnonzero(~np.isfinite(values)):
        given = frame[column].iloc[row]
        raise BadInput(f"{at(row)}: {column}: {given!r} is not a finite number")
    return values


def counts(frame: "pd.DataFrame", column: str, at: Any) -> np.ndarray:
    """A column as whole numbers of at least 1."""
    values = numbers(frame, column, at)
    for row in np.flatnonzero((values < 1) | (values != np.rint(values))):
        raise BadInput(f"{at(row)}: {column}: {frame[column].iloc[row]!r} is not a whole number of people, 1 or more")
    return values.astype(np.int64)


def check_votes(choice: np.ndarray, judges: np.ndarray | int | None, at: Any) -> None:
    """Refuses a share that so many people cannot give; shares rounded to two decimals pass.

    Raises:
        BadInput: naming the first such row.
    """
    count = np.broadcast_to(np.asarray(judges or 0) if isinstance(judges, (int, type(None))) else judges, choice.shape)
    votes = choice * count
    for row in np.flatnonzero(np.abs(votes - np.rint(votes)) > 0.01 * count + 1e-6):
        raise BadInput(f"{at(row)}: choice: {choice[row]:g} is no share of {count[row]} people")


def _is_inside(folder: Path, name: str) -> bool:
    path = PurePosixPath(name)
    try:
        return not path.is_absolute() and ".." not in path.parts and (folder / name).is_file()
    except OSError:  # a name too long for a file
        return False


def _ids(frame: "pd.DataFrame", column: str) -> np.ndarray:
    """Text ids as numbers in the order of their text; -1 where empty or without the column."""
    if column not in frame:
        return np.full(len(frame), -1, dtype=np.int64)
    text = frame[column].astype(str).where(frame[column].notna(), "").to_numpy(dtype=object)
    unique, code = np.unique(text, return_inverse=True)
    known = unique != ""
    return np.where(known, np.cumsum(known) - 1, -1)[code].astype(np.int64)
