"""Which depth of a network agrees best with people?

Features of each block of four pretrained networks beside those of its end: maps and patches pooled by their mean, of
transformers also the class token. A pass stops at the layer that is asked for, so a network's curve costs about half a
pass a layer. Expected: a rise with depth, and a last layer that is not the best one on low-level judgements (BAPPS).

Needs the three releases (`humansim data prepare study`) and the weights (`humansim weights fetch depth`).
"""

from humansim.backbones import backbone
from humansim.spec import Sweep, Trial, Variant

NETWORKS = ["resnet50", "vit_b_16", "clip_vit_b_16", "dino_vit_b_16"]
LAYERS = {name: list(backbone.entry(Variant(name)).facts["layers"]) for name in NETWORKS}

SWEEP = Sweep(
    name="depth",
    question="Which depth of a network agrees best with people?",
    base=Trial(source=Variant("study", size=1000), protocol="all"),
    grid=[
        {"backbone": NETWORKS},
        *({"backbone": [name], "layer": LAYERS[name], "pool": ["mean"]} for name in NETWORKS),
        *({"backbone": [name], "layer": LAYERS[name], "pool": ["class"]} for name in NETWORKS if "vit" in name),
    ],
)
