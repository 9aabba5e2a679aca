"""`humansim run | evaluate | embed`: one trial in this process."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from humansim.results import Result
    from humansim.root import Root
    from humansim.spec import Trial


def add(
    commands: Any, where: argparse.ArgumentParser, track: argparse.ArgumentParser, output: argparse.ArgumentParser
) -> None:
    """Adds the three commands to the parser."""

    def command(name: str, function: Any, text: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        formatter = argparse.RawDescriptionHelpFormatter
        first = text.partition("\n")[0]
        one: argparse.ArgumentParser = commands.add_parser(
            name, help=first, description=text, parents=parents, formatter_class=formatter
        )
        one.set_defaults(command=function)
        return one

    def of_backbone(one: argparse.ArgumentParser) -> None:
        one.add_argument("backbone", metavar="BACKBONE", help="see humansim list backbones")
        one.add_argument("settings", nargs="*", metavar="AXIS=VALUE", help="as in resolution=112 layer=blocks.3")
        one.add_argument("--source", required=True, help="a folder with judgements.csv or .parquet, or a source's name")

    one = command(
        "run",
        _run,
        "run one trial in this process",
        *(where, track, output),
    )
    one.add_argument("settings", nargs="*", metavar="AXIS=VALUE", help="fields of the trial and arguments of its parts")
    one = command(
        "evaluate",
        _evaluate,
        "score a backbone on human judgements, all of them, under three measures\n\n"
        "Beside it stand two floors: the pixels, and the backbone's twin with random weights.",
        *(where, track, output),
    )
    of_backbone(one)
    one.add_argument("--no-floors", action="store_true", help="the backbone alone: one pass, not two")
    one = command(
        "embed",
        _embed,
        "write a backbone's embeddings of a source's images as a table\n\n"
        "One row an image: its name, with --map its place x, y on a UMAP of all of them, and the embedding.",
        where,
    )
    of_backbone(one)
    one.add_argument("--out", metavar="FILE", required=True, help="a .parquet or .csv")
    one.add_argument("--map", action="store_true", help="two dimensions by UMAP (McInnes et al. 2018)")
    one.add_argument("--neighbors", type=int, default=15, metavar="N", help="of the map: its scale (%(default)s)")
    one.add_argument("--seed", type=int, default=0, metavar="N", help="of the map (%(default)s)")


def _run(given: argparse.Namespace) -> int:
    from humansim.root import Root
    from humansim.spec import Trial

    return _run_here(given, _trial(given, Trial()), Root.at(given.root, given.data), [])


def _evaluate(given: argparse.Namespace) -> int:
    from humansim import sources
    from humansim.root import Root
    from humansim.spec import Trial, Variant

    root, source = sources.named(Root.at(given.root, given.data), given.source)
    trial = _trial(given, Trial(source=source, protocol="all", backbone=Variant(given.backbone)))
    return _run_here(given, trial, root, [] if given.no_floors else _floors(trial))


def _floors(trial: "Trial") -> list["Trial"]:
    """What a model of any worth is above: the pixels, and its own twin with random weights."""
    from humansim.backbones import backbone
    from humansim.spec import Trial, Variant

    floors = [Trial(source=trial.source, protocol=trial.protocol, backbone=Variant("pixels"), threads=trial.threads)]
    if "weights" in backbone.entry(trial.backbone).arguments:
        floors.append(trial.having({"backbone.weights": "random"}))
    return [floor for floor in floors if floor != trial]


def _run_here(given: argparse.Namespace, trial: "Trial", root: "Root", floors: list["Trial"]) -> int:
    from humansim import show, tables
    from humansim.described import run_name
    from humansim.results import Failure, Result
    from humansim.spec import Sweep, Trial
    from humansim.submit import run_here
    from humansim.tracking import how_to_open, tracking_uri

    uri = tracking_uri(root, given.tracking)
    with show.Terminal(Trial()) as terminal:
        ended = run_here([trial, *floors], Sweep(name="single-trials", base=trial), root, terminal, uri)
    for outcome in ended:
        if isinstance(outcome, Failure):
            print(f"{outcome.traceback}\nhumansim: failed: {outcome.reason}", file=sys.stderr)
            return 1
    result, *beside = (outcome for outcome in ended if isinstance(outcome, Result))
    simulated = result.provenance["simulated_judges"]
    if given.json:
        document = {**result.model_dump(mode="json"), "id": trial.id, "simulated_judges": simulated, "tracking": uri}
        show.json_document({**document, "floors": [_floor(one) for one in beside]})
    else:
        name = run_name(trial, Trial(source=trial.source, protocol=trial.protocol))
        title = f"{name} on {trial.source}{', all judgements' if trial.protocol == 'all' else ''}"
        show.console().print(*show.scores(tables.of_result(result, beside), title, simulated))
    last = show.console(stderr=given.json)
    last.print(f"Results: {root.results / trial.id}   Runs: {how_to_open(uri)}", soft_wrap=True, markup=False)
    return 0


def _floor(result: "Result") -> dict[str, Any]:
    from humansim import tables

    scores = [score.model_dump(mode="json") for score in result.scores]
    return {"kind": tables.kind(result), "id": result.trial.id, "scores": scores}


def _embed(given: argparse.Namespace) -> int:
    from humansim import show, sources
    from humansim.errors import BadInput
    from humansim.root import Root, written_whole
    from humansim.spec import Trial, Variant

    out = Path(given.out)
    if out.suffix not in (".parquet", ".csv"):
        raise BadInput(f"--out {out}: a table is written as .parquet or .csv")
    if not out.absolute().parent.is_dir():
        raise BadInput(f"--out {out}: no folder {out.absolute().parent}; make it first")
    root, source = sources.named(Root.at(given.root, given.data), given.source)
    trial = _trial(given, Trial(source=source, protocol="all", backbone=Variant(given.backbone)))

    from humansim import maps, train

    with show.counting("embedding images") as progress:
        names, embedded = train.embed(trial, root, progress=progress)
    place = maps.umap(embedded, neighbors=given.neighbors, seed=given.seed) if given.map else None
    table = maps.as_table(names, embedded, place)
    with written_whole(out) as temporary:
        table.to_csv(temporary, index=False) if out.suffix == ".csv" else table.to_parquet(temporary, index=False)
    print(f"{len(names):,} images, {embedded.shape[1]:,} features: {out}")
    return 0


def _trial(given: argparse.Namespace, base: "Trial") -> "Trial":
    """The base with the settings of the command line, checked."""
    from humansim import plan
    from humansim.errors import BadInput

    settings = _settings(given.settings)
    trial = plan.checked(base.having(settings))
    for axis in settings:
        if "." in axis and getattr(trial, axis.partition(".")[0]) is None:
            raise BadInput(f"the trial has no {axis.partition('.')[0]}, so {axis} sets nothing")
    return trial


def _settings(given: Sequence[str]) -> dict[str, Any]:
    """AXIS=VALUE pairs; a value is read as JSON where it is JSON (1e-4, true, null), else as text."""
    import json

    from humansim.errors import BadInput

    settings: dict[str, Any] = {}
    for one in given:
        axis, equals, text = one.partition("=")
        if not equals or not axis:
            raise BadInput(f"{one!r} is not of the form AXIS=VALUE, as in lr=1e-4 or paradigm.margin=0.5")
        if axis in settings:
            raise BadInput(f"{axis} is given twice")
        try:
            settings[axis] = json.loads(text)
        except ValueError:
            settings[axis] = None if text.lower() == "none" else text
    return settings
