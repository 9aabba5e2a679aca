"""When a search gives a trial up: after the first epoch at which it lies below its bar.

A bar is drawn once, when a trial is asked for, from trials of the same cell that have finished. So what is given up
depends on the sweep and on outcomes alone, not on who happened to be how far. Neither Optuna nor torch is needed.
"""

from collections.abc import Sequence

import numpy as np

Row = dict[str, float]
Bar = dict[int, float]  # epoch -> 2AFC on validation, in [0, 1], that the best epoch up to it has to reach


def pruned_at(history: Sequence[Row], bar: Bar | None) -> int | None:
    """The epoch after which a trial with this history is given up; None if it is not.

    Args:
        history: one row an epoch, from the first on, with `epoch` and `validation`.
        bar: None for a trial that is never given up.
    """
    bar, best = bar or {}, 0.0
    for row in history:
        epoch, best = int(row["epoch"]), max(best, row["validation"])
        if best < bar.get(epoch, 0.0):
            return epoch
    return None


def draw_bar(
    histories: Sequence[Sequence[Row]],
    *,
    percentile: float,
    n_startup_trials: int,
    n_warmup_steps: int,
    interval_steps: int,
    n_min_trials: int,
) -> Bar | None:
    """Optuna's `PercentilePruner` as a bar, a step being an epoch; None while there is nothing to compare with.

    Args:
        histories: of the trials to compare with, each to its end.
        percentile: what is at least as good as the best so many per cent of them, at the same epoch, is kept.
        n_startup_trials: with fewer trials nothing is given up.
        n_warmup_steps: epochs before which nothing is given up.
        interval_steps: epochs from one comparison to the next.
        n_min_trials: with fewer trials that came to an epoch, nothing is given up there.
    """
    if len(histories) < max(1, n_startup_trials):
        return None
    reached: dict[int, list[float]] = {}
    for history in histories:
        for row in history:
            reached.setdefault(int(row["epoch"]), []).append(row["validation"])
    return {
        epoch: float(np.percentile(values, 100 - percentile))
        for epoch, values in sorted(reached.items())
        if epoch >= n_warmup_steps
        and (epoch == 1 or (epoch - n_warmup_steps) % interval_steps == 0)
        and len(values) >= n_min_trials
    } or None
