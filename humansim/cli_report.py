"""`humansim report`: what sweeps have found, on one page."""

import argparse
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from analysis.answers import Answers
    from analysis.figures import Embedded
    from analysis.report import Section
    from analysis.report.made import Store, Swept
    from humansim.results import Result
    from humansim.root import Root
    from humansim.spec import Sweep, Variant

MAPPED = ("clip_vit_b_16", "dino_vit_b_16", "clip_resnet50", "dino_resnet50")  # of the thesis's Figure 5.2


def add(commands: Any, where: argparse.ArgumentParser, track: argparse.ArgumentParser) -> None:
    """Adds the command to the parser."""
    one = commands.add_parser(
        "report",
        help="write what sweeps have found as one page, with the study's verdicts",
        description="Write what sweeps have found as one page that needs no network, as Markdown, and as tables for\n"
        "LaTeX and in CSV: data, leakage, results beside floors and ceilings, the verdicts of the nine hypotheses,\n"
        "figures, how it was made, what is missing. Also of sweeps that have not finished: it says so.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[where, track],
    )
    one.set_defaults(command=_report)
    one.add_argument(
        "sweeps", metavar="SWEEP", nargs="+", help="a submitted sweep, or its file; all go into one report"
    )
    one.add_argument(
        "--merge",
        action="append",
        default=[],
        metavar="ROOT|URI",
        help="another root or tracking store with runs of these sweeps, as of another lab; again: one more",
    )
    one.add_argument(
        "--mlflow",
        metavar="URL",
        help="where MLflow's pages are, for links to runs (the tracking server; else where `mlflow ui` opens them)",
    )
    one.add_argument("--out", metavar="DIR", help="a folder, made or a former report's (ROOT/reports/SWEEP+SWEEP...)")


def _report(given: argparse.Namespace) -> int:
    from humansim import show, submitted
    from humansim.errors import BadInput
    from humansim.pasted import pasted
    from humansim.root import Root, replaced_whole
    from humansim.tracking import tracking_uri

    if given.mlflow and not given.mlflow.startswith(("http://", "https://")):
        raise BadInput(f"--mlflow {given.mlflow}: give the address of MLflow's pages, as http://127.0.0.1:5001")
    root = Root.at(given.root, given.data)
    roots = [root, *(Root.at(one) for one in given.merge if Path(one).is_dir())]
    uris = [tracking_uri(root, given.tracking)]
    for one in given.merge:
        if "://" not in one and not Path(one).is_dir():
            raise BadInput(f"--merge {one}: no such folder, and no tracking URI")
        uris.append(one if "://" in one else Root.at(one).tracking_uri)
    names = list(dict.fromkeys(_name(one) for one in given.sweeps))
    with_data = {submitted.where_it_was(root, name, given.data) for name in names}
    root = with_data.pop() if len(with_data) == 1 else root
    out = Path(given.out).absolute() if given.out else root.path / "reports" / "+".join(names)
    err = show.console(stderr=True)

    def tell(what: str) -> None:
        err.print(f"[dim]{what} ...[/dim]")

    tell("reading MLflow")
    stores = _stores(names, uris, given.mlflow)

    from analysis import answers, hypotheses, report
    from humansim.sources.study import SETS
    from humansim.tables import counted

    _check_replaceable(out, report.FILES)
    trials, answered = answers.read(*((uri, name) for name in names for uri in stores[name]))
    tell(f"judging by {counted(len(trials), 'trial')}")
    judged = hypotheses.verdicts(trials, answered)
    maps, left_out = birds(root, trials) if set(answered.sets) & set(SETS) else (None, [])
    tell("choosing triplets for the gallery")
    more, not_shown = gallery(root, trials, answered, stores)
    files = {_name(one): str(Path(one).absolute()) for one in given.sweeps if one.endswith(".py")}
    options = _options(given, root)
    again = ["report", *(files.get(name, name) for name in names), *options, *_of_report(given)]
    sweeps = [
        _swept(name, roots, stores[name], trials, lambda it: pasted("humansim", "sweep", files.get(it, it), *options))
        for name in names
    ]
    with replaced_whole(out) as folder:
        report.write(
            trials,
            answered,
            judged,
            folder,
            sweeps=sweeps,
            command=pasted("humansim", *again),
            maps=maps,
            left_out=[*left_out, *not_shown],
            more=more,
            tell=tell,
        )
    for one in sweeps:
        if one.planned is not None and one.finished < one.planned:
            err.print(f"{one.name} is partial: {one.finished:,} of {one.planned:,} trials have finished", markup=False)
    if trials["simulated"].any():
        err.print("The judges were simulated; the report says so throughout")
    print(f"Report: {out / report.PAGE}")
    return 0


