"""What is published where, and where it lies on disk once fetched."""

from dataclasses import dataclass
from pathlib import Path

from humansim.download import Download
from humansim.errors import BadInput
from humansim.judgements import Count
from humansim.sources import bapps, psiz


@dataclass(frozen=True)
class Archive:
    """One archive of a release.

    Attributes:
        what: in words.
        unpacked: the folder it becomes, inside the release's.
        strip: folder of the archive that is left away.
        disk: bytes on disk when unpacked, about.
        holds: a pattern of file names of which there has to be one.
    """

    what: str
    download: Download
    unpacked: str
    strip: str
    disk: int
    holds: str


_S3 = "https://perceptual-similarity.s3.us-west-2.amazonaws.com/dataset"


def _osf(key: str) -> tuple[str, ...]:
    return (f"https://osf.io/{key}/download", f"https://osf.io/download/{key}/")


RELEASES: dict[str, dict[str, Archive]] = {
    "bapps": {
        "val": Archive(
            "36,344 triplets, 5 votes each, six sets",
            Download("twoafc_val.tar.gz", (f"{_S3}/twoafc_val.tar.gz",)),
            "2afc/val",
            "val",
            1_300_000_000,
            "*.png",
        ),
        "train": Archive(
            "about 151,300 triplets, 2 votes each, three sets",
            Download("twoafc_train.tar.gz", (f"{_S3}/twoafc_train.tar.gz",)),
            "2afc/train",
            "train",
            6_500_000_000,
            "*.png",
        ),
    },
    "birds16": {
        "judgements": Archive(
            "16,292 trials, 8-rank-2 and 2-rank-1",
            Download(
                "birds16_rank2019.zip",
                _osf("43rmk"),
                1_671_961,
                "42aadb6718ba53d3137f8e586230e48ce66a1bb5df76b2c8ca781823731c1933",
            ),
            "birds16_rank2019",
            "",
            20_000_000,
            "stimuli.txt",
        ),
        "images": Archive(
            "208 photographs",
            Download("birds16_images.zip", _osf("x3vuh")),
            "images",
            "",
            30_000_000,
            "*.[jJ][pP]*[gG]",
        ),
    },
    "hsj": {
        "judgements": Archive(
            "384,277 trials, 8-rank-2",
            Download(
                "ilsvrc2012_val_hsj.zip",
                _osf("7ck3s"),
                66_260_902,
                "484656b0fa786a30d97b586aa2a951abaa9710de9e23191bd7fbbddebc09b158",
            ),
            "ilsvrc2012_val_hsj",
            "",
            1_000_000_000,
            "stimuli.txt",
        ),
    },
}

IMAGENET = """\
The images are ImageNet's ILSVRC-2012 validation set (6.7 GB, 50,000 JPEG files), which may not be passed on. Get
ILSVRC2012_img_val.tar from image-net.org with an account of your own, unpack it, flat (ILSVRC2012_val_00000001.JPEG,
...) or by class (n01440764/ILSVRC2012_val_....JPEG), and name the folder: humansim data fetch hsj --images FOLDER"""


def place(data: Path, name: str, part: str) -> Path:
    """The folder that a part of a release becomes."""
    return data / name / RELEASES[name][part].unpacked


def find(data: Path, name: str, part: str) -> Path | None:
    """Where a part of a release is, fetched or put there by hand, in any form that is read; None if it is not there."""
    folder = data / name
    if name == "bapps":
        return bapps.find(folder, part)
    if part == "images":
        return next((place for place in (folder / "images", folder / "img") if bapps.holds_any(place)), None)
    files = psiz.trial_files(folder)
    return files[0].parent if files else None


def counts(data: Path, name: str, part: str) -> tuple[Count, ...]:
    """How much of a part is there, as far as can be told at a glance: of psiz releases the images, not the trials."""
    folder = data / name
    if name == "bapps":
        return bapps.counts(folder, "train" if part == "train" else "val")
    try:
        names = psiz.read_names(folder) if psiz.trial_files(folder) else []
    except BadInput:  # reading it says what is wrong
        names = []
    if part == "judgements":
        return (psiz.count(name, "images", len(names)),)
    images = find(data, name, "images") or folder
    if names:
        return (psiz.count(name, "images", len(psiz.images_in(images, names))),)
    return (psiz.count(name, "images", sum(1 for _ in images.rglob("*.[jJ][pP]*[gG]"))),)
