"""`humansim compare`: two models on the same judgements."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.stats import Estimate
    from humansim.results import Result
    from humansim.root import Root
    from humansim.spec import Sweep, Trial

DESCRIPTION = """\
compare two models on the judgements that both answered

Shown is A minus B in points of 2AFC, for each evaluation set and for their mean: with a 95 % interval and p, from a
bootstrap over query images in which both keep the same ones, and the variance between seeds added; and what would
decide. p by Holm holds for all sets together.

A and B are ids of trials, or their beginnings (at least 4 digits; all seeds of the trial count); or, with --sweep, a
backbone, AXIS=PATTERN, or several of these joined by commas: of the cells that are like that, the best on validation.
A backbone alone is the pretrained one; paradigm='*' is any that was fine-tuned. Of several that are equal on validation
the first by its id is taken, and how many they are is said."""


def add(
    commands: Any, where: argparse.ArgumentParser, track: argparse.ArgumentParser, output: argparse.ArgumentParser
) -> None:
    """Adds the command to the parser."""
    one = commands.add_parser(
        "compare",
        help=DESCRIPTION.partition("\n")[0],
        description=DESCRIPTION,
        parents=[where, track, output],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.set_defaults(command=_compare)
    one.add_argument("a", metavar="A", help="a trial's id, or with --sweep a backbone or AXIS=PATTERN,...")
    one.add_argument("b", metavar="B", help="likewise")
    one.add_argument("--sweep", metavar="SWEEP", help="a submitted sweep, in which A and B are looked for")
    one.add_argument(
        "--unit", choices=("query", "judgement"), default="query", help="what is independent (%(default)s)"
    )


def _compare(given: argparse.Namespace) -> int:
    import pandas as pd

    from analysis import answers, stats
    from humansim import results, show, submitted, tables
    from humansim.described import run_name
    from humansim.errors import BadInput
    from humansim.root import Root
    from humansim.spec import Trial
    from humansim.tracking import how_to_open, tracking_uri

    root = Root.at(given.root, given.data)
    sweep = submitted.the(given.sweep, root) if given.sweep is not None else None
    named = [_named(text, root, sweep) for text in (given.a, given.b)]
    sides = [side for side, _ in named]
    if sides[0][0].trial.id == sides[1][0].trial.id:
        raise BadInput(f"{given.a} and {given.b} are the same trial, {sides[0][0].trial.id}")
    every = {result.trial.id: result for side in sides for result in side}
    _, table = answers.gathered(
        (str(root.results), one, pd.read_parquet(results.folder(root, one.trial) / results.ANSWERS))
        for one in every.values()
    )
    a, b = ((answers.cell_of(side[0].trial), side[0].measure) for side in sides)
    if a == b:
        raise BadInput(f"{given.a} and {given.b} differ only in their seed: they are repeats of one model")
    asked = [table.asked(side[0].trial.id, side[0].measure) for side in sides]
    shared = [name for s, name in enumerate(table.sets) if all((one & (table.set == s)).any() for one in asked)]
    if not shared:
        raise BadInput(f"{given.a} and {given.b} have no evaluation set in common")
    found = {name: _difference(table, a, b, [name], given.unit) for name in shared}
    corrected = dict(zip(found, stats.holm([one.p() for one in found.values()]), strict=True))
    if len(shared) > 1:
        found[f"mean of {len(shared)} sets"] = _difference(table, a, b, shared, given.unit)
    rows = [_row(name, one, corrected.get(name)) for name, one in found.items()]
    names = [f"{run_name(side[0].trial, Trial())}" for side in sides]
    uri, simulated = tracking_uri(root, given.tracking), tables.simulated(every.values())
    if given.json:
        models = [
            {"name": n, "trials": [r.trial.id for r in s], "kind": tables.kind(s[0]), "tied_on_validation": tied}
            for n, (s, tied) in zip(names, named, strict=True)
        ]
        show.json_document(
            {"a": models[0], "b": models[1], "unit": given.unit, "simulated_judges": simulated, "sets": rows}
        )
    else:
        for letter, name, (side, tied) in zip("AB", names, named, strict=True):
            seeds = f"  {len(side)} seeds" if len(side) > 1 else ""
            equals = f"  first by its id of {tied} that are best on validation" if tied > 1 else ""
            print(f"{letter}: {name}  ({tables.kind(side[0])})  {side[0].trial.id}{seeds}{equals}")
        title = f"A - B, points of 2AFC{f'  [{show.SIMULATED}]' if simulated else ''}"
        show.console().print(
            show.plain([_shown(row, one) for row, one in zip(rows, found.values(), strict=True)], title)
        )
        if any(one.repeats == 1 for one in found.values()):
            print("One training of a model says nothing of how another seed would do: run the sweep with repeats=3")
    ids = " or ".join(f"tags.trial_id = '{side[0].trial.id}'" for side in sides)
    last = show.console(stderr=given.json)
    last.print(f"In MLflow: {how_to_open(uri)}, find {ids}, choose both, Compare", soft_wrap=True, markup=False)
    return 0


def _difference(table: Any, a: tuple[str, str], b: tuple[str, str], sets: Sequence[str], unit: Any) -> "Estimate":
    from analysis import stats

    return stats.estimate(table, stats.mean([a], sets) - stats.mean([b], sets), unit=unit)


def _row(name: str, found: "Estimate", corrected: float | None) -> dict[str, Any]:
    """A set's difference as plain numbers: shares, not points; None where there is none."""
    from analysis import stats

    low, high = found.interval()
    known = low == low  # at least two clusters
    enough = stats.would_tell(found)
    return {
        "set": name,
        "difference": found.value,
        "low": low if known else None,
        "high": high if known else None,
        "p": found.p(),
        "p_holm": None if corrected is None else float(corrected),
        "triplets": found.n,
        "clusters": found.clusters,
        "decided": known and not low <= 0 <= high,
        "needed": None if enough is None else {"triplets": enough.triplets, "repeats": enough.repeats},
    }