def _options(given: argparse.Namespace, root: "Root") -> list[str]:
    """What was said of where things are, by options or by the environment; paths are absolute."""
    import os

    data = given.data or os.environ.get("HUMANSIM_DATA")
    tracking = given.tracking or os.environ.get("MLFLOW_TRACKING_URI")
    imports = [*given.imports, *filter(None, os.environ.get("HUMANSIM_IMPORT", "").split(os.pathsep))]
    return [
        *("--root", str(root.path)),
        *(("--data", str(Path(data).absolute())) if data else ()),
        *(("--tracking", tracking) if tracking else ()),
        *(part for one in imports for part in ("--import", str(Path(one).absolute()) if one.endswith(".py") else one)),
    ]


def _of_report(given: argparse.Namespace) -> list[str]:
    """The options that only this command has."""
    merged = [one if "://" in one else str(Path(one).absolute()) for one in given.merge]
    return [
        *(part for one in merged for part in ("--merge", one)),
        *(("--mlflow", given.mlflow) if given.mlflow else ()),
        *(("--out", str(Path(given.out).absolute())) if given.out else ()),
    ]


def _name(given: str) -> str:
    """The name of a sweep that is given by its name or its file."""
    from humansim import sweep_file

    return sweep_file.load_sweep(given).name if given.endswith(".py") else given


def _stores(names: list[str], uris: list[str], shown: str | None = None) -> "dict[str, dict[str, Store]]":
    """Sweep -> tracking URI -> what is in that store of it; each sweep has to be in one of them.

    Args:
        shown: address of MLflow's pages for stores that are no server.
    """
    from analysis.report.made import Store
    from humansim import tracked
    from humansim.errors import BadInput
    from humansim.tracking import how_to_open

    found: dict[str, dict[str, Store]] = {name: {} for name in names}
    refused: dict[str, BadInput] = {}
    for name in names:
        for uri in dict.fromkeys(uris):
            try:
                page, runs = tracked.pages(uri, name, shown)
            except BadInput as error:
                refused.setdefault(name, error)
            else:
                always = shown is not None or uri.startswith(("http://", "https://"))
                found[name][uri] = Store(uri, "" if always else how_to_open(uri), page, runs)
        if not found[name]:
            raise refused[name]
    return found


def _check_replaceable(out: Path, files: tuple[str, ...]) -> None:
    """Refuses to put a report in the place of anything but a report."""
    from humansim.errors import BadInput

    if not out.exists():
        return
    others = [one.name for one in out.iterdir() if one.name not in files] if out.is_dir() else [out.name]
    if others:
        raise BadInput(f"--out {out}: {others[0]} is no part of a report, which would replace it; give another folder")


