"""`thesis` without its leakage: the same 168 fine-tunings, fitted on nothing that they are evaluated on.

Costs what `thesis` costs. Expected: smaller gains. The gap to `thesis`, paradigm by paradigm, is what leakage gave.
"""

from humansim.published import BASE_MODELS, RELEASES, fine_tunings
from humansim.spec import Sweep, Trial, Variant

SWEEP = Sweep(
    name="thesis_heldout",
    question="How much of what fine-tuning gained was leakage?",
    base=Trial(source=Variant("study", size=1000), precision="bf16"),
    grid=[{"backbone": [*BASE_MODELS]}, *fine_tunings(fit_on=RELEASES)],
)
