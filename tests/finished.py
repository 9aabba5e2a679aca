"""Trials that have finished, for what is made of them."""

from humansim import plan, train
from humansim.root import Root
from humansim.spec import Trial, Variant

TUNED = plan.checked(
    Trial(
        source=Variant("sample", queries=24, pairs=2),
        backbone="miniature:resnet50",
        paradigm=Variant("triplet", outputs=8),
        head="kept",
        fit_size=16,
        batch_size=8,
        epochs=1,
    )
)
PLAIN = plan.checked(TUNED.having({"paradigm": None, "backbone": "pixels", "resolution": 16}))
SSIM = plan.checked(PLAIN.having({"backbone": "ssim", "protocol": "all", "resolution": 32}))


def run_all(root: Root) -> Root:
    for trial in (TUNED, PLAIN, SSIM):
        train.run(trial, root, device="cpu")
    return root
