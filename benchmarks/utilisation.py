"""Are all GPUs in use until the end? Sweeps on a simulated cluster, by the real `Search` and the real `Packer`.

The clock is virtual and outcomes are drawn; what is asked, in which order, and what share of a GPU it gets is decided
by the code that decides it under Ray (`search`, `order`, `launch.packing`), which sees predicted lengths and peaks. A
trial takes what is predicted times a log-normal factor. As Tune does, some trials are kept ready; who ends makes room
for the first that fits, or for any that is ready with the same share, whose process goes on. Trials that share a GPU
slow each other down as `virtual.slowdown` says: nothing is gained by sharing, since no gain was measured; `--gain`
supposes one.

What is compared, the same trials each time:
    ours                longest way first, shares by memory, by what is left, and by what sharing was seen to gain
    nothing measured    the same without probes: it learns from trials that finish
    with failures       ours, where nodes die now and then, and some trials run out of memory
    packed, in turn     cells in turn, shares by memory alone
    in turn             cells in turn, a GPU for each trial
    grid order          cell after cell, a GPU for each trial
The bound is the work divided by the GPUs, or the longest chain of trials that wait for each other (samples for the
outcomes that they are drawn from, repeats for their cell's samples), if that is longer. Utilisation is the bound by the
makespan.

    uv run python benchmarks/utilisation.py
    uv run python benchmarks/utilisation.py --sweeps search --gpus 64 --gain 1.3
    uv run python benchmarks/utilisation.py --measure     # the tables of work and memory below, in a minute
"""

import argparse
import json
import math
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from humansim import plan, studies, sweep_file
from humansim.launch.packing import READY, Packer, Place, Share
from humansim.ledger import Ledger
from humansim.probes import CONTEXT
from humansim.published import BASE_MODELS, PARADIGMS, SELF_SUPERVISED
from humansim.results import Failure, Outcome, Result, Score
from humansim.root import Root
from humansim.search import Search
from humansim.spec import Sweep, Trial, Variant
from humansim.virtual import Gpus, slowdown

# Counted on the real networks with random weights (`--measure`): that needs no GPU, and hangs on no load.
# Of a backbone: GFLOPs of a forward pass of an image at 224 pixels (torch's FlopCounterMode; a multiply-add is two),
# millions of parameters, MiB that autograd keeps of an image (fp32).
BACKBONES: dict[str, tuple[float, float, float]] = {
    "resnet50": (8.2, 24, 82),
    "efficientnet_v2_m": (10.7, 53, 240),
    "vit_b_16": (35.1, 86, 112),
    "alexnet": (1.3, 2, 3),
    "clip_vit_b_16": (35.1, 86, 141),
    "clip_resnet50": (12.2, 38, 95),
    "dino_vit_b_16": (35.1, 86, 112),
    "dino_resnet50": (8.2, 24, 82),
}
# Of a paradigm, on ResNet-50 (the others are no different, but that FlopCounterMode takes depthwise convolutions for
# dense ones on the way back): forward passes that a training step comes to, for each data point, and images kept.
PASSES: dict[str, tuple[float, float]] = {
    "triplet": (8.9, 3.0),
    "contrastive": (8.9, 3.0),
    "quadruplet": (11.9, 4.0),
    "simclr": (6.0, 2.0),
    "moco": (4.0, 1.0),
    "rotation": (11.9, 4.0),
    "jigsaw": (3.0, 1.0),
}

SPEED = 30e12  # FLOP/s that a GPU gets done: a quarter of the 121e12 of an L4 at bf16. Only ratios count here
FIXED = 20.0  # seconds of a trial whatever it computes: process, data, network, scoring, files
EACH_EPOCH = 1.0  # and of each epoch: a checkpoint
MEMORY = 24 << 30  # bytes of a GPU: an L4, as in cluster.yaml
POINTS, BIRDS = 1000, 208  # data points of an epoch; images of Birds-16, which has no more
VALIDATION, EVALUATED = (
    600,
    24_000,
)  # images of an epoch's validation on a release's set, of an evaluation (`study`, 1000)

NOISE = 0.15  # standard deviation of the logarithm of actual by predicted seconds
PEAK_NOISE = 0.1  # and bytes
DEATHS = 6 * 3600.0  # seconds after which a GPU's node dies, in the mean
REPAIR = 300.0  # seconds until there is another one
STEPPED = 30.0  # seconds until a trial that has too little memory says so


