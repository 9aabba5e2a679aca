"""OpenAI's CLIP (Radford et al. 2021), five sizes (thesis, Table 3.1), and any model of open_clip by name and tag.

Embeddings are the image encoder's outputs in the space shared with text: after ViT's projection, or ResNet's attention
pool, whose positional embedding fixes the input's size. OpenAI trained with QuickGELU, x sigmoid(1.702 x), which
open_clip uses only if told to.
"""

from typing import TYPE_CHECKING, Any, Literal

from humansim.backbones import Native, Pretraining, backbone
from humansim.backbones.weights import WeightFile

if TYPE_CHECKING:
    from humansim.backbones.module import Backbone

Weights = Literal["openai", "random"]
WIT = Pretraining("image-text", "CLIP", "WIT (pairs from the web, unpublished)", 400_000_000)
BESIDE = ("input_resolution", "context_length", "vocab_size")  # what OpenAI's archives hold beside the weights
HUB_NAME = "open_clip_model.safetensors"
PUBLISHED = "https://openaipublic.azureedge.net/clip/models"


def _openai(sha256: str, name: str, repository: str) -> WeightFile:
    """As converted to safetensors on the Hub, or else OpenAI's own TorchScript archive."""
    own = WeightFile(f"{name}.pt", (f"{PUBLISHED}/{sha256}/{name}.pt",), sha256)
    return WeightFile.on_hub(repository, HUB_NAME, or_else=own)


FILES = {
    "ViT-B-16": _openai(
        "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
        "ViT-B-16",
        "timm/vit_base_patch16_clip_224.openai",
    ),
    "RN50": _openai(
        "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762", "RN50", "timm/resnet50_clip.openai"
    ),
    "RN50x4": _openai(
        "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd", "RN50x4", "timm/resnet50x4_clip.openai"
    ),
    "RN50x16": _openai(
        "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa", "RN50x16", "timm/resnet50x16_clip.openai"
    ),
    "RN50x64": _openai(
        "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c", "RN50x64", "timm/resnet50x64_clip.openai"
    ),
}


def _facts(architecture: str, resolution: int, features: int, parameters: float) -> dict[str, Any]:
    transformer = architecture.startswith("ViT")
    blocks = tuple(f"transformer.resblocks.{i}" for i in range(12))
    return {
        "resolution": resolution,
        "native": Native(resolution, resolution),
        "pretraining": WIT,
        "architecture": architecture.replace("RN50", "ResNet-50").replace("ViT-B-16", "ViT-B/16"),
        "licence": "MIT (OpenAI)",
        "family": "transformer" if transformer else "cnn",
        "features": features,
        "parameters": parameters,
        "files": lambda **_: (FILES[architecture],),
        "layers": blocks if transformer else ("layer1", "layer2", "layer3", "layer4"),
    }


@backbone(**_facts("ViT-B-16", 224, 512, 86.2))
def clip_vit_b_16(*, weights: Weights = "openai", init_seed: int = 0) -> "Backbone":
    """CLIP's ViT-B/16: class token after the last norm, projected, 512 features.

    Args:
        weights: "openai" or "random".
        init_seed: of the random weights.
    """
    return _clip("ViT-B-16", weights, init_seed)


@backbone(**_facts("RN50", 224, 1024, 38.3))
def clip_resnet50(*, weights: Weights = "openai", init_seed: int = 0) -> "Backbone":
    """CLIP's ResNet-50: attention pool, 1024 features.

    Args:
        weights: "openai" or "random".
        init_seed: of the random weights.
    """
    return _clip("RN50", weights, init_seed)


@backbone(**_facts("RN50x4", 288, 640, 87.1))
def clip_resnet50x4(*, weights: Weights = "openai", init_seed: int = 0) -> "Backbone":
    """CLIP's RN50x4, 4 times the work of RN50: attention pool, 640 features, input 288.

    Args:
        weights: "openai" or "random".
        init_seed: of the random weights.
    """
    return _clip("RN50x4", weights, init_seed)