def _swept(
    name: str,
    roots: "list[Root]",
    stores: "dict[str, Store]",
    trials: "pd.DataFrame",
    command: "Callable[[str], str]",
) -> "Swept":
    """How far a sweep has come, from its definition and the trials that were read.

    Args:
        command: that runs the sweep of a name or a file.
    """
    from analysis.report.made import Swept
    from humansim import submitted, sweep_file
    from humansim.errors import BadInput
    from humansim.spec import digest

    known = {sweep.name: sweep for root in roots for sweep in submitted.remembered(root)}
    sweep = known.get(name)
    if sweep is None:
        try:
            sweep = sweep_file.load_sweep(name)
        except BadInput:  # it came from elsewhere
            own = {trial for store in stores.values() for trial in store.runs}
            return Swept(name, "", "", command(name), None, len(own), (), tuple(stores.values()))
    finished, lacking = _progress(sweep, roots, set(trials.index))
    comes_along, submitted_here = name in sweep_file.packaged(), name in known
    return Swept(
        name=name,
        question=sweep.question,
        digest=digest(sweep.model_dump(mode="json")),
        command=command(name if comes_along or submitted_here else f"path/to/{name}.py"),
        planned=finished + sum(lacking.values()),
        finished=finished,
        lacking=tuple(lacking.items()),
        stores=tuple(stores.values()),
        searched=tuple(sweep.search),
    )


def _progress(sweep: "Sweep", roots: "list[Root]", read: set[str]) -> "tuple[int, Counter[str]]":
    """Finished trials of a sweep, and what is missing: "resnet50 triplet, failed" -> trials.

    A cell that several labs have searched counts where most of it is there.
    """
    from humansim import plan
    from humansim.results import State

    plans = [plan.plan(sweep, root) for root in roots]
    finished: set[str] = set()
    lacking: Counter[str] = Counter()
    for cell in plans[0].cells:
        best = max(plans, key=lambda one: sum(trial.id in read for trial, _ in one.trials[cell.key]))
        what = f"{cell.trial.backbone} {cell.trial.paradigm or 'pretrained'}"
        for trial, state in best.trials[cell.key]:
            if trial.id in read:
                finished.add(trial.id)
            elif state is not State.PRUNED:  # that is an end, too
                lacking[f"{what}, {'not in MLflow yet' if state is State.FINISHED else state}"] += 1
        if left := best.left(cell):
            lacking[f"{what}, {State.TO_RUN}"] += left
    return len(finished), lacking


def birds(root: "Root", trials: "pd.DataFrame") -> "tuple[dict[str, Embedded] | None, list[str]]":
    """The Birds-16 photographs by the backbones of MAPPED, where photographs and weights are at hand; what is not."""
    from humansim.backbones.weights import files_of, find
    from humansim.errors import BadInput
    from humansim.spec import Variant

    wanted = [name for name in MAPPED if name in set(trials["backbone"])]
    left_out = "The map of the birds (the thesis's Figure 5.2) is left out: "
    if not wanted:
        return None, [f"{left_out}none of {', '.join(MAPPED)} is among the trials."]
    if not (root.data / "birds16").is_dir():
        return None, [f"{left_out}the photographs are not in {root.data} (humansim data fetch birds16)."]
    there = [name for name in wanted if all(find(file) is not None for file in files_of(Variant(name)))]
    if not there:
        return None, [f"{left_out}the weights of {', '.join(wanted)} are not on this machine (humansim weights fetch)."]
    try:
        found = {name: embedded_birds(root, Variant(name)) for name in there}
    except BadInput as error:
        return None, [f"{left_out}{error}"]
    missing = [name for name in wanted if name not in there]
    return found, [f"The map of the birds lacks {', '.join(missing)}: their weights are not here."] if missing else []


def embedded_birds(root: "Root", backbone: "Variant") -> "Embedded":
    """Embeddings of the photographs, kept as all are, and the family of each bird."""
    from analysis.figures.birds import family
    from humansim import plan, show, train
    from humansim.spec import Trial, Variant

    trial = plan.checked(Trial(source=Variant("birds16", size="all"), protocol="all", backbone=backbone))
    with show.counting(f"embedding the birds by {backbone}") as progress:
        images, embedded = train.embed(trial, root, progress=progress)
    return embedded, [family(image) for image in images]


