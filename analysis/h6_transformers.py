"""H6: transformers have properties that explain their advantage over CNNs.

Contrasts: ViT-B/16 minus ResNet-50 of the same pre-training (supervised, CLIP, DINO) by cosine, the mean over
pre-trainings; on all sets, and on those of Birds-16, whose images Figure 5.2 of the thesis maps. Both have to hold
(intersection-union).
Smallest effect that matters: 1 point, as in H1. Resampled: query images. Corrected for: the nine hypotheses.

Concludes whether there is the advantage. Cannot conclude what explains it: the thesis says families of birds lie
farther apart in a transformer's features, which the map shows; answers hold no features, so it is not tested here.
"""

import pandas as pd

from analysis.answers import Answers
from analysis.compared import SUPERVISIONS, judged, matched, pretrained, sets_of, told, unmatched, weighed
from analysis.stats import Contrast
from analysis.verdict import Verdict, every

CLAIM = "Transformers judge more as people do than CNNs of the same pre-training, on all sets and on birds."
SMALLEST = 0.01
UNTESTED = "what explains it, families of birds that lie apart in the features: the map shows it, nothing tests it"


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    models = pretrained(trials)
    sets = sets_of(answers, models)

    def ahead(rows: pd.DataFrame, names: list[str]) -> Contrast | None:
        transformer = rows["family"] == "transformer"
        return matched(rows[transformer], rows[~transformer], "pretraining.method", names)

    birds = [name for name in sets if name.startswith("birds16/")]
    kinds = {
        f"all sets, {kind}": ahead(models[models["pretraining.supervision"] == kind], sets) for kind in SUPERVISIONS
    }
    claims = {"all sets": ahead(models, sets), "birds": ahead(models, birds)}
    return judged(
        CLAIM,
        every({name: weighed(answers, one, SMALLEST) for name, one in claims.items()}),
        models,
        answers,
        parts=told(answers, kinds),
        partial=[*unmatched(models), UNTESTED],
    )


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(6)
