"""How much of what fine-tuning gained was leakage: gains under protocol `thesis` beside those under `heldout`.

A gain is the score of a fine-tuned backbone minus that of the same backbone as pre-trained, by the reported measure, on
the same test triplets: those of the sets whose release it was fitted on, where there is something to leak. Only what
has finished under both protocols counts. What leaked is the one gain minus the other; its interval is of a clustered
bootstrap over query images, in which the triplets that both protocols evaluate on stay paired. Other seeds are spoken
for only where there are repeats.
"""

import pandas as pd

from analysis.answers import Answers, cells, chosen
from analysis.compared import average, own, reading, sets_of
from analysis.stats import Contrast, estimate, mean

COLUMNS = ("paradigm", "gain_thesis", "gain_heldout", "leaked", "low", "high", "n")
PROTOCOLS = ("thesis", "heldout")


def leakage(trials: pd.DataFrame, answers: Answers) -> pd.DataFrame:
    """A row for each paradigm, and "all": the mean gain under each protocol, their difference and its 95 % interval.

    Args:
        trials, answers: of sweeps under both protocols, merged (`answers.read`).

    Returns:
        paradigm, gain_thesis, gain_heldout, leaked, low, high (shares in [0, 1]: 0.01 is one point of 2AFC), and n, the
        triplets that count. Empty where one of the protocols is missing.
    """
    both = _under_both(trials)
    found = []
    for paradigm in (*both["paradigm"].unique(), "all") if len(both) else ():
        rows = both if paradigm == "all" else both[both["paradigm"] == paradigm]
        sets = sets_of(answers, rows)
        gains = [_gain(rows[rows["protocol"] == protocol], sets) for protocol in PROTOCOLS]
        if gains[0] is None or gains[1] is None:
            continue
        leaked = estimate(answers, gains[0] - gains[1])
        thesis, heldout = (estimate(answers, gain, resamples=1).value for gain in gains if gain is not None)
        found.append((paradigm, thesis, heldout, leaked.value, *leaked.interval(), leaked.n))
    return pd.DataFrame(found, columns=list(COLUMNS))


def _under_both(trials: pd.DataFrame) -> pd.DataFrame:
    """Fine-tuned rows that have a twin under the other protocol; `before` is the cell that each was fine-tuned from."""
    rows = trials[trials["protocol"].isin(PROTOCOLS)].assign(reading=reading)
    kinds = rows["kind"].isin(["fine-tuned", "contaminated"])
    if not kinds.any():
        return rows[kinds].assign(paradigm="")
    same = ["model", "protocol", "reading"]
    before = rows[rows["kind"] == "pretrained"].drop_duplicates(same)[[*same, "cell"]]
    tuned = chosen(rows[kinds], [*same, "paradigm", "fit_on"]).reset_index()
    rows = tuned.merge(before.rename(columns={"cell": "before"}), on=same).set_index("trial")
    twins = rows.groupby(["model", "paradigm", "fit_on", "reading"], dropna=False)["protocol"].transform("nunique")
    return rows[twins == len(PROTOCOLS)]


def _gain(rows: pd.DataFrame, sets: list[str]) -> Contrast | None:
    """Of fine-tuned rows above those they came from, each on the sets of what it was fitted on; each set weighs the
    same."""
    found = []
    for name in sets:
        here = rows[own(rows, name)]
        if len(here):
            found.append(
                mean(cells(here), [name]) - mean(list(zip(here["before"], here["measure"], strict=True)), [name])
            )
    return average(found)
