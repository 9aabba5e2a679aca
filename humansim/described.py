"""What MLflow shows of a sweep and of a trial: names, tags, final metrics. Plain data; `tracking` writes it."""

import json
import re
from collections.abc import Collection
from typing import Any

from humansim.results import Pruned, Result
from humansim.scores import CHANCE
from humansim.spec import Sweep, Trial, Variant

NAME = 250  # characters of a run's name that a database takes
PLAIN = ("source", "protocol", "precision", "fit_on", "tuning", "optimizer")  # their values say which field they are of
TOLD = ("2afc/validation", "2afc/test")  # metrics that are columns of the views
HOW_TO_READ = """\
*Views*, at the top right: **Scores** puts scores beside what was varied, the best on validation first; **Cells** puts
together what a search tried and repeated (tag `cell`).

- `2afc/validation` is what is chosen on, `2afc/test` what is reported: means over the
  sets, of validation over those that it is fitted on (`fit_on`): compare only where these are the same; chance is 0.5
- `2afc/MEASURE/SET`: one set of the test part; `ceiling/best`: what no metric can exceed
- tags `failure` and `pruned`: why a run did not finish; `judges`: people, or simulated ones"""
SHORT = {"epochs": "e", "batch_size": "b", "seed": "s"}


def run_name(trial: Trial, base: Trial, searched: Collection[str] = ()) -> str:
    """A name a person can read, what differs first, for MLflow's table shows some twenty characters of it.

    Its seed, what the search chose for it, and then its cell: "s1 lr=1.5e-5 · triplet margin=0.5 · resnet50".

    Args:
        base: of the sweep, its parts in their normal form (`plan.base_of`).
        searched: the axes that the sweep searches.
    """
    settings = trial.settings()
    own = [_said(axis.rpartition(".")[2], settings[axis], digits=3) for axis in searched if axis in settings]
    if trial.paradigm is not None and trial.seed != base.seed and "seed" not in searched:
        own.insert(0, _said("seed", trial.seed))
    return " · ".join(filter(None, [" ".join(own), cell_name(trial, base, searched)]))


def cell_name(trial: Trial, base: Trial, searched: Collection[str] = ()) -> str:
    """What the trials of a cell have in common: paradigm, in what they differ from the sweep's base, and backbone.

    Also where the base says something and the trial is at its default: no two cells of a sweep have one name.
    """
    # What a base without a paradigm says of training counts as soon as there is one to train with.
    fits_on_some = trial.paradigm is not None and base.protocol == "all"
    alike = base.having({"paradigm": trial.paradigm, "protocol": trial.protocol if fits_on_some else base.protocol})
    before, settings, own = alike.identity(), trial.identity(), {"seed", *searched}
    parts = [
        _said(field, getattr(trial, field), own)
        for field in Trial.model_fields
        if field not in ("backbone", "paradigm", *own) and settings.get(field) != before.get(field)
    ]
    backbone = [] if "backbone" in own else [_part(trial.backbone, "backbone", own)]
    if trial.paradigm is None:
        return " · ".join([*backbone, *parts, "pretrained"])
    paradigm = [] if "paradigm" in own else [_part(trial.paradigm, "paradigm", own)]
    return " · ".join([*paradigm, *parts, *backbone])


def _said(field: str, value: object, own: Collection[str] = (), digits: int = 12) -> str:
    """A field's value, with as little of the field's name as is understood.

    Args:
        digits: of a float that count.
    """
    if isinstance(value, Variant):
        text = _part(value, field, own)
    elif isinstance(value, float):
        small = 0 < abs(value) < 0.001
        text = re.sub(r"\.?0*e-0?", "e-", f"{value:.{digits - 1}e}") if small else f"{value:.{digits}g}"
    else:
        text = "none" if value is None else str(value)
    if field in SHORT:
        return SHORT[field] + text
    return text if field in PLAIN and value is not None else f"{field}={text}"


def _part(part: Variant, field: str, own: Collection[str]) -> str:
    given = (f"{name}={value}" for name, value in sorted(part.kwargs.items()) if f"{field}.{name}" not in own)
    return " ".join([part.name, *given])


