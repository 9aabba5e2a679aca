"""Does fine-tuning on human choices help, does it need pretraining, and which distance should it use?

Real photographs, a real network with its real ImageNet weights; the judges are simulated (`humansim list sources`).
Costs about three minutes on 2 cores. Expected: pixels above chance, ImageNet features well above pixels, and
fine-tuning better still on `sample/kind`, where one has to know what people mind.
"""

from humansim.spec import Sweep, Trial, Uniform, Variant

IMAGENET, RANDOM = Variant("efficientnet_lite0"), Variant("efficientnet_lite0", weights="random")

SWEEP = Sweep(
    name="demo",
    question="Does fine-tuning on human choices help, does it need pretraining, and which distance should it use?",
    base=Trial(source=Variant("sample"), resolution=64, fit_size=128, batch_size=32, epochs=2),
    grid=[
        {"backbone": ["pixels", RANDOM, IMAGENET]},
        {
            "paradigm": ["triplet"],
            "backbone": [RANDOM, IMAGENET],
            "paradigm.distance": ["euclidean", "squared_euclidean"],
        },
    ],
    search={"lr": Uniform(low=1e-5, high=3e-3, log=True)},
    samples=2,
)
