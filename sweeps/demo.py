"""Does what a network learns from one kind of human judgement carry over to the other kinds?

The study's 11 evaluation sets in small: releases of BAPPS, Birds-16 and ImageNet-HSJ in their raw forms, cut from real
photographs and read as the real ones are. A real network with its real ImageNet weights; the judges are simulated
(`humansim list sources`). Costs about two minutes on 2 cores. Expected: ImageNet features well above pixels and above
an untrained network; fine-tuning on one release's judgements moves its sets by a few points, and the others less, well
within the intervals: a demo shows how a study is run, not what is true.
"""

from humansim.spec import Sweep, Trial, Uniform, Variant

SWEEP = Sweep(
    name="demo",
    question="Does fine-tuning on one kind of human judgement carry over to the other kinds?",
    base=Trial(source=Variant("simulated"), resolution=64, fit_size=128, batch_size=32, epochs=3, batch_norm="frozen"),
    grid=[
        {"backbone": ["pixels", Variant("efficientnet_lite0", weights="random"), "efficientnet_lite0"]},
        {
            "backbone": ["efficientnet_lite0"],
            "paradigm": ["triplet"],
            "fit_on": ["bapps", "hsj", "birds16"],
        },
    ],
    search={"lr": Uniform(low=1e-5, high=1e-3, log=True)},
    samples=2,
)
