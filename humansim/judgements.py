"""Human similarity judgements: triplets of images with people's choices."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Triplets:
    """Judgements, one a row: a query and two other images, and which of them people found more like the query.

    Attributes:
        query, left, right: rows of the image table [n].
        choice: share of people who chose right [n], in [0, 1].
        judges: how many people that is [n]; 0 where unknown.
        set: row of `Judgements.sets` that the triplet belongs to [n].
        trial: id of the judgement trial it came from [n]: rows of one trial are not independent; -1 where unknown.
        judge: id of the person [n]; -1 where unknown or several.
        others: further images of the same trial that the person did not choose [n, k]; -1 where there is none.
    """

    query: Ints
    left: Ints
    right: Ints
    choice: NDArray[np.float64]
    judges: Ints
    set: Ints
    trial: Ints
    judge: Ints
    others: Ints = field(default_factory=lambda: np.full((0, 0), -1))

    def __post_init__(self) -> None:
        if len(self.others) != len(self.query):
            object.__setattr__(self, "others", np.full((len(self.query), 0), -1))

    def __len__(self) -> int:
        return len(self.query)

    def __getitem__(self, rows: NDArray[Any]) -> "Triplets":
        return Triplets(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @property
    def images(self) -> NDArray[np.int64]:
        """The three image columns [n, 3]."""
        return np.stack([self.query, self.left, self.right], axis=1)

    @property
    def unordered(self) -> Ints:
        """A number for each triplet, whichever way round it was shown [n]."""
        low, high = np.minimum(self.left, self.right), np.maximum(self.left, self.right)
        return (self.query << 42) + (low << 21) + high  # two million images fit

    def swapped(self, rows: NDArray[np.bool_]) -> "Triplets":
        """The same judgements with left and right exchanged in some rows."""
        return replace(
            self,
            left=np.where(rows, self.right, self.left),
            right=np.where(rows, self.left, self.right),
            choice=np.where(rows, 1 - self.choice, self.choice),
        )

    def relabelled(self, image: Ints) -> "Triplets":
        """The same judgements over another image table: image i becomes `image[i]`; its last entry is for -1."""
        columns = {name: image[getattr(self, name)] for name in ("query", "left", "right", "others")}
        return replace(self, **columns)

    @classmethod
    def concatenated(cls, parts: "Sequence[Triplets]") -> "Triplets":
        """One after the other; `others` as wide as the widest."""
        width = max(part.others.shape[1] for part in parts)
        wide = [
            replace(part, others=np.pad(part.others, ((0, 0), (0, width - part.others.shape[1])), constant_values=-1))
            for part in parts
        ]
        return cls(**{one.name: np.concatenate([getattr(part, one.name) for part in wide]) for one in fields(cls)})

    @property
    def cluster(self) -> Ints:
        """What is really independent: the judgement trial where known, else all rows with the same query [n]."""
        return np.where(self.trial >= 0, self.trial, -1 - self.query)


@dataclass(frozen=True)
class Count:
    """How much of a release is there, against what is published of it; a difference is told, never an error.

    Attributes:
        of: a set or a release.
        what: is counted.
        found, published: how many.
        rounded: the publication gives hundreds.
    """

    of: str
    what: str
    found: int
    published: int
    rounded: bool = False

    @property
    def complete(self) -> bool:
        return abs(self.found - self.published) <= (50 if self.rounded else 0)

    def __str__(self) -> str:
        published = f"{'about ' if self.rounded else ''}{self.published:,}"
        if self.found > self.published and not self.complete:
            return f"{self.of}: {self.found:,} {self.what}, and {published} are published: it is another version"
        return f"{self.of}: {self.found:,} of {published} published {self.what}"


@dataclass(frozen=True)
class Judgements:
    """What a source gives: image files and triplets over them.

    Attributes:
        name: what to call the source in tables.
        folder: where the image files lie.
        images: their paths relative to the folder, sorted; the name of an image everywhere.
        triplets: the judgements.
        sets: names of the evaluation sets.
        simulated: the judges were simulated; whatever shows these judgements says so.
        locate: says where a triplet comes from (file and row), for error messages.
        files: where each image lies, if not at `folder / name`.
        by: what fit, validation and test must not share: "image", "trial", or "either": images where that is possible.
        size: triplets of each set that are evaluated, None for all.
        seed: of their draw.
        parts: the sources that this one joins, in order; empty for a source of its own.
        counts: how much of what is published was read; empty where nothing is published.
        same_size: the three images of a triplet are patches of one size; of a join, each part says so itself.
    """

    name: str
    folder: Path
    images: tuple[str, ...]
    triplets: Triplets
    sets: tuple[str, ...]
    simulated: bool = False
    locate: Callable[[int], str] | None = None
    files: tuple[Path, ...] | None = None
    by: Literal["either", "image", "trial"] = "either"
    size: int | None = None
    seed: int = 0
    parts: "tuple[Judgements, ...]" = ()
    counts: tuple[Count, ...] = ()
    same_size: bool = False

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where the image files lie, one for each name of `images`."""
        return self.files or tuple(self.folder / name for name in self.images)

    def fingerprint(self, contents: Sequence[str]) -> str:
        """SHA-256 over what the images contain (hashes by image row) and what people answered."""
        total = hashlib.sha256()
        for name, content in zip(self.images, contents, strict=True):
            total.update(f"{name}\0{content}\n".encode())
        total.update("\0".join(self.sets).encode())
        for one in fields(Triplets):
            total.update(np.ascontiguousarray(getattr(self.triplets, one.name)).tobytes())
        return total.hexdigest()


def joined(name: str, parts: Sequence[Judgements]) -> Judgements:
    """Several sources as one: an image is called `<source>/<its name>`, a set keeps its name.

    Trials get numbers of their own; people keep theirs, so that somebody who took part in two studies is one person.
    """
    triplets, images, sets, trials = [], 0, 0, 0
    for part in parts:
        own = part.triplets.relabelled(np.append(np.arange(len(part.images)) + images, -1))
        trial = np.where(own.trial >= 0, own.trial + trials, -1)
        triplets.append(replace(own, set=own.set + sets, trial=trial))
        images, sets = images + len(part.images), sets + len(part.sets)
        trials = int(max(trials, trial.max(initial=-1) + 1))
    starts = np.cumsum([0, *(len(part.triplets) for part in parts)])

    def locate(row: int) -> str:
        which = int(np.searchsorted(starts, row, side="right")) - 1
        own = parts[which].locate
        return own(row - int(starts[which])) if own else parts[which].name

    return Judgements(
        name=name,
        folder=parts[0].folder.parent,
        images=tuple(f"{part.name}/{image}" for part in parts for image in part.images),
        triplets=Triplets.concatenated(triplets),
        sets=tuple(one for part in parts for one in part.sets),
        simulated=any(part.simulated for part in parts),
        locate=locate,
        files=tuple(path for part in parts for path in part.paths),
        parts=tuple(parts),
        counts=tuple(count for part in parts for count in part.counts),
    )


def text_key(text: str) -> int:
    """64 bits of a text's SHA-256: an id that is the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def mixed(*columns: int | NDArray[Any]) -> NDArray[np.uint64]:
    """64 bits that look random but hang on the rows alone, by splitmix64 (Steele, Lea and Flood 2014) [n].

    What is drawn this way for a row does not depend on the other rows, their order or their number.
    """
    state = np.zeros(1, dtype=np.uint64)
    for column in columns:
        value = np.asarray(column % (1 << 64) if isinstance(column, int) else column)
        state = state ^ value.astype(np.uint64)
        state = state + np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
        state = state ^ (state >> np.uint64(31))
    return state
