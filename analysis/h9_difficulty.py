"""H9: the best supervision of fine-tuning depends on the perceptual difficulty of the set.

Contrast: the interaction. Supervised minus self-supervised fine-tuning where reference 2 is similar to the query
(difficult) minus the same where it is not (easy), in the same release and kind of trial (`hsj/8rank2_similar` and
`_dissimilar`); within a backbone, by cosine, on sets of the release that was fitted on.
Smallest effect that matters: 1 point, either way, the least for which one would choose a paradigm by the set.
Resampled: query images; other seeds count only if there are repeats. Corrected for: the nine hypotheses.

Cannot conclude by itself that the best supervision changes, which the thesis asked: it does if the lead has another
sign on difficult sets, and the parts tell. Near the ceiling points are harder to gain, which looks like an interaction.
BAPPS has no such pair of sets.
"""

import pandas as pd

from analysis.answers import Answers
from analysis.compared import (
    fine_tuned,
    judged,
    minus,
    sets_of,
    supervision_gap,
    told,
    unfinished,
    weighed,
    within_backbones,
)
from analysis.verdict import Verdict

CLAIM = "By how much supervised fine-tuning is ahead of self-supervised depends on the difficulty of the set."
SMALLEST = 0.01


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    rows = fine_tuned(trials)
    sets = sets_of(answers, rows)
    easier = {name: name.replace("_similar", "_dissimilar") for name in sets}
    pairs = {name: other for name, other in easier.items() if other != name and other in sets}
    difficult, easy = supervision_gap(rows, list(pairs)), supervision_gap(rows, list(pairs.values()))
    contrast = minus(difficult, easy)
    return judged(
        CLAIM,
        weighed(answers, contrast, SMALLEST, "different"),
        rows,
        answers,
        parts=told(answers, {"lead on difficult sets": difficult, "lead on easy sets": easy}),
        mixed={"the interaction": within_backbones(rows, answers, contrast)},
        partial=unfinished(rows),
    )


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(9)
