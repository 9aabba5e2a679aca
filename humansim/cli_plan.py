"""`humansim plan`: what a sweep would run, and what it will take."""

import argparse
import contextlib
import os
import sys
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from humansim.forecast import Expected, Forecast
    from humansim.plan import Plan
    from humansim.probes import Probe
    from humansim.root import Root
    from humansim.spec import Cell, Trial

BUSY = 1.5  # load, by cores, from which times are no longer what they would be
FEW = 40  # cells that are listed one by one

DESCRIPTION = """\
list a sweep's cells and trials, what is there of them, and what the rest will take

Time, memory, disk and cost come from measurements: --probe makes those that are missing, a few steps for each
backbone, paradigm, batch, resolution and precision, on this machine or (--address) on the cluster's own GPUs.
Finished trials correct them, and are shown beside what was predicted."""


def add(
    commands: Any,
    where: argparse.ArgumentParser,
    some: argparse.ArgumentParser,
    output: argparse.ArgumentParser,
    a_sweep: str,
) -> None:
    """Adds the command to the parser."""
    one = commands.add_parser(
        "plan",
        help=DESCRIPTION.partition("\n")[0],
        description=DESCRIPTION,
        parents=[where, some, output],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.set_defaults(command=_plan)
    one.add_argument("sweep", metavar="SWEEP", help=a_sweep)
    one.add_argument("--cells", action="store_true", help=f"every cell, also of more than {FEW}")
    one.add_argument("--probe", action="store_true", help="measure what is not yet measured")
    one.add_argument("--address", help="of a Ray cluster that is to measure (RAY_ADDRESS; else this process)")
    one.add_argument("--device", metavar="NAME", help="predict for this one (default: the one that is measured)")
    one.add_argument("--slots", type=int, metavar="N", help="GPUs, or trials at a time (default: this machine's)")
    one.add_argument("--price", type=float, metavar="X", help="of a GPU for an hour, or of a CPU core")


def _plan(given: argparse.Namespace) -> int:
    from humansim import forecast, plan, show, submitted
    from humansim.errors import BadInput

    if given.slots is not None and given.slots < 1:
        raise BadInput(f"--slots {given.slots}: 1 or more")
    if given.price is not None and given.price < 0:
        raise BadInput(f"--price {given.price}: 0 or more")
    meant, filters = submitted.find(given.sweep, given.root, given.data), plan.patterns(given.only)
    sweep, root = meant.sweep, meant.root
    for note in meant.notes:
        print(note, file=sys.stderr)
    found = plan.plan(plan.only(sweep, filters) if filters else sweep, root)
    ahead = forecast.forecast(found, root, device=given.device, slots=given.slots)
    failed: dict[str, str] = {}
    if given.probe and ahead.unmeasured:
        can = [trial for trial in ahead.unmeasured if str(trial.source) not in ahead.missing_data]
        failed = _measure(can, root, given.address)
        ahead = forecast.forecast(found, root, device=given.device, slots=given.slots)
    weights = [file.name for file in plan.missing_weights(found.cells)]
    if given.json:
        show.json_document(_document(found, ahead, weights, failed, given.price) | {"notes": _warned(found, root)})
        return 1 if failed else 0
    _print(given, root, found, ahead, weights)
    for name, why in failed.items():
        print(f"Not measured: {name}: {why}")
    return 1 if failed else 0


def _measure(trials: "list[Trial]", root: "Root", address: str | None) -> dict[str, str]:
    """Measures and keeps probes of trials; what could not be measured, and why."""
    from humansim import probes, show

    failed: dict[str, str] = {}
    done = 0
    with show.counting("measuring") as progress:
        progress(0, len(trials))

        def ended(trial: "Trial", probe: "Probe | Exception") -> None:
            nonlocal done
            if isinstance(probe, Exception):
                name = f"{trial.backbone} {trial.paradigm or ''}".strip()
                failed[name] = str(probe).strip().partition("\n")[0] or type(probe).__name__
            else:
                probes.keep(root, probe)
            done += 1
            progress(done, len(trials))

        if address or os.environ.get("RAY_ADDRESS"):
            from humansim.launch import cluster, probing

            with cluster.connected(address):
                probing.measure(trials, root, ended)
        else:
            from humansim import measuring

            for trial in trials:
                try:
                    probe: Probe | Exception = measuring.probe(trial, root)
                except Exception as error:
                    probe = error
                ended(trial, probe)
    return failed


def _warned(found: "Plan", root: "Root") -> list[str]:
    """What one should know of one's own judgements before anything is trained on them (`audit.warned`), and why a
    submit would refuse them."""
    from humansim import audit, results, sources
    from humansim.errors import BadInput
    from humansim.material import prepare
    from humansim.splits import split
    from humansim.submit import check_unmixed

    told: dict[str, None] = {}
    # Neither published nor simulated: of those alone are results read, which takes its time where there are many.
    of_own = (trial.source for trial in found.known if not sources.source.entry(trial.source).facts)
    for source in dict.fromkeys(of_own):
        asked = [trial for trial in found.known if trial.source == source]
        known = [outcome for trial in asked if (outcome := results.load(root, trial)) is not None]
        if known:
            try:  # their images are in the store, but for what has changed
                check_unmixed(known, {source: prepare(known[0].trial, root).fingerprint})
            except BadInput as error:
                told[f"a submit would be refused: {error}"] = None
    trained = [cell.trial for cell in found.cells if cell.trial.paradigm is not None]
    for source, protocol in dict.fromkeys((trial.source, trial.protocol) for trial in trained):
        if not sources.source.entry(source).facts:
            with contextlib.suppress(BadInput):  # what is wrong with the data is told elsewhere
                judgements = sources.read(source, root)
                parts = split(judgements, protocol)
                told |= dict.fromkeys((audit.counted_parts(judgements, parts), audit.warned(judgements, parts)))
    return [one for one in told if one]


def _print(given: argparse.Namespace, root: "Root", found: "Plan", ahead: "Forecast", weights: list[str]) -> None:
    from humansim import show
    from humansim.pasted import pasted, to_follow
    from humansim.tables import counted

    each = given.cells or len(found.cells) <= FEW
    rows = _rows(found, ahead, each)
    show.console().print(show.planned(rows, found.sweep.title, ahead.on_gpu))
    counts = found.counts()
    search = f", of which the searches will choose {found.to_ask}" if found.to_ask else ""
    to_run = counts["to run"] + counts["resumable"]
    many = f"{counted(sum(counts.values()), 'trial')} in {counted(len(found.cells), 'cell')}"
    print(f"{many}; {to_run} to run{search}")
    for told in _warned(found, root):
        print(f"Note: {told}")
    for source, why in ahead.missing_data.items():
        print(f"Data that is not there: {source}: {why}")
    if weights:
        again = pasted("humansim", "weights", "fetch", given.sweep)
        print(f"Weights that are not on this machine: {', '.join(weights)}; submitting fetches them, or: {again}")
    if ahead.unmeasured:
        kinds = f"{counted(len(ahead.unmeasured), 'kind')} of trial (backbone, paradigm, batch, resolution, precision)"
        probe = to_follow(given, "plan", given.sweep, "--probe")
        print(f"Not measured on {ahead.device}: {kinds}; a few seconds each: {probe}")
    compared, actual, predicted = ahead.compared()
    if compared:
        ratio = f"actual / predicted {actual / predicted:.2f}"
        print(f"Finished: {compared} trials in {show.duration(actual)}, predicted {show.duration(predicted)} ({ratio})")
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if ahead.to_run and not ahead.on_gpu and load > BUSY * cores:
        longer = f"for as long as it is, all takes about {1 + load / cores:.0f} times as long, and probes say too much"
        print(f"This machine is busy (load {load:.1f} on {cores} cores): {longer}")
    if ahead.to_run and (total := _total(ahead, given.price)):
        print(total)


def _total(ahead: "Forecast", price: float | None) -> str:
    """The last line: what is to run in all."""
    from humansim import show

    known = [one for one in ahead.to_run if one.seconds is not None]
    if not known:
        return ""
    low, high = ahead.spread
    unit = "GPU-hours" if ahead.on_gpu else "core-hours"
    parts = []
    if ahead.elapsed is not None:
        least, most = (show.duration(factor * ahead.elapsed) for factor in (low, high))
        end = time.strftime("%a %H:%M", time.localtime(time.time() + ahead.elapsed))
        parts.append(f"about {show.duration(ahead.elapsed)} ({least} to {most}) on {ahead.slots} x {ahead.device}")
        parts.append(f"done {end} if submitted now")
    else:
        parts.append(f"{len(known)} of {len(ahead.to_run)} can be predicted")
    parts.append(f"{ahead.device_hours:.2f} {unit}")
    if price is not None:
        parts.append(f"cost {price * ahead.device_hours:.2f}")
    parts.append(f"memory up to {show.size(ahead.peak_memory)} a trial")
    parts.append(f"disk {show.size(ahead.disk)}, and up to {show.size(ahead.checkpoints)} of checkpoints on the way")
    return "To run: " + "; ".join(parts)


def _rows(found: "Plan", ahead: "Forecast", each: bool) -> list[dict[str, Any]]:
    """Rows of the table: one a cell, or one for each backbone and paradigm."""

    def name(cell: "Cell") -> tuple[str, ...]:
        return (cell.key,) if each else (str(cell.trial.backbone), str(cell.trial.paradigm or "(pretrained)"))

    states: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    labels = {}
    for cell in found.cells:
        states[name(cell)].update(str(state) for _, state in found.trials[cell.key])
        states[name(cell)]["to run"] += found.left(cell)
        backbone, paradigm = str(cell.trial.backbone), str(cell.trial.paradigm or "(pretrained)")
        labels[name(cell)] = {"cell": str(cell)} if each else {"backbone": backbone, "paradigm": paradigm}
    expected: dict[tuple[str, ...], list[Expected]] = defaultdict(list)
    for one in ahead.to_run:
        expected[name(one.cell)].append(one)
    return [{**labels[key], "states": states[key], **_figures(expected[key])} for key in labels]


def _figures(expected: "list[Expected]") -> dict[str, float | None]:
    """Of trials that are to run: mean seconds of one, most memory, GPU share, seconds of all; None where unknown."""
    seconds = [one.seconds for one in expected if one.seconds is not None]
    probes = [one.probe for one in expected if one.probe is not None]
    if not seconds or len(seconds) < len(expected):
        return dict.fromkeys(("seconds", "memory", "share", "in_all"))
    return {
        "seconds": sum(seconds) / len(seconds),
        "memory": max(probe.peak_memory for probe in probes),
        "share": max(probe.share for probe in probes),
        "in_all": sum(seconds),
    }


def _document(
    found: "Plan", ahead: "Forecast", weights: list[str], failed: dict[str, str], price: float | None
) -> dict[str, Any]:
    """All of it as JSON. Seconds, bytes, device-hours."""
    from humansim import plan

    expected: dict[str, list[Expected]] = defaultdict(list)
    for one in ahead.to_run:
        expected[one.cell.key].append(one)
    finished = {one.result.trial.id: one for one in ahead.finished}
    seconds = {id(one): one.seconds for one in ahead.to_run}

    def trial(of: "Trial", state: str) -> dict[str, Any]:
        row: dict[str, Any] = {"id": of.id, "state": state}
        if of.id in finished:
            row |= {"seconds": finished[of.id].actual, "predicted": finished[of.id].predicted}
        return row

    compared, actual, predicted = ahead.compared()
    measured = [value for value in seconds.values() if value is not None]
    return {
        "sweep": found.sweep.name,
        "states": found.counts(),
        "to_ask": found.to_ask,
        "missing_weights": weights,
        "missing_data": ahead.missing_data,
        "not_measured": [of.identity() for of in ahead.unmeasured],
        "could_not_be_measured": failed,
        "device": ahead.device,
        "slots": ahead.slots,
        "to_run": {
            "trials": len(ahead.to_run),
            "predicted": len(measured),
            "seconds": sum(measured),
            "elapsed": ahead.elapsed,
            "interval": [factor * ahead.elapsed for factor in ahead.spread] if ahead.elapsed is not None else None,
            "device_hours": ahead.device_hours,
            "cost": None if price is None else price * ahead.device_hours,
            "peak_memory": ahead.peak_memory,
            "disk": ahead.disk,
            "checkpoints": ahead.checkpoints,
        },
        "finished": {"compared": compared, "seconds": actual, "predicted": predicted},
        "cells": [
            {
                "cell": cell.model_dump(mode="json")["settings"],
                "trials": [trial(of, state) for of, state in found.trials[cell.key]],
                "wanted": plan.wanted(found.sweep, cell),
                "to_run": _figures(expected[cell.key]),
                "checkpoint": max((one.probe.checkpoint for one in expected[cell.key] if one.probe), default=None),
            }
            for cell in found.cells
        ],
    }
