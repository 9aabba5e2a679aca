"""Backbones: `name(**arguments) -> Backbone`, images in, embeddings out. One file and `@backbone(...)` add one.

Facts given to the decorator are known without loading anything:

- `resolution`: input size in pixels that a trial uses unless it names one: 224, as in the thesis (4.1), unless the
  architecture fixes another;
- `native`: how the publisher of the weights prepares an image (`Native`), which a trial can ask for;
- `pretraining`: what the weights have learnt from (`Pretraining`);
- `architecture`: as its paper calls it, whatever the weights; `family`: "cnn", "transformer" or "none"; `features`:
  size of the embedding; `parameters`: of the trunk, in millions;
- `files`: the weight files of a variant, a function of its arguments (`weights.files_of`);
- `pairwise`: it is no backbone but a metric of pairs (`module.Scorer`): no embeddings, one measure, "own";
- `trainable`: whether there is anything to fine-tune;
- `check`: what is wrong with its arguments, beyond their types: a function of them that raises BadInput;
- `names`: of a family, a function that lists its members; `known`: members whose files are known without it;
- `of`: of a family, a function from a member's name to more such facts;
- `licence`: of the weights, as their publisher has it, or a function of the arguments; left out where not known;
- `layers`: modules of the trunk, from its input to its end, whose outputs a depth curve is drawn over.

torch, timm, torchvision and open_clip are imported inside the functions, so that planning a sweep stays instant.
"""

from dataclasses import dataclass
from typing import Literal

from humansim.registry import Registry


@dataclass(frozen=True)
class Pretraining:
    """What a backbone's weights have learnt from: the analysis groups by it.

    Attributes:
        supervision: "supervised" (class labels), "self-supervised", or "image-text" (captions).
        method: as its paper calls it.
        data: the images.
        images: how many; 0 for a stand-in whose weights are random.
    """

    supervision: Literal["supervised", "self-supervised", "image-text"]
    method: str
    data: str
    images: int

    @property
    def language(self) -> bool:
        """Whether text was part of it."""
        return self.supervision == "image-text"


@dataclass(frozen=True)
class Native:
    """How the publisher of the weights prepares an image: shorter side to `resize`, centre `resolution` square."""

    resolution: int
    resize: int
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"


backbone = Registry(
    "backbone",
    facts=(
        *("resolution", "native", "pretraining", "architecture", "family", "features", "parameters", "files"),
        *("pairwise", "trainable", "check", "names", "known", "of", "licence", "layers"),
    ),
    needed=("resolution",),
)

from humansim.backbones import dino, ensemble, lite, miniature, open_clip, perceptual, pixels, timm, torchvision  # noqa: E402, F401
