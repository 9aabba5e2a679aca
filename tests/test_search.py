"""What a search asks for depends on the sweep and on outcomes alone: never on timing, interruption or parallelism."""

import math
import random
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humansim.errors import BadInput
from humansim.ledger import Ledger
from humansim.plan import STARTUP, cells, samples
from humansim.results import Failure, Outcome, Result, Score
from humansim.root import Root
from humansim.search import ALIKE, Search
from humansim.spec import Choice, Sweep, Trial, Uniform, Variant, digest
from humansim.studies import suggest

TRIPLET = Variant("triplet")
LR = Uniform(low=1e-5, high=1e-1, log=True)
MARGIN = Uniform(low=0.1, high=2.0)

# Small sweeps of two or three cells that differ in everything a search depends on.
SWEEPS = {
    sweep.name: sweep
    for sweep in (
        Sweep(
            name="one-after-the-other",
            base=Trial(paradigm=TRIPLET),
            grid={"epochs": [1, 2]},
            search={"lr": LR},
            samples=13,
            parallel=1,
        ),
        Sweep(
            name="four-at-once-with-repeats",
            base=Trial(paradigm=TRIPLET),
            grid=[{"paradigm": [None]}, {"epochs": [1, 2]}],
            search={"lr": LR, "paradigm.margin": MARGIN},
            samples=14,
            repeats=3,
            parallel=4,
        ),
        Sweep(
            name="whole-numbers-and-choices",
            base=Trial(paradigm=TRIPLET),
            grid={"fit_size": [100, 200]},
            search={
                "batch_size": Uniform(low=2, high=10, step=2),
                "paradigm.distance": Choice(values=("euclidean", "squared_euclidean")),
                "paradigm.margin": Choice(values=(0.5, 1.0)),  # 1.0 is the default, and is left out of a trial
                "optimizer": Choice(values=("adam", "sgd")),
            },
            samples=14,
            repeats=2,
            parallel=2,
        ),
        Sweep(
            name="samples-that-coincide",
            base=Trial(paradigm=TRIPLET),
            grid={"epochs": [1, 2, 3]},
            search={"paradigm.distance": Choice(values=("euclidean", "squared_euclidean"))},
            samples=4,
            repeats=2,
            parallel=3,
        ),
        Sweep(name="nothing-searched", base=Trial(paradigm=TRIPLET), grid={"epochs": [1, 2]}, repeats=3),
    )
}


def outcome(trial: Trial) -> Outcome:
    """How a trial ends: best at lr 1e-3 and margin 0.7, the seed worth a little; about one in eight fails."""
    if int(digest([trial.id, "fails"], 8), 16) % 8 == 0 and trial.seed == 0 and trial.paradigm is not None:
        return Failure(trial=trial, kind="oom", reason="made up", traceback="", finished=0)
    return result(trial)


def result(trial: Trial) -> Result:
    margin = trial.paradigm.kwargs.get("margin", 1.0) if trial.paradigm is not None else 1.0
    value = 0.8 - 0.05 * math.log10(trial.lr / 1e-3) ** 2 - 0.05 * (margin - 0.7) ** 2
    value += int(digest(trial.id, 8), 16) / 2**32 / 100
    score = Score(
        set="s",
        part="validation",
        measure="cosine",
        n=9,
        score=value,
        low=None,
        high=None,
        accuracy=None,
        plug_in=1.0,
        fresh_judge=None,
        best=1.0,
    )
    return Result(trial=trial, scores=(score,), history=(), provenance={}, seconds={}, peak_memory=0, finished=0)


def failing(trial: Trial) -> Failure:
    return Failure(trial=trial, kind="error", reason="made up", traceback="", finished=0)


def asked_by_cell(ledger: Ledger) -> dict[str, list[Trial]]:
    """What each cell has asked for, in order; the ledger is what a restart goes by."""
    found: dict[str, list[Trial]] = {}
    for asked in ledger.read():
        assert asked.index == len(found.setdefault(asked.cell, []))
        found[asked.cell].append(asked.trial)
    return found


