"""What a trial gets of a machine: enough for what was measured, in parts that add up; more when it was not enough."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humansim.launch.packing import TIMES, Packer, Place, Share, more, share_of
from humansim.ledger import Ledger
from humansim.probes import CONTEXT, MARGIN, SHARES
from humansim.results import Failure, Result
from humansim.root import Root
from humansim.search import Search
from humansim.spec import Sweep, Trial, Variant

GIB = 1 << 30
CPUS = Place(cpus=16, memory=64 * GIB, memory_of_core=4 * GIB)
GPUS = Place(cpus=16, memory=64 * GIB, gpus=4, gpu_memory=80 * GIB)


def test_shares_of_a_gpu_add_up_in_any_mixture() -> None:
    for small, large in itertools.pairwise(SHARES):
        assert large == 2 * small
    assert SHARES[-1] == 1


def test_what_was_not_measured_has_a_gpu_to_itself() -> None:
    assert share_of(Trial(threads=2), GPUS) == Share(2, gpu=1.0)
    assert share_of(Trial(threads=2), CPUS) == Share(2, memory=8 * GIB)  # that of its cores
    assert share_of(Trial(), Place(8, GIB, gpus=2), peak=GIB).gpu == 1  # of a GPU that nothing is known of


@given(st.integers(0, 200 * GIB), st.sampled_from([16 * GIB, 24 * GIB, 80 * GIB]))
def test_a_share_holds_the_measured_peak_and_is_the_smallest_that_does(peak: int, memory: int) -> None:
    place = Place(16, 64 * GIB, gpus=1, gpu_memory=memory)
    share = share_of(Trial(), place, peak).gpu
    assert share in SHARES
    needed = peak * MARGIN + CONTEXT
    assert share * memory >= needed or share == 1
    assert all(smaller * memory < needed for smaller in SHARES if smaller < share)


@given(st.integers(0, 200 * GIB), st.integers(1, 4))
def test_without_a_gpu_memory_goes_with_cores_in_whole_parts_so_that_shares_repeat(peak: int, threads: int) -> None:
    share, part = share_of(Trial(threads=threads), CPUS, peak), threads * CPUS.memory_of_core
    assert (share.cpus, share.gpu) == (threads, 0)
    assert share.memory == CPUS.memory or (share.memory % part == 0 and share.memory >= peak * MARGIN)
    assert share.memory <= max(part, 2 * peak * MARGIN)
    assert share_of(Trial(), Place(8, GIB), peak).memory == 0  # nothing is known of the nodes' memory


@given(*[st.builds(Place, *[st.integers(0, 9)] * 5)] * 2)
def test_what_was_there_once_is_counted_on(one: Place, other: Place) -> None:
    both = one.or_more(other)
    assert both == other.or_more(one)
    assert both.or_more(one) == both
    assert (both.cpus, both.gpus) == (max(one.cpus, other.cpus), max(one.gpus, other.gpus))


@given(st.sampled_from(SHARES))
def test_who_runs_out_of_memory_gets_twice_as_much_until_there_is_no_more(gpu: float) -> None:
    larger = more(Share(1, gpu=gpu), GPUS)
    assert larger == (None if gpu == 1 else Share(1, gpu=2 * gpu))


@given(st.integers(0, 100 * GIB))
def test_memory_doubles_too(memory: int) -> None:
    larger = more(Share(1, memory=memory), CPUS)
    if memory >= CPUS.memory:
        assert larger is None
    else:
        assert larger is not None
        assert memory < larger.memory <= CPUS.memory


def test_an_eighth_is_asked_again_no_more_than_twice() -> None:
    assert TIMES == 2


@given(st.integers(0, 70 * GIB), st.floats(0, 1))
def test_a_share_is_no_smaller_than_the_trials_part_of_the_work_that_is_left_for_each_gpu(
    peak: int, part: float
) -> None:
    share = share_of(Trial(), GPUS, peak, part).gpu
    assert share >= min(1.0, 4 * part)
    assert share == max(share_of(Trial(), GPUS, peak).gpu, share_of(Trial(), GPUS, 0, part).gpu)


def packer(root: Root, trials: int, place: Place = GPUS) -> Packer:
    sweep = Sweep(name="s", base=Trial(paradigm=Variant("triplet")), grid={"seed": list(range(trials))})
    return Packer(Search(sweep, Ledger(root, "s")), place, lambda trial: GIB)


def result(trial: Trial) -> Result:
    return Result(trial=trial, scores=(), history=(), provenance={}, seconds={}, peak_memory=0, finished=1)


def out_of_memory(trial: Trial) -> Failure:
    return Failure(trial=trial, kind="oom", reason="made up", traceback="", finished=1)


def test_the_last_trials_have_gpus_to_themselves(root: Root) -> None:
    """Forty alike that would fit eight to a GPU, on four GPUs: shares grow as less is left."""
    some = packer(root, 40)
    shares = []
    while (given := some.next()) is not None:
        shares.append(given[1].gpu)
    assert shares == sorted(shares)
    assert shares[0] == 0.125
    assert shares[-4:] == [1.0] * 4
    assert sum(shares[:-8]) >= 4  # while enough is left, four GPUs are full


def test_few_trials_are_spread_over_all_gpus(root: Root) -> None:
    some = packer(root, 4)
    assert [given[1].gpu for given in iter(some.next, None)] == [1.0] * 4


def test_without_a_gpu_what_is_left_does_not_matter(root: Root) -> None:
    some = packer(root, 2, CPUS)
    assert [given[1] for given in iter(some.next, None)] == [share_of(Trial(), CPUS, GIB)] * 2


def at_pace(trial: Trial, pace: float) -> Result:
    rows = ({"epoch": 1.0, "images_per_second": 1.0}, {"epoch": 2.0, "images_per_second": pace})
    return result(trial).model_copy(update={"history": rows})


@pytest.mark.parametrize(
    ("full", "tried"),
    [
        ({0.125: 150, 0.25: 140, 0.5: 120, 1.0: 100}, [1.0, 0.125, 0.125, 0.125]),
        ({0.125: 90, 0.25: 95, 0.5: 120, 1.0: 100}, [1.0, 0.125, 0.25, 0.5, 0.5, 0.5]),
        ({0.125: 90, 0.25: 95, 0.5: 100, 1.0: 100}, [1.0, 0.125, 0.25, 0.5, 1.0, 1.0]),  # as fast: no gain
    ],
)
def test_trials_share_a_gpu_only_where_it_is_faster_than_one_after_the_other(
    root: Root, full: dict[float, float], tried: list[float]
) -> None:
    """`full`: images a second of a GPU that is full of trials, by the share that each has."""
    some = packer(root, 120)
    some.peak = lambda trial: GIB if trial.seed else None  # nothing is known before the first one: it is alone
    shares = []
    for _ in tried:
        given = some.next()
        assert given is not None
        trial, share = given
        shares.append(share.gpu)
        assert some.end(at_pace(trial, full[share.gpu] * share.gpu), share)
    assert shares == tried


def test_who_ran_out_of_memory_is_the_next_one_with_more_and_at_last_has_failed(root: Root) -> None:
    some = packer(root, 40)
    given = some.next()
    assert given is not None
    trial, share = given
    for _ in range(TIMES):
        assert not some.end(out_of_memory(trial), share)
        assert not some.done
        again = some.next()
        assert again == (trial, more(share, GPUS))
        share = again[1]
    assert some.end(out_of_memory(trial), share)
    other = some.next()
    assert other is not None
    assert other[0] != trial


def test_what_could_not_start_is_the_next_one_again(root: Root) -> None:
    some = packer(root, 2)
    given = some.next()
    assert given is not None
    some.put_back(*given)
    assert some.next() == given
    for trial, share in (given, some.next() or given):
        assert not some.done
        assert some.end(result(trial), share)
    assert some.next() is None
    assert some.done
