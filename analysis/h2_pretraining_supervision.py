"""H2: one type of supervision in pre-training aligns better with human judgements.

Contrasts: of each type (supervised, self-supervised, image-text) minus each of the others, by cosine, matched by
architecture; each architecture and each set weighs the same. The thesis named no winner, so the data pick it: the claim
is that for some type (of three: Bonferroni) both its differences hold (intersection-union).
Smallest effect that matters: 1 point, as in H1. Resampled: query images. Corrected for: the nine hypotheses.

Cannot conclude that the supervision is the reason: CLIP also saw 300 times as many images. And a type that is the best
on average need not be on each release: the parts tell.
"""

import pandas as pd

from analysis.answers import Answers
from analysis.compared import SUPERVISIONS, judged, matched, pretrained, sets_of, unmatched, weighed
from analysis.verdict import Verdict, every, some

CLAIM = "One type of supervision in pre-training is better than both others."
SMALLEST = 0.01


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    models = pretrained(trials)
    sets = sets_of(answers, models)
    of = {kind: models[models["pretraining.supervision"] == kind] for kind in SUPERVISIONS}
    candidates = {
        best: every(
            {
                f"{best} minus {other}": weighed(answers, matched(of[best], of[other], "architecture", sets), SMALLEST)
                for other in SUPERVISIONS
                if other != best
            }
        )
        for best in SUPERVISIONS
    }
    return judged(CLAIM, some(candidates), models, answers, partial=unmatched(models))


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(2)
