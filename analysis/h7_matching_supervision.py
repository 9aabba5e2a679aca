"""H7: fine-tuning helps more where its supervision matches that of pre-training.

Contrast: the interaction. Supervised minus self-supervised fine-tuning of supervised backbones, minus the same of
self-supervised ones of the same architecture, halved: what matching fine-tuning gains above fine-tuning that does not
match. What a backbone scored before cancels. By cosine, on sets of the release that was fitted on; each architecture
and each set weighs the same.
Smallest effect that matters: 1 point, the least for which one would choose a paradigm by the backbone. Resampled: query
images; other seeds count only if there are repeats. Corrected for: the nine hypotheses.

Cannot conclude that supervision is the reason with two backbones a side. CLIP's, trained on captions, is neither; the
thesis counts it as supervised: a part tells.
"""

import pandas as pd

from analysis.answers import Answers
from analysis.compared import (
    ARCHITECTURES,
    SUPERVISIONS,
    average,
    fine_tuned,
    judged,
    minus,
    sets_of,
    supervision_gap,
    told,
    unfinished,
    unmatched,
    weighed,
)
from analysis.stats import Contrast
from analysis.verdict import Verdict

CLAIM = "Fine-tuning helps more where its supervision matches that of pre-training."
SMALLEST = 0.01


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    rows = fine_tuned(trials)
    sets = sets_of(answers, rows)

    gaps = {
        (kind, one): supervision_gap(
            rows[(rows["pretraining.supervision"] == kind) & (rows["architecture"] == one)], sets
        )
        for kind in SUPERVISIONS
        for one in ARCHITECTURES
    }

    def matching(kind: str) -> Contrast | None:
        both = (minus(gaps[kind, one], gaps["self-supervised", one]) for one in ARCHITECTURES)
        whole = average(one for one in both if one is not None)
        return whole and 0.5 * whole

    return judged(
        CLAIM,
        weighed(answers, matching("supervised"), SMALLEST),
        rows,
        answers,
        parts=told(
            answers,
            {"CLIP in place of the supervised": matching("image-text")}
            | {f"lead of supervised fine-tuning, {kind} {one}": gap for (kind, one), gap in gaps.items()},
        ),
        partial=[*unmatched(rows), *unfinished(rows)],
    )


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(7)
