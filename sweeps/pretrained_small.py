"""`pretrained` in small, without a download: the eleven backbones in miniature, the judges simulated.

11 x 11 x 3 = 363 cells out of 11 passes over some 250 images, under a minute on 2 cores. The networks are random, and
say of their pre-training what their originals would, so that hypotheses 1 to 6 find what they compare. Expected:
nothing of any truth; that 363 cells and six verdicts come out.
"""

from humansim.published import BACKBONES
from humansim.spec import Sweep, Trial, Variant

SWEEP = Sweep(
    name="pretrained_small",
    question="Do 363 cells come out of 11 passes?",
    base=Trial(source=Variant("simulated", size=8), protocol="all"),
    grid=[{"backbone": [f"miniature:{name}" for name in BACKBONES]}],
)
