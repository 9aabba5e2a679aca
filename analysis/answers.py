"""The two tables that everything here reads: what each trial was, and what each model answered to each test triplet.

`read` takes them from MLflow, out of one store or out of several: two labs' halves of a sweep merge by trial id, and
what contradicts itself is refused.
"""

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from humansim import tables
from humansim.errors import BadInput
from humansim.plan import spelt_out
from humansim.results import Result
from humansim.scores import Floats, ceilings, credit
from humansim.spec import Trial

LEFT, RIGHT, TIED, UNASKED = range(4)

Cell = tuple[str, str]  # what trials that differ only in their seed have in common (column `cell`), and a measure


@dataclass(frozen=True)
class Answers:
    """Which image each model found nearer to the query: every test triplet, trial and measure.

    An answer is a byte. Credit follows from it and from people's choice, exactly.

    Attributes:
        sets: names of the evaluation sets.
        set: row of `sets` that each triplet belongs to [n].
        choice: share of people who chose right [n], in [0, 1].
        judges: how many people that is [n]; 0 where unknown.
        judgement: equal for triplets of one judgement trial (of one query where trials are unknown) [n], from 0.
        query: equal for triplets with the same query image [n], from 0.
        rows: (trial id, measure) -> row of `nearer`.
        nearer: LEFT, RIGHT, TIED, or UNASKED where the trial was not evaluated on the triplet [rows, n], uint8.
        repeats: cell -> the ids of its trials, which differ only in their seed.
        trained: cells that were fine-tuned, so that another seed would give another model.
    """

    sets: tuple[str, ...]
    set: NDArray[np.integer]
    choice: Floats
    judges: NDArray[np.integer]
    judgement: NDArray[np.integer]
    query: NDArray[np.integer]
    rows: Mapping[tuple[str, str], int]
    nearer: NDArray[np.uint8]
    repeats: Mapping[str, tuple[str, ...]]
    trained: frozenset[str]

    def asked(self, trial: str, measure: str) -> NDArray[np.bool_]:
        """Which triplets a trial answered under a measure [n].

        Raises:
            BadInput: it was not scored by this measure.
        """
        return np.asarray(self.nearer[self._row(trial, measure)] != UNASKED)

    def credit(self, trial: str, measure: str) -> Floats:
        """Soft credit of each answer (`scores.credit`) [n], in [0, 1]; NaN where the trial was not asked."""
        nearer = self.nearer[self._row(trial, measure)]
        earned = credit(nearer == RIGHT, nearer == LEFT, self.choice)
        earned[nearer == UNASKED] = np.nan
        return earned

    def scores(self) -> pd.DataFrame:
        """A row for each trial, measure and set: cell, trial, measure, set, score (2AFC, in [0, 1]) and n."""
        cell_of = {trial: cell for cell, trials in self.repeats.items() for trial in trials}
        found = []
        for (trial, measure), row in self.rows.items():
            asked = self.nearer[row] != UNASKED
            count = np.bincount(self.set[asked], minlength=len(self.sets))
            total = np.bincount(self.set[asked], self.credit(trial, measure)[asked], len(self.sets))
            found += [
                (cell_of[trial], trial, measure, self.sets[s], total[s] / count[s], int(count[s]))
                for s in np.flatnonzero(count)
            ]
        return pd.DataFrame(found, columns=["cell", "trial", "measure", "set", "score", "n"])

    def people(self) -> pd.DataFrame:
        """What people themselves reach (`scores.ceilings`): a row for each set, its name the index."""
        found = {}
        for s, name in enumerate(self.sets):
            here = self.set == s
            found[name] = {**vars(ceilings(self.choice[here], self.judges[here])), "n": int(here.sum())}
        return pd.DataFrame.from_dict(found, orient="index")

    def _row(self, trial: str, measure: str) -> int:
        row = self.rows.get((trial, measure))
        if row is None:
            known = sorted(m for t, m in self.rows if t == trial)
            raise BadInput(
                f"trial {trial} has no answers by {measure!r}; it was scored by {', '.join(known)}"
                if known
                else f"trial {trial} has no answers here"
            )
        return row


