"""A metric as a folder in Hugging Face's style, which `humansim.load` reads; its embedding as a program of torch."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from humansim import __version__, registered
from humansim.audit import of_images
from humansim.backbones.module import Scorer
from humansim.download import sha256_of
from humansim.embedder import Embedder
from humansim.errors import BadInput
from humansim.metric import CONFIG, MODEL, Config, Metric
from humansim.pictures import Resize
from humansim.root import made_whole, written_whole
from humansim.train import save_weights

CARD, PROGRAM = "README.md", "embed.pt2"
CLOSE = 1e-4  # relative difference that an exported program's embeddings may have


def write_folder(metric: Metric, folder: Path) -> None:
    """Writes model.safetensors, config.json and README.md, the model card; all of it or nothing.

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
        (aside / CARD).write_text(metric.card())


def _save(metric: Metric, file: Path) -> None:
    """All weights: what is loaded from it needs no other file."""
    if isinstance(metric.judge, Embedder):
        save_weights(metric.judge, file)
        return
    from safetensors.torch import save_file

    save_file({name: tensor.cpu().contiguous() for name, tensor in metric.judge.state_dict().items()}, file)


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
    facts = metric.facts
    judges = "simulated judges" if facts.simulated else "people"
    tags = {"trial_id": facts.result.trial.id, "judges": judges, "sweep": ", ".join(facts.sweeps) or "unknown"}
    tags["contaminated"] = str(bool(facts.result.provenance["shared"].get("contaminated"))).lower()
    if facts.result.trial.paradigm is not None:
        tags["fit_and_test_share"] = f"{of_images(facts.result.provenance['shared'])} images"
    with tempfile.TemporaryDirectory() as aside:
        write_folder(metric, Path(aside) / "metric")
        return registered.register(Path(aside) / "metric", name, registered.uri_of(root, tracking), tags)


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
    if isinstance(metric.judge, Scorer):
        raise BadInput("a published metric of pairs has no embedding to export as a program")
    side, network = metric.rule.resolution, _Embedding(metric.judge)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 3, side, side, generator=generator).to(metric.device)
    try:
        with torch.no_grad():
            program = torch.export.export(network, (images[:3],), dynamic_shapes={"images": {0: torch.export.Dim.AUTO}})
            found, expected = program.module()(images), network(images)
    except Exception as error:  # torch's tracer raises whatever the network does
        first = str(error).strip().partition("\n")[0][:200]
        raise BadInput(f"the network cannot be exported as a program: {type(error).__name__}: {first}") from error
    apart = float((found - expected).abs().max() / expected.abs().max())
    if not apart <= CLOSE:
        raise BadInput(f"the exported program gives other embeddings: they differ by {apart:.2g} of the largest value")
    with written_whole(file) as temporary, open(temporary, "wb") as out, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of weights that lie channels last: they are whole all the same
        torch.export.save(program, out)
    return apart
