"""What the help of every command ends with: an example, and what comes next; and the option that all have."""

import argparse
from collections.abc import Iterator

NO_PARTS = ("score", "completion")  # commands that know of no backbones, sources, ...

# command -> an example, what comes next
TAUGHT = {
    "demo": ("humansim demo --root /tmp/try", "humansim status demo, or a sweep of your own: humansim plan shoes.py"),
    "plan": ("humansim plan thesis_small --probe --slots 2", "humansim sweep the same file"),
    "sweep": (
        "humansim sweep shoes.py --data path/to --import my_backbone.py",
        "in another terminal humansim status shoes --watch; at its end humansim report and compare",
    ),
    "retry": (
        "humansim retry full --kind oom --kind hung --only backbone='clip*'",
        "humansim status full: what still fails, and why",
    ),
    "status": ("humansim status shoes --watch", "humansim retry shoes for what failed, humansim sweep for the rest"),
    "studies": ("humansim studies shoes --out shoes.db", "optuna-dashboard on that file"),
    "compare": (
        "humansim compare dino_vit_b_16 resnet50,paradigm=triplet --sweep thesis_small",
        "if it is undecided: more triplets (source size) or repeats in the sweep, and submit it again",
    ),
    "report": (
        "humansim report pretrained thesis thesis_heldout",
        "open the page that its last line names, in a browser",
    ),
    "export": (
        "humansim export shoes --to shoes-metric --program",
        "humansim.load('shoes-metric') in Python: a torch.nn.Module",
    ),
    "doctor": ("humansim doctor --address auto --root /shared/me", "humansim demo, or humansim plan a sweep"),
    "completion": ('eval "$(humansim completion bash)"', "humansim, a space, and the TAB key"),
    "list": ("humansim list paradigms", "name one in a sweep: Variant('triplet', margin=0.5), or in humansim run"),
    "data fetch": ("humansim data fetch bapps", "humansim data prepare bapps"),
    "data list": ("humansim data list", "humansim data fetch what is not there"),
    "data prepare": ("humansim data prepare study", "humansim data audit study, then humansim plan a sweep"),
    "data verify": ("humansim data verify birds16", "what is wrong is named; humansim data fetch gets it again"),
    "data audit": ("humansim data audit study --protocol thesis", "a sweep with that protocol"),
    "weights list": ("humansim weights list pretrained", "humansim weights fetch what is missing"),
    "weights fetch": ("humansim weights fetch resnet50 --mirror DIR", "humansim evaluate resnet50 --source sample"),
    "weights verify": ("humansim weights verify", "delete what is named as wrong, and fetch it again"),
    "run": (
        "humansim run source=sample paradigm=triplet paradigm.margin=0.5 lr=1e-4",
        "many of them: a sweep, with a search of lr",
    ),
    "evaluate": (
        "humansim evaluate timm:resnet18 --source my_judgements resolution=112",
        "fine-tune it: a sweep with a paradigm",
    ),
    "embed": (
        "humansim embed dino_vit_b_16 --source birds16 --map --out birds.parquet",
        "plot its columns x and y, by name of the image",
    ),
    "score": (
        "humansim score distances.csv --judges 5",
        "the same judgements with a model: humansim evaluate resnet50 --source FOLDER",
    ),
}


def teach(parser: argparse.ArgumentParser) -> None:
    """Adds to every command how it is used, and `--import`."""
    for name, one in commands(parser):
        if name in TAUGHT:
            example, then = TAUGHT[name]
            one.epilog = f"example: {example}\nnext: {then}"
            one.formatter_class = argparse.RawDescriptionHelpFormatter
        if name not in NO_PARTS:
            one.add_argument(
                "--import",
                action="append",
                default=[],
                dest="imports",
                metavar="MODULE",
                help="your own parts: a module or FILE.py that registers them; again for more (HUMANSIM_IMPORT)",
            )


def commands(parser: argparse.ArgumentParser, before: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that does something, by its whole name ("data fetch")."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if before and not groups:
        yield before, parser
    for group in groups:
        for name, one in group.choices.items():
            yield from commands(one, f"{before} {name}".strip())