def read(*stores: tuple[str, str]) -> tuple[pd.DataFrame, Answers]:
    """The finished trials of sweeps, as MLflow has them; each once, however many stores have it.

    Args:
        stores: tracking URI and sweep's name, each.

    Returns:
        `trials` (`facts`), by trial id, and the answers to their test triplets.

    Raises:
        BadInput: a store or a sweep is not there, nothing has finished, or what is there does not go together.
    """
    from humansim import tracked

    return gathered(
        (f"{name} in {uri}", result, answers) for uri, name in stores for result, answers in tracked.read(uri, name)
    )


@dataclass
class _Data:
    """The triplets of one source's data, as far as trials have been seen to answer them."""

    known: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    frames: list[pd.DataFrame] = field(default_factory=list)

    def learn(self, frame: pd.DataFrame) -> None:
        triplet = frame["triplet"].to_numpy()
        if len(triplet) == len(self.known) and (triplet == self.known).all():
            return
        new = ~np.isin(triplet, self.known)
        if new.any():
            columns = ["triplet", "set", "query", "choice", "judges", "cluster"]
            self.frames.append(frame.loc[new, columns])
            self.known = np.union1d(self.known, triplet[new])


@dataclass(frozen=True)
class _Sheet:
    """One trial's answers: row numbers of its data's triplets [n], and by measure which was nearer [n]."""

    origin: str
    result: Result
    triplet: NDArray[np.int64]
    nearer: dict[str, NDArray[np.uint8]]

    @property
    def data(self) -> str:
        return str(self.result.provenance["data"])


def gathered(found: Iterable[tuple[str, Result, pd.DataFrame]]) -> tuple[pd.DataFrame, Answers]:
    """The tables out of results, each with where it comes from and its answers (`train.score`).

    Raises:
        BadInput: there are none; one trial has two outcomes; one set or one backbone stands for two things.
    """
    sheets: dict[str, _Sheet] = {}
    datas: dict[str, _Data] = {}
    for origin, result, frame in found:
        trial = result.trial.id
        if trial in sheets:
            _check_same(sheets[trial], origin, result)
            continue
        test = frame[frame["part"] == "test"]
        sheets[trial] = _Sheet(origin, result, test["triplet"].to_numpy(np.int64), _nearer(test))
        datas.setdefault(sheets[trial].data, _Data()).learn(test)
    if not sheets:
        raise BadInput("no trial has finished: there is nothing to analyse yet")
    sheets = {trial: sheets[trial] for trial in sorted(sheets)}
    _check_unmixed(sheets.values(), datas)
    named = {axis for sheet in sheets.values() for axis in sheet.result.trial.settings()}
    varied = {axis for axis in named if axis.startswith(ARGUMENTS)}
    rows = [facts(sheet.result, sheet.origin) | _defaults(sheet.result.trial, varied) for sheet in sheets.values()]
    return pd.DataFrame(rows).set_index("trial"), _joined(sheets, datas)


def _defaults(trial: Trial, axes: Collection[str]) -> dict[str, Any]:
    """Arguments of a trial's parts among these axes, at their default where left out; none of parts from elsewhere."""
    with contextlib.suppress(BadInput):
        return {axis: value for axis, value in spelt_out(trial, axes).items() if axis in axes}
    return {}


def _nearer(frame: pd.DataFrame) -> dict[str, NDArray[np.uint8]]:
    found = {}
    for column in frame.columns:
        measure = str(column).removeprefix("to_left_")
        if measure != column:
            left, right = frame[column].to_numpy(), frame[f"to_right_{measure}"].to_numpy()
            answer = np.where(right < left, RIGHT, np.where(left < right, LEFT, TIED))
            found[measure] = answer.astype(np.uint8)
    return found


