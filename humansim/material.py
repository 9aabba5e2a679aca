"""What a trial works on: judgements, images at its resolution, and which of them serve for what."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from humansim import sources
from humansim.backbones import backbone
from humansim.images import Store, open_store
from humansim.judgements import Ints, Judgements, Split, choose_fit, split_all, split_heldout
from humansim.root import Root
from humansim.spec import Trial

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Material:
    """Judgements, images, split.

    Attributes:
        fit: rows of the triplets that are fitted on, chosen from the fit part; none without a paradigm.
        fingerprint: SHA-256 over the images' contents and the answers.
    """

    judgements: Judgements
    store: Store
    split: Split
    fit: Ints
    fingerprint: str

    def images_of(self, *parts: str) -> Ints:
        """The images of these parts, each once, sorted."""
        rows = np.concatenate([self.split.parts[part] for part in parts])
        return np.unique(self.judgements.triplets[rows].images)


def prepare(trial: Trial, root: Root, progress: Progress | None = None) -> Material:
    """Reads judgements and images, decodes what is not yet decoded, splits. Needs no torch.

    Raises:
        BadInput: whatever is wrong with the data, before anything is trained.
    """
    judgements = sources.read(trial.source, root)
    resolution = trial.resolution or backbone.entry(trial.backbone).facts["resolution"]
    store = open_store(root, judgements, resolution, progress)
    split = split_all(judgements) if trial.protocol == "all" else split_heldout(judgements)
    fit = np.arange(0)
    if trial.paradigm is not None:
        fit = choose_fit(judgements, split.parts["fit"], trial.fit_size)
    return Material(judgements, store, split, fit, judgements.fingerprint(store.contents))
