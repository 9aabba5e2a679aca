"""What a search gives up hangs on the sweep and on outcomes alone; where it does is Optuna's own rule."""

import random
from functools import cache

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_search import LR, TRIPLET, asked_by_cell, result

from humansim import plan, results
from humansim.errors import BadInput
from humansim.ledger import Asked, Ledger
from humansim.pruning import pruned_at
from humansim.results import Failure, Outcome, Pruned, Result, State, held_to
from humansim.root import Root
from humansim.search import Search
from humansim.spec import Sweep, Trial, Uniform, Variant, digest
from humansim.studies import bar_over

EPOCHS = Uniform(low=3, high=9, step=3)
SWEEPS = {
    sweep.name: sweep
    for sweep in (
        Sweep(
            name="median",
            base=Trial(paradigm=TRIPLET, epochs=6),
            grid={"fit_size": [100, 200]},
            search={"lr": LR},
            samples=14,
            repeats=2,
            parallel=2,
            pruner=Variant("MedianPruner", n_startup_trials=3),
        ),
        Sweep(
            name="percentile-of-lengths-that-differ",
            base=Trial(paradigm=TRIPLET),
            grid={"fit_size": [100, 200]},
            search={"lr": LR, "epochs": EPOCHS},
            samples=13,
            parallel=3,
            pruner=Variant("PercentilePruner", percentile=30, n_startup_trials=2, n_warmup_steps=2, interval_steps=2),
        ),
    )
}


def curve(values: list[float]) -> tuple[dict[str, float], ...]:
    return tuple({"epoch": float(epoch), "validation": value} for epoch, value in enumerate(values, start=1))


def outcome(trial: Trial) -> Outcome:
    """How a trial ends that nobody gives up: a curve that rises to its value, with bumps; one in nine diverges."""
    made = result(trial)
    rows = []
    for epoch in range(1, trial.epochs + 1):
        bump = int(digest([trial.id, epoch], 8), 16) / 2**32 / 10
        rows.append(0.4 + (made.mean("validation") - 0.4) * (1 - 0.5**epoch) + bump)
    if int(digest([trial.id, "fails"], 8), 16) % 9 == 0 and trial.seed == 0:
        kept = curve(rows[:2])
        return Failure(trial=trial, kind="diverged", reason="made up", traceback="", finished=0, history=kept)
    return made.model_copy(update={"history": curve(rows)})


def run_through(search: Search) -> dict[str, Outcome]:
    """One trial at a time to the end, each held to its bar; trial id -> how it ended."""
    ended = {}
    while (trial := search.ask()) is not None:
        ended[trial.id] = held_to(outcome(trial), search.bar(trial))
        search.tell(ended[trial.id])
    assert search.done
    return ended


