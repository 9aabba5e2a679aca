"""How a submitted sweep stands, from its files alone: no Ray, no MLflow, from any machine that sees the root."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from humansim import plan, results
from humansim.results import ENDED, Failure, Outcome, Result, State, now
from humansim.root import Root
from humansim.spec import Cell, Sweep, Trial
from humansim.stage import Stage, ago, current


@dataclass(frozen=True)
class Running:
    """A trial under way: epochs done, the last one's validation 2AFC, images per second and age in seconds; where.

    `begun` is seconds since it was begun, `node` where, `gpu` the share of GPUs that it was given: as Ray has it, None
    without it.
    """

    trial: Trial
    epoch: int = 0
    validation: float | None = None
    images_per_second: float | None = None
    age: float | None = None
    node: str | None = None
    gpu: float | None = None
    begun: float | None = None


@dataclass(frozen=True)
class Group:
    """The cells of one backbone and paradigm: trials by state, and the best finished one by validation.

    Of `tied` equals, whatever their seeds, it is the first by its id.
    """

    backbone: str
    paradigm: str
    states: Counter[str]
    best: Result | None
    tied: int = 0


@dataclass(frozen=True)
class Status:
    """A sweep as it stands.

    Attributes:
        states: state -> trials, those still to be asked for among "to run".
        left: seconds until all is finished if as many trials run at once as now, and take as long as those that have
            finished or were pruned; None if nothing runs, or none has.
        stage: what the submit is doing; None if none is under way.
        ago: seconds since it was submitted last.
    """

    sweep: Sweep
    states: Counter[str]
    groups: list[Group]
    running: list[Running]
    failures: list[Failure]
    left: float | None
    stage: Stage | None
    ago: float


@dataclass
class Reader:
    """Reads how sweeps stand again and again; what has ended is read once."""

    root: Root
    ended: dict[str, Outcome] = field(default_factory=dict)

    def read(self, sweep: Sweep) -> Status:
        """How the sweep stands now."""
        found = plan.plan(sweep, self.root)
        states = found.counts()
        trials = {trial.id: (trial, state) for known in found.trials.values() for trial, state in known}
        for trial, state in trials.values():
            self._note(trial, state)
        running = [self._running(trial) for trial, state in trials.values() if state is State.RUNNING]
        outcomes = {id_: self.ended[id_] for id_, (_, state) in trials.items() if state in ENDED}
        failed = [outcomes[id_] for id_, (_, state) in trials.items() if state is State.FAILED]
        failures = [outcome for outcome in failed if isinstance(outcome, Failure)]
        left, stage = _left(states, outcomes.values()), current(self.root, sweep.name)
        since = ago(self.root, sweep.name, stage)
        return Status(sweep, states, self._groups(found), running, failures, left, stage, since)

    def _note(self, trial: Trial, state: State) -> None:
        known = self.ended.get(trial.id)
        if (state is State.FINISHED and not isinstance(known, Result)) or state is State.FAILED:
            known = results.load(self.root, trial)
        elif state is State.PRUNED and known is None:
            known = results.last(self.root, trial)
        if known is not None:
            self.ended[trial.id] = known

    def _running(self, trial: Trial) -> Running:
        row, begun = results.epoch(self.root, trial), results.begun(self.root, trial)
        where = (None, None, None) if begun is None else (begun.node, begun.gpu, (now() - begun.time) / 1000)
        if row is None:
            return Running(trial, 0, None, None, None, *where)
        age = (now() - row["time"]) / 1000
        return Running(trial, int(row["epoch"]), row["validation"], row["images_per_second"], age, *where)

    def _groups(self, found: plan.Plan) -> list[Group]:
        groups: dict[tuple[str, str], list[Cell]] = {}
        for cell in found.cells:
            paradigm = "" if cell.trial.paradigm is None else str(cell.trial.paradigm)
            groups.setdefault((str(cell.trial.backbone), paradigm), []).append(cell)
        return [self._group(*key, found, cells) for key, cells in groups.items()]

    def _group(self, backbone: str, paradigm: str, found: plan.Plan, cells: list[Cell]) -> Group:
        states: Counter[str] = Counter()
        finished: list[list[Result]] = []
        for cell in cells:
            trials = found.trials[cell.key]
            states.update(str(state) for _, state in trials)
            states[str(State.TO_RUN)] += plan.wanted(found.sweep, cell) - len(trials)
            ended = (self.ended.get(trial.id) for trial, state in trials if state is State.FINISHED)
            finished.append([one for one in ended if isinstance(one, Result) and one.mean("validation") >= 0])
        return Group(backbone, paradigm, states, *results.best(finished))


def _left(states: Counter[str], outcomes: Iterable[Outcome]) -> float | None:
    took = [sum(one.seconds.values()) for one in outcomes if not isinstance(one, Failure)]
    at_once = states[str(State.RUNNING)]
    missing = at_once + states[str(State.TO_RUN)] + states[str(State.RESUMABLE)]
    return missing * sum(took) / len(took) / at_once if took and at_once else None
