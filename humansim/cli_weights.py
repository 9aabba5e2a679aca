"""`humansim weights`: list, fetch, verify the files of pretrained weights."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from humansim.backbones.weights import WeightFile
    from humansim.spec import Variant

EXAMPLES = """\
  humansim weights list                            of all backbones that have a name of their own
  humansim weights list pretrained                 of those that a sweep needs
  humansim weights fetch resnet50 timm:vit_base_patch16_224.dino
  humansim weights fetch pretrained --mirror DIR   from a folder or a server of your own
  humansim weights verify

Files are looked for in HUMANSIM_WEIGHTS, humansim's own cache and those of torch.hub, Hugging Face and CLIP. With
HUMANSIM_WEIGHTS on a disk that all nodes of a cluster see, each file is downloaded once."""


def add(commands: Any, where: argparse.ArgumentParser, output: argparse.ArgumentParser) -> None:
    """Adds the command and its own commands to the parser."""
    formatter = argparse.RawDescriptionHelpFormatter
    text = "show and get the files of pretrained weights"
    weights = commands.add_parser("weights", help=text, description=text, epilog=EXAMPLES, formatter_class=formatter)
    weights.set_defaults(command=lambda given: weights.print_help() or 0)
    parts = weights.add_subparsers(metavar="COMMAND", title="commands")
    for name, function, about in (
        ("list", _list, "which files are there, and where"),
        ("fetch", _fetch, "download what is missing"),
        ("verify", _verify, "compare the files that are there with the sums that are published or were recorded"),
    ):
        one = parts.add_parser(name, help=about, description=about, parents=[where, output], formatter_class=formatter)
        one.set_defaults(command=function)
        one.add_argument("what", metavar="BACKBONE|SWEEP", nargs="*", help="backbones, sweeps (default: all by name)")
        if name == "fetch":
            one.add_argument("--mirror", metavar="URL", help="look for the files here first; also a folder")


def _wanted(given: argparse.Namespace) -> "list[tuple[Variant, WeightFile]]":
    """The files of backbones, of the cells of sweeps, or of every backbone with a name of its own; each once."""
    from humansim import plan, submitted, sweep_file
    from humansim.backbones import backbone, weights
    from humansim.errors import BadInput
    from humansim.root import Root
    from humansim.spec import Variant, near

    variants: list[Variant] = []
    sweeps = {*sweep_file.packaged(), *submitted.names(Root.where(given.root))}
    for name in given.what:
        if name.endswith(".py") or name in sweeps:
            variants += plan.backbones(plan.cells(submitted.find(name, given.root).sweep))
        elif name.partition(":")[0] in (known := [entry.name for entry in backbone]):
            variants.append(backbone.normal(Variant(name)))
        else:
            raise BadInput(f"{name!r} is no backbone, and no sweep{near(name, [*known, *sweeps])}")
    if not given.what:
        variants = [Variant(entry.name) for entry in backbone if not entry.is_family]
    found = {file: variant for variant in variants for file in weights.files_of(variant)}
    return [(variant, file) for file, variant in found.items()]


def _list(given: argparse.Namespace) -> int:
    from humansim import show
    from humansim.backbones import weights
    from humansim.pasted import pasted

    rows = []
    for variant, file in _wanted(given):
        place = weights.find(file)
        rows.append({"backbone": str(variant), "file": file.name, "there": "no" if place is None else str(place)})
    missing = sum(row["there"] == "no" for row in rows)
    if given.json:
        show.json_document(rows)
        return 0
    show.console().print(show.plain(rows, "pretrained weights"))
    again = pasted("humansim", "weights", "fetch", *given.what)
    print(f"{missing} of {len(rows)} files are missing: {again}" if missing else "All files are there")
    return 0


def _fetch(given: argparse.Namespace) -> int:
    from humansim import show
    from humansim.backbones import weights
    from humansim.errors import BadInput

    places, wrong = [], []
    for _, file in _wanted(given):
        try:
            with show.transfer(file.name) as progress:
                places.append(str(weights.fetch(file, progress, mirror=given.mirror)))
        except BadInput as error:  # the others may be had
            wrong.append(str(error))
    if given.json:
        show.json_document({"files": places, "errors": wrong})
    else:
        print(f"{len(places)} files are there; new ones go to {weights.folder()}")
    if wrong:
        raise BadInput("; ".join(wrong))
    return 0


def _verify(given: argparse.Namespace) -> int:
    from humansim import show
    from humansim.backbones import weights
    from humansim.errors import BadInput

    places, wrong = [], []
    for _, file in _wanted(given):
        try:
            place = weights.verify(file)
            places += [str(place)] if place else []
        except BadInput as error:
            wrong.append(str(error))
    if given.json:
        show.json_document({"files": places, "errors": wrong})
    elif not wrong:
        print(f"{len(places)} files are as they should be")
    if wrong:
        raise BadInput("; ".join(wrong))
    return 0
