"""One Optuna study a cell: what it suggests next, where it gives up. Only here: optuna."""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from humansim import plan
from humansim.errors import BadInput
from humansim.pruning import Bar, Row, draw_bar
from humansim.results import Outcome, Pruned, Result
from humansim.spec import Cell, Choice, Space, Sweep, Trial, Variant, near

SAMPLERS = ("TPESampler", "GPSampler", "RandomSampler")
PRUNERS = ("MedianPruner", "PercentilePruner")
STARTUP = 10  # samples of a cell drawn at random before the sampler learns (Optuna's own default)

Curve = dict[int, float]  # epoch -> validation
Told = tuple[dict[str, Any], float | Curve | None]
Distributions = dict[str, optuna.distributions.BaseDistribution]


def suggest(
    space: dict[str, Space],
    history: Sequence[Told],
    seed: int,
    sampler: Variant = Sweep.model_fields["sampler"].default,
) -> dict[str, Any]:
    """The next point of a search, maximising.

    Args:
        space: axis -> range.
        history: settings and value of each sample told so far, in order; the curve of a pruned one, None for one that
            failed.
        seed: of the sampler.
        sampler: Optuna's, by its class's name.

    Raises:
        BadInput: there is no such sampler, or it cannot be made so.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = _distributions(space)
    study = optuna.create_study(direction="maximize", sampler=_sampler(sampler, seed))
    study.add_trials([_told(settings, value, distributions) for settings, value in history])
    return study.ask(distributions).params


def _told(settings: dict[str, Any], value: float | Curve | None, distributions: Distributions) -> FrozenTrial:
    state, curve = TrialState.COMPLETE, {}
    if value is None:
        state = TrialState.FAIL
    elif isinstance(value, dict):
        state, curve, value = TrialState.PRUNED, value, value[max(value)]
    return optuna.trial.create_trial(
        params=settings, distributions=distributions, value=value, state=state, intermediate_values=curve
    )


def bar_over(pruner: Variant, histories: Sequence[Sequence[Row]]) -> Bar | None:
    """The bar of a trial: Optuna's rule over the histories of the samples of its cell that it is compared with."""
    return draw_bar(histories, **_rule(pruner))


def enough(pruner: Variant) -> int:
    """How many samples a pruner wants to compare with, at least."""
    return max(1, int(_rule(pruner)["n_startup_trials"]))


def check(sweep: Sweep) -> None:
    """Whether there are such a sampler and such a pruner.

    Raises:
        BadInput: there are not, or they cannot be made so.
    """
    _sampler(sweep.sampler, 0)
    if sweep.pruner is not None:
        _rule(sweep.pruner)


def _sampler(given: Variant, seed: int) -> optuna.samplers.BaseSampler:
    if given.name not in SAMPLERS:
        others = [name for name in optuna.samplers.__all__ if name.endswith("Sampler")]
        why = "carries more from sample to sample than their outcomes, which is all that a search is rebuilt from"
        problem = why if given.name in others else "is no sampler of Optuna's"
        raise BadInput(f"sampler: {given.name} {problem}{near(given.name, SAMPLERS)}")
    arguments = {"seed": seed, **given.kwargs}
    if given.name == "TPESampler":  # Bergstra et al. 2011; the multivariate one is the better one
        arguments = {"n_startup_trials": STARTUP, "multivariate": True, **arguments}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            made: optuna.samplers.BaseSampler = getattr(optuna.samplers, given.name)(**arguments)
        except (TypeError, ValueError, ImportError) as error:
            raise BadInput(f"sampler {given}: {str(error).strip().partition(chr(10))[0]}") from None
    return made


def _rule(given: Variant) -> dict[str, Any]:
    """What `draw_bar` needs to know of a pruner: its arguments, those that were not given too."""
    if given.name not in PRUNERS:
        others = [name for name in optuna.pruners.__all__ if name.endswith("Pruner")]
        why = "decides by more than the finished samples of a cell, which is all that a search is rebuilt from"
        problem = why if given.name in others else "is no pruner of Optuna's"
        raise BadInput(f"pruner: {given.name} {problem}{near(given.name, PRUNERS)}")
    kind = getattr(optuna.pruners, given.name)
    try:
        kind(**given.kwargs)  # it checks them
    except (TypeError, ValueError) as error:
        raise BadInput(f"pruner {given}: {str(error).strip().partition(chr(10))[0]}") from None
    arguments = inspect.signature(kind).bind(**given.kwargs)
    arguments.apply_defaults()
    return {"percentile": 50.0, **arguments.arguments}  # which of them is the median's


def _distributions(space: Mapping[str, Space]) -> Distributions:
    return {axis: _distribution(space[axis]) for axis in sorted(space)}


def _distribution(space: Space) -> optuna.distributions.BaseDistribution:
    if isinstance(space, Choice):
        return optuna.distributions.CategoricalDistribution(space.values)
    if space.step is not None:
        low, high = space.ends()
        return optuna.distributions.IntDistribution(low, high - (high - low) % space.step, step=space.step)
    return optuna.distributions.FloatDistribution(space.low, space.high, log=space.log)


def settings_of(cell: Cell, trial: Trial) -> dict[str, Any]:
    """The searched values of a trial; an argument at its default was left out of the trial and is put back."""
    found = {}
    for axis in cell.search:
        field, dot, argument = axis.partition(".")
        value = getattr(trial, field)
        if dot:
            entry = plan.REGISTRIES[field].entry(value)
            value = value.kwargs.get(argument, entry.arguments[argument].default)
        found[axis] = value.name if isinstance(value, Variant) else value
    return found


def value_of(outcome: Outcome) -> float | Curve | None:
    """What a search is told: the validation 2AFC score, cosine, mean over sets; of a pruned trial, its curve."""
    if isinstance(outcome, Result):
        return outcome.mean("validation")
    return curve_of(outcome.history) if isinstance(outcome, Pruned) else None


def curve_of(history: Sequence[Row]) -> Curve:
    return {int(row["epoch"]): row["validation"] for row in history}
