"""A metric as a folder in Hugging Face's style, which `humansim.load` reads; its embedding as a program, as ONNX."""

import contextlib
import importlib.util
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from humansim import __version__, card, moved, plan, registered, results, submitted, tables
from humansim.backbones.module import Scorer
from humansim.described import shared_of
from humansim.download import sha256_of
from humansim.embedder import Embedder
from humansim.errors import BadInput
from humansim.metric import CONFIG, MODEL, Config, Metric
from humansim.pictures import Resize
from humansim.results import Result
from humansim.root import Root, made_whole, written_whole
from humansim.train import as_saved, save_weights

READING = ("source", "protocol", "resolution", "resize", "layer", "pool", "precision")  # what makes scores comparable
CARD, PROGRAM, ONNX = "README.md", "embed.pt2", "embed.onnx"
CLOSE = 1e-4  # of the largest value: what the embeddings of a program, or of ONNX, may differ by
LARGEST = 1536 << 20  # bytes of weights from which torch would write several files


def write_folder(metric: Metric, folder: Path, others: Sequence[Result] = ()) -> None:
    """Writes model.safetensors, config.json and README.md, the model card; all of it or nothing.

    Args:
        others: what the card has beside the scores (`beside`).

    Raises:
        BadInput: the folder is there already.
    """
    if folder.exists():
        raise BadInput(f"{folder}: it is there already; name another, or delete it")
    with made_whole(folder.absolute()) as aside:
        if aside is None:
            raise BadInput(f"{folder}: another process has just made it")
        _save(metric, aside / MODEL)
        config = Config(
            humansim=__version__,
            preprocessing=preprocessing(metric.rule),
            model_sha256=sha256_of(aside / MODEL),
            facts=metric.facts,
        )
        (aside / CONFIG).write_text(config.model_dump_json(indent=1))
        (aside / CARD).write_text(metric.card(others))


def _save(metric: Metric, file: Path) -> None:
    """All weights: what is loaded from it needs no other file."""
    if isinstance(metric.judge, Embedder):
        save_weights(metric.judge, file)
        return
    from safetensors.torch import save_file

    save_file(as_saved(metric.judge.state_dict()), file)


def preprocessing(rule: Resize) -> dict[str, Any]:
    """How an image becomes the network's, for readers without humansim; normalisation is the network's own."""
    return {
        "rule": rule.name,
        "resolution": rule.resolution,
        "shorter_side": rule.shorter,
        "interpolation": f"Pillow's {rule.interpolation}, antialiased",
        "range": [0.0, 1.0],
        "channels": "RGB",
    }


def register(metric: Metric, name: str, *, root: str | Path | None = None, tracking: str | None = None) -> str:
    """Makes a metric a new version of a model in the MLflow Model Registry; `mlflow models serve` answers with it.

    Returns:
        Its address, `models:/name/version`, which `humansim.load` takes.

    Raises:
        BadInput: the store cannot be used, or refuses the name.
    """
    facts, result = metric.facts, metric.facts.result
    tags = {
        "trial_id": result.trial.id,
        "sweep": facts.sweeps[0] if facts.sweeps else card.UNKNOWN,
        "judges": "simulated judges" if facts.simulated else "people",
        "weights_licence": card.licence_of(result.trial.backbone),
        **shared_of(result),
    }
    address = f"models:/{name}"
    others = beside(result, facts.sweeps, root)
    told = (
        f"Perceptual metrics: how far apart two images are, as people see it. Made with humansim {__version__}; "
        f'`humansim.load("{address}/1")`, `mlflow models serve -m {address}/1`.',
        card.in_short(result, facts.calibration, facts.sweeps, others, address),
    )
    uri = registered.uri_of(root, tracking)
    moved.follow(Root.where(root), uri)
    with tempfile.TemporaryDirectory() as aside:
        write_folder(metric, Path(aside) / "metric", others)
        return registered.register(Path(aside) / "metric", name, uri, result, tags, told)


def beside(result: Result, sweeps: Sequence[str], root: str | Path | None = None) -> list[Result]:
    """What a metric's scores are to be seen beside: floor, untrained and pretrained, as far as its sweeps ran them.

    On the same sets and judgements, the latter two of its own backbone, read in the same way.
    """
    if result.trial.paradigm is None or not Root.where(root).is_dir():
        return []
    here, found = Root.at(Root.where(root)), []
    known = [one for one in submitted.remembered(here) if one.name in sweeps]
    trials = dict.fromkeys(cell.trial for sweep in known for cell in plan.cells(sweep))
    for trial in trials:
        own = trial.backbone.name == result.trial.backbone.name
        if trial.paradigm is not None or any(getattr(trial, one) != getattr(result.trial, one) for one in READING):
            continue
        one = results.last(here, trial)
        if isinstance(one, Result) and (own or tables.kind(one) == "floor"):
            found.append(one)
    return found


