"""H5: more filters in a CNN narrow the gap to human judgements.

Contrast: the rise of the 2AFC score by cosine from CLIP's ResNet-50 to its x64, by a straight line through the four
sizes (each has four times the work of the one before); each set weighs the same.
Smallest effect that matters: 1 point over the whole series, for 64 times the work. Resampled: query images. Corrected
for: the nine hypotheses.

Cannot conclude that filters are the reason: depth and the input's resolution grow with them. One series of four
networks says nothing of another, and a line says nothing of an optimum in between: the parts tell each step.
"""

from itertools import pairwise

import pandas as pd

from analysis.answers import Answers, cells
from analysis.compared import by_release, judged, pretrained, sets_of, slope, told, weighed, without
from analysis.stats import mean
from analysis.verdict import Verdict

CLAIM = "More filters bring CLIP's ResNet-50 nearer to people."
SMALLEST = 0.01
SERIES = ("ResNet-50", "ResNet-50x4", "ResNet-50x16", "ResNet-50x64")  # steps of the logarithm of the work


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    models = pretrained(trials)
    models = models[(models["pretraining.method"] == "CLIP") & models["architecture"].isin(SERIES)]
    sets = sets_of(answers, models)
    score = {
        step: mean(cells(models[models["architecture"] == name]), sets)
        for step, name in enumerate(SERIES)
        if sets and name in set(models["architecture"])
    }
    step = slope(score)
    rise = step and (len(SERIES) - 1) * step
    steps = {f"{SERIES[b]} minus {SERIES[a]}": score[b] - score[a] for a, b in pairwise(score)}
    return judged(
        CLAIM,
        weighed(answers, rise, SMALLEST),
        models,
        answers,
        parts={**told(answers, steps), **by_release(answers, rise)},
        partial=without(models, "architecture", SERIES, " of CLIP"),
    )


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(5)
