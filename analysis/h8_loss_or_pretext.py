"""H8: one supervised loss, and one kind of pretext task, is the best.

Contrasts, as the thesis ranks them: quadruplet minus triplet, and triplet minus contrastive, on all sets; SimCLR and
MoCo minus jigsaw and rotation on whole images, which BAPPS's patches are not. Within a backbone and the data it was
fitted on, by cosine, on sets of that release; each backbone and each set weighs the same. All three have to hold
(intersection-union).
Smallest effect that matters: 0.5 points. A loss or a pretext task costs little to change. Resampled: query images;
other seeds count only if there are repeats. Corrected for: the nine hypotheses.

Cannot conclude that the ranking holds at other learning rates: Table B.1's were chosen by hand.
"""

import pandas as pd

from analysis.answers import Answers
from analysis.compared import fine_tuned, judged, release, sets_of, told, unfinished, versus, weighed, within_backbones
from analysis.verdict import Verdict, every

CLAIM = (
    "Quadruplet is better than triplet, and triplet than contrastive; on whole images SimCLR and MoCo are better than "
    "jigsaw and rotation."
)
SMALLEST = 0.005
VIEWS, PUZZLES = ("simclr", "moco"), ("jigsaw", "rotation")


def verdict(trials: pd.DataFrame, answers: Answers) -> Verdict:
    rows = fine_tuned(trials)
    sets = sets_of(answers, rows)
    whole = [name for name in sets if release(name) != "bapps"]
    patches = [name for name in sets if release(name) == "bapps"]
    claims = {
        "quadruplet minus triplet": versus(rows, ["quadruplet"], ["triplet"], sets),
        "triplet minus contrastive": versus(rows, ["triplet"], ["contrastive"], sets),
        "SimCLR and MoCo minus jigsaw and rotation, whole images": versus(rows, VIEWS, PUZZLES, whole),
    }
    return judged(
        CLAIM,
        every({name: weighed(answers, one, SMALLEST) for name, one in claims.items()}),
        rows,
        answers,
        parts=told(
            answers, {"SimCLR and MoCo minus jigsaw and rotation, patches": versus(rows, VIEWS, PUZZLES, patches)}
        ),
        mixed={name: within_backbones(rows, answers, one) for name, one in claims.items()},
        partial=unfinished(rows),
    )


if __name__ == "__main__":
    from analysis.hypotheses import alone

    alone(8)
