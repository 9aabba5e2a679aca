"""Do published perceptual metrics judge as people do, beside backbones that nobody fitted to judgements?

LPIPS (three trunks), DISTS and SSIM beside a supervised, an image-text and a self-supervised network, and the three
side by side (DreamSim's ensemble before its fine-tuning), at 64 pixels, where BAPPS was judged and LPIPS published,
and at 224. A metric judges pairs, so it costs two passes a pair: about 40,000 a resolution, most of them VGG-16's.
Expected: on BAPPS, whose train part LPIPS was fitted to, LPIPS above all; elsewhere below the networks.

Needs the three releases (`humansim data prepare study`) and the weights (`humansim weights fetch metrics`).
"""

from humansim.spec import Sweep, Trial, Variant

SWEEP = Sweep(
    name="metrics",
    question="Do published perceptual metrics judge as people do, beside backbones that nobody fitted to judgements?",
    base=Trial(source=Variant("study", size=1000), protocol="all"),
    grid=[
        {
            "backbone": [
                "ssim",
                "lpips",
                Variant("lpips", net="vgg"),
                Variant("lpips", net="squeeze"),
                "dists",
                "resnet50",
                "clip_vit_b_16",
                "dino_vit_b_16",
                "ensemble",
            ],
            "resolution": [64, 224],
        }
    ],
)
