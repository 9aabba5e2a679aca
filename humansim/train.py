"""run(trial) -> Result: where all parts meet. Plain Python: no Ray, no MLflow, no search."""

import contextlib
import ctypes
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from humansim import audit, embeddings, results, workers
from humansim.backbones import Pretraining, backbone
from humansim.backbones.module import Backbone, Scorer, initialised_by
from humansim.embedder import BATCH, OWN, Embedder, distances, scored
from humansim.errors import BadInput
from humansim.fitting import Pace, Row, fit, pace
from humansim.material import Material, Progress, prepare, resize_of
from humansim.probes import Probe, conditions, data_conditions, torch_version
from humansim.results import Result, Score
from humansim.root import Root, written_whole
from humansim.scores import ceilings, summary
from humansim.spec import Trial

LONG = 30.0  # seconds of a measurement beside which what a process does but once is little


def run(
    trial: Trial,
    root: Root,
    *,
    device: str | None = None,
    report: Callable[[Row], None] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Runs a trial to its end, going on from its last epoch if it was interrupted; a finished one is read, not run.

    On a CPU the scores are the same bits, interrupted or not.

    Args:
        trial: in its normal form (`plan.checked`).
        device: "cuda" where there is one, else "cpu".
        report: called after each epoch, once its checkpoint is safe, with that row of the history; rows of an
            earlier, interrupted run are reported again.
        progress: called with images done and images in all, in the final evaluation.

    Raises:
        BadInput: the data, or a part that cannot be made (weights that cannot be had).
        FloatingPointError: the loss is no longer finite.
    """
    with results.claimed(root, trial) as folder, _reproducible(trial.threads), _keeping_memory():
        ended = results.load(root, trial)
        if workers.told(isinstance(ended, Result)):
            assert isinstance(ended, Result)
            return ended
        place = _place(device)
        _reset_peak_memory(place)
        seconds, clock = {}, time.perf_counter()
        material = prepare(trial, root)
        seconds["read"] = time.perf_counter() - clock

        clock = time.perf_counter()
        network = _make_backbone(trial)
        pretrained = network.fingerprint()
        seconds["make"] = time.perf_counter() - clock

        history: list[Row] = []
        clock = time.perf_counter()
        judge: Embedder | Scorer
        if isinstance(network, Scorer):
            judge = network.to(place)
        else:
            judge = Embedder(network, precision=trial.precision).to(place)
            if trial.paradigm is not None:
                judge, history = fit(trial, judge, material, folder, pretrained, report)
        seconds["train"] = time.perf_counter() - clock

        clock = time.perf_counter()
        kept = _kept(trial, root, material, pretrained, place) if trial.paradigm is None else None
        found, passes = judge_all(judge, material, progress, kept)
        seconds["embed"] = time.perf_counter() - clock

        clock = time.perf_counter()
        scores, answers = score(material, found)
        with written_whole(folder / results.ANSWERS) as file:
            answers.to_parquet(file, index=False)
        if trial.paradigm is not None and isinstance(judge, Embedder):
            _save_weights(judge, folder / results.WEIGHTS)
        seconds["score"] = time.perf_counter() - clock
        result = Result(
            trial=trial,
            scores=scores,
            history=tuple(history),
            provenance={
                "versions": _versions(),
                "device": _processor(place),
                "data": material.fingerprint,
                "weights": {"origin": network.weights, "fingerprint": pretrained},
                "simulated_judges": material.judgements.simulated,
                "shared": {
                    **audit.stamp(material.judgements, material.split, material.fit, material.store, trial.protocol),
                    "pretraining": audit.pretraining(_known_of(trial), material.judgements.sets),
                },
                "fit": 0 if material.fit is None else len(material.fit),
                "embedded": passes,
                "backbone": _described(trial),
            },
            seconds=seconds,
            peak_memory=_peak_memory(place),
            finished=results.now(),
        )
        results.save(root, result)
        results.forget_checkpoint(root, trial)
        return result


def assist(trial: Trial, root: Root, *, device: str | None = None, report: Callable[[Row], None] | None = None) -> None:
    """A further worker's part in a trial of several (`humansim.workers`), while their leader does `run`.

    Args:
        report: as that of `run`; called with the same rows.
    """
    with _reproducible(trial.threads):
        if workers.told(False):  # the leader's: it is finished already
            return
        material, network = prepare(trial, root), _make_backbone(trial)
        assert isinstance(network, Backbone)
        pretrained = network.fingerprint()
        embedder = Embedder(network, precision=trial.precision).to(_place(device))
        fit(trial, embedder, material, results.folder(root, trial), pretrained, report)


def probe(trial: Trial, root: Root, *, device: str | None = None, seconds: float = 1.0) -> Probe:
    """Measures what a trial's time and memory are made of, in the pieces that `run` is made of, a few of each.

    In the order in which they come in a trial: repeated one by one they would be quicker than they are there. Some
    things a process does once (imports, kernels), so all is done twice, unless the first time took long.
    A trial of several workers is measured as one of them, with its share of a batch; what they tell each other is not.

    Args:
        seconds: to spend on the steps and on the evaluation, each, about; one of each is made anyway.

    Raises:
        BadInput: as `run`.
    """
    share = trial.having({"workers": 1, "batch_size": max(2, trial.batch_size // trial.workers)})
    place = _place(device)
    with _reproducible(trial.threads), tempfile.TemporaryDirectory(prefix=".probe-", dir=root.path) as scratch:
        prepare(share, root)  # what nobody has read so far is parsed and decoded
        clock = time.perf_counter()
        found = _measured(share, root, place, Path(scratch), 0.0)
        if time.perf_counter() - clock < LONG:
            found = _measured(share, root, place, Path(scratch), seconds)
    return Probe(
        conditions=conditions(trial),
        data=data_conditions(trial),
        device=_processor(place),
        device_memory=torch.cuda.get_device_properties(place).total_memory if place.type == "cuda" else 0,
        torch=torch_version(),
        **found,
    )


def _measured(trial: Trial, root: Root, place: torch.device, folder: Path, seconds: float) -> dict[str, Any]:
    """The figures of a probe, measured once; files go to the folder."""
    taken: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        clock = time.perf_counter()
        made = work()
        taken[name] = taken.get(name, 0.0) + time.perf_counter() - clock
        return made

    def make() -> Backbone | Scorer:
        network = _make_backbone(trial)
        network.fingerprint()
        return network.to(place)

    _reset_peak_memory(place)
    material = timed("read", lambda: prepare(trial, root))
    network = timed("setup", make)
    shown = material.judgements.triplets[_evaluated(material)]
    rows, steps = np.unique(shown.images), Pace(0.0, 0.0, 0.0, 0)
    if isinstance(network, Scorer):
        image = _seconds_each(lambda some: scored(network, material.store, shown[some]), len(shown), seconds) / 2
        found: Distances = {OWN: (np.zeros(len(shown), np.float32), np.ones(len(shown), np.float32))}
    else:
        judge = Embedder(network, precision=trial.precision).to(place)
        if trial.paradigm is not None:
            steps = pace(trial, judge, material, folder, seconds)
        image = _seconds_each(lambda some: judge.embed(material.store, rows[some]).cpu(), len(rows), seconds)
        made = torch.rand(len(rows), judge.embed(material.store, rows[:1]).shape[1], device=place)
        found = timed("score", lambda: distances(made, rows, shown))
    timed("score", lambda: score(material, found)[1].to_parquet(folder / results.ANSWERS, index=False))
    if trial.paradigm is not None:
        timed("score", lambda: _save_weights(judge, folder / results.WEIGHTS))
    weights = folder / results.WEIGHTS
    return {
        "read": taken["read"],
        "setup": taken["setup"] + steps.begin,
        "step": steps.step,
        "save": steps.save,
        "image": image,
        "score": taken["score"],
        "peak_memory": _peak_memory(place),
        "checkpoint": steps.checkpoint,
        "weights": weights.stat().st_size if weights.exists() else 0,
        "answers": (folder / results.ANSWERS).stat().st_size,
    }


def _seconds_each(work: Callable[[NDArray[np.int64]], object], count: int, seconds: float) -> float:
    """Seconds of one of so many things, of work on some of them: a batch first, and if that was quick, more."""
    first = np.arange(min(count, BATCH))
    clock = time.perf_counter()
    work(first)
    taken = time.perf_counter() - clock
    more = np.arange(len(first), min(count, len(first) + int(len(first) * seconds / taken)))
    if not len(more):
        return taken / len(first)
    work(more)
    return (time.perf_counter() - clock) / (len(first) + len(more))


def embed(
    trial: Trial, root: Root, *, device: str | None = None, progress: Progress | None = None
) -> tuple[list[str], NDArray[np.float32]]:
    """Names [n] and embeddings [n, d] of the images that are evaluated on, by the trial's backbone as pre-trained.

    Raises:
        BadInput: the data, or a backbone that cannot be made or gives no embeddings.
    """
    with _reproducible(trial.threads), _keeping_memory():
        material, network = prepare(trial, root), _make_backbone(trial)
        if isinstance(network, Scorer):
            raise BadInput(f"backbone {trial.backbone} judges pairs of images; it has no embeddings")
        place = _place(device)
        kept = _kept(trial, root, material, network.fingerprint(), place)
        rows = material.images_of("validation", "test")
        judge = Embedder(network, precision=trial.precision).to(place)
        found, _ = embeddings.embed(judge, material.store, rows, kept, progress)
        return [material.judgements.images[row] for row in rows], found.cpu().numpy()


def evaluate(
    judge: Embedder | Scorer,
    material: Material,
    progress: Progress | None = None,
    kept: embeddings.Cache | None = None,
) -> tuple[tuple[Score, ...], pd.DataFrame, int]:
    """Scores of all sets, parts and measures from one embedding of each image; of a metric, from each pair once.

    Args:
        kept: embeddings of earlier evaluations of the same weights, if there are any.

    Returns:
        Scores; the answers that they are made of; how many images were embedded for them.
    """
    found, passes = judge_all(judge, material, progress, kept)
    return *score(material, found), passes


Distances = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]


def judge_all(
    judge: Embedder | Scorer,
    material: Material,
    progress: Progress | None = None,
    kept: embeddings.Cache | None = None,
) -> tuple[Distances, int]:
    """Distances to left and right of every triplet that is evaluated, and how many images were embedded for them."""
    shown = material.judgements.triplets[_evaluated(material)]
    if isinstance(judge, Scorer):
        return scored(judge, material.store, shown, progress), 0
    images = np.unique(shown.images)
    embedded, passes = embeddings.embed(judge, material.store, images, kept, progress)
    return distances(embedded, images, shown), passes


def _evaluated(material: Material) -> NDArray[np.int64]:
    return np.concatenate([material.split.parts[part] for part in ("validation", "test")])


def score(material: Material, found: Distances) -> tuple[tuple[Score, ...], pd.DataFrame]:
    """Scores of all sets, parts and measures, and the answers, from the distances of every triplet."""
    judgements = material.judgements
    parts = {part: rows for part in ("validation", "test") if len(rows := material.split.parts[part])}
    chosen = _evaluated(material)
    shown = judgements.triplets[chosen]
    names = np.array(judgements.images, dtype=object)
    answers = pd.DataFrame(
        {
            "triplet": chosen,
            "part": np.repeat(list(parts), [len(rows) for rows in parts.values()]),
            "set": np.array(judgements.sets, dtype=object)[shown.set],
            "query": names[shown.query],
            "left": names[shown.left],
            "right": names[shown.right],
            "choice": shown.choice,
            "judges": shown.judges,
            "cluster": shown.cluster,
        }
    )
    for measure, (to_left, to_right) in found.items():
        answers[f"to_left_{measure}"], answers[f"to_right_{measure}"] = to_left, to_right
    scores = []
    for part in parts:
        for index in np.unique(shown.set):
            here = ((answers["part"] == part) & (shown.set == index)).to_numpy()
            if not here.any():
                continue
            human = ceilings(shown.choice[here], shown.judges[here])
            for measure, (to_left, to_right) in found.items():
                measured = summary(to_left[here], to_right[here], shown.choice[here], shown.cluster[here])
                shares = {key: None if value != value else value for key, value in {**measured, **vars(human)}.items()}
                row = {"set": judgements.sets[index], "part": part, "measure": measure, **shares}
                scores.append(Score.model_validate(row))
    return tuple(scores), answers


def _known_of(trial: Trial) -> dict[str, Any]:
    """The facts of the trial's backbone; none of its pre-training if its weights are random."""
    facts = backbone.entry(trial.backbone).facts
    return {} if trial.backbone.kwargs.get("weights") == "random" else facts


def _described(trial: Trial) -> dict[str, Any]:
    """What is known of the backbone, for the tables that the analysis groups by."""
    facts = backbone.entry(trial.backbone).facts
    learnt: Pretraining | None = _known_of(trial).get("pretraining")
    return {
        **{key: facts.get(key) for key in ("family", "features", "parameters")},
        "pretraining": None if learnt is None else {**asdict(learnt), "language": learnt.language},
    }


def _make_backbone(trial: Trial) -> Backbone | Scorer:
    try:
        with initialised_by(0):  # whatever a backbone draws without a seed of its own
            made: Backbone | Scorer = backbone.make(trial.backbone)
    except BadInput as error:
        raise BadInput(f"backbone {trial.backbone}: {error}") from None
    except Exception as error:
        first = str(error).strip().partition("\n")[0].rstrip(".")
        raise BadInput(f"backbone {trial.backbone}: it could not be made: {type(error).__name__}: {first}") from error
    return made if isinstance(made, Scorer) else made.read_at(trial.layer, trial.pool)


def _save_weights(embedder: Embedder, file: Path) -> None:
    """The backbone's weights, as it names them itself, "trunk...", and a kept head's, "head.weight" and "head.bias".

    That the file has a head, and its shape, is all that is needed to put it back on.
    """
    from safetensors.torch import save_file

    state = embedder.backbone.state_dict()
    if embedder.keep_head:
        state |= {f"head.{name}": tensor for name, tensor in embedder.head.state_dict().items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with written_whole(file) as temporary:
        save_file(tensors, temporary)


@contextlib.contextmanager
def _reproducible(threads: int) -> Iterator[None]:
    """A fixed number of threads, deterministic kernels, and torch's global state as before afterwards.

    Torch would also fill all memory that it allocates, against kernels that read what nobody wrote. None here does, and
    filling makes a training step of 64 pixels on a CPU some 5 % longer, one of 224 a fifth.
    """
    before, random = torch.get_num_threads(), torch.random.get_rng_state()
    deterministic = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic  # whose setting type checkers do not see
    filled = memory.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(deterministic)
        memory.fill_uninitialized_memory = filled
        torch.random.set_rng_state(random)


@contextlib.contextmanager
def _keeping_memory() -> Iterator[None]:
    """Freed memory is kept for the next step, and given back at the end.

    Glibc gives large pieces back to the system at once, which maps and clears them anew for the next operation: a third
    of the processor time of training on images of 224 pixels. The price is memory, a quarter to 40 % more at the peak,
    in gaps that no other piece fills. On a GPU it is of no account.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):  # another C library
        yield
        return
    mapped, trimmed = -3, -1  # M_MMAP_THRESHOLD: bytes from which a piece is mapped; M_TRIM_THRESHOLD: kept at the end
    libc.mallopt(mapped, 1 << 30)
    libc.mallopt(trimmed, (1 << 31) - 1)
    try:
        yield
    finally:
        libc.mallopt(mapped, 32 << 20)  # what glibc raises them to by itself
        libc.mallopt(trimmed, 64 << 20)
        libc.malloc_trim(0)


def _reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # Linux: start the high-water mark anew


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _place(device: str | None) -> torch.device:
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _processor(place: torch.device) -> str:
    return torch.cuda.get_device_name(place) if place.type == "cuda" else f"cpu ({platform.machine()})"


def _kept(trial: Trial, root: Root, material: Material, weights: str, place: torch.device) -> embeddings.Cache | None:
    """The kept embeddings of a pretrained backbone; none where there is no pass to save."""
    if not backbone.entry(trial.backbone).facts.get("trainable", True):
        return None
    rule = resize_of(trial).name
    return embeddings.cache(root, trial, weights, rule, _processor(place), material.store.contents)


def _versions() -> dict[str, str]:
    names = ("humansim", "torch", "torchvision", "timm", "open_clip_torch", "numpy", "pillow")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