def _joined(sheets: Mapping[str, _Sheet], datas: Mapping[str, _Data]) -> Answers:
    tables_of = {key: pd.concat(data.frames).sort_values("triplet") for key, data in datas.items()}
    start = dict(zip(tables_of, np.cumsum([0, *map(len, tables_of.values())]), strict=False))
    whole = pd.concat(tables_of, names=["data"]).reset_index(level="data")
    sets = tuple(whole["set"].drop_duplicates())
    rows = [(trial, measure) for trial, sheet in sheets.items() for measure in sheet.nearer]
    nearer = np.full((len(rows), len(whole)), UNASKED, dtype=np.uint8)
    for row, (trial, measure) in enumerate(rows):
        sheet = sheets[trial]
        place = start[sheet.data] + np.searchsorted(tables_of[sheet.data]["triplet"].to_numpy(), sheet.triplet)
        nearer[row, place] = sheet.nearer[measure]
    repeats: dict[str, tuple[str, ...]] = {}
    for trial, sheet in sheets.items():
        cell = cell_of(sheet.result.trial)
        repeats[cell] = (*repeats.get(cell, ()), trial)
    return Answers(
        sets=sets,
        set=pd.Categorical(whole["set"], categories=sets).codes,
        choice=whole["choice"].to_numpy(np.float64),
        judges=whole["judges"].to_numpy(),
        judgement=whole.groupby(["data", "cluster"], sort=False).ngroup().to_numpy(),
        query=whole.groupby(["data", "query"], sort=False).ngroup().to_numpy(),
        rows={pair: row for row, pair in enumerate(rows)},
        nearer=nearer,
        repeats=repeats,
        trained=frozenset(cell_of(s.result.trial) for s in sheets.values() if s.result.trial.paradigm is not None),
    )


ARGUMENTS = ("paradigm.", "tuning.")
AXES = (
    *("fit_on", "protocol", "source", "source.size", "resolution", "resize", "layer", "pool", "precision", "tuning"),
    *("head", "optimizer", "lr", "epochs", "batch_size", "batch_norm", "fit_size", "workers"),
)


def cell_of(trial: Trial) -> str:
    """What trials that differ only in their seed have in common: the id of the one whose seed is 0."""
    return trial.having({"seed": 0}).id


def facts(result: Result, origin: str = "") -> dict[str, Any]:
    """A row of `trials`.

    trial (its id), cell, model (backbone and arguments), kind (`tables.kind`), every axis by its name (`lr`,
    `paradigm.margin`; `Trial.settings`), family, features, parameters (millions), pretraining.supervision, .method,
    .data, .images, .language; measure (the one that is reported), validation (mean 2AFC score by it, NaN without a
    validation part); simulated (the judges), contaminated, shared.test.images and so on (the leakage audit's counts),
    images.test and so on (how many there are), split; data and weights (fingerprints), weights.origin, device,
    version.python and so on; seconds, seconds.train and so on, peak_memory (bytes), epochs_run, finished (milliseconds
    since 1970); origin (sweep and store).
    """
    trial, made = result.trial, result.provenance
    known = dict(made.get("backbone", {}))
    learnt = known.pop("pretraining", None) or {}
    shared = made.get("shared", {})
    return {
        "trial": trial.id,
        "cell": cell_of(trial),
        "model": str(trial.backbone),
        "kind": tables.kind(result),
        **trial.settings(),
        **known,
        **{f"pretraining.{name}": value for name, value in learnt.items()},
        "measure": result.measure,
        "validation": result.mean("validation"),
        "simulated": made["simulated_judges"],
        "contaminated": bool(shared.get("contaminated")),
        "split": shared.get("split"),
        **{f"images.{part}": n for part, n in shared.get("images", {}).items()},
        **{f"shared.{part}.{what}": n for part in ("validation", "test") for what, n in shared.get(part, {}).items()},
        "data": made["data"],
        "weights": made["weights"]["fingerprint"],
        "weights.origin": made["weights"]["origin"],
        "device": made.get("device"),
        **{f"version.{name}": version for name, version in made.get("versions", {}).items()},
        "seconds": sum(result.seconds.values()),
        **{f"seconds.{name}": value for name, value in result.seconds.items()},
        "peak_memory": result.peak_memory,
        "epochs_run": len(result.history),
        "finished": result.finished,
        "origin": origin,
    }