def _shown(row: dict[str, Any], found: "Estimate") -> dict[str, str]:
    """A row as a person reads it."""
    from analysis import stats

    interval = "too few queries" if row["low"] is None else f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}"
    if row["decided"]:
        decide = "decided: A" if row["difference"] > 0 else "decided: B"
    elif row["needed"] is None:
        decide = "the same credit" if row["low"] == row["high"] == 0 else ""
    else:
        decide = str(stats.would_tell(found))
    return {
        "set": row["set"],
        "A - B": f"{100 * row['difference']:+.2f}",
        "95 % interval": interval,
        "p": f"{row['p']:.4f}",
        "p (Holm)": "" if row["p_holm"] is None else f"{row['p_holm']:.4f}",
        "triplets": f"{row['triplets']:,} in {row['clusters']:,} clusters",
        "would decide": decide,
    }


def _named(text: str, root: "Root", sweep: "Sweep | None") -> "tuple[list[Result], int]":
    """The results of one model, every seed that has finished, that with the lowest first; and how many models are as
    good on validation, itself among them (1 where it was named by its id).

    Raises:
        BadInput: there is none, or the beginning of an id fits several.
    """
    if sweep is None:
        return _seeds(_of_id(text, root).trial, root), 1
    from humansim import plan, results

    cells = [
        [one for trial, _ in trials if isinstance(one := results.load(root, trial), results.Result)]
        for trials in plan.plan(sweep, root).trials.values()
    ]
    if by_id := [one for cell in cells for one in cell if len(text) >= 4 and one.trial.id.startswith(text)]:
        return _seeds(by_id[0].trial, root), 1
    chosen, tied = _best(text, cells, sweep)
    return _seeds(chosen.trial, root), tied


def _of_id(text: str, root: "Root") -> "Result":
    from humansim.errors import BadInput
    from humansim.results import RESULT, Result

    files = sorted(root.results.glob(f"{text}*/{RESULT}")) if len(text) >= 4 and text.isalnum() else []
    if len(files) != 1:
        many = f"{len(files)} finished trials begin" if files else "no finished trial begins"
        raise BadInput(
            f"{many} with {text!r} under {root.results}; humansim status shows ids; a backbone needs --sweep"
        )
    return Result.model_validate_json(files[0].read_bytes())


def _seeds(trial: "Trial", root: "Root") -> "list[Result]":
    """The trial's results of every seed from 0 to a few more than its own."""
    from humansim.results import Result, load

    seeds = [trial] if trial.paradigm is None else [trial.having({"seed": s}) for s in range(trial.seed + 16)]
    return [one for seed in seeds if isinstance(one := load(root, seed), Result)]


def _best(text: str, cells: "Sequence[Sequence[Result]]", sweep: "Sweep") -> "tuple[Result, int]":
    """The best on validation of those that are like a text, and how many are as good (`results.best`)."""
    import fnmatch

    from humansim.errors import BadInput
    from humansim.results import best
    from humansim.spec import near

    parts = [one if "=" in one else f"backbone={one}" for one in text.split(",")]
    wanted = dict(part.split("=", 1) for part in parts)
    alone = "paradigm" not in wanted and not any(axis.startswith("paradigm.") for axis in wanted)

    def meant(one: "Result") -> bool:
        settings = one.trial.settings()
        texts = {axis: {str(settings.get(axis)), str(getattr(one.trial, axis, None))} for axis in wanted}
        return (one.trial.paradigm is None) == alone and all(
            any(fnmatch.fnmatchcase(value, wanted[axis]) for value in texts[axis]) for axis in wanted
        )

    chosen, tied = best([one for one in cell if meant(one)] for cell in cells)
    if chosen is None:
        found = [one for cell in cells for one in cell]
        tuned = [one.trial.paradigm for one in found if one.trial.paradigm is not None]
        known = {
            "backbone": {str(one.trial.backbone) for one in found},
            "paradigm": {name for one in tuned for name in (one.name, str(one))},
        }
        for axis, values in known.items():
            if axis in wanted and not fnmatch.filter(values, wanted[axis]):
                others = near(wanted[axis], sorted(values))
                raise BadInput(f"{text!r}: no {axis} like that has finished in {sweep.name}{others}")
        how = "; what was fine-tuned is named with paradigm='*' or one of its names" if alone and tuned else ""
        raise BadInput(
            f"{text!r}: nothing like that has finished in {sweep.name}{how}; humansim plan {sweep.name} lists its cells"
        )
    return chosen, tied
