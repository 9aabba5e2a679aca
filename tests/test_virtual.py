"""GPUs on a virtual clock: jobs go where Ray puts them, and take as long as the assumption about sharing says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humansim.probes import SHARES
from humansim.virtual import Gpus, slowdown

JOBS = st.lists(st.tuples(st.floats(0, 1e4), st.sampled_from(SHARES)), max_size=40)


def run_through(jobs: list[tuple[float, float]], cluster: Gpus[int]) -> dict[int, float]:
    """When each job ends, begun in order as soon as there is room."""
    ends, waiting = {}, list(enumerate(jobs))
    while True:
        while waiting and cluster.start(waiting[0][0], *waiting[0][1]):
            waiting.pop(0)
        job = cluster.next()
        if job is None:
            assert not waiting
            return ends
        ends[job] = cluster.now


@given(jobs=st.lists(st.floats(0, 1e4), max_size=40), gpus=st.integers(1, 9))
def test_a_schedule_is_no_shorter_than_its_parts_and_no_longer_than_grahams_bound(jobs: list[float], gpus: int) -> None:
    cluster: Gpus[int] = Gpus(gpus)
    found = max(run_through([(seconds, 1.0) for seconds in jobs], cluster).values(), default=0.0)
    total, longest = sum(jobs), max(jobs, default=0.0)
    assert found >= max(longest, total / gpus) * (1 - 1e-9)
    assert found <= (total / gpus + (1 - 1 / gpus) * longest) * (1 + 1e-9)
    assert cluster.most <= gpus


@given(jobs=JOBS)
def test_sharing_a_gpu_neither_gains_nor_costs_anything(jobs: list[tuple[float, float]]) -> None:
    ends = run_through(jobs, Gpus(1))
    assert max(ends.values(), default=0.0) == pytest.approx(sum(seconds for seconds, _ in jobs))


@given(jobs=JOBS, gpus=st.integers(1, 5))
def test_no_gpu_ever_holds_more_than_a_whole(jobs: list[tuple[float, float]], gpus: int) -> None:
    cluster: Gpus[int] = Gpus(gpus)
    running: dict[int, float] = {}
    for job, (seconds, share) in enumerate(jobs):
        while not cluster.start(job, seconds, share):
            ended = cluster.next()
            assert ended is not None
            del running[ended]
        running[job] = share
        assert all(0 <= free <= 1 for free in cluster.free)
        assert sum(cluster.free) == gpus - sum(running.values())


def test_who_shares_goes_on_faster_when_the_other_has_ended() -> None:
    assert run_through([(1.0, 0.5), (3.0, 0.5)], Gpus(1)) == {0: 2.0, 1: 4.0}
    assert run_through([(1.0, 0.5), (3.0, 0.5)], Gpus(1, lambda trials: 1.0)) == {0: 1.0, 1: 3.0}
    assert [slowdown(trials) for trials in (1, 2, 8)] == [1, 2, 8]


def test_a_job_goes_where_least_is_free() -> None:
    """As in Ray: two halves are on one GPU, and a whole one still has room."""
    cluster: Gpus[str] = Gpus(2)
    assert cluster.start("half", 1.0, 0.5)
    assert cluster.start("quarter", 1.0, 0.25)
    assert cluster.start("whole", 1.0)
    assert not cluster.start("other half", 1.0, 0.5)
    assert sorted(cluster.free) == [0, 0.25]


def test_a_job_of_several_gpus_takes_them_whole_and_of_more_than_there_are_all() -> None:
    cluster: Gpus[str] = Gpus(3)
    assert cluster.start("one", 3.0)
    assert not cluster.start("three", 1.0, gpus=3)
    assert cluster.start("two", 1.0, gpus=2)
    assert cluster.next() == "two"
    assert cluster.next() == "one"
    assert cluster.start("all", 2.0, gpus=99)
    assert cluster.free == [0, 0, 0]
    assert cluster.next() == "all"
    assert cluster.now == 5
    assert cluster.most == 2


def test_a_gpu_that_dies_gives_back_what_was_on_it_with_what_is_left_of_it() -> None:
    cluster: Gpus[str] = Gpus(2)
    cluster.start("a", 2.0, 0.5)
    cluster.start("b", 4.0, 0.5)
    cluster.start("c", 9.0, gpus=1)
    assert cluster.next(until=2.0) is None
    assert cluster.now == 2
    assert cluster.stop(0) == {"a": 1.0, "b": 3.0}
    assert cluster.free == [1, 0]
    assert cluster.next(until=5.0) is None
    assert cluster.next() == "c"
    assert cluster.now == 9
    assert cluster.next() is None
