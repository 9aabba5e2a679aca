"""How a report's numbers were made: what fit and test shared, with what and for how long, and what is missing."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.verdict import Verdict
from humansim.tables import counted


@dataclass(frozen=True)
class Store:
    """A sweep in one tracking store.

    Attributes:
        uri: of the store.
        opens: the command that shows its runs at `page`; empty where they are there all the time.
        page: address of the sweep's experiment in MLflow's pages.
        runs: trial -> id of its run.
    """

    uri: str
    opens: str
    page: str
    runs: Mapping[str, str]


@dataclass(frozen=True)
class Swept:
    """A sweep, as the report tells of it.

    Attributes:
        name: of the sweep.
        question: what it is to find out.
        digest: SHA-256 of what it says, its first digits; empty if its definition is not at hand.
        command: that runs what is missing of it.
        planned: trials in all; None if its definition is not at hand.
        finished: trials that have.
        lacking: what is missing, and how many trials that is: ("resnet50 triplet, failed", 3).
        stores: where it was read.
        searched: axes whose values a search chose inside each cell.
    """

    name: str
    question: str
    digest: str
    command: str
    planned: int | None
    finished: int
    lacking: tuple[tuple[str, int], ...]
    stores: tuple[Store, ...]
    searched: tuple[str, ...] = ()


def opens(sweeps: Sequence[Swept]) -> list[str]:
    """The commands that have to run for links to runs to lead somewhere, one for each store that is no server."""
    return list(dict.fromkeys(store.opens for one in sweeps for store in one.stores if store.opens))


def audit(trials: pd.DataFrame) -> list[tuple[str, int, str]]:
    """Protocol, its fine-tuned trials, and what their training data shared with their test data at most."""
    if "paradigm" not in trials:
        return []
    trained = trials[trials["paradigm"].notna()]
    found = []
    for protocol, own in trained.groupby("protocol"):
        shared = {
            what: int(own[f"shared.test.{what}"].max())
            for what in ("trials", "triplets", "images", "near_duplicates")
            if f"shared.test.{what}" in own and own[f"shared.test.{what}"].notna().any()
        }
        of_all = {"images": images(shared["images"], own)} if "images" in shared else {}
        told = [
            f"{of_all.get(what, f'{count:,}')} {what.replace('_', ' ')[: None if count > 1 else -1]}"
            for what, count in shared.items()
            if count
        ]
        found.append((str(protocol), len(own), ", ".join(told) or "nothing"))
    return found


def images(count: int, own: pd.DataFrame) -> str:
    """Images that are shared, of how many on test: "40 of 40"; of older results that is not known."""
    most = own[own["shared.test.images"] == count]
    every = most["images.test"].min() if "images.test" in own else np.nan
    return f"{count:,}" if np.isnan(every) else f"{count:,} of {every:,.0f}"


def made(trials: pd.DataFrame) -> list[tuple[str, str]]:
    """How it was made: what ran it, with which seeds, for how long."""
    versions = {
        str(column).removeprefix("version."): ", ".join(sorted({str(v) for v in trials[column].dropna()}))
        for column in trials
        if str(column).startswith("version.")
    }
    devices = trials.groupby(trials["device"].fillna("unknown").astype(str))["seconds"].agg(["sum", "count"])
    hours = [
        f"{name}: {row['sum'] / 3600:,.2f} h in {counted(int(row['count']), 'trial')}"
        for name, row in devices.iterrows()
    ]
    gpus = [name for name in devices.index if not name.startswith(("cpu", "unknown"))]
    spent = devices.loc[gpus or devices.index, "sum"].sum() / 3600
    kind = "GPU" if gpus else "CPU" if devices.index.str.startswith("cpu").any() else "device"
    seeds = sorted({int(seed) for seed in trials["seed"].dropna()}) if "seed" in trials else []
    when = [datetime.datetime.fromtimestamp(trials["finished"].agg(end) / 1000, datetime.UTC) for end in ("min", "max")]
    return [
        ("Trials finished", " to ".join(dict.fromkeys(f"{one:%d %B %Y}" for one in when))),
        ("Hardware", "; ".join(hours)),
        (f"{kind}-hours", f"{spent:,.2f}, each trial's own time summed; those that shared a {kind} count in full"),
        ("Seeds of the fine-tunings", ", ".join(map(str, seeds)) or "none: nothing was trained"),
        (
            "Intervals",
            "of 95 %, percentiles of 10,000 resamples, each by itself, not corrected. Resampled are query images with "
            "all their triplets, the same for all models; what other seeds would change is added where a setting was "
            "trained more than once. A gain's is that of the difference on the same triplets, so it is not the "
            "difference of two scores' intervals. Mixed models and the map of the birds make theirs otherwise, as is "
            "said there.",
        ),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items()) or "not recorded"),
        ("Data, SHA-256", ", ".join(sorted({str(data)[:16] for data in trials["data"]}))),
        (
            "Judges",
            "simulated"
            if trials["simulated"].all()
            else "people"
            if not trials["simulated"].any()
            else "some simulated",
        ),
    ]


def missing(trials: pd.DataFrame, judged: Mapping[int, Verdict], left_out: Sequence[str], of_study: bool) -> list[str]:
    """What the report lacks, in sentences."""
    told = []
    lacking: dict[str, list[str]] = {}
    for number, verdict in judged.items():
        for what in verdict.partial:
            lacking.setdefault(what, []).append(f"H{number}")
    told += [f"{', '.join(which)}: {what}" for what, which in lacking.items()]
    if "paradigm" in trials and trials["paradigm"].notna().any():
        repeats = trials[trials["paradigm"].notna()].groupby("cell").size()
        if once := int((repeats == 1).sum()):
            told.append(
                f"Trained once: {once:,} of {counted(len(repeats), 'fine-tuned setting')}; what another seed would "
                "give cannot be told of such."
            )
    elif of_study:
        told.append("Nothing was fine-tuned: H7 to H9 and the leakage need it.")
    return [*told, *left_out]


def partial(sweeps: Sequence[Swept]) -> list[str]:
    """What of the sweeps is missing, a sentence each."""
    told = []
    for one in sweeps:
        if one.planned is None:
            told.append(
                f"{one.name}: {counted(one.finished, 'trial')}; its definition is not at hand, so what is missing is "
                "not known."
            )
        elif one.finished < one.planned:
            told.append(f"{one.name}: {one.finished:,} of {one.planned:,} trials have finished.")
    return told
