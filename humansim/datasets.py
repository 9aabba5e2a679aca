"""The evaluation and fine-tuning sets of a source as tables, and what each two of them share."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from humansim.audit import shared
from humansim.errors import BadInput
from humansim.fit_sets import FitSet, Kind, choose_fit
from humansim.images import Store
from humansim.judgements import Judgements
from humansim.root import replaced_whole
from humansim.splits import Split, split

KINDS: tuple[Kind, ...] = ("triplet", "quadruplet", "singleton")
FIT_SIZE = 1000
IMAGE_COLUMNS = ["query", "left", "right", "positive", "negative", "dissimilar", "image"]


def split_of(judgements: Judgements, store: Store, protocol: str) -> Split:
    """The parts under a protocol; images of equal content count as one."""
    return split(judgements, protocol, np.unique(np.asarray(store.contents), return_inverse=True)[1])


def fit_sets(judgements: Judgements, given: Split, size: int = FIT_SIZE) -> dict[str, FitSet]:
    """The fine-tuning sets of the thesis (Table A.1), by name: one of each kind for each release."""
    found = {}
    for origin in dict.fromkeys(name.partition("/")[0] for name in judgements.sets):
        for kind in KINDS:
            found[f"{origin}/{kind}"] = choose_fit(judgements, given, kind, size, fit_on=origin)
    return found


def write_sets(judgements: Judgements, store: Store, protocol: str, folder: Path) -> list[dict[str, Any]]:
    """Writes every evaluation and fine-tuning set as a parquet table under a folder.

    Earlier tables of the same protocol are replaced, all at once or not at all.

    Returns:
        A row for each: set, serves (evaluation or kind of fitting), size, images, of what its content is the SHA-256.

    Raises:
        BadInput: a set would be empty.
    """
    given = split_of(judgements, store, protocol)
    triplets, names = judgements.triplets, np.array(judgements.images, dtype=object)
    tables: dict[tuple[str, str], pd.DataFrame] = {}
    for part, serves in (("test", "evaluation"), ("validation", "validation")):
        for index, name in enumerate(judgements.sets):
            some = triplets[given.parts[part][triplets.set[given.parts[part]] == index]]
            columns = {side: names[getattr(some, side)] for side in ("query", "left", "right")}
            tables[serves, name] = pd.DataFrame(
                columns | {"choice": some.choice, "judges": some.judges, "trial": some.trial, "judge": some.judge}
            )
    for name, chosen in fit_sets(judgements, given).items():
        heads = ("image",) if chosen.images.shape[1] == 1 else ("query", "positive", "negative", "dissimilar")
        images = {head: names[chosen.images[:, i]] for i, head in enumerate(heads[: chosen.images.shape[1]])}
        tables["fit", name] = pd.DataFrame(images)
    for (serves, name), table in tables.items():
        if serves == "evaluation" and table.empty:
            raise BadInput(f"{judgements.name}: nothing of {name} is left to evaluate on under {protocol!r}")
    rows = []
    with replaced_whole(folder / protocol) as aside:
        for (serves, name), table in tables.items():
            file = aside / serves / f"{name.replace('/', '-')}.parquet"
            file.parent.mkdir(exist_ok=True)
            table.to_parquet(file, index=False)
    for (serves, name), table in tables.items():
        used = np.unique(table.filter(items=IMAGE_COLUMNS).to_numpy(dtype=str))
        text = table.to_csv(index=False, lineterminator="\n")
        rows.append(
            {
                "set": name,
                "serves": serves,
                "size": len(table),
                "images": len(used),
                "sha256": hashlib.sha256(text.encode()).hexdigest()[:16],
            }
        )
    return rows


def audit_sets(judgements: Judgements, store: Store, protocol: str) -> list[dict[str, Any]]:
    """What each fine-tuning set shares with each evaluation set, counted: one row a pair."""
    given = split_of(judgements, store, protocol)
    member = judgements.triplets.set[given.parts["test"]]
    rows = []
    for fit, chosen in fit_sets(judgements, given).items():
        for index, name in enumerate(judgements.sets):
            test = given.parts["test"][member == index]
            if len(test) == 0:
                raise BadInput(f"{judgements.name}: nothing of {name} is left to evaluate on under {protocol!r}")
            rows.append({"fit": fit, "evaluation": name, **shared(judgements.triplets, chosen, test, store)})
    return rows