@cache
def predicted(trial: Trial) -> float:
    """Seconds of a trial with a GPU to itself."""
    image = BACKBONES[trial.backbone.name][0] * 1e9 / SPEED
    if trial.paradigm is None:
        return FIXED + EVALUATED * image
    few = trial.paradigm.name in SELF_SUPERVISED and str(trial.fit_on).startswith("birds16")
    passes = (BIRDS if few else POINTS) * PASSES[trial.paradigm.name][0] + VALIDATION
    return FIXED + EVALUATED * image + trial.epochs * (EACH_EPOCH + passes * image)


@cache
def needed(trial: Trial) -> int:
    """Bytes of a GPU that a trial takes at most: weights, gradients, Adam's moments; of images bf16 keeps half."""
    _, parameters, kept = BACKBONES[trial.backbone.name]
    if trial.paradigm is None:
        return round(parameters * 4e6) + (1 << 30)
    return round(parameters * 16e6 + trial.batch_size * PASSES[trial.paradigm.name][1] * kept * 2**20 / 2)


@cache
def drawn(trial: Trial, what: str, spread: float) -> float:
    """A factor around 1 that hangs on the trial alone, whichever order it runs in."""
    return math.exp(random.Random(f"{what} {trial.id}").gauss(0, spread))


def outcome(trial: Trial, elapsed: float) -> Outcome:
    """How a trial ends that took so many seconds: its score is drawn, its pace is what it took."""
    value = random.Random(f"score {trial.id}").uniform(0.5, 0.8)
    score = Score(
        set="s",
        part="validation",
        measure="cosine",
        n=1,
        score=value,
        low=None,
        high=None,
        accuracy=None,
        plug_in=1.0,
        fresh_judge=None,
        best=1.0,
    )
    row = {"epoch": 1.0, "validation": value, "images_per_second": predicted(trial) / elapsed}
    history = () if trial.paradigm is None else (row,)
    return Result(trial=trial, scores=(score,), history=history, provenance={}, seconds={}, peak_memory=0, finished=0)


@dataclass(frozen=True)
class Ran:
    """A sweep that ran through.

    Attributes:
        seconds: until the last trial ended.
        trials: what each cell asked for, in order.
        lost: seconds of work that came to nothing: nodes died, memory did not do.
    """

    seconds: float
    trials: list[list[Trial]]
    lost: float = 0.0


@cache
def seconds(trial: Trial) -> float:
    """What a trial takes in the end, with a GPU to itself."""
    return predicted(trial) * drawn(trial, "seconds", NOISE)


def kind(trial: Trial) -> tuple[Variant, Variant | None]:
    """What trials have in common of which one tells how long the others take."""
    return trial.backbone, trial.paradigm


def ours(
    sweep: Sweep,
    gpus: int,
    *,
    measured: bool = True,
    as_before: bool = False,
    failures: bool = False,
    gain: float = 1.0,
    seed: int = 0,
) -> Ran:
    """Runs a sweep through on the virtual clock, by the real search and the real packer.

    Args:
        measured: lengths and peaks are known beforehand; else as trials finish.
        as_before: no lengths are told, and shares hang on memory alone.
        failures: nodes die, and memory does not always do.
        gain: of GPUs that are shared, over one trial alone.
    """
    rng, lost, end = random.Random(seed), 0.0, 0.0
    known: set[tuple[Variant, Variant | None]] = set()

    def length(trial: Trial) -> float | None:
        return predicted(trial) if not as_before and (measured or kind(trial) in known) else None

    def peak(trial: Trial) -> int | None:
        return needed(trial) if measured or kind(trial) in known else None

    cluster: Gpus[tuple[Trial, Share] | float] = Gpus(gpus, slowdown_with(gain))  # a number: a node being replaced
    left: dict[str, float] = {}  # seconds that trials have yet to go which were interrupted
    begun: dict[str, float] = {}
    running = 0

    def starts(given: tuple[Trial, Share]) -> bool:
        nonlocal running
        trial, share = given
        takes = STEPPED if failures and short(trial, share) else left.get(trial.id, seconds(trial))
        started = cluster.start(given, takes, share.gpu)
        if started:
            running += 1
            begun[trial.id] = cluster.now
        return started

    with tempfile.TemporaryDirectory(prefix="humansim-benchmark-") as folder:
        search = Search(sweep, Ledger(Root.at(folder), sweep.name), length=length)
        packer = Packer(search, Place(cpus=8, memory=32 << 30, gpus=gpus, gpu_memory=MEMORY), peak)
        if as_before:
            search.part = lambda trial: 0.0  # type: ignore[method-assign]
            packer._worthwhile = lambda trial, share: share  # type: ignore[method-assign]
        ready: list[tuple[Trial, Share]] = []
        death = rng.expovariate(gpus / DEATHS) if failures else math.inf
        while True:
            while len(ready) < READY and (given := packer.next()) is not None:
                ready.append(given)
            waiting = [given for given in ready if not starts(given)]
            if len(waiting) < len(ready):
                ready = waiting
                continue
            if not running and not ready:
                return Ran(end, [[asked.trial for asked in cell.asked] for cell in search.cells], lost)
            job = cluster.next(until=death)
            if isinstance(job, tuple):
                (trial, share), end = job, cluster.now
                running -= 1
                if failures and short(trial, share):
                    lost += STEPPED
                    failure = Failure(trial=trial, kind="oom", reason="made up", traceback="", finished=0)
                    packer.end(failure, share)
                else:
                    known.add(kind(trial))
                    packer.end(outcome(trial, end - begun[trial.id]), share)
                same = [given for given in ready if given[1] == share]
                if same:  # the process goes on with any of them
                    ready.remove(chosen := rng.choice(same))
                    starts(chosen)
            elif job is None:
                for stopped, still in cluster.stop(rng.randrange(gpus)).items():
                    if isinstance(stopped, tuple):
                        running -= 1
                        left[stopped[0].id] = again = min(seconds(stopped[0]), still + rng.random() * epoch(stopped[0]))
                        lost += again - still
                        ready.append(stopped)
                cluster.start(cluster.now, REPAIR)
                death = cluster.now + rng.expovariate(gpus / DEATHS)


