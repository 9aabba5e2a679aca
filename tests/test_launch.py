"""How trials that go wrong end: recorded, and at no cost to the others."""

from pathlib import Path

import pytest

from humansim import results
from humansim.launch import Follow, attempt, serial
from humansim.ledger import Ledger
from humansim.results import Failure, Outcome, Result, State
from humansim.root import Root
from humansim.search import Search
from humansim.spec import Sweep, Trial, Variant

BASE = Trial(paradigm=Variant("triplet"))


def finished(trial: Trial, root: Root, *, report: object, **more: object) -> Result:
    """A runner that only commits."""
    result = Result(
        trial=trial, scores=(), history=(), provenance={}, seconds={}, peak_memory=0, finished=results.now()
    )
    results.save(root, result)
    return result


def raises(error: BaseException) -> object:
    def runner(trial: Trial, root: Root, *, report: object, **more: object) -> Result:
        raise error

    return runner


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (ValueError("odd\nand more"), "error", "ValueError: odd"),
        (MemoryError(), "oom", "MemoryError:"),
        (OutOfMemoryError("CUDA out of memory"), "oom", "OutOfMemoryError: CUDA out of memory"),
    ],
)
def test_an_exception_is_recorded_with_its_traceback(root: Root, error: Exception, kind: str, reason: str) -> None:
    outcome = attempt(BASE, root, raises(error), lambda row: None)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.reason) == (kind, reason)
    assert "Traceback" in outcome.traceback
    assert results.load(root, BASE) == outcome
    assert results.state(root, BASE) is State.FAILED


def test_ctrl_c_is_no_failure_of_the_trial(root: Root) -> None:
    with pytest.raises(KeyboardInterrupt):
        attempt(BASE, root, raises(KeyboardInterrupt()), lambda row: None)
    assert results.state(root, BASE) is State.TO_RUN


def test_a_failed_trial_does_not_stop_the_others(root: Root) -> None:
    def runner(trial: Trial, root: Root, *, report: object, **more: object) -> Result:
        if trial.seed == 1:
            raise ValueError("poisoned")
        return finished(trial, root, report=report)

    sweep = Sweep(name="three", base=BASE, grid={"seed": [0, 1, 2]})
    told: list[Outcome] = []
    search = Search(sweep, Ledger(root, sweep.name))
    serial.launch(search, root, runner, Follow(ended=told.append))
    assert [(type(outcome), outcome.trial.seed) for outcome in told] == [(Result, 0), (Failure, 1), (Result, 2)]
    assert search.done


def test_a_result_takes_the_place_of_a_failure(root: Root) -> None:
    attempt(BASE, root, raises(ValueError()), lambda row: None)
    results.forget_failure(root, BASE)
    assert results.state(root, BASE) is State.TO_RUN
    assert attempt(BASE, root, finished, lambda row: None) == results.load(root, BASE)
    assert results.state(root, BASE) is State.FINISHED


def test_a_running_trial_shows_as_running_and_is_run_by_one_process_at_a_time(root: Root) -> None:
    with results.claimed(root, BASE) as folder:
        assert results.state(root, BASE) is State.RUNNING
        (folder / ".checkpoint.pt-torn").touch()  # what a kill leaves
    assert results.state(root, BASE) is State.TO_RUN
    with results.claimed(root, BASE) as folder:
        assert [path.name for path in sorted(folder.iterdir())] == ["lock", "trial.json"]


def test_a_damaged_result_is_named(root: Root, tmp_path: Path) -> None:
    finished(BASE, root, report=None)
    file = results.folder(root, BASE) / results.RESULT
    file.write_text(file.read_text()[:100])
    from humansim.errors import BadInput

    with pytest.raises(BadInput, match=r"result\.json: damaged .* delete the folder and the trial runs again"):
        results.load(root, BASE)
