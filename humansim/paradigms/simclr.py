"""SimCLR: two views of an image are alike (thesis, 3.2; Chen et al. 2020, equation 1)."""

from typing import TYPE_CHECKING

from humansim.paradigms import Batch, Objective, paradigm

if TYPE_CHECKING:
    from torch import Tensor

    from humansim.paradigms import Network


@paradigm(data="singleton")
def simclr(*, temperature: float = 0.5, strength: float = 1.0, blur: bool = True, outputs: int = 128) -> Objective:
    """NT-Xent over two random views of each image of a batch; all other views of the batch are negatives.

    Args:
        temperature: tau of the paper, whose tables 5 and B.7 give 0.1 for large batches and long training, and 0.5 for
            small ones.
        strength: of the colour jitter (appendix A).
        blur: whether views may be blurred.
        outputs: width of the projection head, one linear block here (thesis, 3.2).
    """

    def loss(network: "Network", batch: Batch) -> "Tensor":
        import torch

        from humansim.augmentations import simclr_view

        (images,) = batch.images
        views = torch.cat([simclr_view(images, strength=strength, blur=blur) for _ in range(2)])
        return nt_xent(network(views), temperature)

    return Objective(outputs, loss)


def nt_xent(outputs: "Tensor", temperature: float) -> "Tensor":
    """Normalised temperature-scaled cross-entropy of outputs [2b, k]: rows i and i + b are two views of image i."""
    import torch
    from torch import nn

    z = nn.functional.normalize(outputs, dim=1)
    alike = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    other = torch.arange(len(z), device=z.device).roll(len(z) // 2)
    return nn.functional.cross_entropy(alike, other)
