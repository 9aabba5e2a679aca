"""What the thesis used, as data: its backbones, paradigms, releases, and the values of its Table B.1."""

from collections.abc import Sequence
from typing import Any, NamedTuple

BASE_MODELS = (
    "resnet50",
    "efficientnet_v2_m",
    "vit_b_16",
    "alexnet",
    "clip_vit_b_16",
    "clip_resnet50",
    "dino_vit_b_16",
    "dino_resnet50",
)
BACKBONES = (*BASE_MODELS, "clip_resnet50x4", "clip_resnet50x16", "clip_resnet50x64")  # the last three only evaluated
SUPERVISED = ("triplet", "contrastive", "quadruplet")
SELF_SUPERVISED = ("simclr", "moco", "rotation", "jigsaw")
PARADIGMS = (*SUPERVISED, *SELF_SUPERVISED)
RELEASES = ("bapps", "hsj", "birds16")


class Values(NamedTuple):
    """A trial's fields of the same names."""

    lr: float
    epochs: int
    batch_size: int


def _row(*values: tuple[float, int, int]) -> tuple[Values, ...]:
    return tuple(Values(*of_paradigm) for of_paradigm in values)


# A row of Table B.1 holds for all three releases; its first column for all supervised paradigms.
_CNN = _row((1e-4, 20, 64), (1e-4, 25, 64), (1e-4, 25, 32), (1e-4, 25, 32), (1e-4, 25, 32))
_ROWS = {
    "resnet50": _CNN,
    "efficientnet_v2_m": _row((1e-4, 20, 64), (1e-4, 25, 64), (1e-4, 25, 32), (1e-3, 25, 16), (1e-4, 25, 16)),
    "vit_b_16": _row((1e-6, 30, 32), (1e-5, 30, 64), (1e-5, 30, 16), (1e-5, 30, 32), (1e-5, 20, 32)),
    "alexnet": _row((1e-4, 20, 64), (1e-3, 30, 32), (1e-3, 30, 64), (1e-3, 30, 32), (1e-3, 30, 32)),
    "clip_vit_b_16": _row((1e-5, 25, 32), (1e-5, 30, 64), (1e-5, 30, 32), (1e-5, 30, 32), (1e-5, 30, 32)),
    "clip_resnet50": _CNN,
    "dino_vit_b_16": _row((1e-6, 25, 32), (1e-5, 30, 64), (1e-5, 30, 32), (1e-5, 30, 32), (1e-5, 30, 32)),
    "dino_resnet50": _CNN,
}

TABLE_B1 = {
    (backbone, paradigm): values
    for backbone, (supervised, *pretext) in _ROWS.items()
    for paradigm, values in zip(PARADIGMS, (*(supervised,) * len(SUPERVISED), *pretext), strict=True)
}


def fine_tunings(fit_on: Sequence[str]) -> list[dict[str, list[Any]]]:
    """Grids of a sweep: each base model with each paradigm on each of these data, at the values of Table B.1."""
    return [
        {"backbone": [backbone], "paradigm": [paradigm], "fit_on": list(fit_on)}
        | {field: [value] for field, value in values._asdict().items()}
        for (backbone, paradigm), values in TABLE_B1.items()
    ]


VERDICTS = (  # on its nine hypotheses (5.2), found by eye
    *("proven", "inconclusive", "proven", "disproven", "disproven"),
    *("proven", "disproven", "proven", "disproven"),
)
