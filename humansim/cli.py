"""The command line. Only the standard library is imported until a command runs: `--help` answers at once."""

import argparse
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from humansim import (
    __version__,
    cli_compare,
    cli_completion,
    cli_data,
    cli_doctor,
    cli_export,
    cli_help,
    cli_plan,
    cli_report,
    cli_status,
    cli_trial,
    cli_weights,
)

if TYPE_CHECKING:
    from humansim.results import Kind

DESCRIPTION = """\
Which image model judges similarity as people do, and what makes it better at it?

A person sees a query and two other images and says which is more like the query; a model embeds the three and
answers by distance. humansim runs whole studies of that task: backbones x fine-tuning x data, with a search inside
each cell, on this machine or a Ray cluster, every trial in MLflow."""

EXAMPLES = """\
examples:
  humansim demo                                    a small real sweep, in about two minutes
  humansim evaluate efficientnet_lite0 --source my_judgements
  humansim plan demo                               what would run, and what is there already
  humansim sweep demo                              run it; again: run what is missing
  humansim retry demo                              run what failed again
  humansim report pretrained thesis                what they found, on one page
  humansim score distances.csv                     another metric's distances, honest numbers"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0 well, 1 some trials failed, 2 bad input, 130 interrupted."""
    parser = _parser()
    given, rest = parser.parse_known_args(arguments)
    # argparse takes AXIS=VALUE only before the options; people write them anywhere.
    if rest and (not hasattr(given, "settings") or any(one.startswith("-") for one in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        given.settings += rest
    if not hasattr(given, "command"):
        parser.print_help()
        return 0
    from humansim import own
    from humansim.errors import BadInput

    own.ask(given.imports, getattr(given, "root", None))
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")  # what libraries say to their developers
    try:
        return int(given.command(given))
    except BadInput as error:
        print(f"humansim: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("humansim: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:  # a disk that is full, a folder that may not be read: nothing of ours is wrong
        where = f"{error.filename}: " if error.filename else ""
        print(f"humansim: error: {where}{error.strerror or error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("humansim", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=formatter)
    parser.set_defaults(imports=[])
    parser.add_argument("--version", action="version", version=f"humansim {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")

    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--root", metavar="DIR", help="all that is written lies here (HUMANSIM_ROOT, ./humansim-runs)")
    where.add_argument(
        "--data", metavar="DIR", help="folders of judgements by name (HUMANSIM_DATA, as submitted, ROOT/data)"
    )
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--json", action="store_true", help="one JSON document on standard output, nothing else there")
    track = argparse.ArgumentParser(add_help=False)
    track.add_argument("--tracking", metavar="URI", help="MLflow tracking URI (MLFLOW_TRACKING_URI, SQLite in ROOT)")
    ray = argparse.ArgumentParser(add_help=False)
    ray.add_argument("--address", help="of a Ray cluster (RAY_ADDRESS; else Ray starts on this machine)")
    ray.add_argument("--serial", action="store_true", help="one trial after another in this process, without Ray")
    ray.add_argument(
        "--patience", type=float, metavar="S", help="seconds without a sign of life after which a trial has hung (3600)"
    )
    ray.add_argument("--keep", type=int, metavar="N", help="weights of the N best trials of each cell (all)")
    ray.add_argument("--keep-bytes", metavar="SIZE", help="weights of no more than this in all, as in 50GB")
    some = argparse.ArgumentParser(add_help=False)
    some.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="AXIS=PATTERN",
        help="these cells, as in backbone='clip*'; again: or",
    )

    def command(name: str, function: Any, text: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        one = commands.add_parser(
            name, help=text.partition("\n")[0], description=text, parents=parents, formatter_class=formatter
        )
        one.set_defaults(command=function)
        return one

    command("demo", _demo, "run a small real sweep with simulated judges, end to end", where, track, ray, output)
    a_sweep = "a file with SWEEP = Sweep(...), or the name of one that comes along or was submitted"
    cli_plan.add(commands, where, some, output, a_sweep)
    one = command(
        "sweep",
        _sweep,
        "run what is missing of a sweep\n\n"
        "Submitted again after Ctrl-C, a crash or a change, it goes on: nothing finished runs twice.",
        where,
        some,
        track,
        ray,
        output,
    )
    one.add_argument("sweep", metavar="SWEEP", help=a_sweep)
    one = command(
        "retry",
        _retry,
        "run a sweep's failed trials again, and what is missing of it",
        where,
        some,
        track,
        ray,
        output,
    )
    one.add_argument("sweep", metavar="SWEEP", help="a submitted sweep, or its file")
    one.add_argument(
        "--kind",
        action="append",
        choices=("error", "diverged", "oom", "hung", "lost"),
        help="those that failed in this way (default: all)",
    )
    cli_status.add(commands, where, output)
    cli_report.add(commands, where, track)
    one = command("list", _list, "list what is registered, and the sweeps that come along", output)
    kinds = ("backbones", "paradigms", "tunings", "sources", "optimizers", "measures", "sweeps")
    one.add_argument("kind", nargs="?", choices=kinds)
    cli_data.add(commands, where, output)
    cli_weights.add(commands, where, output)
    cli_trial.add(commands, where, track, output)
    cli_export.add(commands, where, track, output)
    one = command(
        "score",
        _score,
        "score a table of another metric's distances\n\n"
        "FILE has the columns to_left, to_right (distances from the query), choice (share of people who chose\n"
        "right, 0 to 1) and optionally judges (how many people).",
        output,
    )
    one.add_argument("file", metavar="FILE", help="CSV, CSV.gz or parquet")
    one.add_argument("--judges", type=int, metavar="N", help="people who judged each triplet, if no column says so")
    one.add_argument("--cluster", metavar="COLUMN", help="rows equal in this column are not independent (query, trial)")
    cli_compare.add(commands, where, track, output)
    cli_doctor.add(commands, where, track, output)
    cli_completion.add(commands, parser)
    cli_help.teach(parser)
    return parser


def _demo(given: argparse.Namespace) -> int:
    given.sweep = "demo"
    return _sweep(given)


def _retry(given: argparse.Namespace) -> int:
    from humansim.results import KINDS

    return _sweep(given, given.kind or KINDS)


def _bytes(text: str | None) -> int | None:
    from humansim.errors import BadInput
    from humansim.retention import in_bytes

    try:
        return None if text is None else in_bytes(text)
    except ValueError:
        raise BadInput(f"--keep-bytes {text}: give a size, as in 50GB") from None


def _sweep(given: argparse.Namespace, retry: "Collection[Kind]" = ()) -> int:
    from rich.markup import escape

    from humansim import plan, show, submitted, tables
    from humansim.errors import BadInput
    from humansim.pasted import pasted, to_follow
    from humansim.submit import submit
    from humansim.tracking import how_to_open, tracking_uri

    if given.keep is not None and given.keep < 0:
        raise BadInput(f"--keep {given.keep}: how many trials of each cell keep their weights; 0 or more")
    meant = submitted.find(given.sweep, given.root, given.data, as_submitted=bool(retry))
    sweep, root, only = meant.sweep, meant.root, plan.patterns(getattr(given, "only", []))
    err, again = show.console(stderr=True), escape(pasted("humansim", *sys.argv[1:]))
    err.print(f"[bold]{sweep.name}[/bold]  {escape(sweep.question)}", soft_wrap=True)
    for note in meant.notes:
        err.print(note, soft_wrap=True, markup=False)
    with show.Terminal(plan.base_of(sweep), list(sweep.search)) as terminal:
        report = submit(
            sweep,
            root,
            terminal,
            address=given.address,
            tracking=given.tracking,
            serial=given.serial,
            retry=retry,
            only=only,
            patience=given.patience,
            keep=given.keep,
            keep_bytes=_bytes(given.keep_bytes),
        )
    uri = tracking_uri(root, given.tracking)
    rows = tables.of_sweep(report.best)
    simulated = tables.simulated(result for _, result in report.best if result is not None)
    counts = plan.plan(sweep, root).counts()
    if given.json:
        show.json_document(
            {
                "sweep": sweep.name,
                "states": counts,
                "simulated_judges": simulated,
                "table": rows,
                "failures": [failure.model_dump(mode="json") for failure in report.failures],
                "results": str(root.results),
                "tracking": uri,
            }
        )
    elif rows:
        show.console().print(*show.scores(rows, f"{sweep.name}: held-out triplets, cosine", simulated))
        if any(row["kind"] in ("fine-tuned", "contaminated") for row in rows):
            report_it = escape(to_follow(given, "report", sweep.name))
            err.print(f"What fine-tuning gained, with intervals: {report_it}", soft_wrap=True)
    for failure in report.failures:
        err.print(f"[red]failed[/red] {failure.trial.id} ({failure.kind}): {escape(failure.reason)}", soft_wrap=True)
    if report.failures:
        why, retry_it = (escape(to_follow(given, command, sweep.name)) for command in ("status", "retry"))
        err.print(f"{len(report.failures)} failed. Why: {why}. Again: {retry_it}", soft_wrap=True)
    if report.hopeless is not None:
        err.print(f"Stopped: the first trials all failed alike, so no others were started: {escape(report.hopeless)}")
    if report.untracked is not None:
        why = escape(report.untracked)
        err.print(f"MLflow did not take everything ({why}); nothing is lost: {again} makes up for it", soft_wrap=True)
    if report.interrupted:
        so_far = f"finished: {tables.counted(counts['finished'], 'trial')}, missing: {report.missing}"
        err.print(f"Stopped: {so_far}. To go on: {again}", soft_wrap=True)
    last = show.console(stderr=given.json)
    last.print(f"Results: {root.results}   Runs: {how_to_open(uri)}", soft_wrap=True, markup=False)
    if report.interrupted:
        return 130
    return 1 if report.failures or report.untracked is not None else 0


def _list(given: argparse.Namespace) -> int:
    from humansim import plan, show, sweep_file

    kinds: dict[str, list[dict[str, str]]] = {}
    for kind, registry in plan.REGISTRIES.items():
        kinds[f"{kind}s"] = [
            {
                "name": entry.name + (":<name>" if entry.is_family else ""),
                "arguments": ", ".join(str(p).replace("'", "") for p in entry.arguments.values()),
                "what": entry.summary,
            }
            for entry in registry
        ]
    kinds["measures"] = [
        {"name": "cosine", "what": "1 - cosine similarity"},
        {"name": "l2", "what": "Euclidean distance"},
        {"name": "l1", "what": "Manhattan distance"},
    ]
    kinds["sweeps"] = [
        {"name": name, "what": sweep_file.read_sweep(file).question} for name, file in sweep_file.packaged().items()
    ]
    if given.kind:
        kinds = {given.kind: kinds[given.kind]}
    if given.json:
        show.json_document(kinds)
    else:
        for kind, rows in kinds.items():
            show.console().print(show.plain(rows, kind))
    return 0


def _score(given: argparse.Namespace) -> int:
    from pathlib import Path

    import numpy as np

    from humansim import scores, show
    from humansim.errors import BadInput
    from humansim.sources.table import check_votes, counts, numbers, read_frame

    if given.judges is not None and given.judges < 1:
        raise BadInput(f"--judges {given.judges}: a triplet was judged by 1 or more people")
    file = Path(given.file)
    extra = (given.cluster,) if given.cluster else ()
    frame, unit = read_frame(file, ("to_left", "to_right", "choice", *extra), ("judges",))

    def at(row: Any) -> str:
        return f"{file}, {unit} {frame.index[row]}"

    left, right, choice = (numbers(frame, column, at) for column in ("to_left", "to_right", "choice"))
    for row in np.flatnonzero(~((choice >= 0) & (choice <= 1))):
        raise BadInput(f"{at(row)}: choice: {frame['choice'].iloc[row]!r} is not a share between 0 and 1")
    judges = counts(frame, "judges", at) if "judges" in frame else given.judges
    check_votes(choice, judges, at)
    cluster = frame[given.cluster].astype(str).to_numpy(dtype=object) if given.cluster else None
    found = {**scores.summary(left, right, choice, cluster), **vars(scores.ceilings(choice, judges))}
    found = {name: None if value != value else value for name, value in found.items()}
    found["ties"] = int((left == right).sum())
    if given.json:
        show.json_document({"file": str(file), **found})
        return 0

    def percent(name: str) -> str:
        return "unknown" if found[name] is None else f"{100 * found[name]:.4f}"

    by = f", clusters by {given.cluster}" if given.cluster else ""
    interval = f"{percent('low')} to {percent('high')}"
    if found["low"] is None or found["low"] == found["high"]:  # resamples of what does not differ do not either
        interval = "unknown: all earn the same" if found["n"] > 1 else "unknown: too few triplets"
    unknown = "" if judges is not None else " (how many judges? give --judges N)"
    rows = [
        ("2AFC score, soft credit", percent("score")),
        (f"  95 % interval, bootstrap{by}", interval),
        ("accuracy against the majority", percent("accuracy")),
        ("chance", "50.0000"),
        ("people: a fresh judge, unbiased", percent("fresh_judge") + unknown),
        ("people: plug-in, p^2 + (1-p)^2", percent("plug_in")),
        ("best attainable, max(p, 1-p)", percent("best")),
        ("triplets", f"{found['n']:,} ({found['ties']} with equal distances, each earning one half)"),
    ]
    show.console().print(show.plain([{"what": name, "per cent": value} for name, value in rows], str(file)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