def of_experiment(sweep: Sweep, now: int) -> dict[str, str]:
    """The tags of a sweep's experiment: what it asks, how to read it, and what MLflow's menu *Views* offers.

    Groups, not parent runs, put a cell's runs together: sorted by score, or grouped, a parent stands among its children
    as one more run, with a score that one of them has too.

    Args:
        now: milliseconds since 1970.
    """
    rated = "2afc/test" if sweep.base.protocol == "all" else "2afc/validation"  # what runs are sorted by
    columns = [*(f"metrics.`{name}`" for name in TOLD), *(f"params.`{axis}`" for axis in sweep.axes)]
    order = ["attributes.`Run Name`", *columns]
    table = {
        "selectedColumns": columns,
        "columnOrder": order,
        "columnWidths": dict.fromkeys(order, 120) | {order[0]: 360},  # pixels
    }
    cells = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "cell"}]}
    views = {
        "Scores": {**table, "orderByKey": f"metrics.`{rated}`", "orderByAsc": False},
        "Cells": {**table, "groupBy": cells},
    }
    return {
        "mlflow.note.content": f"{sweep.question}\n\n{HOW_TO_READ}".strip(),
        "mlflow.experimentKind": "custom_model_development",  # pages of trained models, not of prompts and traces
        "mlflow.experiment.primaryMetric.name": "2afc/test",  # the first chart
        "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
        **{
            f"mlflow.sharedViewState.humansim-{name.lower()}": json.dumps(
                {"name": name, "createdAt": now, "updatedAt": now, "state": json.dumps(state)}
            )
            for name, state in views.items()
        },
    }


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


def final_points(result: Result) -> list[tuple[str, float, int, int]]:
    """Name, value, time in milliseconds since 1970 and step of each final metric.

    At step 0, of which MLflow's charts make bars, side by side; later steps would be curves of one point. Validation
    after a training is where its curve ends.
    """
    points = {name: (value, result.finished, 0) for name, value in final_metrics(result).items()}
    last = result.history[-1] if result.history else {}
    if "validation" in last:
        points["2afc/validation"] = (last["validation"], int(last["time"]), int(last["epoch"]))
    return [(name, *point) for name, point in points.items()]


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
    """What the backbone is and has learnt from, and what was fitted shares with the test, as tags to filter by."""
    facts: dict[str, Any] = dict(result.provenance.get("backbone", {}))
    learnt = facts.pop("pretraining", None) or {}
    named = {f"backbone.{key}": value for key, value in facts.items()}
    named |= {f"pretraining.{key}": value for key, value in learnt.items()}
    return {key: str(value) for key, value in named.items() if value is not None} | shared_of(result)


def note_of(result: Result) -> str:
    """What a finished run's page says first, in Markdown: its score among what it is to be read beside, and its use."""
    shown, made = final_metrics(result), result.provenance
    shared = made.get("shared", {})
    told = []
    if "2afc/test" in shown:
        sets = len({score.set for score in result.scores if score.part == "test"})
        best = f", the best any metric can reach {100 * shown['ceiling/best']:.2f} %" if "ceiling/best" in shown else ""
        of = f"mean of {sets} sets" if sets > 1 else "1 set"
        judges = " Simulated judges." if made.get("simulated_judges") else ""
        told.append(
            f"2AFC on the test part: **{100 * shown['2afc/test']:.2f} %** ({of}, {result.measure}; "
            f"chance is {100 * CHANCE:.0f} %{best}).{judges}"
        )
    if shared.get("contaminated"):
        told.append("**Contaminated: it was fitted on what it is evaluated on.**")
    elif result.trial.paradigm is not None and "test" in shared:
        told.append(f"What it was fitted on shares {shared['test']['images']} images with the test part.")
    told.append(f'As a metric: `humansim.load("{result.trial.id}")`; intervals: `humansim report`.')
    return "\n\n".join(told)


def shared_of(result: Result) -> dict[str, str]:
    """The audit's stamp in short: how many images of the test part the model was fitted on."""
    shared = result.provenance.get("shared", {})
    found = {"contaminated": str(bool(shared.get("contaminated"))).lower()}
    return found | {"shared_test_images": str(shared["test"]["images"])} if "test" in shared else found
