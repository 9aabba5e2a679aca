"""What MLflow shows of a trial: the name of its run, final metrics, tags. Plain data; `tracking` writes it."""

import re
from collections.abc import Collection
from typing import Any

from humansim.results import Pruned, Result
from humansim.spec import Trial


def run_name(trial: Trial, base: Trial, without: Collection[str] = ()) -> str:
    """A name a person can read: backbone, paradigm, and in what the trial differs from the sweep's base.

    Args:
        without: fields that are left out, of a backbone or paradigm its arguments: what the trials of a cell have in
            common, for MLflow to group them by.
    """
    # Without a paradigm the base would not show what it says of training.
    alike = base if trial.paradigm is None else base.having({"paradigm": trial.paradigm, "protocol": trial.protocol})
    before, settings = alike.identity(), trial.identity()
    parts = [
        trial.backbone.name if "backbone" in without else str(trial.backbone),
        "pretrained"
        if trial.paradigm is None
        else str(trial.paradigm.name if "paradigm" in without else trial.paradigm),
    ]
    for axis in settings:
        value = getattr(trial, axis)
        if axis not in ("backbone", "paradigm", *without) and settings[axis] != before.get(axis):
            parts.append(f"{axis}={value:.3g}" if isinstance(value, float) else f"{axis}={value}")
    return " ".join(parts)


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
