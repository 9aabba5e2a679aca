"""Does fine-tuning on human choices help, and should batch norm go along or stay as pre-training left it?

Real photographs and a real network with its real ImageNet weights; the judges are simulated (`humansim list sources`).
Costs about three minutes on 2 cores. Expected: ImageNet features well above pixels and above an untrained network on
`sample/kind`, where one has to know which distortions people mind; fine-tuning on 128 triplets moves that by a few
points, well within the intervals: a demo shows how a study is run, not what is true.
"""

from humansim.spec import Sweep, Trial, Uniform, Variant

SWEEP = Sweep(
    name="demo",
    question="Does fine-tuning on human choices help, and should batch norm go along?",
    base=Trial(source=Variant("sample"), resolution=64, fit_size=128, batch_size=32, epochs=3),
    grid=[
        {"backbone": ["pixels", Variant("efficientnet_lite0", weights="random"), "efficientnet_lite0"]},
        {
            "backbone": ["efficientnet_lite0"],
            "paradigm": ["triplet"],
            "paradigm.distance": ["euclidean", "squared_euclidean"],
            "batch_norm": ["batch", "frozen"],
        },
    ],
    search={"lr": Uniform(low=1e-5, high=1e-3, log=True)},
    samples=2,
)
