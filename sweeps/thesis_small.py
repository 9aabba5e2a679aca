"""`thesis` in small, without a download: 8 base models in miniature x 7 paradigms x 3 releases, the judges simulated.

168 fine-tunings of an epoch on random weights. Expected: nothing of any truth; that every trial finishes.
"""

from humansim.published import BASE_MODELS, PARADIGMS, RELEASES
from humansim.spec import Sweep, Trial, Variant

SMALL = [f"miniature:{name}" for name in BASE_MODELS]

SWEEP = Sweep(
    name="thesis_small",
    question="Do 168 fine-tunings finish?",
    base=Trial(
        source=Variant("simulated", size=20),
        protocol="thesis",
        fit_size=16,
        batch_size=8,
        epochs=1,
        lr=1e-3,
    ),
    grid=[{"backbone": SMALL}, {"backbone": SMALL, "paradigm": [*PARADIGMS], "fit_on": [*RELEASES]}],
)
