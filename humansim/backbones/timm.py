"""Today's candidates out of timm, and any model of it by name: `timm:convnext_tiny.fb_in1k`."""

from typing import TYPE_CHECKING, Any, Literal

from humansim.backbones import Native, Pretraining, backbone
from humansim.backbones.weights import WeightFile

if TYPE_CHECKING:
    from humansim.backbones.module import Backbone

Weights = Literal["pretrained", "random"]
DINOV2 = "vit_base_patch14_dinov2.lvd142m"
SIGLIP2 = "vit_base_patch16_siglip_224.v2_webli"
CONVNEXT = "convnext_base.fb_in1k"
META = "https://dl.fbaipublicfiles.com"
# As timm has them, which takes seconds to import.
KNOWN = {
    DINOV2: WeightFile.on_hub(
        f"timm/{DINOV2}", or_else=WeightFile.at(f"{META}/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth")
    ),
    SIGLIP2: WeightFile.on_hub(f"timm/{SIGLIP2}"),
    CONVNEXT: WeightFile.on_hub(
        f"timm/{CONVNEXT}", or_else=WeightFile.at(f"{META}/convnext/convnext_base_1k_224_ema.pth")
    ),
}


@backbone(
    resolution=224,
    native=Native(518, 518),
    pretraining=Pretraining("self-supervised", "DINOv2", "LVD-142M", 142_000_000),
    architecture="ViT-B/14",
    licence="Apache-2.0 (Meta)",
    family="transformer",
    features=768,
    parameters=86.6,
    files=lambda **_: (KNOWN[DINOV2],),
    layers=tuple(f"blocks.{i}" for i in range(12)),
)
def dinov2_vit_b_14(*, weights: Weights = "pretrained", init_seed: int = 0) -> "Backbone":
    """DINOv2's ViT-B/14 (Oquab et al. 2023): class token after the last norm, 768 features.

    At 224 pixels its position embedding, made for 518, is interpolated as its authors do; timm's filter is antialiased.

    Args:
        weights: "pretrained" or "random".
        init_seed: of the random weights.
    """
    return _model(DINOV2, weights, init_seed, dynamic_img_size=True)


@backbone(
    resolution=224,
    native=Native(224, 248),
    pretraining=Pretraining("image-text", "SigLIP 2", "WebLI", 10_000_000_000),
    architecture="ViT-B/16",
    family="transformer",
    features=768,
    parameters=92.9,
    files=lambda **_: (KNOWN[SIGLIP2],),
    licence=lambda **_: _licence(SIGLIP2),
    layers=tuple(f"blocks.{i}" for i in range(12)),
)
def siglip2_vit_b_16(*, weights: Weights = "pretrained", init_seed: int = 0) -> "Backbone":
    """SigLIP 2's ViT-B/16 (Tschannen et al. 2025): its attention pool, 768 features; no class token.

    Args:
        weights: "pretrained" or "random".
        init_seed: of the random weights.
    """
    return _model(SIGLIP2, weights, init_seed, dynamic_img_size=True)


@backbone(
    resolution=224,
    native=Native(224, 256),
    pretraining=Pretraining("supervised", "cross-entropy", "ImageNet-1k", 1_281_167),
    architecture="ConvNeXt-B",
    family="cnn",
    features=1024,
    parameters=87.6,
    files=lambda **_: (KNOWN[CONVNEXT],),
    licence=lambda **_: _licence(CONVNEXT),
    layers=tuple(f"stages.{i}" for i in range(4)),
)
def convnext_base(*, weights: Weights = "pretrained", init_seed: int = 0) -> "Backbone":
    """ConvNeXt-B (Liu et al. 2022), ImageNet-1k: global pool and norm, 1024 features.

    Args:
        weights: "pretrained" or "random".
        init_seed: of the random weights.
    """
    return _model(CONVNEXT, weights, init_seed)


def _names() -> list[str]:
    import timm as library

    return sorted({*library.list_models(), *library.list_pretrained()})


def _files(name: str, **_: Any) -> tuple[WeightFile, ...]:
    if name in KNOWN:
        return (KNOWN[name],)
    import timm as library

    published = library.models.get_pretrained_cfg(name)
    if published is None:
        return ()
    url = published.url if isinstance(published.url, str) and published.url.startswith("http") else None
    own = WeightFile.at(url) if url else None
    if not published.hf_hub_id:
        return (own,) if own else ()
    return (WeightFile.on_hub(published.hf_hub_id, published.hf_hub_filename or "model.safetensors", or_else=own),)


def _licence(name: str, **_: Any) -> str:
    import timm as library

    published = library.models.get_pretrained_cfg(name)
    told = None if published is None else published.license
    return f"{told}, as timm records it" if told else "unknown"


@backbone(resolution=224, names=_names, known=KNOWN, files=_files, licence=_licence)
def timm(name: str, /, *, weights: Weights = "pretrained", init_seed: int = 0) -> "Backbone":
    """Any image model of timm: the features before its classifier, its own normalisation.

    Args:
        weights: "pretrained" or "random".
        init_seed: of the random weights.
    """
    return _model(name, weights, init_seed)


def _model(name: str, weights: Weights, init_seed: int, **options: Any) -> "Backbone":
    import timm as library

    from humansim.backbones.module import Backbone, initialised_by
    from humansim.backbones.weights import fetch, wanted
    from humansim.errors import BadInput

    files = _files(name)
    if weights == "random" or not wanted():
        given: dict[str, Any] = {"pretrained": False}
    elif files:
        # timm renames what a release calls otherwise and resizes position embeddings as it loads the file.
        given = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(fetch(files[0])), "hf_hub_id": None}}
    else:
        raise BadInput(
            f"backbone timm:{name} has no published weights; name a tag as in timm:{name}.<tag>, or weights='random'"
        )
    with initialised_by(init_seed):
        trunk: Any = library.create_model(name, num_classes=0, **given, **options)
    config = trunk.pretrained_cfg
    origin = f"timm {name}" if weights == "pretrained" else f"random, seed {init_seed}"
    return Backbone(trunk, config["mean"], config["std"], origin, getattr(trunk, "num_prefix_tokens", 0))
