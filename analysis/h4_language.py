"""H4: language in pre-training narrows the gap to human judgements.

Contrast: mean 2AFC score by cosine of backbones that learnt from text minus that of those that did not, matched by
architecture; each architecture and each set weighs the same. The thesis refuted it because it does not hold on each
set; here the claim is about the mean, and the parts tell each release.
Smallest effect that matters: 1 point, as in H1. Resampled: query images. Corrected for: the nine hypotheses.

Cannot conclude that text is the reason: no two backbones differ in nothing else, and CLIP saw 300 times as many images.
"""

import pandas as pd

from analysis.answers import Answers
from analysis.compared import by_release, judged, matched, pretrained, sets_of, unmatched, weighed
from analysis.verdict import Verdict

CLAIM = "Language in pre-training brings a model nearer to people."
SMALLEST = 0.01


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    models = pretrained(trials)
    language = models["pretraining.language"] == True  # noqa: E712 (None where nothing is known)
    contrast = matched(models[language], models[~language], "architecture", sets_of(answers, models))
    return judged(
        CLAIM,
        weighed(answers, contrast, SMALLEST),
        models,
        answers,
        parts=by_release(answers, contrast),
        partial=unmatched(models),
    )


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(4)
