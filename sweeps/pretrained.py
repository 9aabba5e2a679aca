"""Which of eleven pretrained backbones judges similarity as people do, and under which measure?

The first half of the thesis (5.1, Figure 5.1; hypotheses 1 to 6): 11 backbones x 11 evaluation sets x 3 measures, 363
cells out of 11 embedding passes, 1000 triplets a set. Beside each backbone its twin with random weights, and the
pixels, as floors. Costs 23 passes over at most 24,000 images (BAPPS 18,000, HSJ 6,000, Birds-16 208), of which those
of RN50x64 are most of the work. Expected: cosine above the other measures; networks well above their twins, and below
the best attainable. 1000 triplets cannot tell two good models apart: `pretrained_all` evaluates every triplet.

Needs the three releases (`humansim data prepare study`) and the weights (`humansim weights fetch pretrained`).
"""

from humansim.published import BACKBONES
from humansim.spec import Sweep, Trial, Variant

SWEEP = Sweep(
    name="pretrained",
    question="Which pretrained backbone judges similarity as people do, and under which measure?",
    base=Trial(source=Variant("study", size=1000), protocol="all"),
    grid=[
        {"backbone": ["pixels"]},
        {"backbone": [Variant(name, weights="random") for name in BACKBONES]},
        {"backbone": [*BACKBONES]},
    ],
)
