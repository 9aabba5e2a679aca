"""In which order a sweep is asked for: the longest first, for GPUs in use until the end; never what is asked for."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humansim import plan
from humansim.order import Order, unknown
from humansim.plan import STARTUP, in_a_row, waits_for, wanted
from humansim.spec import Sweep, Trial, Uniform, Variant
from humansim.virtual import Gpus

LR = {"lr": Uniform(low=1e-5, high=1e-1, log=True)}
BASE = Trial(paradigm=Variant("triplet"))
LENGTHS = st.lists(st.integers(1, 1000).map(float), min_size=1, max_size=7)


def grid(count: int, kinds: int = 1) -> Sweep:
    """So many cells of a trial each, told apart by their epochs, dealt out to kinds."""
    margins = [0.1 * (kind + 1) for kind in range(kinds)]
    cells = [{"epochs": [i + 1], "paradigm.margin": [margins[i % kinds]]} for i in range(count)]
    return Sweep(name="s", base=BASE, grid=cells)


def makespan(sweep: Sweep, seconds: Sequence[float], gpus: int, known: bool = True) -> float:
    """Seconds that a sweep takes in its order; cell i's trials take `seconds[i]`, and are known to."""
    cells = plan.cells(sweep)
    order = Order(sweep, cells, [0] * len(cells), (lambda trial: seconds[trial.epochs - 1]) if known else unknown)
    cluster: Gpus[tuple[int, int]] = Gpus(gpus)
    ended: list[set[int]] = [set() for _ in cells]
    while True:
        while max(cluster.free) == 1 and (cell := order.next()) is not None:
            index = order.asked[cell]
            if ended[cell].issuperset(range(waits_for(sweep, cells[cell], index))):
                order.ask(cell)
                assert cluster.start((cell, index), seconds[cell])
            else:
                order.wait(cell)
        one = cluster.next()
        if one is None:
            assert not order
            assert [len(some) for some in ended] == [wanted(sweep, cell) for cell in cells], "each trial once"
            return cluster.now
        ended[one[0]].add(one[1])
        order.end()


def shortest(seconds: Sequence[float], gpus: int) -> float:
    """The makespan of the best schedule, by trying all."""
    best = sum(seconds)
    for placed in itertools.product(range(gpus), repeat=len(seconds)):
        loads = [0.0] * gpus
        for gpu, length in zip(placed, seconds, strict=True):
            loads[gpu] += length
        best = min(best, max(loads))
    return best


@given(seconds=LENGTHS, gpus=st.integers(1, 3))
def test_independent_trials_take_no_more_than_four_thirds_of_the_shortest_schedule(
    seconds: list[float], gpus: int
) -> None:
    """Graham 1969: longest first takes at most 4/3 - 1/(3 m) times as long, on m GPUs."""
    assert makespan(grid(len(seconds)), seconds, gpus) <= (4 / 3 - 1 / (3 * gpus)) * shortest(seconds, gpus) + 1e-6


@given(
    seconds=st.lists(st.integers(1, 1000).map(float), min_size=1, max_size=40),
    kinds=st.integers(1, 5),
    gpus=st.integers(1, 9),
    repeats=st.integers(1, 3),
    known=st.booleans(),
)
def test_whatever_is_known_no_gpu_waits_while_there_is_a_trial_to_run(
    seconds: list[float], kinds: int, gpus: int, repeats: int, known: bool
) -> None:
    """Graham 1966, and with trials that wait for others: at most the work by the GPUs and the longest chain."""
    sweep = grid(len(seconds), kinds).model_copy(update={"repeats": repeats})
    found = makespan(sweep, seconds, gpus, known)
    work, chain = repeats * sum(seconds), min(repeats, 2) * max(seconds)
    assert max(work / gpus, chain) <= found * (1 + 1e-9)
    assert found <= (work / gpus + (1 - 1 / gpus) * chain) * (1 + 1e-9)


def drained(order: Order) -> list[int]:
    """Cells in the order in which they ask, nobody waiting."""
    found = []
    while (cell := order.next()) is not None:
        found.append(cell)
        order.ask(cell)
    return found


