"""Bring your own judgements: what is right is read, what is wrong is one message that says where."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from humansim import sources
from humansim.errors import BadInput
from humansim.images import open_store
from humansim.judgements import Judgements
from humansim.root import Root
from humansim.spec import Variant

NAMES = ("a.png", "b.png", "c.png", "sub/d, with a comma.png", "sub/é.png")
HEADER = "query,left,right,choice"
GOOD = "a.png,b.png,c.png,0.4"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder "mine" in the data folder, with images and no judgements yet."""
    place = tmp_path / "data" / "mine"
    (place / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in NAMES:
        Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(place / name)
    return place


def read(root: Root) -> Judgements:
    return sources.read(Variant("table", name="mine"), root)


def write(folder: Path, *lines: str, end: str = "\n", encoding: str = "utf-8") -> Path:
    file = folder / "judgements.csv"
    file.write_bytes("".join(line + end for line in lines).encode(encoding))
    return file


def complaint(root: Root) -> str:
    with pytest.raises(BadInput) as error:
        read(root)
    assert "\n" not in str(error.value)
    return str(error.value)


def named(judgements: Judgements) -> list[tuple]:
    """The judgements row by row, with names for numbers."""
    t = judgements.triplets
    return [
        (*(judgements.images[i] for i in images), choice, judges, judgements.sets[s])
        for images, choice, judges, s in zip(t.images, t.choice.tolist(), t.judges.tolist(), t.set, strict=True)
    ]


def test_the_four_required_columns_are_enough(folder: Path, root: Root) -> None:
    write(folder, HEADER, GOOD, "b.png,a.png,sub/é.png,1")
    found = read(root)
    assert found.images == ("a.png", "b.png", "c.png", "sub/é.png")
    assert named(found) == [
        ("a.png", "b.png", "c.png", 0.4, 0, "mine"),
        ("b.png", "a.png", "sub/é.png", 1.0, 0, "mine"),
    ]
    assert found.triplets.trial.tolist() == found.triplets.judge.tolist() == [-1, -1]
    assert (found.name, found.folder, found.simulated) == ("mine", folder, False)


def test_optional_columns_are_read_and_others_passed_over(folder: Path, root: Root) -> None:
    write(
        folder,
        "note,query,left,right,choice,judges,set,trial,judge",
        "one,a.png,b.png,c.png,0.4,5,shoes,t1,ann",
        ",a.png,b.png,c.png,0.4,5,shoes,t1,bob",
        "three,a.png,c.png,b.png,0.25,4,birds,,ann",
        "4,b.png,c.png,a.png,0,1,birds,t0,",
    )
    found = read(root)
    assert found.sets == ("birds", "shoes")
    assert named(found)[2] == ("a.png", "c.png", "b.png", 0.25, 4, "birds")
    trial, judge = found.triplets.trial.tolist(), found.triplets.judge.tolist()
    assert trial[0] == trial[1] != trial[3]
    assert min(trial[0], trial[3]) >= 0 > trial[2]
    assert judge[0] == judge[2] != judge[1]
    assert min(judge[:3]) >= 0 > judge[3]


def test_csv_and_parquet_give_the_same_judgements(folder: Path, root: Root) -> None:
    frame = pd.DataFrame(
        {
            "query": ["a.png", "b.png", "c.png"],
            "left": ["b.png", "c.png", "sub/é.png"],
            "right": ["c.png", "sub/d, with a comma.png", "a.png"],
            "choice": [0.4, 1.0, 1 / 3],
            "judges": [5, 1, 3],
            "set": ["shoes", "birds", "shoes"],
            "trial": ["t2", None, "t1"],
            "judge": [10, 9, 10],
            "note": [1.5, None, 2.5],
        }
    )
    frame.to_csv(folder / "judgements.csv", index=False)
    from_csv = read(root)
    (folder / "judgements.csv").unlink()
    frame.to_parquet(folder / "judgements.parquet")
    from_parquet = read(root)
    assert named(from_csv) == named(from_parquet)
    contents = [""] * len(from_csv.images)
    assert from_csv.fingerprint(contents) == from_parquet.fingerprint(contents)


def test_the_same_image_spelled_two_ways_is_one_image(folder: Path, root: Root) -> None:
    write(folder, HEADER, "a.png,./b.png,sub//é.png,1", "sub/é.png,a.png,b.png,0")
    assert read(root).images == ("a.png", "b.png", "sub/é.png")


def test_quoted_commas_belong_to_the_name(folder: Path, root: Root) -> None:
    write(folder, HEADER, '"sub/d, with a comma.png","b.png",c.png,"0.4"')
    assert named(read(root)) == [("sub/d, with a comma.png", "b.png", "c.png", 0.4, 0, "mine")]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(folder: Path, root: Root, end: str, encoding: str) -> None:
    write(folder, HEADER, GOOD, "b.png,a.png,sub/é.png,1", end=end, encoding=encoding)
    assert [row[:4] for row in named(read(root))] == [
        ("a.png", "b.png", "c.png", 0.4),
        ("b.png", "a.png", "sub/é.png", 1),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blank_lines_are_passed_over_and_counted(folder: Path, root: Root, end: str) -> None:
    write(folder, HEADER, "", GOOD, "", ",,,", GOOD, "", end=end)
    found = read(root)
    assert len(found.triplets) == 2
    assert found.locate is not None
    assert [found.locate(0), found.locate(1)] == [f"{folder / 'judgements.csv'}, line {n}" for n in (3, 6)]
    write(folder, HEADER, "", GOOD, "", GOOD, "a.png,b.png,c.png,much", end=end)
    assert "judgements.csv, line 6: choice" in complaint(root)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, root: Root) -> None:
    message = complaint(root)
    assert str(tmp_path / "data" / "mine") in message
    assert "no such folder; --data DIR names the one that mine lies in" in message


def test_neither_file_is_too_few_and_both_are_too_many(folder: Path, root: Root) -> None:
    assert f"{folder}: neither" in complaint(root)
    write(folder, HEADER, GOOD)
    pd.read_csv(folder / "judgements.csv").to_parquet(folder / "judgements.parquet")
    assert f"{folder}: both" in complaint(root)


@pytest.mark.parametrize("name", ["../mine", "/etc", "a/b", "..", "."])
def test_a_source_is_the_plain_name_of_a_folder(root: Root, name: str) -> None:
    with pytest.raises(BadInput, match="is not the plain name of a folder"):
        sources.read(Variant("table", name=name), root)


# What is wrong with the whole file: the lines of judgements.csv, and what the message says besides the file.
WRONG_FILES = {
    "empty": ([], "the file is empty"),
    "only blank lines": (["", ""], "the file is empty"),
    "header only": ([HEADER], "the table has no rows"),
    "header and blank lines": ([HEADER, "", ""], "the table has no rows"),
    "missing column": (["query,left,choice", "a.png,b.png,1"], "column 'right' is missing; found query, left, choice"),
    "no header": ([GOOD, GOOD], "column 'query' is missing"),
    "misspelt column": (
        ["qeury,left,right,choice", GOOD],
        "column 'query' is missing (did you mean to rename 'qeury'?)",
    ),
    "capital column": (
        ["query,left,right,Choice", GOOD],
        "column 'choice' is missing (did you mean to rename 'Choice'?)",
    ),
    "misspelt optional column": (
        [f"{HEADER},trials", f"{GOOD},1"],
        "column 'trials' is not known; did you mean 'trial'?",
    ),
    "semicolons": (["query;left;right;choice", "a.png;b.png;c.png;1"], "fields are separated by ';'; write them with"),
    "duplicate column": (
        ["query,left,left,right,choice", "a.png,b.png,b.png,c.png,1"],
        "column 'left' is there 2 times",
    ),
}


@pytest.mark.parametrize(("lines", "said"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_what_is_wrong_with_a_file_names_the_file(folder: Path, root: Root, lines: list[str], said: str) -> None:
    file = write(folder, *lines)
    message = complaint(root)
    assert message.startswith(f"{file}: ")
    assert said in message


# What is wrong with one line, which comes fourth, and what the message says besides file and line.
WRONG_LINES = {
    "choice NaN": ("a.png,b.png,c.png,nan", "choice: 'nan'"),
    "choice infinite": ("a.png,b.png,c.png,inf", "choice: 'inf'"),
    "choice text": ("a.png,b.png,c.png,left", "choice: 'left'"),
    "choice empty": ("a.png,b.png,c.png,", "choice"),
    "choice above 1": ("a.png,b.png,c.png,1.01", "choice: "),
    "choice below 0": ("a.png,b.png,c.png,-0.2", "choice: "),
    "choice of 80": ("a.png,b.png,c.png,80", "is not a share between 0 and 1; divide per cent by 100"),
    "choice in per cent": ("a.png,b.png,c.png,40%", "choice: '40%'"),
    "empty query": (",b.png,c.png,1", "query is empty"),
    "empty left": ("a.png,,c.png,1", "left is empty"),
    "empty right": ("a.png,b.png,,1", "right is empty"),
    "missing image": ("a.png,b.png,gone.png,1", "right: image {folder}/gone.png does not exist"),
    "a folder is no image": ("a.png,sub,c.png,1", "left: image {folder}/sub does not exist"),
    "absolute path": ("a.png,{folder}/b.png,c.png,1", "left: image {folder}/b.png is not a path inside the folder"),
    "path out of the folder": ("../mine/a.png,b.png,c.png,1", "is not a path inside the folder"),
    "left is right": ("a.png,b.png,b.png,1", "left and right are the same image b.png"),
    "left is right, spelled otherwise": ("a.png,b.png,./b.png,1", "left and right are the same image b.png"),
    "too short": ("a.png,b.png,c.png", "choice"),
    "too long": ("a.png,b.png,c.png,1,2", ""),
    "unquoted comma": ("sub/d, with a comma.png,b.png,c.png,1", ""),
}


@pytest.mark.parametrize(("line", "said"), WRONG_LINES.values(), ids=WRONG_LINES)
def test_what_is_wrong_with_a_line_names_file_and_line(folder: Path, root: Root, line: str, said: str) -> None:
    file = write(folder, HEADER, GOOD, GOOD, line.format(folder=folder), GOOD)
    message = complaint(root)
    assert str(file) in message
    assert "line 4" in message
    assert said.format(folder=folder) in message


@pytest.mark.parametrize("judges", ["0", "1.5", "-1", "many", "nan", ""])
def test_judges_are_whole_numbers_of_people(folder: Path, root: Root, judges: str) -> None:
    file = write(folder, f"{HEADER},judges", f"{GOOD},5", f"{GOOD},{judges}")
    assert complaint(root).startswith(f"{file}, line 3: judges: {judges!r} is not")


def test_an_evaluation_set_has_a_name(folder: Path, root: Root) -> None:
    file = write(folder, f"{HEADER},set", f"{GOOD},shoes", f"{GOOD},")
    assert complaint(root).startswith(f"{file}, line 3: set is empty")


@pytest.mark.parametrize(
    ("column", "value"),
    [("choice", 1.5), ("choice", None), ("left", None), ("left", ""), ("right", "gone.png"), ("judges", 0)],
)
def test_in_parquet_the_row_is_named(folder: Path, root: Root, column: str, value: object) -> None:
    frame = pd.DataFrame(
        {"query": "a.png", "left": "b.png", "right": "c.png", "choice": 0.5, "judges": 2}, index=range(3)
    )
    frame[column] = [frame[column][0], value, frame[column][2]]
    frame.to_parquet(folder / "judgements.parquet")
    message = complaint(root)
    assert message.startswith(f"{folder / 'judgements.parquet'}, row 2: ")
    assert column in message


def test_text_that_is_not_utf8_names_the_file(folder: Path, root: Root) -> None:
    file = write(folder, HEADER, "b.png,a.png,sub/é.png,1", encoding="latin-1")
    assert complaint(root).startswith(f"{file}: cannot be read as a CSV table: 'utf-8' codec")


def test_what_is_no_parquet_names_the_file(folder: Path, root: Root) -> None:
    file = folder / "judgements.parquet"
    file.write_bytes(f"{HEADER}\n{GOOD}\n".encode())
    assert complaint(root).startswith(f"{file}: cannot be read as a parquet table")


def test_many_missing_images_are_counted_in_one_message(folder: Path, root: Root) -> None:
    write(folder, HEADER, GOOD, "a.png,x.png,y.png,1", "z.png,x.png,a.png,1")
    message = complaint(root)
    assert "line 3: left" in message
    assert "(3 such images in all)" in message


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:20],
        lambda data: b"",
        lambda data: b"<html>404 Not Found</html>",
    ],
    ids=["half", "header only", "nothing", "a web page"],
)
def test_an_image_that_cannot_be_read_is_named_with_the_line_that_uses_it(folder: Path, root: Root, spoil) -> None:
    file = write(folder, HEADER, GOOD, "b.png,a.png,sub/é.png,1")
    (folder / "sub/é.png").write_bytes(spoil((folder / "sub/é.png").read_bytes()))
    judgements = read(root)
    with pytest.raises(BadInput) as error:
        open_store(root, judgements, 8)
    assert str(folder / "sub/é.png") in str(error.value)
    assert f"{file}, line 3" in str(error.value)
