"""A made-up study whose truth is known, as the two tables of the analysis: for what is drawn and written from them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.answers import Answers
from analysis.planted import MEASURE, planted

SETS = ("bapps/cnn", "bapps/color", "hsj/8rank2_similar")
SUPERVISION = {"resnet50": "supervised", "clip_vit_b_16": "image-text", "dino_vit_b_16": "self-supervised"}
SCORES = {"resnet50": 0.58, "clip_vit_b_16": 0.66, "dino_vit_b_16": 0.62}


def row(cell: str, model: str, kind: str, **more: object) -> dict[str, object]:
    """A row of `trials`, as far as anything here is asked of it."""
    return {
        **{"trial": f"{cell}#0", "cell": cell, "model": model, "backbone": model, "kind": kind, "measure": MEASURE},
        **{"simulated": False, "finished": 1, "validation": np.nan, "data": "d", "protocol": "heldout"},
        **{"resolution": 224, "resize": "squash", "layer": None, "pool": None, "precision": "fp32", "device": "a GPU"},
        **{"paradigm": None, "fit_on": None, "seed": None, "seconds.train": 0.0},
        **{"pretraining.supervision": SUPERVISION.get(model), "contaminated": kind == "contaminated"},
        **more,
    }


def study(
    models: Mapping[str, float] = SCORES,
    paradigms: Mapping[str, float] | None = None,
    *,
    measures: Sequence[str] = (MEASURE, "l2"),
    layers: Sequence[str] = (),
    sets: Sequence[str] = SETS,
    queries: int = 200,
    seed: int = 0,
    kind: str = "fine-tuned",
    floor: bool = True,
) -> tuple[pd.DataFrame, Answers]:
    """Models of these true scores, a point less by each further measure; fine-tuned on each release with these gains.

    Args:
        paradigms: paradigm -> what it adds.
        layers: of the first model, from 10 points below its end upwards.
    """
    true: dict[str, float] = {}
    rows: list[dict[str, object]] = []
    for model, score in models.items():
        rows.append(row(model, model, "pretrained"))
        true |= {f"{model}|{measure}": score - 0.01 * i for i, measure in enumerate(measures)}
        for i, (paradigm, gain) in enumerate((paradigms or {}).items()):
            for release in dict.fromkeys(name.partition("/")[0] for name in sets):
                cell = f"{model}.{paradigm}.{release}"
                seconds = {"seconds.train": 60.0 * (i + 1)}
                rows.append(row(cell, model, kind, paradigm=paradigm, fit_on=release, seed=0, **seconds))
                true[f"{cell}|{MEASURE}"] = score + gain
    for i, layer in enumerate(layers):
        first = next(iter(models))
        rows.append(row(f"{first}@{layer}", first, "pretrained", layer=layer, pool="mean"))
        true[f"{first}@{layer}|{MEASURE}"] = models[first] - 0.1 + 0.02 * i
    if floor:
        rows.append(row("pixels", "pixels", "floor"))
        true[f"pixels|{MEASURE}"] = 0.52
    made = planted(true, np.random.default_rng(seed), sets=sets, queries=queries)
    named = {trial.removesuffix("#0").split("|")[0]: None for trial, _ in made.rows}
    answers = replace(
        made,
        rows={(f"{t.split('|')[0]}#0", t.removesuffix("#0").split("|")[1]): i for (t, _), i in made.rows.items()},
        repeats={cell: (f"{cell}#0",) for cell in named},
        trained=frozenset(cell for cell in named if "." in cell),
    )
    return pd.DataFrame(rows).set_index("trial"), answers