def epoch(trial: Trial) -> float:
    """Seconds of an epoch, about: what a trial loses at most that is interrupted; all, if it has none."""
    return seconds(trial) / (1 if trial.paradigm is None else trial.epochs)


def slowdown_with(gain: float) -> Callable[[int], float]:
    """As `virtual.slowdown`, if GPUs that are shared get so many times as much done."""
    return lambda trials: slowdown(trials) / (gain if trials > 1 else 1.0)


def short(trial: Trial, share: Share) -> bool:
    """Whether a trial's share of a GPU has too little memory for what it takes in the end."""
    takes = needed(trial) * drawn(trial, "bytes", PEAK_NOISE) + CONTEXT
    return share.gpu < 1 and takes > share.gpu * MEMORY


def plain(sweep: Sweep, trials: Sequence[Sequence[Trial]], gpus: int, *, in_turn: bool) -> Ran:
    """The same trials, a GPU for each, cell after cell or cells in turn: the next that need not wait, at once."""
    cells = plan.cells(sweep)
    waiting = [(cell, index) for cell, asked in enumerate(trials) for index in range(len(asked))]
    waiting.sort(key=lambda one: (one[1], one[0]) if in_turn else one)
    ended: list[set[int]] = [set() for _ in cells]
    cluster: Gpus[tuple[int, int]] = Gpus(gpus)
    while True:
        for cell, index in list(waiting):
            if max(cluster.free) < 1:
                break
            if ended[cell].issuperset(range(plan.waits_for(sweep, cells[cell], index))):
                cluster.start((cell, index), seconds(trials[cell][index]))
                waiting.remove((cell, index))
        one = cluster.next()
        if one is None:
            return Ran(cluster.now, [list(asked) for asked in trials])
        ended[one[0]].add(one[1])


def bounds(sweep: Sweep, trials: Sequence[Sequence[Trial]], gpus: int) -> tuple[float, float]:
    """Seconds below which no schedule gets: the work by the GPUs, and the longest chain of trials that wait."""
    work = sum(seconds(trial) for asked in trials for trial in asked)
    chain = 0.0
    for cell, asked in zip(plan.cells(sweep), trials, strict=True):
        ends: list[float] = []
        for index, trial in enumerate(asked):
            ends.append(seconds(trial) + max(ends[: plan.waits_for(sweep, cell, index)], default=0.0))
        chain = max(chain, *ends)
    return work / gpus, chain