def gallery(
    root: "Root", trials: "pd.DataFrame", answers: "Answers", stores: "Mapping[str, Mapping[str, Store]]"
) -> "tuple[list[Section], list[str]]":
    """The triplets on which the best model and people disagree, and those on which fine-tuning changed the answer;
    what is left out, as their images are not at hand."""
    from functools import partial

    from analysis.gallery import best, first, judged, pair
    from analysis.numerals import percent
    from analysis.report import gallery as walls
    from analysis.report.tables import labels
    from humansim.errors import BadInput

    top, change = best(trials, answers), pair(trials, answers)
    both = [] if change is None else [first(trials, cell) for cell in (change[0].before, change[0].cell)]
    if top is None:
        why = "there is no model but floors, and what was fitted on what it is evaluated on."
        return [], [f"The gallery is left out: {why}"]
    model, which = top
    logged, named, scored = _logged(stores, {model, *both}), labels(trials), answers.scores()

    def told(trial: str, which: str = "") -> str:
        row = trials.loc[trial]
        own = scored[(scored["cell"] == row["cell"]) & (scored["measure"] == row["measure"])]
        return f"{named[str(row['cell'])]} ({f'{which}; ' if which else ''}{percent(own['score'].mean())} % on test)"

    def asked(trial: str) -> "tuple[pd.DataFrame, str]":
        return logged[trial][1], trials["measure"][trial]

    def files(trial: str) -> "Callable[[pd.DataFrame], dict[str, Path]]":
        return partial(_files, root, logged[trial][0].trial.source)

    simulated = bool(trials["simulated"][model])
    try:
        shown = [walls.of_best(judged(model=asked(model)), told(model, which), files(model), simulated)]
        if change is not None:
            came, tuned = both
            changed = judged(came=asked(came), tuned=asked(tuned))
            simulated = bool(trials["simulated"][tuned])
            shown += walls.of_change(changed, told(came), told(tuned, change[1]), files(tuned), simulated, shown)
        return [walls.section(shown, "" if change is not None else _unchanged(trials))], []
    except BadInput as error:
        return [], [f"The gallery is left out: {error}"]


def _unchanged(trials: "pd.DataFrame") -> str:
    """Why the gallery does not show what fine-tuning changed."""
    tuned = trials[trials["paradigm"].notna()] if "paradigm" in trials else trials[:0]
    if tuned.empty:
        return "Nothing was fine-tuned, so there is nothing to show of what fine-tuning changed."
    if tuned["contaminated"].all():
        return "What fine-tuning changed is not shown: all was fitted on what it is tested on."
    return "What fine-tuning changed is not shown: no backbone was evaluated as it came beside what became of it."


def _logged(stores: "Mapping[str, Mapping[str, Store]]", wanted: set[str]) -> "dict[str, tuple[Result, pd.DataFrame]]":
    """Some trials with their distances, of which the analysis has kept but the signs, as they were logged."""
    from humansim import tracked

    found: dict[str, tuple[Result, pd.DataFrame]] = {}
    for name, of_sweep in stores.items():
        for uri, store in of_sweep.items():
            runs = [store.runs[trial] for trial in wanted - set(found) if trial in store.runs]
            if runs:
                found |= {result.trial.id: (result, frame) for result, frame in tracked.read(uri, name, runs)}
    return found


def _files(root: "Root", source: "Variant", shown: "pd.DataFrame") -> dict[str, Path]:
    """Image name -> file of the images of some triplets of a source.

    Raises:
        BadInput: the source is not here, or its triplets are others.
    """
    from humansim import sources
    from humansim.errors import BadInput

    judgements = sources.read(source, root)
    rows = shown["triplet"].to_numpy()
    there = rows[rows < len(judgements.triplets)]
    images = judgements.triplets.images[there].ravel()
    names = [judgements.images[image] for image in images]
    if names != shown[["query", "left", "right"]].to_numpy().ravel().tolist():
        raise BadInput(f"source {source} has other triplets here than those that were judged")
    paths = judgements.paths
    return {name: paths[image] for name, image in zip(names, images, strict=True)}
