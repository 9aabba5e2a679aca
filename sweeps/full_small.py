"""`full` in small, without a download: 8 base models in miniature x 7 paradigms x 11 sets, the judges simulated.

616 fine-tunings of an epoch on random weights, a few minutes on 2 cores. Expected: nothing of any truth; that every
trial finishes, once.
"""

from humansim.published import BASE_MODELS, PARADIGMS
from humansim.sources.study import SETS
from humansim.spec import Sweep, Trial, Variant

SMALL = [f"miniature:{name}" for name in BASE_MODELS]

SWEEP = Sweep(
    name="full_small",
    question="Do 616 fine-tunings finish?",
    base=Trial(source=Variant("simulated", size=10), fit_size=16, batch_size=8, epochs=1, lr=1e-3),
    grid=[{"backbone": SMALL}, {"backbone": SMALL, "paradigm": [*PARADIGMS], "fit_on": [*SETS]}],
)
