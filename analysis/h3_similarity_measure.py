"""H3: there is an optimal similarity measure, which benefits all architectures and supervision types: cosine.

Contrasts: cosine minus l2 and cosine minus l1, in each family (CNN, transformer) of each type of pre-training; each
backbone and set weighs the same. The thesis named the measure; all of these differences have to hold
(intersection-union).
Smallest effect that matters: 0.5 points. A measure costs nothing to change, so less matters than elsewhere; half a
point is the standard error of a whole set of BAPPS. Resampled: query images. Corrected for: the nine hypotheses.

Cannot conclude anything of other measures, nor of single backbones: a mean may hide one that is indifferent.
"""

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
from analysis.verdict import Verdict, every

CLAIM = "Cosine is better than l2 and l1 for every family of networks and every supervision in pre-training."
SMALLEST = 0.005


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    models = pretrained(trials)
    sets = sets_of(answers, models)
    differences = {
        f"cosine minus {other}, {family}, {kind}": minus(
            over(models[(models["family"] == family) & (models["pretraining.supervision"] == kind)], sets, "cosine"),
            over(models[(models["family"] == family) & (models["pretraining.supervision"] == kind)], sets, other),
        )
        for other in ("l2", "l1")
        for family in ("cnn", "transformer")
        for kind in SUPERVISIONS
    }
    return judged(
        CLAIM,
        every({name: weighed(answers, one, SMALLEST) for name, one in differences.items()}),
        models,
        answers,
        mixed={
            f"cosine minus {other}": within_backbones(
                models, answers, minus(over(models, sets, "cosine"), over(models, sets, other))
            )
            for other in ("l2", "l1")
        },
        partial=unmatched(models),
    )


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(3)
