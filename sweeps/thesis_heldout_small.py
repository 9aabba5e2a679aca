"""`thesis_heldout` in small, without a download: `thesis_small` without its leakage, the judges simulated.

168 fine-tunings of an epoch on random weights. Expected: nothing of any truth; that every trial finishes, and that the
two sweeps together give a table of leakage.
"""

from humansim.published import BASE_MODELS, PARADIGMS, RELEASES
from humansim.spec import Sweep, Trial, Variant

SMALL = [f"miniature:{name}" for name in BASE_MODELS]

SWEEP = Sweep(
    name="thesis_heldout_small",
    question="Do 168 fine-tunings finish that are fitted on nothing they are evaluated on?",
    base=Trial(source=Variant("simulated", size=20), fit_size=16, batch_size=8, epochs=1, lr=1e-3),
    grid=[{"backbone": SMALL}, {"backbone": SMALL, "paradigm": [*PARADIGMS], "fit_on": [*RELEASES]}],
)