@cache
def reference(name: str) -> tuple[list[Asked], dict[str, Outcome]]:
    """What a sweep asks for, by cell, and how it ends, one trial at a time, alone, undisturbed."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Root.at(folder), name)
        ended = run_through(Search(SWEEPS[name], ledger))
        return by_cell(ledger), ended


def by_cell(ledger: Ledger) -> list[Asked]:
    return sorted(ledger.read(), key=lambda asked: (asked.cell, asked.index))


arguments = {
    "n_startup_trials": st.integers(0, 4),
    "n_warmup_steps": st.integers(0, 4),
    "interval_steps": st.integers(1, 3),
    "n_min_trials": st.integers(1, 3),
}
pruners = st.builds(
    lambda kwargs: Variant("MedianPruner", **kwargs), st.fixed_dictionaries({}, optional=arguments)
) | st.builds(
    lambda percentile, kwargs: Variant("PercentilePruner", percentile=percentile, **kwargs),
    st.integers(0, 100) | st.floats(0, 100),
    st.fixed_dictionaries({}, optional=arguments),
)
curves = st.lists(st.sampled_from([0.25, 0.5, 0.75]) | st.floats(0, 1), min_size=1, max_size=7)


@settings(deadline=None, max_examples=200)
@given(pruner=pruners, before=st.lists(curves, max_size=6), values=curves)
def test_a_bar_prunes_exactly_where_optunas_pruner_does(
    pruner: Variant, before: list[list[float]], values: list[float]
) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    its = getattr(optuna.pruners, pruner.name)(**pruner.kwargs)
    study = optuna.create_study(direction="maximize", pruner=its)
    for one in before:
        steps = dict(enumerate(one, start=1))
        study.add_trial(optuna.trial.create_trial(value=one[-1], intermediate_values=steps))
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.PRUNED, intermediate_values={1: 1.0}))
    trial, theirs = study.ask(), None
    for epoch, value in enumerate(values, start=1):
        trial.report(value, epoch)
        if trial.should_prune():
            theirs = epoch
            break
    assert pruned_at(curve(values), bar_over(pruner, [curve(one) for one in before])) == theirs


@pytest.mark.parametrize("name", SWEEPS)
def test_something_is_pruned_and_the_best_of_the_rest_is_repeated_to_its_end(name: str) -> None:
    sweep, (asked, ended) = SWEEPS[name], reference(name)
    for cell in plan.cells(sweep):
        own = [one for one in asked if one.cell == cell.key]
        samples, repeats = own[: sweep.samples], own[sweep.samples :]
        assert sum(isinstance(ended[one.trial.id], Pruned) for one in samples) >= 2
        best = max(
            (end for one in samples if isinstance(end := ended[one.trial.id], Result)),
            key=lambda end: end.mean("validation"),
        )
        assert [(one.trial.seed, one.trial.lr, one.bar) for one in repeats] == [
            (seed, best.trial.lr, None) for seed in range(1, sweep.repeats)
        ]


@pytest.mark.parametrize("name", SWEEPS)
def test_a_bar_is_drawn_from_the_unpruned_samples_up_to_parallel_before_and_from_no_other(name: str) -> None:
    sweep, (asked, ended) = SWEEPS[name], reference(name)
    assert sweep.pruner is not None
    for cell in plan.cells(sweep):
        own = [one for one in asked if one.cell == cell.key][: sweep.samples]
        for one in own:
            before = [ended[other.trial.id] for other in own[: max(0, one.index - sweep.parallel + 1)]]
            assert one.bar == bar_over(sweep.pruner, [end.history for end in before if isinstance(end, Result)])


@pytest.mark.parametrize("name", SWEEPS)
@settings(deadline=None, max_examples=10)
@given(chance=st.randoms(use_true_random=False), slots=st.integers(1, 9), stops=st.sampled_from([0.0, 0.02, 0.2]))
def test_the_same_is_asked_and_pruned_however_trials_end_and_however_often_the_driver_is_stopped(
    tmp_path_factory: pytest.TempPathFactory, name: str, chance: random.Random, slots: int, stops: float
) -> None:
    root = Root.at(tmp_path_factory.mktemp("root"))
    on_disk: dict[str, Outcome] = {}
    restart = True
    while True:
        if restart:
            search = Search(SWEEPS[name], Ledger(root, name), known=lambda trial: on_disk.get(trial.id))
            running: list[Trial] = []
            restart = False
        trial = search.ask() if len(running) < slots and (not running or chance.random() < 0.6) else None
        if trial is not None:
            assert trial.id not in on_disk, "a trial that has ended is never run again"
            running.append(trial)
        elif running:
            trial = running.pop(chance.randrange(len(running)))
            on_disk[trial.id] = held_to(outcome(trial), search.bar(trial))
            restart = chance.random() < stops
            if not restart:
                search.tell(on_disk[trial.id])
        else:
            assert search.done
            break
    assert (by_cell(Ledger(root, name)), on_disk) == reference(name)


@pytest.mark.parametrize("name", SWEEPS)
@settings(deadline=None, max_examples=10)
@given(chance=st.randoms(use_true_random=False))
def test_what_other_sweeps_made_of_the_same_trials_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, name: str, chance: random.Random
) -> None:
    """Run to the end, failed further on, given up earlier by another bar: each counts as what it is to this one."""
    asked, ended = reference(name)
    on_disk: dict[str, Outcome] = {}
    for one in asked:
        whole = outcome(one.trial)
        epoch = chance.randint(1, len(whole.history))
        elsewhere = held_to(whole, {epoch: 1.0} if chance.random() < 0.5 else None)
        if chance.random() < 0.7:
            on_disk[one.trial.id] = elsewhere
    root = Root.at(tmp_path_factory.mktemp("root"))
    search = Search(SWEEPS[name], Ledger(root, name), known=lambda trial: on_disk.get(trial.id))
    ran = run_through(search)
    assert by_cell(Ledger(root, name)) == asked
    assert {id_: type(end) for id_, end in search.outcomes.items()} == {id_: type(end) for id_, end in ended.items()}
    needed = {
        one.trial.id for one in asked if held_to(on_disk.get(one.trial.id), one.bar) is None
    }  # what is an outcome here is not run again
    assert set(ran) == needed


def test_two_samples_that_are_one_trial_but_held_to_other_bars_both_get_their_outcome(root: Root) -> None:
    sweep = Sweep(name="s", base=Trial(paradigm=TRIPLET, epochs=3), search={"lr": LR}, samples=2, parallel=2)
    (cell,) = plan.cells(sweep.model_copy(update={"pruner": Variant("MedianPruner")}))
    trial, ledger = plan.checked(cell.trial.having({"lr": 1e-3})), Ledger(root, "s")
    for index, bar in enumerate([{1: 1.0}, {2: 1.0}]):
        ledger.append(Asked(cell.key, index, trial, bar))
    search = Search(sweep.model_copy(update={"pruner": Variant("MedianPruner")}), ledger)
    whole = result(trial).model_copy(update={"history": curve([0.5, 0.6, 0.7])})
    assert search.ask() == trial
    assert search.bar(trial) == {1: 1.0}
    assert search.ask() is None
    search.tell(held_to(whole, {1: 1.0}))
    assert not search.done
    assert search.ask() == trial  # it has to go on, for the other
    assert search.bar(trial) == {2: 1.0}
    search.tell(held_to(whole, {2: 1.0}))
    assert search.ask() is None
    assert search.done


def test_a_sweep_that_gains_or_loses_its_pruner_goes_on_from_what_it_has_asked(root: Root) -> None:
    sweep = SWEEPS["median"].model_copy(update={"name": "s"})
    without = sweep.model_copy(update={"pruner": None})
    assert [cell.key for cell in plan.cells(sweep)] == [cell.key for cell in plan.cells(without)]
    ledger = Ledger(root, "s")
    ended = run_through(Search(without, ledger))
    assert run_through(Search(sweep, ledger, lambda trial: ended.get(trial.id))) == {}  # no bar was drawn for these
    other = Ledger(root, "other")
    ended = run_through(Search(sweep, other))
    pruned = {id_ for id_, end in ended.items() if isinstance(end, Pruned)}
    again = Search(without, other, lambda trial: ended.get(trial.id))
    assert pruned <= set(run_through(again))
    assert not any(isinstance(end, Pruned) for end in again.outcomes.values())


def test_a_failed_trial_that_is_run_again_changes_no_bar_that_was_drawn(root: Root) -> None:
    asked, ended = reference("median")
    failed = {id_ for id_, end in ended.items() if isinstance(end, Failure)}
    assert failed
    ledger = Ledger(root, "median")
    for one in asked:
        ledger.append(one)
    mended = {id_: end for id_, end in ended.items() if id_ not in failed}
    search = Search(SWEEPS["median"], ledger, lambda trial: mended.get(trial.id))
    ran = []
    while (trial := search.ask()) is not None:
        ran.append(trial.id)
        search.tell(result(trial).model_copy(update={"history": curve([0.9] * trial.epochs)}))
    assert set(ran) == failed
    assert by_cell(ledger) == asked


def test_the_ledger_keeps_bars_and_reads_what_was_written_before_there_were_any(root: Root) -> None:
    ledger = Ledger(root, "s")
    bar = {2: 0.1 + 0.2, 3: 1 / 3}
    ledger.append(Asked("a", 0, Trial()))
    ledger.append(Asked("a", 1, Trial(), bar))
    assert '"bar"' not in ledger.file.read_text().splitlines()[0]
    assert [asked.bar for asked in ledger.read()] == [None, bar]


@pytest.mark.parametrize(
    ("pruner", "problem"),
    [
        (Variant("HyperbandPruner"), "HyperbandPruner decides by more than the finished samples of a cell"),
        (Variant("Median"), "Median is no pruner of Optuna's; did you mean MedianPruner"),
        (Variant("PercentilePruner"), "pruner PercentilePruner: .*missing 1 required positional argument"),
        (Variant("MedianPruner", n_warm=3), "pruner MedianPruner.*unexpected keyword argument 'n_warm'"),
        (Variant("PercentilePruner", percentile=101), "Percentile must be between 0 and 100"),
    ],
)
def test_a_pruner_that_cannot_be_is_refused_before_anything_runs(root: Root, pruner: Variant, problem: str) -> None:
    sweep = Sweep(name="s", base=Trial(paradigm=TRIPLET), search={"lr": LR}, pruner=pruner)
    with pytest.raises(BadInput, match=problem):
        Search(sweep, Ledger(root, "s"))


TRIAL = Trial(paradigm=TRIPLET, epochs=3)
WHOLE = result(TRIAL).model_copy(update={"history": curve([0.5, 0.6, 0.7])})


def test_on_disk_it_is_pruned_to_the_search_whose_bar_it_lay_below_and_to_no_other(root: Root) -> None:
    pruned = held_to(WHOLE, {2: 0.8})
    assert isinstance(pruned, Pruned)
    assert (pruned.epoch, len(pruned.history)) == (2, 2)
    results.save(root, pruned)
    assert results.load(root, TRIAL) is None
    assert results.state(root, TRIAL) is State.TO_RUN
    assert results.load(root, TRIAL, {2: 0.8}) == pruned
    assert results.state(root, TRIAL, {2: 0.8}) is State.PRUNED
    assert results.load(root, TRIAL, {2: 0.6}) is None  # the best has to be below the bar, not at it
    assert results.load(root, TRIAL, {1: 0.8}).epoch == 1  # given up still earlier
    results.save(root, WHOLE)
    assert not (results.folder(root, TRIAL) / results.PRUNED).exists()
    assert results.load(root, TRIAL) == WHOLE
    assert results.state(root, TRIAL, {2: 0.8}) is State.PRUNED
    assert results.state(root, TRIAL, {2: 0.6}) is State.FINISHED


def test_one_that_fails_further_on_stays_pruned_to_who_gave_it_up(root: Root) -> None:
    from test_launch import raises

    from humansim.launch import attempt, failed

    results.save(root, held_to(WHOLE, {2: 0.8}))
    assert isinstance(failed(TRIAL, root, "lost", "its process died"), Failure)
    assert results.state(root, TRIAL) is State.FAILED
    assert results.load(root, TRIAL, {2: 0.8}).epoch == 2

    def diverges(trial: Trial, root: Root, *, report: object, **more: object) -> Result:
        for row in curve([0.5, 0.6]):
            report(row)
        return raises(FloatingPointError())(trial, root, report=report)

    ended = attempt(TRIAL, root, diverges, lambda row: None)
    assert isinstance(ended, Failure)
    assert ended.history == WHOLE.history[:2]


def test_the_plan_counts_it_and_leaves_it_be(root: Root) -> None:
    sweep = Sweep(name="s", base=TRIAL, search={"lr": LR}, samples=2, pruner=Variant("MedianPruner"))
    (cell,) = plan.cells(sweep)
    trials = [plan.checked(cell.trial.having({"lr": lr})) for lr in (1e-3, 1e-2)]
    ledger = Ledger(root, "s")
    for index, trial in enumerate(trials):
        ledger.append(Asked(cell.key, index, trial, {1: 0.9} if index else None))
        results.save(root, WHOLE.model_copy(update={"trial": trial}))
    assert dict(+plan.plan(sweep, root).counts()) == {"finished": 1, "pruned": 1}
    assert dict(+plan.plan(sweep.model_copy(update={"pruner": None}), root).counts()) == {"finished": 2}
    assert plan.plan(sweep, root).to_ask == 0
    assert asked_by_cell(ledger) == {cell.key: trials}
