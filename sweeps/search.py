"""Which learning rate, epochs and batch size does each fine-tuning need? A search in each of the thesis's 168 arms.

8 base models x 7 paradigms x 3 releases (Table B.1 found its values "in an experimental manner", on what is reported
here as test); 12 samples an arm by TPE, chosen on validation, the best one run with three seeds. No arm waits
for another: what takes longest comes first. Costs 168 x 14 trials, 14 times `thesis`. Expected: values near Table
B.1's for most, and gains that its single values hid.

Needs the three releases (`humansim data prepare study`) and the weights (`humansim weights fetch search`).
"""

from humansim.published import BASE_MODELS, PARADIGMS, RELEASES
from humansim.spec import Choice, Sweep, Trial, Uniform, Variant

SWEEP = Sweep(
    name="search",
    question="Which learning rate, epochs and batch size does each fine-tuning need?",
    base=Trial(source=Variant("study", size=1000), precision="bf16"),
    grid=[{"backbone": [*BASE_MODELS], "paradigm": [*PARADIGMS], "fit_on": [*RELEASES]}],
    search={
        "lr": Uniform(low=1e-7, high=1e-3, log=True),
        "epochs": Uniform(low=5, high=30, step=5),
        "batch_size": Choice(values=(16, 32, 64)),
    },
    samples=12,
    repeats=3,
)
