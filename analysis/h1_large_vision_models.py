"""H1: features of large vision models (CLIP, DINO) align better with human judgements.

Contrast: mean 2AFC score by cosine of backbones that were pre-trained without class labels (image-text,
self-supervised) minus that of supervised ones of the same architecture; each architecture and each set weighs the same.
Smallest effect that matters: 1 point. It is what separates published metrics on the same judgements, and about the
least that 1000 triplets a set can tell. Resampled: query images. Corrected for: the nine hypotheses.

Cannot conclude that size is the reason: what the thesis calls large is what saw no labels, and DINO's released weights
saw the images of the supervised ones. The mixed model takes all backbones of a family and asks of others like them;
these few are no random sample of any.
"""

import pandas as pd

from analysis.answers import Answers
from analysis.compared import between_backbones, by_release, judged, matched, pretrained, sets_of, unmatched, weighed
from analysis.verdict import Verdict

CLAIM = "Large vision models (CLIP, DINO) judge more as people do than networks trained on class labels."
SMALLEST = 0.01


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    models = pretrained(trials)
    labels = models["pretraining.supervision"] == "supervised"
    contrast = matched(models[~labels], models[labels], "architecture", sets_of(answers, models))
    return judged(
        CLAIM,
        weighed(answers, contrast, SMALLEST),
        models,
        answers,
        parts=by_release(answers, contrast),
        mixed={"all architectures": between_backbones(answers, models, ~labels)},
        partial=unmatched(models),
    )


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(1)
