"""Our search, as Ray Tune sees one: asked for the next trial, and told how each ended."""

import errno
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from humansim import results
from humansim.errors import BadInput
from humansim.launch import Follow, cluster, failed
from humansim.launch.packing import Packer, Place, Share
from humansim.results import Failure
from humansim.root import Root
from humansim.search import Search
from humansim.spec import Trial

RETRIES = 3  # of a trial whose process died; as often again if it was the node that died
NODE_DIED, OUT_OF_MEMORY = "node has died", "low on memory"  # in Ray's words
LOOK = 10.0  # seconds until the cluster is looked at again: it may have grown
VISIBLE_WITHIN = 60  # seconds that a shared file system may take to show what another node has written


class Feed(Searcher):
    """Our search as Tune sees one."""

    def __init__(
        self, search: Search, root: Root, follow: Follow, place: Place, peak: Callable[[Trial], int | None]
    ) -> None:
        super().__init__()
        self.search, self.root, self.follow = search, root, follow
        self.packer = Packer(search, place, peak)
        self.given: dict[str, tuple[Trial, Share]] = {}
        self.deaths = Deaths(root)
        self.elsewhere: set[str] = set()  # Tune trials that found theirs running elsewhere
        self.moved: Counter[str] = Counter()  # how often each trial was asked for again since its nodes had died
        self.looked = time.monotonic()
        self.error: Exception | None = None

    def suggest(self, trial_id: str) -> Any:
        try:
            given = self._next()
        except Exception as error:  # Tune would bury it in its own
            self.error, given = error, None
        if given is None:
            return Searcher.FINISHED if self.error is not None or self.packer.done else None
        trial, share = given
        if not self._has_room(trial):
            self.packer.put_back(*given)  # Tune does not see what Ray Train sets aside: it would start all of them
            return None
        self.given[trial_id] = given
        bar = [*(self.search.bar(trial) or {}).items()]  # Tune takes a dict for a search space of its own
        return {"trial": trial.model_dump_json(), "bar": bar, "workers": workers_of(trial), **vars(share)}

    def _next(self) -> tuple[Trial, Share] | None:
        given = self.packer.next() if self.error is None else None
        if given is None:
            return None
        if time.monotonic() > self.looked + LOOK:
            self.packer.place, self.looked = self.packer.place.or_more(cluster.place()), time.monotonic()
        trial, place = given[0], self.packer.place
        if trial.threads > place.cpus:
            raise BadInput(f"a trial wants {trial.threads} threads; the largest node has {place.cpus} CPUs")
        if workers_of(trial) > self._rooms():
            raise BadInput(f"a trial wants {trial.workers} workers; the cluster has room for {self._rooms()}")
        return given

    def _rooms(self) -> int:
        """Workers that fit on the cluster."""
        if self.packer.place.gpus:
            return self.packer.place.gpus
        return cluster.cpus()

    def _has_room(self, trial: Trial) -> bool:
        taken = sum(workers_of(other) for other, _ in self.given.values() if workers_of(other) > 1)
        return workers_of(trial) == 1 or taken + workers_of(trial) <= self._rooms()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if "row" in result:
            self.follow.epoch(self.given[trial_id][0], result["row"])
        if "elsewhere" in result:
            self.elsewhere.add(trial_id)
        if "full" in result:
            self.error = self.error or OSError(errno.ENOSPC, result["full"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial, share = self.given.pop(trial_id)
        bar = self.search.bar(trial)
        try:
            outcome = results.load(self.root, trial, bar)
            if outcome is None and self.error is not None:
                return
            if outcome is None and trial_id in self.elsewhere:
                self.packer.later(trial, share)
                return
            patience = time.monotonic() + VISIBLE_WITHIN
            while outcome is None and not error and time.monotonic() < patience:
                time.sleep(0.2)
                outcome = results.load(self.root, trial, bar)
            if outcome is None:
                outcome = self._died(trial, self.deaths.of(trial_id))
            if outcome is None:
                self.packer.again(trial, share)
                return
            if not self.packer.end(outcome, share):
                results.forget_failure(self.root, trial)
                return
            self.follow.ended(outcome)
        except Exception as problem:
            self.error = problem

    def _died(self, trial: Trial, deaths: list[str]) -> Failure | None:
        """Why a trial has no outcome, whose processes died one after the other; None if only their nodes did."""
        if deaths and all(NODE_DIED in death for death in deaths) and self.moved[trial.id] < RETRIES:
            self.moved[trial.id] += 1
            return None
        last = deaths[-1] if deaths else ""
        if OUT_OF_MEMORY in last:
            return out_of_memory(trial, self.root, last)
        reason = f"its process or node died {RETRIES + 1} times (killed, crashed or out of memory)"
        return failed(trial, self.root, "lost", reason, last)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what was asked and how it ended is on disk already."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("submit the sweep again instead")

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for a restore that never comes


class Deaths(tune.Callback):
    """Reads in Tune's files how processes of trials died, which it does not tell a searcher."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self._tune_trials: dict[str, Any] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tune_trials[trial.trial_id] = trial

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """One that Ray killed since its node ran out of memory would only be killed again: the next process ends it."""
        death = self.of(trial.trial_id)[-1:]
        if death and OUT_OF_MEMORY in death[0]:
            out_of_memory(Trial.model_validate_json(trial.config["trial"]), self.root, death[0])

    def of(self, trial_id: str) -> list[str]:
        """Each death of a Tune trial's processes, in Ray's words."""
        file = getattr(self._tune_trials.get(trial_id), "error_file", None)
        if file is None or not Path(file).exists():
            return []
        return [part.partition("\n")[2].strip() for part in Path(file).read_text().split("Failure # ")[1:]]

    def forget(self, trial_id: str) -> None:
        self._tune_trials.pop(trial_id, None)


def out_of_memory(trial: Trial, root: Root, death: str) -> Failure:
    """Records that Ray killed a trial's process."""
    return failed(trial, root, "oom", "its process was killed, its node being out of memory", death)


def workers_of(trial: Trial) -> int:
    return trial.workers if trial.paradigm is not None else 1