class _Embedding(nn.Module):
    def __init__(self, judge: Embedder) -> None:
        super().__init__()
        self.judge = judge

    def forward(self, images: Tensor) -> Tensor:
        return self.judge.evaluated(images)


def write_program(metric: Metric, file: Path) -> float:
    """Writes the embedding, floats [b, 3, r, r] in [0, 1] -> [b, d], as a program that torch runs without humansim.

    `torch.export.load(file).module()(images)`. Any number of images but one. The same bits are not promised: it is
    checked against the metric on random images.

    Returns:
        The largest difference that was found, relative to the largest value.

    Raises:
        BadInput: a metric without embeddings; a network that torch cannot export, or only as another.
    """
    network, images = _embedding(metric)
    with _told("a program"), torch.no_grad():
        program = _traced(network, images)
        found, expected = program.module()(images), network(images)
    apart = _apart(found, expected, "program")
    with written_whole(file) as temporary, open(temporary, "wb") as out, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of weights that lie channels last: they are whole all the same
        torch.export.save(program, out)
    return apart


def write_onnx(metric: Metric, file: Path) -> float:
    """Writes the embedding as ONNX: `images`, floats [batch, 3, r, r] in [0, 1] -> `embeddings` [batch, d].

    Any number of images. The same bits are not promised: what was written is run by onnxruntime on a CPU and checked
    against the metric on random images, several and one.

    Returns:
        The largest difference that was found, relative to the largest value.

    Raises:
        BadInput: onnxscript or onnxruntime is missing; a metric without embeddings, or in bf16; a network that torch
            cannot export, or only as another.
    """
    missing = [name for name in ("onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise BadInput(f"ONNX needs {' and '.join(missing)}: pip install 'humansim[onnx]'")
    network, images = _embedding(metric)
    if network.judge.precision == "bf16":
        raise BadInput("ONNX: the trial computes in bf16, which onnxruntime does not on a CPU; export the folder alone")
    if sum(tensor.nbytes for tensor in network.state_dict().values()) > LARGEST:
        raise BadInput("ONNX: the weights are too large for one file (1.5 GiB); export the folder alone")
    import onnxruntime

    with written_whole(file) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own, of what they are to change
        with _told("ONNX"), torch.no_grad():
            names: dict[str, Any] = {"input_names": ["images"], "output_names": ["embeddings"]}
            made = torch.onnx.export(_traced(network, images), dynamo=True, verbose=False, **names)
            assert made is not None
            made.save(temporary, external_data=False)
            session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
            several, one = (
                torch.from_numpy(session.run(None, {"images": some.cpu().numpy()})[0]) for some in (images, images[:1])
            )
            expected = [network(some).cpu() for some in (images, images[:1])]
        return max(_apart(found, right, "ONNX") for found, right in zip((several, one), expected, strict=True))


def _embedding(metric: Metric) -> tuple[_Embedding, Tensor]:
    """What embeds, and random images to check it on."""
    if isinstance(metric.judge, Scorer):
        raise BadInput("a published metric of pairs has no embedding to export as a program")
    side, generator = metric.rule.resolution, torch.Generator().manual_seed(0)
    return _Embedding(metric.judge).eval(), torch.rand(5, 3, side, side, generator=generator).to(metric.device)


def _traced(network: _Embedding, images: Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(network, (images[:3],), dynamic_shapes={"images": {0: torch.export.Dim.AUTO}})


@contextlib.contextmanager
def _told(form: str) -> Iterator[None]:
    """Tells what fails inside in one line: torch's tracer raises whatever the network does."""
    try:
        yield
    except Exception as error:
        first = str(error).strip().partition("\n")[0][:200]
        raise BadInput(f"the network cannot be exported as {form}: {type(error).__name__}: {first}") from error


def _apart(found: Tensor, expected: Tensor, form: str) -> float:
    """The largest difference relative to the largest value."""
    apart = float((found - expected).abs().max() / expected.abs().max())
    if not apart <= CLOSE:
        raise BadInput(f"the exported {form} gives other embeddings: they differ by {apart:.2g} of the largest value")
    return apart
