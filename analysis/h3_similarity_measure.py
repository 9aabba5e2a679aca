"""H3: there is an optimal similarity measure, which benefits all architectures and supervision types: cosine.

Contrasts: cosine minus l2 and cosine minus l1, in each family (CNN, transformer) of each type of pre-training; each
backbone and set weighs the same. The thesis named the measure; all of these differences have to hold
(intersection-union).
Smallest effect that matters: 0.5 points. A measure costs nothing to change, so less matters than elsewhere; half a
point is the standard error of a whole set of BAPPS. Resampled: query images. Corrected for: the nine hypotheses.

Cannot conclude anything of other measures, nor of single backbones: a mean may hide one that is indifferent.
"""

import numpy as np
import pandas as pd

from analysis.answers import Answers
from analysis.compared import (
    SUPERVISIONS,
    judged,
    minus,
    over,
    pretrained,
    sets_of,
    unmatched,
    weighed,
    within_backbones,
)
from analysis.stats import Contrast
from analysis.verdict import Verdict, every

CLAIM = "Cosine is better than l2 and l1 for every family of networks and every supervision in pre-training."
SMALLEST = 0.005
OTHERS = ("l2", "l1")


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    models = pretrained(trials)
    scored = [all((trial, measure) in answers.rows for measure in ("cosine", *OTHERS)) for trial in models.index]
    models = models.loc[np.array(scored, dtype=bool)]
    sets = sets_of(answers, models)

    def ahead(rows: pd.DataFrame, other: str) -> Contrast | None:
        return minus(over(rows, sets, "cosine"), over(rows, sets, other))

    groups = {
        f"{family}, {kind}": models[(models["family"] == family) & (models["pretraining.supervision"] == kind)]
        for family in ("cnn", "transformer")
        for kind in SUPERVISIONS
    }
    claims = {
        f"cosine minus {other}, {name}": weighed(answers, ahead(rows, other), SMALLEST)
        for other in OTHERS
        for name, rows in groups.items()
    }
    return judged(
        CLAIM,
        every(claims),
        models,
        answers,
        mixed={f"cosine minus {m}": within_backbones(models, answers, ahead(models, m)) for m in OTHERS},
        partial=unmatched(models),
    )


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(3)