def of(sweep: Sweep, seconds: dict[int, float], asked: Sequence[int] | None = None) -> Order:
    """Lengths by epochs; what is not named is not known."""
    cells = plan.cells(sweep)
    return Order(sweep, cells, asked or [0] * len(cells), lambda trial: seconds.get(trial.epochs))


def test_the_longest_are_first_and_where_nothing_is_known_cells_take_turns() -> None:
    assert drained(of(grid(4), {1: 2.0, 2: 4.0, 3: 1.0, 4: 3.0})) == [1, 3, 0, 2]
    searched = grid(3).model_copy(update={"search": LR, "samples": 3})
    assert drained(of(searched, {})) == [0, 1, 2] * 3


def test_what_is_not_known_is_taken_for_as_long_as_the_longest_that_is() -> None:
    assert drained(of(grid(4), {1: 1.0, 3: 9.0, 4: 5.0})) == [1, 2, 3, 0]


def test_of_each_kind_one_comes_first_its_longest() -> None:
    order = of(grid(6, kinds=2), {1: 9.0, 2: 1.0, 3: 8.0, 4: 2.0, 5: 7.0, 6: 3.0})
    assert drained(order) == [0, 5, 2, 4, 3, 1]


def test_who_has_the_longer_way_to_go_comes_first() -> None:
    """Twenty samples that wait for each other are a longer way than one trial of ten times the length."""
    sweep = Sweep(name="s", base=BASE, grid={"epochs": [1, 2]}, search=LR, samples=50, parallel=1)
    assert drained(of(sweep, {1: 1.0, 2: 3.0}, asked=[12, 45]))[:3] == [0, 0, 0]
    assert drained(of(sweep, {1: 1.0, 2: 3.0}, asked=[45, 12]))[:3] == [1, 1, 1]


@pytest.mark.parametrize(("parallel", "samples", "repeats"), [(1, 14, 1), (4, 30, 3), (3, 5, 2), (2, 1, 3), (9, 40, 1)])
def test_the_way_to_go_is_what_unlimited_gpus_would_take(parallel: int, samples: int, repeats: int) -> None:
    sweep = Sweep(name="s", base=BASE, search=LR, samples=samples, parallel=parallel, repeats=repeats)
    (cell,) = plan.cells(sweep)
    assert makespan(sweep.model_copy(update={"base": BASE.having({"epochs": 1})}), [1.0], 999) == in_a_row(
        sweep, cell, 0
    )
    ways = [in_a_row(sweep, cell, asked) for asked in range(wanted(sweep, cell) + 1)]
    assert ways[-1] == 0
    assert all(0 <= before - after <= 1 for before, after in itertools.pairwise(ways))


def test_a_sample_waits_for_those_that_the_sampler_learns_from() -> None:
    sweep = Sweep(name="s", base=BASE, search=LR, samples=20, parallel=3, repeats=2)
    (cell,) = plan.cells(sweep)
    assert [waits_for(sweep, cell, i) for i in (0, STARTUP + 1, STARTUP + 2, 19)] == [0, 0, STARTUP, 17]
    assert waits_for(sweep, cell, 20) == 20  # the repeat: of the best of all


def test_lengths_that_become_known_change_the_order() -> None:
    seconds: dict[int, float] = {}
    order = of(grid(4), seconds)
    assert order.next() == 0
    order.ask(0)
    seconds |= {1: 1.0, 2: 1.0, 3: 5.0, 4: 3.0}
    order.end()
    assert drained(order) == [2, 3, 1]


@given(seconds=LENGTHS)
def test_a_trials_part_is_of_what_is_left_and_the_last_one_is_all_of_it(seconds: list[float]) -> None:
    order = of(grid(len(seconds)), dict(enumerate(seconds, start=1)))
    left = sum(seconds)
    while (cell := order.next()) is not None:
        order.ask(cell)
        assert order.part(order.cells[cell].trial) == pytest.approx(seconds[cell] / left)
        left -= seconds[cell]
    assert left == pytest.approx(0)