def run_through(search: Search, ends=outcome) -> list[Trial]:
    """One trial at a time to the end; the trials that were run, in order."""
    ran = []
    while (trial := search.ask()) is not None:
        assert not search.done
        ran.append(trial)
        search.tell(ends(trial))
    assert search.done
    return ran


@cache
def reference(name: str) -> dict[str, list[Trial]]:
    """What a sweep asks for when it runs one trial at a time, undisturbed."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Root.at(folder), name)
        run_through(Search(SWEEPS[name], ledger))
        return asked_by_cell(ledger)


@pytest.mark.parametrize("name", SWEEPS)
@settings(deadline=None, max_examples=12)
@given(chance=st.randoms(use_true_random=False), slots=st.integers(1, 9), stops=st.sampled_from([0.0, 0.02, 0.2]))
def test_what_is_asked_is_the_same_however_trials_end_and_in_whatever_order_and_however_often_the_driver_is_stopped(
    tmp_path_factory: pytest.TempPathFactory, name: str, chance: random.Random, slots: int, stops: float
) -> None:
    wanted = reference(name)
    root = Root.at(tmp_path_factory.mktemp("root"))
    believed = random.Random(chance.getrandbits(32))
    on_disk: dict[str, Outcome] = {}  # by trial id: what survives a stop
    ran: Counter[str] = Counter()
    restart = True
    while True:
        if restart:
            seen: list[str] = []
            search = Search(
                SWEEPS[name],
                Ledger(root, name),
                known=lambda trial: on_disk.get(trial.id),
                on_known=lambda outcome, seen=seen: seen.append(outcome.trial.id),
                length=lambda trial: believed.choice(
                    [None, 1.0, believed.random()]
                ),  # what is believed of them changes
            )
            handed_out: list[str] = []
            running: list[Trial] = []
            known_at_start, restart = set(on_disk), False
        trial = search.ask() if len(running) < slots and (not running or chance.random() < 0.6) else None
        if trial is not None:
            assert trial.id not in on_disk, "a trial that has ended is never run again"
            assert not search.done
            handed_out.append(trial.id)
            running.append(trial)
        elif running:
            ended = running.pop(chance.randrange(len(running)))
            on_disk[ended.id] = outcome(ended)
            ran[ended.id] += 1
            if chance.random() < 0.2:  # the driver dies between what is on disk and what it was told
                restart = chance.random() < stops
            if not restart:
                search.tell(on_disk[ended.id])
        else:
            assert search.done
            break
        assert len(set(handed_out)) == len(handed_out), "no trial is asked for twice"
        assert len(set(seen)) == len(seen), "what was known is reported once"
        restart = restart or chance.random() < stops / 4
    assert asked_by_cell(Ledger(root, name)) == wanted
    assert set(ran) == {trial.id for trials in wanted.values() for trial in trials}
    assert set(ran.values()) == {1}
    assert set(seen) == known_at_start
    # And once more, with nothing left to do: all is known, nothing runs.
    again = Search(SWEEPS[name], Ledger(root, name), known=lambda trial: on_disk.get(trial.id))
    assert again.ask() is None
    assert again.done


@pytest.mark.parametrize("name", SWEEPS)
def test_a_lost_ledger_asks_for_the_same_again_and_runs_none_of_it(root: Root, name: str) -> None:
    ends = {trial.id: outcome(trial) for trials in reference(name).values() for trial in trials}
    search = Search(SWEEPS[name], Ledger(root, name), known=lambda trial: ends.get(trial.id))
    assert search.ask() is None
    assert asked_by_cell(Ledger(root, name)) == reference(name)


@pytest.mark.parametrize("name", SWEEPS)
def test_every_cell_with_a_search_has_the_same_budget(name: str) -> None:
    sweep = SWEEPS[name]
    for cell in cells(sweep):
        asked = reference(name)[cell.key]
        if cell.trial.paradigm is None:
            assert asked == [cell.trial]
        else:
            assert len(asked) == samples(sweep, cell) + sweep.repeats - 1


@pytest.mark.parametrize("name", SWEEPS)
def test_repeats_are_of_the_best_sample_by_validation_with_the_next_seeds(name: str) -> None:
    sweep = SWEEPS[name]
    for cell in cells(sweep):
        asked, count = reference(name)[cell.key], samples(sweep, cell)
        ended = [outcome(trial) for trial in asked[:count]]
        finished = [one for one in ended if isinstance(one, Result)]
        best = max(finished, key=lambda one: one.mean("validation")).trial
        assert asked[count:] == [best.having({"seed": seed}) for seed in range(1, len(asked) - count + 1)]


@pytest.mark.parametrize("name", SWEEPS)
def test_every_sample_lies_in_the_ranges_searched_and_varies_nothing_else(name: str) -> None:
    for cell in cells(SWEEPS[name]):
        for trial in reference(name)[cell.key]:
            fixed = {axis: v for axis, v in trial.settings().items() if axis not in {*cell.search, "seed"}}
            assert fixed == {a: v for a, v in cell.trial.settings().items() if a not in {*cell.search, "seed"}}
            for axis, space in cell.search.items():
                value = trial.settings().get(axis, 1.0 if axis == "paradigm.margin" else "euclidean")
                if isinstance(space, Choice):
                    assert value in space.values
                else:
                    assert space.low <= value <= space.high
                    assert space.step is None or (value - space.low) % space.step == 0


def test_samples_differ_between_cells_and_within(root: Root) -> None:
    trials = [trial for asked in reference("one-after-the-other").values() for trial in asked]
    assert len({trial.lr for trial in trials}) == len(trials)


def test_two_ledgers_of_two_sweeps_with_one_cell_ask_for_the_same(root: Root) -> None:
    sweep = SWEEPS["one-after-the-other"]
    other = sweep.model_copy(update={"name": "other", "grid": [{"epochs": [2]}]})
    run_through(Search(other, Ledger(root, "other")))
    (key,) = (cell.key for cell in cells(other))
    assert asked_by_cell(Ledger(root, "other"))[key] == reference("one-after-the-other")[key]


@pytest.mark.parametrize(("before", "after"), [(4, 8), (12, 14), (8, 4)])
def test_a_search_that_is_given_other_samples_goes_on_as_if_it_had_them_from_the_start(
    root: Root, before: int, after: int
) -> None:
    sweep = Sweep(name="s", base=Trial(paradigm=TRIPLET), search={"lr": LR}, samples=after, repeats=3, parallel=2)
    ends: dict[str, Outcome] = {}

    def end(trial: Trial) -> Outcome:
        return ends.setdefault(trial.id, outcome(trial))

    undisturbed = run_through(Search(sweep, Ledger(root, "undisturbed")))
    first = Search(sweep.model_copy(update={"samples": before}), Ledger(root, "s"))
    run_through(first, end)
    changed = Search(sweep, Ledger(root, "s"), known=lambda trial: ends.get(trial.id))
    run_through(changed, end)
    assert [asked.trial.id for asked in changed.cells[0].asked] == [trial.id for trial in undisturbed]
    # And it stays so: the ledger as it now stands gives the same again.
    again = Search(sweep, Ledger(root, "s"), known=lambda trial: ends.get(trial.id))
    assert run_through(again) == []
    assert [asked.trial.id for asked in again.cells[0].asked] == [trial.id for trial in undisturbed]


def test_if_every_sample_of_a_cell_fails_there_is_nothing_to_repeat(root: Root) -> None:
    sweep = Sweep(
        name="s", base=Trial(paradigm=TRIPLET), grid={"epochs": [1, 2]}, search={"lr": LR}, samples=12, repeats=3
    )
    search = Search(sweep, Ledger(root, "s"))
    ran = run_through(search, lambda trial: failing(trial) if trial.epochs == 1 else result(trial))
    assert Counter(trial.epochs for trial in ran) == {1: 12, 2: 14}
    assert search.size == len(ran)
    (_, none), (_, best) = search.best()
    assert none is None
    assert best is not None


def test_a_failure_is_told_like_any_outcome_and_is_not_asked_again(root: Root) -> None:
    sweep = Sweep(name="s", base=Trial(paradigm=TRIPLET), search={"lr": LR}, samples=3)
    ran = run_through(Search(sweep, Ledger(root, "s")), failing)
    again = Search(sweep, Ledger(root, "s"), known=failing)
    assert again.ask() is None
    assert len(ran) == len({trial.id for trial in ran}) == 3


def test_known_outcomes_are_reported_once_and_only_the_rest_is_asked(root: Root) -> None:
    sweep = Sweep(name="s", grid={"resolution": [8, 16, 32]})
    reported: list[Outcome] = []
    done = Trial(resolution=16)
    search = Search(
        sweep, Ledger(root, "s"), lambda trial: result(trial) if trial.id == done.id else None, reported.append
    )
    assert [trial.resolution for trial in run_through(search)] == [8, 32]
    assert [outcome.trial for outcome in reported] == [done]


def test_looking_whether_there_is_anything_to_run_takes_nothing_away(root: Root) -> None:
    sweep = Sweep(name="s", grid={"resolution": [8, 16]})
    search = Search(sweep, Ledger(root, "s"), lambda trial: result(trial) if trial.resolution == 8 else None)
    assert search.anything_to_run()
    assert search.anything_to_run()
    assert [trial.resolution for trial in run_through(search)] == [16]
    assert not search.anything_to_run()


def test_it_waits_for_outcomes_that_a_sample_is_drawn_from_and_no_longer(root: Root) -> None:
    sweep = Sweep(name="s", base=Trial(paradigm=TRIPLET), search={"lr": LR}, samples=14, parallel=3)
    search = Search(sweep, Ledger(root, "s"))
    running = []
    while (trial := search.ask()) is not None:
        running.append(trial)
    # Sample i waits for samples 0 .. i - parallel, once these are enough to learn from.
    assert len(running) == STARTUP + 3 - 1
    for trial in running[1:]:
        search.tell(result(trial))
        assert search.ask() is None
    assert not search.done
    search.tell(result(running[0]))
    assert search.ask() is not None


def test_cells_take_turns(root: Root) -> None:
    sweep = Sweep(name="s", base=Trial(paradigm=TRIPLET), grid={"epochs": [1, 2, 3]}, search={"lr": LR}, samples=4)
    ran = run_through(Search(sweep, Ledger(root, "s")))
    assert [trial.epochs for trial in ran] == 4 * [1, 2, 3]


def test_the_longest_is_asked_for_first_and_again_first_after_a_restart(root: Root) -> None:
    sweep = Sweep(name="s", base=Trial(paradigm=TRIPLET), grid={"epochs": [1, 3, 2]})
    first = Search(sweep, Ledger(root, "s"), length=lambda trial: float(trial.epochs))
    asked = [first.ask(), first.ask(), first.ask()]
    assert [trial.epochs for trial in asked if trial is not None] == [3, 2, 1]
    ran = run_through(Search(sweep, Ledger(root, "s"), length=lambda trial: float(-trial.epochs % 4)))
    assert [trial.epochs for trial in ran] == [1, 2, 3]


def test_the_best_of_a_cell_is_its_best_sample_by_validation(root: Root) -> None:
    sweep = SWEEPS["four-at-once-with-repeats"]
    search = Search(sweep, Ledger(root, sweep.name))
    assert all(trial is None for _, trial in search.best())
    run_through(search)
    for cell, best in search.best():
        ended = [outcome(trial) for trial in reference(sweep.name)[cell.key][: samples(sweep, cell)]]
        finished = [one for one in ended if isinstance(one, Result)]
        assert best == max(finished, key=lambda one: one.mean("validation")).trial


def test_a_search_finds_better_settings_than_chance() -> None:
    space = {"lr": LR, "margin": MARGIN}

    def value(settings: dict) -> float:
        return -(math.log10(settings["lr"] / 1e-3) ** 2) - (settings["margin"] - 0.7) ** 2

    learnt, blind = [], []
    for seed in range(3):
        history: list[tuple[dict, float | None]] = []
        for i in range(30):
            chosen = suggest(space, history, 1000 * seed + i)
            history.append((chosen, None if i == 12 else value(chosen)))
        learnt += [value(chosen) for chosen, _ in history[15:]]
        blind += [value(suggest(space, [], 5000 * (seed + 1) + i)) for i in range(15)]
    assert sum(learnt) / len(learnt) > sum(blind) / len(blind) + 0.3
    assert max(learnt) > -0.05


def test_a_suggestion_depends_on_the_seed_and_the_history_alone() -> None:
    space = {"lr": LR, "margin": MARGIN}
    history = [({"lr": 10.0 ** -(1 + i % 4), "margin": 0.1 * (i + 1)}, float(-i)) for i in range(12)]
    one = suggest(space, history, 7)
    suggest(space, history, 8)
    random.seed(0)
    assert suggest(dict(reversed(space.items())), history, 7) == one
    assert suggest(space, history, 8) != one
    assert suggest(space, [(chosen, -value) for chosen, value in history], 7) != one


def test_a_step_that_does_not_divide_its_range_is_searched_all_the_same(tmp_path: Path) -> None:
    for seed in range(20):
        assert suggest({"epochs": Uniform(low=1, high=9, step=3)}, [], seed)["epochs"] in (1, 4, 7)


@pytest.mark.parametrize("name", ["GPSampler", "RandomSampler"])
def test_other_samplers_of_optuna_go_by_name(name: str) -> None:
    space = {"lr": LR, "margin": MARGIN}
    history = [({"lr": 10.0 ** -(1 + i % 4), "margin": 0.1 * (i + 1)}, float(-i)) for i in range(12)]
    found = suggest(space, history, 7, Variant(name))
    assert found == suggest(space, history, 7, Variant(name))
    assert found != suggest(space, history, 7)
    assert 1e-5 <= found["lr"] <= 1e-1


@pytest.mark.parametrize(
    ("sampler", "problem"),
    [
        (Variant("CmaEsSampler"), "CmaEsSampler carries more from sample to sample"),
        (Variant("TPE"), "TPE is no sampler of Optuna's. Known: TPESampler"),
        (Variant("TPESampler", gama=1), "sampler TPESampler"),
    ],
)
def test_a_sampler_that_cannot_be_is_refused_before_anything_runs(root: Root, sampler: Variant, problem: str) -> None:
    sweep = Sweep(name="s", base=Trial(paradigm=TRIPLET), search={"lr": LR}, sampler=sampler)
    with pytest.raises(BadInput, match=problem):
        Search(sweep, Ledger(root, "s"))


def test_when_the_first_trials_all_fail_alike_nothing_more_is_asked_for(root: Root) -> None:
    search = Search(Sweep(name="s", grid={"resolution": list(range(8, 48))}), Ledger(root, "s"))
    ran = run_through(search, failing)
    assert len(ran) == ALIKE
    assert search.hopeless == "made up"


@pytest.mark.parametrize("broken", ["backbone", "paradigm"])
def test_a_broken_part_is_no_reason_to_give_up_the_others(root: Root, broken: str) -> None:
    grid = {"backbone": ["miniature:vit_b_16", "miniature:alexnet"], "paradigm": ["triplet", "contrastive"]}
    sweep = Sweep(name="s", grid=grid | {"seed": list(range(10))})
    bad = {"backbone": Variant("miniature:vit_b_16"), "paradigm": TRIPLET}[broken]
    search = Search(sweep, Ledger(root, "s"), length=lambda trial: 2.0 if getattr(trial, broken) == bad else 1.0)
    ran = run_through(search, lambda trial: failing(trial) if getattr(trial, broken) == bad else result(trial))
    assert len(ran) == 40
    assert len(run_through(Search(sweep, Ledger(root, "fresh")), failing)) == ALIKE  # of four kinds


def test_one_that_finishes_is_reason_to_go_on(root: Root) -> None:
    search = Search(Sweep(name="s", grid={"resolution": list(range(8, 48))}), Ledger(root, "s"))
    ran = run_through(search, lambda trial: result(trial) if trial.resolution == 10 else failing(trial))
    assert len(ran) == 40
    assert search.hopeless is None
