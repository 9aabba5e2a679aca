"""`humansim status | studies`: how submitted sweeps stand, here or in optuna-dashboard."""

import argparse
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from humansim.status import Status


def add(commands: Any, where: argparse.ArgumentParser, output: argparse.ArgumentParser) -> None:
    """Adds the two commands to the parser."""
    one = commands.add_parser(
        "status",
        help="show what is finished, running, failed and missing",
        description="Show what is finished, running, failed and missing, and what a submit is doing, from the files\n"
        "under the root: it needs neither Ray nor MLflow, and works wherever the root is seen.",
        parents=[where, output],
    )
    one.set_defaults(command=_status)
    one.add_argument("sweep", metavar="SWEEP", nargs="?", help="a submitted sweep, or its file (default: all of them)")
    one.add_argument(
        "--watch", nargs="?", type=float, const=5.0, metavar="S", help="again every S seconds (5), until Ctrl-C"
    )
    one = commands.add_parser(
        "studies",
        help="write a sweep's searches for optuna-dashboard",
        description="Write a sweep's searches as Optuna studies, one a cell, each sample as it stands, for\n"
        "optuna-dashboard; from the files under the root, also while the sweep runs.",
        parents=[where],
    )
    one.set_defaults(command=_studies)
    one.add_argument("sweep", metavar="SWEEP", help="a submitted sweep, or its file")
    one.add_argument("--out", metavar="FILE", help="an SQLite database (sweeps/SWEEP/studies.db under the root)")


def _status(given: argparse.Namespace) -> int:
    from humansim import show, submitted
    from humansim.errors import BadInput
    from humansim.root import Root
    from humansim.status import Reader

    root = Root.at(given.root, given.data)
    if given.watch is not None and (given.json or given.watch <= 0):
        raise BadInput("--watch is for people: seconds above 0, and no --json")
    chosen = [submitted.the(given.sweep, root)] if given.sweep else list(submitted.remembered(root))
    reader = Reader(root)
    if given.watch is not None:
        show.again_and_again(lambda: _shown([reader.read(one) for one in chosen], given), given.watch)
        return 0
    found = [reader.read(sweep) for sweep in chosen]
    if given.json:
        show.json_document([_document(one) for one in found])
        return 0
    for part in _shown(found, given):
        show.console().print(part)
    if given.sweep:
        for failure in found[0].failures:
            print(f"\nfailed {failure.trial.id} ({failure.kind}): {failure.reason}\n{failure.traceback.rstrip()}")
    none = f"No sweep was submitted under {root.path} yet; humansim demo runs one"
    print(f"Results: {root.results}" if found else none)
    return 0


def _studies(given: argparse.Namespace) -> int:
    import shlex
    from pathlib import Path

    from humansim import studies, submitted
    from humansim.errors import BadInput

    meant = submitted.find(given.sweep, given.root, given.data, as_submitted=True)
    sweep, root = meant.sweep, meant.root
    file = Path(given.out).absolute() if given.out else root.sweeps / sweep.name / "studies.db"
    if given.out and not file.parent.is_dir():
        raise BadInput(f"--out {given.out}: no folder {file.parent}; make it first")
    count = studies.write(sweep, root, file)
    print(f"{count} studies: {file}   Open: uvx optuna-dashboard {shlex.quote(f'sqlite:///{file}')}")
    return 0


def _shown(found: list["Status"], given: argparse.Namespace) -> list[Any]:
    from humansim import plan, show
    from humansim.pasted import to_follow

    if not given.sweep:
        rows = [(one.sweep.name, one.states, one.stage.what if one.stage is not None else "") for one in found]
        return [show.states(rows, "sweeps", "sweep", "now")] if rows else []
    status = found[0]
    rows = [
        (f"{group.backbone} {group.paradigm}".strip(), group.states, show.score(group.best, group.tied))
        for group in status.groups
    ]
    rows.append(("all", status.states, ""))
    parts: list[Any] = [show.states(rows, status.sweep.title, "backbone and paradigm", "best on validation")]
    if status.running:
        parts.append(show.running(status.running, plan.base_of(status.sweep), list(status.sweep.search)))
    kinds = Counter(failure.kind for failure in status.failures)
    now = show.stage(status, to_follow(given, "sweep", status.sweep.name))
    lines = [now] if now else []
    if gpus := sum(one.gpu or 0 for one in status.running):
        lines.append(f"{gpus:g} GPUs in use")
    if kinds:
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        lines.append(f"failed: {counts}. Again: {to_follow(given, 'retry', status.sweep.name)}")
    if status.left is not None:
        lines.append(f"about {show.duration(status.left)} left, as many trials at once as now")
    return [*parts, *lines]


def _document(status: "Status") -> dict[str, Any]:
    return {
        "sweep": status.sweep.name,
        "states": status.states,
        "seconds_left": status.left,
        "stage": None if status.stage is None else status.stage.model_dump(),
        "groups": [
            {
                "backbone": group.backbone,
                "paradigm": group.paradigm,
                "states": group.states,
                "best": None if group.best is None else group.best.trial.id,
                "tied_on_validation": group.tied,
            }
            for group in status.groups
        ],
        "running": [
            {
                "id": one.trial.id,
                "epoch": one.epoch,
                "epochs": one.trial.epochs,
                "validation": one.validation,
                "images_per_second": one.images_per_second,
                "seconds_since_epoch": one.age,
                "node": one.node,
                "gpu": one.gpu,
            }
            for one in status.running
        ],
        "failures": [failure.model_dump(mode="json") for failure in status.failures],
    }
