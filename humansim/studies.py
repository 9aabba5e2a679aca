"""One Optuna study a cell: what it suggests next, where it gives up; all of a sweep's as a file. Only here: optuna."""

import datetime
import inspect
import itertools
import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from humansim import plan, results
from humansim.errors import BadInput
from humansim.ledger import Asked
from humansim.plan import STARTUP
from humansim.pruning import Bar, Row, draw_bar
from humansim.results import Failure, Outcome, Pruned, Result, State
from humansim.root import Root, written_whole
from humansim.spec import Cell, Choice, Space, Sweep, Trial, Variant, near

SAMPLERS = ("TPESampler", "GPSampler", "RandomSampler")
PRUNERS = ("MedianPruner", "PercentilePruner")

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


def write(sweep: Sweep, root: Root, file: Path) -> int:
    """Writes a storage of Optuna's with a study for each cell of a sweep, for optuna-dashboard; how many there are.

    Each holds the samples that its cell has asked for, in order, as they stand; repeats are no samples. From the ledger
    and the results alone, also while the sweep runs; the file is replaced at once. Optuna adds a trial in about 20 ms;
    so its tables are filled here at once, through the classes that it fills them with itself.
    """
    # Optuna has no public way; tests/test_studies.py holds it to what `Study.add_trials` writes.
    from optuna.storages._rdb import models

    every = plan.cells(sweep)
    asked = plan.known_trials(sweep, every, root)
    names = Counter(str(cell) for cell in every)
    rows: list[Any] = []
    number = itertools.count(1)
    for study, cell in enumerate(every, start=1):
        name = str(cell) if names[str(cell)] == 1 else f"{cell} ({cell.key})"
        rows.append(models.StudyModel(study_id=study, study_name=name))
        maximize = optuna.study.StudyDirection.MAXIMIZE
        rows.append(models.StudyDirectionModel(study_id=study, objective=0, direction=maximize))
        paradigm = None if cell.trial.paradigm is None else str(cell.trial.paradigm)
        about = {"sweep": sweep.name, "cell": cell.key, "backbone": str(cell.trial.backbone), "paradigm": paradigm}
        for key, value in about.items():
            rows.append(models.StudyUserAttributeModel(study_id=study, key=key, value_json=json.dumps(value)))
        for one in asked[cell.key][: plan.samples(sweep, cell)]:
            rows += _rows(models, study, next(number), _frozen(cell, one, root))
    with written_whole(file) as temporary:
        storage = optuna.storages.RDBStorage(f"sqlite:///{temporary}")
        with storage.scoped_session() as session:
            session.bulk_save_objects(rows)
            session.commit()
        storage.engine.dispose()
    return len(every)


def _frozen(cell: Cell, asked: Asked, root: Root) -> FrozenTrial:
    """A sample as it stands, as Optuna's trial."""
    outcome = results.load(root, asked.trial, asked.bar)
    stands = _unended(asked.trial, root) if outcome is None else _ended(outcome)
    stands["user_attrs"] = {"trial": asked.trial.id, **stands.get("user_attrs", {})}
    return FrozenTrial(
        **{"value": None, "datetime_start": None, "datetime_complete": None, "intermediate_values": {}, **stands},
        number=asked.index,
        params=settings_of(cell, asked.trial),
        distributions=_distributions(cell.search),
        system_attrs={},
        trial_id=-1,
    )


def _ended(outcome: Outcome) -> dict[str, Any]:
    began = [row["time"] - 1000 * row["seconds"] for row in outcome.history[:1]]
    stands: dict[str, Any] = {"intermediate_values": curve_of(outcome.history)}
    if isinstance(outcome, Failure):
        stands |= {"state": TrialState.FAIL, "user_attrs": {"failure": outcome.kind, "reason": outcome.reason}}
    elif isinstance(outcome, Pruned):
        stands |= {"state": TrialState.PRUNED, "value": outcome.history[-1]["validation"]}
    else:
        # Under protocol "all" nothing is left to validate on.
        part = "validation" if outcome.mean("validation") >= 0 else "test"
        attributes = {"value": f"2AFC, {part}"}
        stands |= {"state": TrialState.COMPLETE, "value": outcome.mean(part), "user_attrs": attributes}
    if not isinstance(outcome, Failure):
        began.append(outcome.finished - 1000 * sum(outcome.seconds.values()))
    return stands | {
        "datetime_start": _local(min(began, default=outcome.finished)),
        "datetime_complete": _local(outcome.finished),
    }


def _unended(trial: Trial, root: Root) -> dict[str, Any]:
    if results.state(root, trial) is not State.RUNNING:
        return {"state": TrialState.WAITING}
    row = results.epoch(root, trial)  # the last one; those before are in the checkpoint, which needs torch
    return {
        "state": TrialState.RUNNING,
        "datetime_start": _local(1000 * (results.folder(root, trial) / "lock").stat().st_mtime),
        "intermediate_values": {} if row is None else curve_of([row]),
    }


def _local(milliseconds: float) -> datetime.datetime:
    """A moment as Optuna keeps it: this machine's time, without a zone."""
    return datetime.datetime.fromtimestamp(milliseconds / 1000)


def _rows(models: Any, study: int, number: int, trial: FrozenTrial) -> list[Any]:
    """A trial as the rows of a storage's tables."""
    rows = [
        models.TrialModel(
            trial_id=number,
            study_id=study,
            number=trial.number,
            state=trial.state,
            datetime_start=trial.datetime_start,
            datetime_complete=trial.datetime_complete,
        )
    ]
    if trial.value is not None:
        value, kind = models.TrialValueModel.value_to_stored_repr(trial.value)
        rows.append(models.TrialValueModel(trial_id=number, objective=0, value=value, value_type=kind))
    for axis, given in trial.params.items():
        distribution = trial.distributions[axis]
        rows.append(
            models.TrialParamModel(
                trial_id=number,
                param_name=axis,
                param_value=distribution.to_internal_repr(given),
                distribution_json=optuna.distributions.distribution_to_json(distribution),
            )
        )
    for key, attribute in trial.user_attrs.items():
        rows.append(models.TrialUserAttributeModel(trial_id=number, key=key, value_json=json.dumps(attribute)))
    for step, reached in trial.intermediate_values.items():
        value, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(reached)
        rows.append(
            models.TrialIntermediateValueModel(
                trial_id=number, step=step, intermediate_value=value, intermediate_value_type=kind
            )
        )
    return rows
