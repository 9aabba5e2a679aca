"""What waits for MLflow: kept while it does not answer, written once when it does, given up where it has no hope."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from test_search import result

from humansim import backlog
from humansim.backlog import Backlog, Waiting, briefly
from humansim.results import Result
from humansim.spec import Trial, Variant

TRIALS = [Trial(paradigm=Variant("triplet"), seed=seed) for seed in range(8)]


@dataclass
class Store:
    """Takes what it is given, unless it is told otherwise."""

    problem: Callable[[Waiting], None] = lambda one: None
    epochs: dict[str, list[float]] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def write(self, one: Waiting) -> bool:
        self.problem(one)
        self.epochs.setdefault(one.trial.id, []).extend(row["epoch"] for row in one.rows)
        if one.outcome is not None:
            self.ended.append(one.trial.id)
        return True

    def before(self, writers: int = 1) -> Backlog:
        return Backlog(self.write, lambda error: isinstance(error, KeyError), self.said.append, writers)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person is told at once, and the end waits for a moment only."""
    monkeypatch.setattr(backlog, "BRIEFLY", 0.0)
    monkeypatch.setattr(backlog, "PATIENCE", 0.3)
    monkeypatch.setattr(backlog, "LONGEST", 0.05)


def row(epoch: float) -> dict[str, float]:
    return {"epoch": epoch, "time": 1000.0 * epoch, "seconds": 1.0}


def gone(one: Waiting) -> None:
    raise ConnectionError("gone")


def feed(through: Backlog, trials: list[Trial]) -> None:
    for epoch in (1.0, 2.0, 3.0):
        for trial in trials:
            through.epoch(trial, row(epoch))
    for trial in trials:
        through.ended(result(trial))


@pytest.mark.parametrize("writers", [1, 4])
def test_all_arrives_once_and_each_trial_in_order(writers: int) -> None:
    store = Store()
    through = store.before(writers)
    feed(through, TRIALS)
    assert through.close(stopped=False) is None
    assert store.epochs == {trial.id: [1, 2, 3] for trial in TRIALS}
    assert sorted(store.ended) == sorted(trial.id for trial in TRIALS)
    assert store.said == []


@pytest.mark.parametrize("writers", [1, 4])
def test_what_is_lost_and_found_misses_nothing_and_says_so_once(hasty: None, writers: int) -> None:
    store = Store(problem=gone)
    through = store.before(writers)
    feed(through, TRIALS)
    until(lambda: bool(store.said))
    assert store.epochs == {}
    store.problem = lambda one: None
    assert through.close(stopped=False) is None
    assert store.epochs == {trial.id: [1, 2, 3] for trial in TRIALS}
    assert sorted(store.ended) == sorted(trial.id for trial in TRIALS)
    lost, *waiting, back = store.said
    assert lost == "MLflow does not answer (gone); trials go on, and it is tried again"
    assert back == "MLflow answers again and is given what it missed"
    assert all("waiting for it" in said for said in waiting)


def test_what_never_comes_back_is_waited_for_and_named(hasty: None) -> None:
    store = Store(problem=gone)
    through = store.before()
    feed(through, TRIALS)
    assert through.close(stopped=False) == "gone"
    assert store.said[-1] == "MLflow does not answer (gone); waiting for it, at most 0 s"
    assert store.ended == []


def test_a_person_who_stops_does_not_wait_for_an_answer_that_never_comes(hasty: None) -> None:
    never = threading.Event()
    store = Store(problem=lambda one: bool(never.wait()))
    through = store.before()
    through.ended(result(TRIALS[0]))
    assert through.close(stopped=True) == "it does not answer"
    never.set()


@pytest.mark.parametrize("kind", [KeyError, ConnectionError])
def test_one_that_cannot_be_written_costs_the_others_nothing(hasty: None, kind: type[Exception]) -> None:
    bad = TRIALS[3]

    def problem(one: Waiting) -> None:
        if one.trial == bad:
            raise kind("no such thing")

    store = Store(problem=problem)
    through = store.before()
    for trial in TRIALS:
        through.ended(result(trial))
    for trial in TRIALS * 3:  # others are taken between one try and the next
        until(lambda: len(store.ended) >= len(TRIALS) - 1)
        if trial != bad:
            through.epoch(trial, row(1))
            time.sleep(0.02)
    assert "no such thing" in str(through.close(stopped=False))
    assert set(store.ended) == {trial.id for trial in TRIALS if trial != bad}


def test_what_comes_while_a_trial_waits_joins_it(hasty: None) -> None:
    store = Store(problem=gone)
    through = store.before()
    through.epoch(TRIALS[0], row(1))
    until(lambda: bool(store.said))
    through.epoch(TRIALS[0], row(2))
    through.ended(result(TRIALS[0]))
    store.problem = lambda one: None
    assert through.close(stopped=False) is None
    assert store.epochs == {TRIALS[0].id: [1, 2]}


def test_a_trial_is_written_by_one_at_a_time() -> None:
    inside: set[str] = set()
    twice = []

    def problem(one: Waiting) -> None:
        if one.trial.id in inside:
            twice.append(one.trial.id)
        inside.add(one.trial.id)
        time.sleep(0.002)
        inside.discard(one.trial.id)

    store = Store(problem=problem)
    through = store.before(writers=4)
    for epoch in range(20):
        for trial in TRIALS[:3]:
            through.epoch(trial, row(epoch))
            time.sleep(0.001)
    assert through.close(stopped=False) is None
    assert twice == []
    assert store.epochs == {trial.id: list(range(20)) for trial in TRIALS[:3]}


def test_a_trial_begins_when_its_first_epoch_did() -> None:
    ended: Result = result(TRIALS[0])
    assert Waiting(TRIALS[0], [row(5)]).start == 4000
    assert Waiting(TRIALS[0], outcome=ended).start == ended.finished - int(1000 * sum(ended.seconds.values()))


def test_a_reason_is_short() -> None:
    long = "HTTPConnectionPool(host='h', port=1): Max (Caused by New(\"<x>: [Errno 111] Connection refused\"))"
    assert briefly(OSError(long)) == "Connection refused"
    assert briefly(ValueError("one\ntwo")) == "one"
    assert briefly(ValueError()) == "ValueError"
    assert briefly(KeyError("n")) == "KeyError: 'n'"  # a slip of a program


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
