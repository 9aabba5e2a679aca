"""Does fine-tuning on one kind of judgement carry over to the others? All 616 fine-tunings that the thesis names.

8 base models x 7 paradigms x 11 sets to fit on (4.3: "too many"), each evaluated on all 11 sets; beside them the 8 as
pre-trained, at the same precision. Values of Table B.1, which were not chosen for single sets. Costs about four times
`thesis`. Expected: what is fitted on gains most, its neighbours some, the other releases little or less than nothing.

Needs the three releases (`humansim data prepare study`) and the weights (`humansim weights fetch full`).
"""

from humansim.published import BASE_MODELS, fine_tunings
from humansim.sources.study import SETS
from humansim.spec import Sweep, Trial, Variant

SWEEP = Sweep(
    name="full",
    question="Does fine-tuning on one kind of human judgement carry over to the other kinds?",
    base=Trial(source=Variant("study", size=1000), precision="bf16"),
    grid=[{"backbone": [*BASE_MODELS]}, *fine_tunings(fit_on=SETS)],
)
