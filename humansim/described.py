"""What MLflow shows of a trial: the name of its run, final metrics, tags. Plain data; `tracking` writes it."""

import re
from collections.abc import Collection
from typing import Any

from humansim.results import Pruned, Result
from humansim.spec import Trial, Variant

PLAIN = ("source", "protocol", "precision", "fit_on", "tuning", "optimizer")  # their values say which field they are of
SHORT = {"epochs": "e", "batch_size": "b", "seed": "s"}


def run_name(trial: Trial, base: Trial, searched: Collection[str] = ()) -> str:
    """A name a person can read, what differs first, for MLflow's table shows some twenty characters of it.

    What the search chose for it and its seed, and then its cell: "lr=1.5e-5 s1 · triplet margin=0.5 · resnet50".

    Args:
        base: of the sweep, its parts in their normal form (`plan.base_of`).
        searched: the axes that the sweep searches.
    """
    settings = trial.settings()
    own = [_said(axis.rpartition(".")[2], settings[axis]) for axis in searched if axis in settings]
    if trial.paradigm is not None and (trial.seed != base.seed and "seed" not in searched):
        own.append(_said("seed", trial.seed))
    return " · ".join(filter(None, [" ".join(own), cell_name(trial, base, searched)]))


def cell_name(trial: Trial, base: Trial, searched: Collection[str] = ()) -> str:
    """What the trials of a cell have in common: paradigm, in what they differ from the sweep's base, and backbone."""
    # Without a paradigm the base would not show what it says of training.
    alike = base if trial.paradigm is None else base.having({"paradigm": trial.paradigm, "protocol": trial.protocol})
    before, settings, own = alike.identity(), trial.identity(), {"seed", *searched}
    parts = [
        _said(field, getattr(trial, field), own)
        for field in settings
        if field not in ("backbone", "paradigm", *own) and settings[field] != before.get(field)
    ]
    backbone = [] if "backbone" in own else [_part(trial.backbone, "backbone", own)]
    if trial.paradigm is None:
        return " · ".join([*backbone, *parts, "pretrained"])
    paradigm = [] if "paradigm" in own else [_part(trial.paradigm, "paradigm", own)]
    return " · ".join([*paradigm, *parts, *backbone])


def _said(field: str, value: object, own: Collection[str] = ()) -> str:
    """A field's value, with as little of the field's name as is understood."""
    if isinstance(value, Variant):
        text = _part(value, field, own)
    elif isinstance(value, float):
        text = re.sub(r"e([+-])0", r"e\1", f"{value:.3g}")
    else:
        text = str(value)
    if field in SHORT:
        return SHORT[field] + text
    return text if field in PLAIN else f"{field}={text}"


def _part(part: Variant, field: str, own: Collection[str]) -> str:
    given = (f"{name}={value}" for name, value in sorted(part.kwargs.items()) if f"{field}.{name}" not in own)
    return " ".join([part.name, *given])


def final_metrics(result: Result) -> dict[str, float]:
    """What a finished run shows: means over sets, every set and measure on the test part, ceilings.

    MLflow makes a section of charts of what stands before the last slash, in alphabetical order.
    """
    metrics = {"2afc/test": result.mean("test"), "2afc/validation": result.mean("validation")}
    tested = [score for score in result.scores if score.part == "test"]
    for score in tested:
        metrics[_metric_name(f"2afc/{score.measure}/{score.set}")] = score.score
    for name in ("fresh_judge", "best"):
        of_sets = [getattr(s, name) for s in tested if s.measure == result.measure and getattr(s, name) is not None]
        if of_sets:
            metrics[f"ceiling/{name}"] = sum(of_sets) / len(of_sets)
    metrics["cost/seconds"] = sum(result.seconds.values())
    metrics["cost/peak_memory_gib"] = result.peak_memory / 2**30
    return {name: value for name, value in metrics.items() if value == value}


def _metric_name(name: str) -> str:
    return re.sub(r"[^\w\-. /]", "_", name)


def origins_of(outcome: Result | Pruned) -> dict[str, str]:
    """Whose the judgements are, and which weights and data it came of; nothing of what failed later."""
    made = outcome.provenance
    if not made:
        return {}
    judges = "simulated judges" if made["simulated_judges"] else "people"
    return {"judges": judges, "weights": made["weights"]["origin"], "data": made["data"][:16]}


def facts_of(result: Result) -> dict[str, str]:
    """What the backbone is and has learnt from, as tags to filter and group by."""
    facts: dict[str, Any] = dict(result.provenance.get("backbone", {}))
    learnt = facts.pop("pretraining", None) or {}
    named = {f"backbone.{key}": value for key, value in facts.items()}
    named |= {f"pretraining.{key}": value for key, value in learnt.items()}
    return {key: str(value) for key, value in named.items() if value is not None}
