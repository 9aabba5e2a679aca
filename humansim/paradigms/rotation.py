"""RotNet: by how much was the image turned? (thesis, 3.2; Gidaris, Singh and Komodakis 2018.)"""

from typing import TYPE_CHECKING

from humansim.paradigms import Batch, Objective, paradigm

if TYPE_CHECKING:
    from torch import Tensor

    from humansim.paradigms import Network


@paradigm(data="singleton", classifies=True)
def rotation(*, every: bool = True, crop: bool = True) -> Objective:
    """Cross-entropy over 0, 90, 180 and 270 degrees.

    Args:
        every: each image comes turned in all four ways in each batch, as in the paper (section 3.2: it helped); else
            in one, drawn at random.
        crop: of random crops (8 to 100 % of the area) and flips, as the authors train on ImageNet; else of the images.
    """

    def loss(network: "Network", batch: Batch) -> "Tensor":
        import torch
        from torch import nn

        from humansim.augmentations import random_flip, random_resized_crop
        from humansim.pretext import rotated

        (images,) = batch.images
        if crop:
            images = random_flip(random_resized_crop(images, images.shape[3]))
        if every:
            quarters = torch.arange(4, device=images.device).repeat_interleave(len(images))
            images = images.repeat(4, 1, 1, 1)
        else:
            quarters = torch.randint(4, (len(images),), device=images.device)
        return nn.functional.cross_entropy(network(rotated(images, quarters)), quarters)

    return Objective(4, loss)
