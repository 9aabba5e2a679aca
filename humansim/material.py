"""What a trial works on: judgements, images at its resolution, and which of them serve for what."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from humansim import sources
from humansim.backbones import Native, backbone
from humansim.errors import BadInput
from humansim.fit_sets import FitSet, choose_fit, members
from humansim.images import Store, open_store
from humansim.judgements import Ints, Judgements
from humansim.paradigms import paradigm
from humansim.pictures import Resize
from humansim.root import Root
from humansim.spec import Trial
from humansim.splits import Split, split

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Material:
    """Judgements, images, split.

    Attributes:
        fit: what is fitted on, chosen from the fit part; None without a paradigm.
        fit_sets: numbers of the sets that it comes from: validation during training is on these.
        fingerprint: SHA-256 over the images' contents and the answers.
    """

    judgements: Judgements
    store: Store
    split: Split
    fit: FitSet | None
    fit_sets: list[int]
    fingerprint: str

    def images_of(self, *parts: str) -> Ints:
        """The images of these parts, each once, sorted."""
        rows = np.concatenate([self.split.parts[part] for part in parts])
        return np.unique(self.judgements.triplets[rows].images)


def resize_of(trial: Trial) -> Resize:
    """How images become the trial's squares.

    Raises:
        BadInput: "native" is asked of a backbone whose publisher's way is not known.
    """
    facts = backbone.entry(trial.backbone).facts
    if trial.resize == "squash":
        return Resize(trial.resolution or facts["resolution"])
    native: Native | None = facts.get("native")
    if native is None:
        raise BadInput(f"resize 'native': how images are prepared for {trial.backbone} is not known; use 'squash'")
    resolution = trial.resolution or native.resolution
    return Resize(resolution, round(native.resize * resolution / native.resolution), native.interpolation)


def prepare(trial: Trial, root: Root, progress: Progress | None = None) -> Material:
    """Reads judgements and images, decodes what is not yet decoded, splits. Needs no torch.

    Raises:
        BadInput: whatever is wrong with the data, before anything is trained.
    """
    judgements = sources.read(trial.source, root)
    store = open_store(root, judgements, resize_of(trial), progress)
    same = np.unique(np.asarray(store.contents), return_inverse=True)[1]
    parts = split(judgements, trial.protocol, same)
    fit = None
    if trial.paradigm is not None:
        kind = paradigm.entry(trial.paradigm).facts["data"]
        fit = choose_fit(judgements, parts, kind, trial.fit_size, fit_on=trial.fit_on)
    sets = members(judgements.sets, trial.fit_on)
    return Material(judgements, store, parts, fit, sets, judgements.fingerprint(store.contents))
