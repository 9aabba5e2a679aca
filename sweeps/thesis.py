"""Does fine-tuning bring a model nearer to people, and which kind? The thesis's 168 fine-tunings, leakage and all.

8 base models x 7 paradigms x 3 releases at the values of Table B.1, each evaluated on all 11 sets (5.1, Figure 5.3;
hypotheses 7 to 9); beside them the 8 as pre-trained, at the same precision. `protocol="thesis"`: what is fitted on is
drawn from what is evaluated on, as published, and results say that they are contaminated. `thesis_heldout` is the same
without that; the difference is what leakage gave. Costs 25 to 30 epochs of at most 1000 data points a trial, about
5 million images in all through networks of 1 to 18 GFLOPs, three times each. Expected: gains under `thesis` above those
under `heldout`; the supervised paradigms above the pretext tasks.

Needs the three releases (`humansim data prepare study`) and the weights (`humansim weights fetch thesis`).
"""

from humansim.published import BASE_MODELS, RELEASES, fine_tunings
from humansim.spec import Sweep, Trial, Variant

SWEEP = Sweep(
    name="thesis",
    question="Does fine-tuning bring a model nearer to people, and which kind of it?",
    base=Trial(source=Variant("study", size=1000), protocol="thesis", precision="bf16"),
    grid=[{"backbone": [*BASE_MODELS]}, *fine_tunings(fit_on=RELEASES)],
)
