"""Made-up studies whose truth is known: to test what is concluded from answers, and to plan."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from analysis.answers import LEFT, RIGHT, Answers
from humansim.backbones import Pretraining, backbone
from humansim.published import BACKBONES, BASE_MODELS, PARADIGMS, RELEASES
from humansim.sources.study import SETS
from humansim.spec import Variant

MEASURE = "cosine"
LOWEST, HIGHEST = 0.25, 0.75  # 2AFC score of a model that always answers as few, or as most, of all people would


def planted(
    scores: Mapping[str, float] | Mapping[tuple[str, str], Mapping[str, float]],
    rng: np.random.Generator,
    *,
    sets: Sequence[str] = ("one/set",),
    queries: int = 1000,
    triplets: int = 1,
    judges: int = 5,
    alike: float = 0.5,
    within: float = 0.0,
    flips: float = 0.0,
    repeats: int = 1,
    between: float = 0.0,
) -> Answers:
    """Answers of models whose true 2AFC scores are given.

    How many people prefer the popular image of a triplet is uniform between a half and all; `judges` of them vote. A
    model sides with the popular image if a normal variable, made up of the parts below, falls under a threshold.

    Args:
        scores: cell -> true 2AFC score on every set, from LOWEST to HIGHEST; or (cell, measure) -> set -> score.
        sets: those with the same name before the slash have their queries in common.
        queries: in each set.
        triplets: of each query, each of a judgement trial of its own.
        alike: share of that variable's variance which models have in common: what is hard for one is for others.
        within: share that a model has in common over all triplets of a query: these are not independent.
        flips: share that is drawn anew in each repeat.
        repeats: trainings of each cell; more than one makes it a fine-tuned one.
        between: standard deviation of the true score between repeats.
    """
    names = tuple(sets)
    releases = list(dict.fromkeys(name.partition("/")[0] for name in names))
    release = np.array([releases.index(name.partition("/")[0]) for name in names])
    each = queries * triplets
    n, pool = each * len(names), queries * len(releases)
    of_set = np.repeat(np.arange(len(names)), each)
    query = release[of_set] * queries + np.tile(np.repeat(np.arange(queries), triplets), len(names))
    popular = rng.integers(0, 2, n)  # 0: left
    votes = rng.binomial(judges, rng.uniform(0.5, 1, n)) / judges
    common = rng.standard_normal(n)
    rows: dict[tuple[str, str], int] = {}
    nearer: list[NDArray[np.uint8]] = []
    cells: dict[str, tuple[str, ...]] = {}
    for key, given in scores.items():
        cell, measure = (key, MEASURE) if isinstance(key, str) else key
        score = np.array([given[name] if isinstance(given, Mapping) else given for name in names])[of_set]
        own, of_query = rng.standard_normal(n), rng.standard_normal(pool)[query]
        fixed = np.sqrt(alike) * common + np.sqrt(within) * of_query + np.sqrt(1 - alike - within - flips) * own
        cells[cell] = tuple(f"{cell}#{r}" for r in range(repeats))
        for trial in cells[cell]:
            share = 2 * (score + between * rng.standard_normal()) - 0.5
            agrees = fixed + np.sqrt(flips) * rng.standard_normal(n) < norm.ppf(share)
            rows[trial, measure] = len(nearer)
            nearer.append(np.where(agrees == popular, RIGHT, LEFT).astype(np.uint8))
    return Answers(
        sets=names,
        set=of_set,
        choice=np.where(popular == 1, votes, 1 - votes),
        judges=np.full(n, judges),
        judgement=np.arange(n),
        query=query,
        rows=rows,
        nearer=np.stack(nearer),
        repeats=cells,
        trained=frozenset(cells) if repeats > 1 else frozenset(),
    )


def planted_study(
    score: Callable[[Mapping[str, Any], str, str], float],
    rng: np.random.Generator,
    *,
    backbones: Sequence[str] = BACKBONES,
    fitted: Sequence[str] = (),
    sets: Sequence[str] = SETS,
    **shape: Any,
) -> tuple[pd.DataFrame, Answers]:
    """The study with answers made up: `trials` as the sweep `pretrained` gives them, or as `thesis` does.

    Args:
        score: from a trial's row, a set and a measure to the true 2AFC score.
        backbones: which have finished.
        fitted: protocols under which the base models among them were fine-tuned, with each paradigm on each release; if
            none, they were evaluated as pretrained, by three measures.
        shape: as of `planted`.
    """
    rows: list[dict[str, Any]] = []
    for name in backbones:
        facts = backbone.facts(Variant(name))
        learnt: Pretraining = facts["pretraining"]
        known: dict[str, Any] = {key: facts[key] for key in ("architecture", "family")}
        known |= {f"pretraining.{key}": value for key, value in asdict(learnt).items()}
        known |= {"pretraining.language": learnt.language, "model": name, "source": "study", "measure": MEASURE}
        known |= {"seed": 0, "validation": np.nan, "finished": 0, "simulated": False, "contaminated": False}
        for protocol in fitted or ("all",):
            rows.append({**known, "kind": "pretrained", "protocol": protocol, "paradigm": None, "fit_on": None})
            if fitted and name in BASE_MODELS:
                leaks = protocol == "thesis"
                rows += [
                    rows[-1]
                    | {"kind": "contaminated" if leaks else "fine-tuned", "contaminated": leaks}
                    | {"paradigm": paradigm, "fit_on": release}
                    for paradigm in PARADIGMS
                    for release in RELEASES
                ]
    measures = (MEASURE,) if fitted else (MEASURE, "l2", "l1")
    for row in rows:
        named = [row[key] for key in ("model", "paradigm", "fit_on", "protocol") if row[key] is not None]
        row["cell"] = " ".join(named)
    true = {(row["cell"], m): {name: score(row, name, m) for name in sets} for row in rows for m in measures}
    answers = planted(true, rng, sets=sets, **shape)
    return pd.DataFrame(rows, index=pd.Index([f"{row['cell']}#0" for row in rows], name="trial")), answers
