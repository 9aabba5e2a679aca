"""MoCo: two views of an image are alike, and unlike those of a queue (thesis, 3.2; He et al. 2020, equations 1, 2)."""

from typing import TYPE_CHECKING, Literal

from humansim.paradigms import Batch, Objective, paradigm

if TYPE_CHECKING:
    from torch import Tensor, nn

    from humansim.paradigms import Network


@paradigm(data="singleton")
def moco(
    *,
    temperature: float = 0.07,
    momentum: float = 0.999,
    queue: int = 4096,
    version: Literal["v1", "v2"] = "v1",
    outputs: int = 128,
) -> Objective:
    """InfoNCE of a query against its key, of the momentum encoder, and a queue of the keys of earlier batches.

    On one device there is no shuffling of batch norm's statistics between devices (section 3.3): queries and keys pass
    through it in batches of their own.

    Args:
        temperature: of the softmax, 0.07 in the paper (0.2 in v2).
        momentum: of the encoder of the keys.
        queue: keys that are kept, random ones to begin with. The paper's 65,536 are 5 % of its 1.28 million images; of
            1000 images they would be 65 keys each, and random vectors to the end of most trainings.
        version: whose views: v2's are blurred, and jittered more weakly (Chen et al. 2020b).
        outputs: width of the projection head.
    """
    import copy

    import torch
    from torch import nn

    from humansim import augmentations

    class Memory(nn.Module):
        keys: "Tensor"
        at: "Tensor"

        def __init__(self) -> None:
            super().__init__()
            self.encoder: nn.Module = nn.Identity()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.register_buffer("keys", nn.functional.normalize(torch.randn(queue, outputs), dim=1))
            self.register_buffer("at", torch.tensor(0))

    memory = Memory()
    view = augmentations.moco_v1_view if version == "v1" else augmentations.moco_v2_view

    def begin(network: "nn.Module") -> None:
        memory.encoder = copy.deepcopy(network).requires_grad_(False)

    @torch.no_grad()
    def before_step(network: "nn.Module") -> None:
        for own, followed in zip(memory.encoder.modules(), network.modules(), strict=True):
            own.training = followed.training  # each by itself: batch norm may be frozen
        for key, query in zip(memory.encoder.parameters(), network.parameters(), strict=True):
            key.lerp_(query, 1 - momentum)

    def loss(network: "Network", batch: Batch) -> "Tensor":
        (images,) = batch.images
        q = nn.functional.normalize(network(view(images)), dim=1)
        with torch.no_grad():
            k = nn.functional.normalize(memory.encoder(view(images)), dim=1)
        found = info_nce(q, k, memory.keys.clone(), temperature)
        with torch.no_grad():  # the oldest keys make room
            place = (memory.at + torch.arange(len(k), device=k.device)) % queue
            memory.keys[place] = k
            memory.at.copy_((memory.at + len(k)) % queue)
        return found

    return Objective(outputs, loss, memory, begin, before_step)


def info_nce(queries: "Tensor", keys: "Tensor", negatives: "Tensor", temperature: float) -> "Tensor":
    """-log of the softmax of query . key among query . negatives [n, k]; all of length one."""
    import torch
    from torch import nn

    positive = (queries * keys).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, queries @ negatives.T], dim=1) / temperature
    return nn.functional.cross_entropy(logits, torch.zeros(len(queries), dtype=torch.int64, device=queries.device))