@backbone(**_facts("RN50x16", 384, 768, 167.3))
def clip_resnet50x16(*, weights: Weights = "openai", init_seed: int = 0) -> "Backbone":
    """CLIP's RN50x16, 16 times the work of RN50: attention pool, 768 features, input 384.

    Args:
        weights: "openai" or "random".
        init_seed: of the random weights.
    """
    return _clip("RN50x16", weights, init_seed)


@backbone(**_facts("RN50x64", 448, 1024, 420.4))
def clip_resnet50x64(*, weights: Weights = "openai", init_seed: int = 0) -> "Backbone":
    """CLIP's RN50x64, 64 times the work of RN50: attention pool, 1024 features, input 448.

    Args:
        weights: "openai" or "random".
        init_seed: of the random weights.
    """
    return _clip("RN50x64", weights, init_seed)


def _clip(architecture: str, weights: Weights, init_seed: int) -> "Backbone":
    from humansim.backbones.weights import load, loaded_into, wanted

    model = _network(architecture, init_seed, force_quick_gelu=True)
    if weights == "random":
        return _visual(model, f"random, seed {init_seed}")
    if wanted():
        file = FILES[architecture]
        tensors = load(file)
        for name in BESIDE:
            tensors.pop(name, None)
        loaded_into(model, tensors, file)
    return _visual(model, f"open_clip {architecture} openai")


def _network(architecture: str, init_seed: int, **options: Any) -> Any:
    import logging

    import open_clip as library

    from humansim.backbones.module import initialised_by

    logging.getLogger().addFilter(_no_warning_of_random_weights)
    try:
        with initialised_by(init_seed):
            return library.create_model(architecture, load_weights=False, **options)
    finally:
        logging.getLogger().removeFilter(_no_warning_of_random_weights)


def _no_warning_of_random_weights(record: Any) -> bool:
    return "No pretrained weights loaded" not in record.getMessage()


def _visual(model: Any, origin: str) -> "Backbone":
    from humansim.backbones.module import Backbone

    visual = model.visual
    prefix = 1 if hasattr(visual, "class_embedding") else 0
    return Backbone(visual, visual.image_mean, visual.image_std, origin, prefix)


# As open_clip has it, which takes seconds to import.
KNOWN = {"ViT-B-16/laion2b_s34b_b88k": WeightFile.on_hub("laion/CLIP-ViT-B-16-laion2B-s34B-b88K", HUB_NAME)}


def _names() -> list[str]:
    import open_clip as library

    return [f"{architecture}/{tag}" for architecture, tag in library.list_pretrained()]


def _files(name: str, **_: Any) -> tuple[WeightFile, ...]:
    if name in KNOWN:
        return (KNOWN[name],)
    import open_clip as library

    architecture, _slash, tag = name.partition("/")
    published = library.get_pretrained_cfg(architecture, tag)
    url, hub = published.get("url"), published.get("hf_hub")
    own = WeightFile.at(url) if url else None
    if not hub:
        return (own,) if own else ()
    repository, _slash, file = hub.rpartition("/")
    return (WeightFile.on_hub(repository, file or HUB_NAME, or_else=own),)


@backbone(resolution=224, names=_names, known=KNOWN, files=_files)
def open_clip(
    name: str, /, *, weights: Literal["pretrained", "random"] = "pretrained", init_seed: int = 0
) -> "Backbone":
    """Any image encoder of open_clip by architecture and tag: `open_clip:ViT-B-16/laion2b_s34b_b88k`.

    Args:
        weights: "pretrained" or "random".
        init_seed: of the random weights.
    """
    import open_clip as library

    from humansim.backbones.weights import fetch, wanted

    architecture, _, tag = name.partition("/")
    published = library.get_pretrained_cfg(architecture, tag)
    model = _network(architecture, init_seed, force_quick_gelu=bool(published.get("quick_gelu")))
    if published.get("mean"):
        model.visual.image_mean, model.visual.image_std = published["mean"], published["std"]
    if weights == "random":
        return _visual(model, f"random, seed {init_seed}")
    if wanted():
        (file,) = _files(name)
        library.load_checkpoint(model, str(fetch(file)), weights_only=True)
    return _visual(model, f"open_clip {name}")
