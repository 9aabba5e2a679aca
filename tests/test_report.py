"""The report: what a supervisor reads."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import report
from analysis.answers import Answers
from analysis.hypotheses import HYPOTHESES
from analysis.planted import planted
from analysis.stats import estimate, mean
from analysis.verdict import Verdict, judge, within_family
from humansim.published import PARADIGMS

SETS = ("bapps/cnn", "bapps/color", "hsj/8rank2_similar", "birds16/2rank1_dissimilar")
MODELS = {"resnet50": 0.62, "vit_b_16": 0.66, "clip_vit_b_16": 0.7, "dino_vit_b_16": 0.69}


def study(simulated: bool = True) -> tuple[pd.DataFrame, Answers]:
    """A small study whose truth is known: four models, fine-tuned in seven ways under two protocols, pixels below."""
    scores = {"pixels": 0.55, **MODELS}
    rows = {name: {"model": name, "kind": "floor" if name == "pixels" else "pretrained"} for name in scores}
    for model, score in MODELS.items():
        for paradigm in PARADIGMS:
            for protocol, gain in (("heldout", 0.01), ("thesis", 0.03)):
                cell = f"{model} {paradigm} {protocol}"
                kind = "fine-tuned" if protocol == "heldout" else "contaminated"
                scores[cell] = score + gain
                rows[cell] = {"model": model, "kind": kind, "paradigm": paradigm, "protocol": protocol}
    answers = planted(scores, np.random.default_rng(0), sets=SETS, queries=120)
    trials = pd.DataFrame(
        [
            {
                "trial": f"{cell}#0",
                "cell": cell,
                "protocol": "heldout",
                "backbone": row["model"],
                "fit_on": "bapps" if "paradigm" in row else None,
                "measure": "cosine",
                "validation": 0.6,
                "simulated": simulated,
                "contaminated": row["kind"] == "contaminated",
                "shared.test.images": 16 if row["kind"] == "contaminated" else 0,
                "seed": 0.0 if "paradigm" in row else np.nan,
                "device": "NVIDIA H100",
                "version.torch": "2.11.0",
                "data": "d" * 64,
                "seconds": 60.0,
                "finished": 1_700_000_000_000,
            }
            | row
            for cell, row in rows.items()
        ]
    ).set_index("trial")
    return trials, answers


def judgements(answers: Answers, simulated: bool = True) -> dict[int, Verdict]:
    """Nine verdicts of all kinds."""
    found = []
    for one in HYPOTHESES:
        better, worse = list(MODELS)[one.number % 4], list(MODELS)[(one.number + 1 + one.number % 2) % 4]
        contrast = mean([(better, "cosine")], SETS) - mean([(worse, "cosine")], SETS)
        parts = {name: estimate(answers, contrast.on([name]), resamples=500) for name in SETS}
        partial = ("clip_resnet50x64 has not finished",) if one.number == 5 else ()
        effect = estimate(answers, contrast, resamples=2000)
        found.append(judge(one.claim, effect, 0.01, parts=parts, partial=partial, simulated=simulated))
    return {one.number: verdict for one, verdict in zip(HYPOTHESES, within_family(found), strict=True)}
