"""Several backbones as one: their embeddings side by side (DreamSim's idea, Fu et al. 2023, 3.2)."""

from typing import TYPE_CHECKING, Any, Literal

from humansim.backbones import backbone
from humansim.errors import BadInput
from humansim.spec import Variant

if TYPE_CHECKING:
    from humansim.backbones.module import Backbone
    from humansim.backbones.weights import WeightFile

DREAMSIM = ("dino_vit_b_16", "clip_vit_b_16", "open_clip:ViT-B-16/laion2b_s34b_b88k")


def _members(names: tuple[str, ...], weights: str) -> list[Variant]:
    members = [Variant(name, **({"weights": "random"} if weights == "random" else {})) for name in names]
    if len(members) < 2 or len(set(members)) < len(members):
        raise BadInput(f"ensemble: members are two or more different backbones, not {', '.join(names) or 'none'}")
    for member in members:
        facts = backbone.entry(member).facts
        if member.name == "ensemble" or facts.get("pairwise"):
            raise BadInput(f"ensemble: {member.name} gives no embedding of its own; name the backbones themselves")
    return members


def _files(members: tuple[str, ...] = DREAMSIM, **_: Any) -> "tuple[WeightFile, ...]":
    from humansim.backbones.weights import files_of

    return tuple(dict.fromkeys(file for member in _members(members, "") for file in files_of(member)))


def _check(members: tuple[str, ...] = DREAMSIM, **_: Any) -> None:
    _members(members, "")


@backbone(resolution=224, family="ensemble", files=_files, check=_check)
def ensemble(
    *,
    members: tuple[str, ...] = DREAMSIM,
    weights: Literal["pretrained", "random"] = "pretrained",
    init_seed: int = 0,
) -> "Backbone":
    """Embeddings of several backbones, each of length one, one after the other: DreamSim's three unless told otherwise.

    Under the cosine measure it judges by the mean of its members' similarities. It has DreamSim's parts as they were
    pre-trained, not DreamSim's fine-tuning.

    Args:
        members: names of backbones; all see the same images, each normalises them its own way.
        weights: "pretrained", each member's default, or "random" for all.
        init_seed: of the random weights.
    """
    from humansim.backbones.module import Backbone, SideBySide

    seeded = {"init_seed": init_seed} if weights == "random" else {}
    parts = [backbone.make(member.having(**seeded)) for member in _members(members, weights)]
    return Backbone(SideBySide(parts), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), " + ".join(part.weights for part in parts))
