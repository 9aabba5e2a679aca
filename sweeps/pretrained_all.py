"""`pretrained` on every triplet: about a million judgements, which tell apart what 1000 a set cannot.

Embeddings are kept: images that `pretrained` has embedded under the same root are not embedded again. Costs 11 passes
over about 160,000 images (BAPPS 109,000, HSJ 50,000, Birds-16 208) and about 13 GB for the embeddings.
"""

from humansim.published import BACKBONES
from humansim.spec import Sweep, Trial, Variant

SWEEP = Sweep(
    name="pretrained_all",
    question="Which pretrained backbone judges similarity as people do, on every triplet there is?",
    base=Trial(source=Variant("study", size="all"), protocol="all"),
    grid=[
        {"backbone": ["pixels"]},
        {"backbone": [*BACKBONES]},
    ],
)
