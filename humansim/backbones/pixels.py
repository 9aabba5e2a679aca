"""The floor: no network at all."""

from typing import TYPE_CHECKING

from humansim.backbones import backbone

if TYPE_CHECKING:
    from humansim.backbones.module import Backbone


@backbone(resolution=32, trainable=False, family="none", licence="none: no weights")
def pixels() -> "Backbone":
    """The image's own pixels, 32 x 32 unless the trial says otherwise: what any network should beat."""
    from torch import nn

    from humansim.backbones.module import Backbone

    return Backbone(nn.Identity(), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "none")