def remembered(suggest: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """`search.suggest`, which hangs on its arguments alone, once for the same ones: every run asks for the same."""
    known: dict[str, dict[str, Any]] = {}

    def again(space: Any, history: Any, seed: int, sampler: Variant) -> dict[str, Any]:
        key = f"{seed} {history} {sampler}"
        if key not in known:
            known[key] = suggest(space, history, seed, sampler)
        return known[key]

    return again


def compared(sweep: Sweep, gpus: int, gain: float, seed: int) -> dict[str, Any]:
    """Figures of one sweep on one cluster."""
    best = ours(sweep, gpus, gain=gain, seed=seed)
    ways = {
        "ours": best,
        "nothing measured": ours(sweep, gpus, measured=False, gain=gain, seed=seed),
        "with failures": ours(sweep, gpus, failures=True, gain=gain, seed=seed),
        "packed, in turn": ours(sweep, gpus, as_before=True, gain=gain, seed=seed),
        "in turn": plain(sweep, best.trials, gpus, in_turn=True),
        "grid order": plain(sweep, best.trials, gpus, in_turn=False),
    }
    for name, ran in ways.items():
        if ran.trials != best.trials:
            raise SystemExit(f"{name}: other trials were asked for")
    share, chain = bounds(sweep, best.trials, gpus)
    return {
        "sweep": sweep.name,
        "gpus": gpus,
        "trials": sum(len(asked) for asked in best.trials),
        "work_by_gpus": share,
        "chain": chain,
        "seconds": {name: ran.seconds for name, ran in ways.items()},
        "lost": ways["with failures"].lost,
    }


def show(found: dict[str, Any]) -> None:
    """Prints the figures of one sweep on one cluster."""
    bound = max(found["work_by_gpus"], found["chain"])
    chain = "the longest chain" if found["chain"] > found["work_by_gpus"] else "work / GPUs"
    print(f"{found['sweep']}: {found['trials']} trials on {found['gpus']} GPUs; bound {bound / 3600:.2f} h ({chain})")
    for name, taken in found["seconds"].items():
        note = f"   {found['lost'] / 3600:.2f} GPU-hours lost" if name == "with failures" else ""
        print(f"  {name:18}{taken / 3600:9.2f} h{bound / taken:9.1%}{note}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", nargs="+", default=["full", "search"], metavar="SWEEP", help="(full search)")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64], metavar="N", help="(1 8 64)")
    parser.add_argument("--gain", type=float, default=1.0, metavar="X", help="of sharing a GPU, supposed (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what goes wrong when (%(default)s)")
    parser.add_argument("--measure", action="store_true", help="measure the table of work and memory, and print it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()
    if given.measure:
        measure()
        return
    studies.suggest = remembered(studies.suggest)
    found = []
    for name in given.sweeps:
        for gpus in given.gpus:
            found.append(compared(sweep_file.load_sweep(name), gpus, given.gain, given.seed))
            show(found[-1])
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


def measure() -> None:
    """Counts what networks and paradigms do and keep, on this machine's CPU."""
    import torch
    from torch import Tensor, nn
    from torch.utils.flop_counter import FlopCounterMode

    from humansim.embedder import Embedder
    from humansim.paradigms import Batch, Objective, paradigm
    from humansim.train import make_backbone

    def made(name: str) -> Any:
        variant = Variant(name, weights="random")
        return make_backbone(plan.checked(Trial(backbone=variant, paradigm=Variant("triplet")))).train()

    def counted(network: nn.Module, work: Callable[[], Tensor]) -> tuple[float, float]:
        """GFLOPs of some work and of its backward pass, and MiB kept in between."""
        own, kept = {parameter.data_ptr() for parameter in network.parameters()}, {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with FlopCounterMode(display=False) as counter:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                found = work()
            found.sum().backward()  # type: ignore[no-untyped-call]
        return counter.get_total_flops() / 1e9, sum(kept.values()) / 2**20

    images, base = 2, 0.0
    for name in BASE_MODELS:
        network, some = made(name), torch.rand(images, 3, 224, 224)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(some)
        forward, (_, kept) = counter.get_total_flops() / 1e9 / images, counted(network, partial(network, some))
        base = forward if name == "resnet50" else base
        parameters = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        print(f'    "{name}": ({forward:.1f}, {parameters:.0f}, {kept / images:.0f}),', flush=True)
    network = made("resnet50")
    kept_of_one = counted(network, partial(network, torch.rand(images, 3, 224, 224)))[1] / images
    for name in PARADIGMS:
        objective: Objective = paradigm.make(Variant(name))
        embedder = Embedder(network, nn.Linear(2048, objective.outputs)).train()
        shown = {"triplet": 3, "quadruplet": 4, "singleton": 1}[paradigm.entry(Variant(name)).facts["data"]]
        numbers = torch.arange(shown * images).reshape(shown, images)
        batch = Batch(torch.rand(shown, images, 3, 224, 224), numbers, torch.ones(images))
        objective.begin(embedder)
        objective.before_step(embedder)
        flops, kept = counted(embedder, partial(objective.loss, embedder, batch))
        print(f'    "{name}": ({flops / images / base:.1f}, {kept / images / kept_of_one:.1f}),', flush=True)


if __name__ == "__main__":
    main()
