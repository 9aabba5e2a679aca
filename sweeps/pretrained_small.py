"""`pretrained` in small, without a download: 11 little networks on the simulated releases, the judges simulated.

One has its real ImageNet weights; the others, random, stand in for the eleven. 11 x 11 x 3 = 363 cells out of 11 passes
over some 250 images, about a minute on 2 cores. Expected: nothing of any truth; that the trained network is above the
random ones.
"""

from humansim.spec import Sweep, Trial, Variant

STAND_INS = (
    "timm:test_byobnet",
    "timm:test_convnext",
    "timm:test_convnext2",
    "timm:test_efficientnet",
    "timm:test_mambaout",
    "timm:test_nfnet",
    "timm:test_resnet",
    "timm:test_vit",
    "timm:test_vit2",
    "timm:test_vit3",
)

SWEEP = Sweep(
    name="pretrained_small",
    question="Do 363 cells come out of 11 passes?",
    base=Trial(source=Variant("simulated", size=8), protocol="all", resolution=160),
    grid=[{"backbone": ["efficientnet_lite0", *(Variant(name, weights="random") for name in STAND_INS)]}],
)
