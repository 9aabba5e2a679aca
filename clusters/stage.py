"""Unpacks an archive onto this machine's disk: data and weights, once a node. Again: nothing, unless it has changed.

    clusters/stage.py ARCHIVE FOLDER      a tar file: a path, s3://bucket/key, gs://bucket/key

A trial looks at the size and the time of change of every image file of its source. On a network file system that is
slow with 100,000 files; and an archive gives a file the same time on every node, so that no node takes it for changed.
"""

import sys
import tarfile
from pathlib import Path

from pyarrow import fs


def stage(archive: str, folder: Path) -> str:
    """Unpacks what is not unpacked yet; says what was done."""
    system, path = fs.FileSystem.from_uri(archive)
    found = system.get_file_info(path)
    if found.type != fs.FileType.File:
        return f"{archive} is not there: nothing is unpacked in {folder}"
    mark, version = folder / ".staged", f"{archive} {found.size} {found.mtime_ns}"
    if mark.exists() and mark.read_text() == version:
        return f"{folder} holds {archive} already"
    folder.mkdir(parents=True, exist_ok=True)
    with system.open_input_stream(path) as stream, tarfile.open(fileobj=stream, mode="r|*") as unpacked:
        unpacked.extractall(folder, filter="data")
    mark.write_text(version)
    return f"{archive} is unpacked in {folder}"


if __name__ == "__main__":
    print(stage(sys.argv[1], Path(sys.argv[2])))
