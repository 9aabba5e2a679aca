"""`humansim export`: a finished trial as a folder, in the MLflow Model Registry, as a program or ONNX."""

import argparse
from typing import Any


def add(
    commands: Any, where: argparse.ArgumentParser, track: argparse.ArgumentParser, output: argparse.ArgumentParser
) -> None:
    """Adds the command to the parser."""
    one = commands.add_parser(
        "export",
        help="give a finished trial away as a perceptual metric",
        description="give a finished trial away as a perceptual metric\n\n"
        "WHAT is the id of a trial, a submitted sweep (its best by validation), runs:/ID, models:/NAME/VERSION or a\n"
        "folder that was exported. humansim.load reads what is written.",
        parents=[where, track, output],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.set_defaults(command=_export)
    one.add_argument("what", metavar="WHAT", help="what humansim.load takes")
    one.add_argument("--to", metavar="FOLDER", help="write model.safetensors, config.json and a model card there")
    one.add_argument("--program", action="store_true", help="and the embedding as embed.pt2, which torch runs alone")
    one.add_argument("--onnx", action="store_true", help="and as embed.onnx, checked; needs humansim[onnx]")
    one.add_argument("--register", metavar="NAME", help="as a new version in the MLflow Model Registry")


def _export(given: argparse.Namespace) -> int:
    from pathlib import Path

    from humansim import own, show, tables
    from humansim.described import run_name
    from humansim.errors import BadInput
    from humansim.spec import Trial

    if given.to is None and given.register is None:
        raise BadInput("nothing is asked for: --to FOLDER, --register NAME, or both")
    if (given.program or given.onnx) and given.to is None:
        raise BadInput("--program, --onnx: they are written into a folder; name it with --to")
    from humansim import export
    from humansim.loading import load

    if given.to is not None and Path(given.to).exists():
        raise BadInput(f"--to {given.to}: it is there already; name another, or delete it")
    metric = load(given.what, root=given.root, device="cpu", tracking=given.tracking)
    done: dict[str, Any] = {"trial": metric.facts.result.trial.id, "simulated_judges": metric.facts.simulated}
    result = metric.facts.result
    others = export.beside(result, metric.facts.sweeps, given.root)
    done["above_it"] = [
        {"kind": tables.kind(one), "backbone": str(one.trial.backbone), "score": one.mean("test")}
        for one in others
        if one.mean("test") >= result.mean("test")
    ]
    if given.to is not None:
        export.write_folder(metric, Path(given.to), others)
        done["folder"] = given.to
    if given.program:
        done["program"] = str(Path(given.to) / export.PROGRAM)
        done["program_differs"] = export.write_program(metric, Path(done["program"]))
    if given.onnx:
        done["onnx"] = str(Path(given.to) / export.ONNX)
        done["onnx_differs"] = export.write_onnx(metric, Path(done["onnx"]))
    if given.register is not None:
        done["model"] = export.register(metric, given.register, root=given.root, tracking=given.tracking)
    if given.json:
        show.json_document(done)
        return 0
    outside = [part for part in own.origins(result.trial) if part.startswith("backbone")]
    kind, name = tables.kind(result), run_name(result.trial, Trial(source=result.trial.source))
    for line in (
        f"Metric: {name} ({kind}), trial {result.trial.id}",
        "It is a floor, to hold models against; name a trial to export a model."
        if kind in ("floor", "untrained")
        else "",
        *(
            f"On test it scores {100 * result.mean('test'):.2f} %, no more than {one['backbone']} ({one['kind']}), "
            f"{100 * one['score']:.2f} %."
            for one in done["above_it"]
        ),
        f"Folder: {done['folder']}" if "folder" in done else "",
        f"Program: {done['program']}, largest difference {done['program_differs']:.1e}" if "program" in done else "",
        f"ONNX: {done['onnx']}, largest difference {done['onnx_differs']:.1e}" if "onnx" in done else "",
        f"Model: {done['model']}" if "model" in done else "",
        f"Its {' and '.join(outside)} is code of your own: whoever loads the folder needs it too (HUMANSIM_IMPORT)"
        if outside and "folder" in done
        else "",
        "The judges were simulated." if metric.facts.simulated else "",
    ):
        if line:
            print(line)
    return 0
