"""How long trials take: what probes and finished trials tell, on which device, and how sure it is."""

import math
import random

import pytest
from test_probes import DEVICE, PRETRAINED, TINY, finished, probe

from humansim import probes, results
from humansim.lengths import ENOUGH, UNSURE, Corrections, Lengths, counter
from humansim.material import prepare
from humansim.results import Result
from humansim.root import Root
from humansim.spec import Trial

GPU = "NVIDIA L4"


def ended(trial: Trial, root: Root, seconds: float, device: str = DEVICE) -> Result:
    finished(trial, root, seconds, device)
    outcome = results.load(root, trial)
    assert isinstance(outcome, Result)
    return outcome


def trained(trial: Trial, root: Root, step: float, device: str = DEVICE) -> Result:
    """A result that tells what its parts took: epochs of two steps."""
    rows = tuple(
        {"seconds": 2 * step, "validation_seconds": 1.0, "time": 1000.0 * (2 * step + 1) * (epoch + 1)}
        for epoch in range(trial.epochs)
    )
    made = {"device": device, "fit": 16, "embedded": 10, "versions": {"torch": probes.torch_version()}}
    train = trial.epochs * (2 * step + 1)
    seconds = {"read": 1.0, "make": 1.0, "train": train, "embed": 1.0, "score": 1.0}
    result = Result(trial=trial, scores=(), history=rows, provenance=made, seconds=seconds, peak_memory=1, finished=1)
    results.save(root, result)
    return result


def test_nothing_is_known_where_nothing_was_measured(root: Root) -> None:
    lengths = Lengths(root, [TINY])
    assert lengths.seconds(TINY) is None
    assert lengths.device == DEVICE


def test_a_finished_trial_tells_of_others_of_its_kind(root: Root) -> None:
    lengths = Lengths(root, [TINY, PRETRAINED])
    lengths.learn(trained(TINY, root, 3.0))
    known, longer = lengths.seconds(TINY), lengths.seconds(TINY.having({"epochs": 6}))
    assert known is not None
    assert longer is not None
    assert longer - known == pytest.approx(3 * (2 * 3.0 + 0.1 * counter(root)(TINY).validation), rel=0.01)
    assert lengths.seconds(PRETRAINED) is None
    assert lengths.seconds(TINY.having({"batch_size": 4})) is None


def test_a_probe_is_corrected_by_trials_that_finish(root: Root) -> None:
    probes.keep(root, probe(TINY))
    lengths = Lengths(root, [TINY])
    before = lengths.seconds(TINY)
    assert before is not None
    learnt = lengths.learn(ended(TINY.having({"lr": 0.5}), root, 2 * (before - 0.01 * counter(root)(TINY).evaluated)))
    assert learnt.predicted == pytest.approx(learnt.actual / 2)
    assert lengths.seconds(TINY) == pytest.approx(2 * before)


def test_the_device_that_counts_is_that_on_which_most_is_measured(root: Root) -> None:
    """A laptop has measured one of two kinds; the cluster's GPUs tell as their first trials finish."""
    probes.keep(root, probe(TINY, step=100.0))
    other = TINY.having({"batch_size": 4})
    lengths = Lengths(root, [TINY, other])
    lengths.learn(trained(TINY, root, 0.5, GPU))
    assert lengths.device == DEVICE
    lengths.learn(trained(other, root, 0.5, GPU))
    assert lengths.device == GPU
    on_gpu, here = lengths.seconds(TINY), lengths.seconds(TINY, DEVICE)
    assert on_gpu is not None
    assert here is not None
    assert on_gpu < 100 < here


def test_a_result_of_another_humansim_teaches_nothing_and_breaks_nothing(root: Root) -> None:
    lengths = Lengths(root, [TINY])
    bare = Result(trial=TINY, scores=(), history=(), provenance={}, seconds={}, peak_memory=0, finished=1)
    assert lengths.learn(bare).predicted is None
    assert lengths.seconds(TINY) is None


def test_data_that_is_not_there_is_named_and_its_trials_have_no_length(root: Root) -> None:
    lost = TINY.having({"source": "study"})
    probes.keep(root, probe(lost))
    lengths = Lengths(root, [lost])
    assert lengths.seconds(lost) is None
    assert "bapps" in lengths.missing["study"]


@pytest.mark.parametrize("fit_on", [None, "sample/kind"])
def test_judgements_at_hand_are_not_read_again(root: Root, fit_on: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = TINY.having({"fit_on": fit_on})
    counts, material = counter(root)(trial), prepare(trial, root)
    monkeypatch.delattr("humansim.sources.read")
    at_hand = {(trial.source, trial.protocol): (material.judgements, material.split)}
    assert counter(root, at_hand)(trial) == counts


def test_while_too_few_have_finished_an_interval_is_a_guess() -> None:
    corrections = Corrections()
    for _ in range(ENOUGH - 1):
        corrections.add("a", 1.0, 1.0)
    assert corrections.interval([("a", 1.0)]) == UNSURE
    corrections.add("a", 1.0, 1.0)
    assert corrections.interval([("a", 1.0)]) == (1.0, 1.0)
    low, high = corrections.interval([("b", 1.0)])  # of another kind, and but one is known
    assert 0.7 < low < UNSURE[0]
    assert UNSURE[1] < high < 1 / 0.7
    assert corrections.interval([]) == UNSURE


def test_what_conditions_share_does_not_shrink_with_the_number_of_trials_and_their_scatter_does() -> None:
    rng = random.Random(0)
    corrections = Corrections()
    for kind in range(8):
        shared = rng.gauss(0, 0.2)
        for _ in range(5):
            corrections.add(str(kind), math.exp(shared + rng.gauss(0, 0.1)), 1.0)

    def width(kind: str, trials: int, slots: int = 1) -> float:
        low, high = corrections.interval([(kind, 1.0)] * trials, slots)
        return math.log(high / low)

    assert width("0", 1) > 2 * width("0", 100)
    assert width("new", 1) < 1.3 * width("new", 100)
    assert width("new", 100) > 3 * width("0", 100)
    assert width("0", 8, slots=8) == pytest.approx(width("0", 99, slots=99))
    assert width("0", 99, slots=99) > 2 * width("0", 99)


@pytest.mark.parametrize("seen", [20, 10, 4], ids=["all kinds seen", "half of them", "a few"])
@pytest.mark.parametrize(("between", "scatter"), [(0.15, 0.1), (0.05, 0.1), (0.3, 0.05)])
def test_four_intervals_of_five_hold_what_a_sweep_takes(seen: int, between: float, scatter: float) -> None:
    """Sweeps of 20 kinds x 11 trials, 4 of each kind seen have finished; a trial takes what its kind and chance say."""
    rng, sweeps, held = random.Random(seen), 200, 0
    for _ in range(sweeps):
        corrections, planned, actual = Corrections(), [], 0.0
        for kind in range(20):
            usual, shared = rng.lognormvariate(5, 0.7), 0.3 + rng.gauss(0, between)
            for number in range(11):
                taken = usual * math.exp(shared + rng.gauss(0, scatter))
                if kind < seen and number < 4:
                    corrections.add(str(kind), taken, usual)
                else:
                    planned.append((str(kind), usual))
                    actual += taken
        corrected = [(kind, usual * corrections.of(kind)) for kind, usual in planned]
        low, high = corrections.interval(corrected)
        held += low <= actual / sum(seconds for _, seconds in corrected) <= high
    assert 0.7 <= held / sweeps <= 0.92