def cells(trials: pd.DataFrame, measure: str | None = None) -> list[Cell]:
    """The cells of some rows of `trials`, each once: what contrasts are made of (`stats.mean`).

    Args:
        measure: None for the one that each reports.
    """
    named = zip(trials["cell"], trials["measure"] if measure is None else [measure] * len(trials), strict=True)
    return list(dict.fromkeys(named))


def axes(trials: pd.DataFrame) -> list[str]:
    """The columns of `trials` that are settings by which cells of one model may differ."""
    arguments = sorted(str(name) for name in trials if str(name).startswith(ARGUMENTS))
    return [axis for axis in ("paradigm", *arguments, *AXES) if axis in trials]


def chosen(trials: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Of the cells that are alike in the columns `by`, the one that a search chose: the best validation score.

    A cell's score is that of its lowest seed, by which it was chosen; of equals, and where there is no validation, the
    cell whose trial's id comes first. All its repeats are kept.
    """
    first = trials.sort_values("seed").drop_duplicates("cell") if "seed" in trials else trials
    best = first.sort_index().sort_values("validation", ascending=False, kind="stable").drop_duplicates(list(by))
    return trials[trials["cell"].isin(best["cell"])]


def equals(trials: pd.DataFrame, validation: float) -> int:
    """How many cells have just this validation score by their lowest seed, by which they are chosen."""
    first = trials.sort_values("seed").drop_duplicates("cell") if "seed" in trials else trials.drop_duplicates("cell")
    return int((first["validation"] == validation).sum())


def _check_same(known: _Sheet, origin: str, result: Result) -> None:
    """Refuses a second outcome of one trial that is not the first one's."""
    one, two = known.result, result
    differs = []
    for what, a, b in (
        ("data", one.provenance["data"], two.provenance["data"]),
        ("weights", one.provenance["weights"]["fingerprint"], two.provenance["weights"]["fingerprint"]),
    ):
        if a != b:
            differs.append(f"{what} ({a[:12]} and {b[:12]})")
    scores = [{(s.set, s.part, s.measure): s.score for s in r.scores} for r in (one, two)]
    if scores[0].keys() != scores[1].keys():
        differs.append("the sets and measures that they were scored on")
    elif scores[0] != scores[1]:
        most = max(scores[0], key=lambda key: abs(scores[0][key] - scores[1][key]))
        differs.append(f"scores ({most[0]}, {most[1]}, {most[2]}: {scores[0][most]:.4f} and {scores[1][most]:.4f})")
    if differs:
        devices = " and ".join(str(r.provenance.get("device")) for r in (one, two))
        raise BadInput(
            f"trial {one.trial.id} ({one.trial.backbone}, {one.trial.paradigm or 'pretrained'}) has two outcomes, in "
            f"{known.origin} and in {origin}, run on {devices}; they differ in {', '.join(differs)}: delete its run "
            "from one of the two"
        )


def _check_unmixed(sheets: Iterable[_Sheet], datas: Mapping[str, _Data]) -> None:
    """Refuses one name for two things: a set of different judgements, a backbone of different weights."""
    sets = {
        key: sorted({str(name) for frame in data.frames for name in frame["set"].unique()})
        for key, data in datas.items()
    }
    first: dict[tuple[str, str], _Sheet] = {}
    for sheet in sheets:
        weights = sheet.result.provenance["weights"]["fingerprint"]
        own = {("backbone", str(sheet.result.trial.backbone)): weights}
        own |= {("set", name): sheet.data for name in sets[sheet.data]}
        for (what, name), print_ in own.items():
            other = first.setdefault((what, name), sheet)
            theirs = other.data if what == "set" else other.result.provenance["weights"]["fingerprint"]
            if theirs != print_:
                of = "data" if what == "set" else "weights"
                raise BadInput(
                    f"{what} {name} stands for different {of}: {theirs[:12]} in trial {other.result.trial.id} "
                    f"({other.origin}), {print_[:12]} in trial {sheet.result.trial.id} ({sheet.origin}); analyse them "
                    "apart, or run one side again"
                )
