"""`humansim doctor`: whether this machine, and a cluster, can run what is asked of them."""

import argparse
from typing import Any

DESCRIPTION = """\
check this machine, the root, the tracking store, and with --address a cluster

Each line says ok, warn or fail, and what to do. Exit code 1 if something fails."""


def add(
    commands: Any, where: argparse.ArgumentParser, track: argparse.ArgumentParser, output: argparse.ArgumentParser
) -> None:
    """Adds the command to the parser."""
    one = commands.add_parser(
        "doctor",
        help=DESCRIPTION.partition("\n")[0],
        description=DESCRIPTION,
        parents=[where, track, output],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.set_defaults(command=_doctor)
    one.add_argument("--address", help="of a Ray cluster (RAY_ADDRESS): are its nodes alike, do they see the root?")


def _doctor(given: argparse.Namespace) -> int:
    from rich.markup import escape
    from rich.text import Text

    from humansim import doctor, show
    from humansim.root import Root

    found: list[doctor.Check] = []
    out, colours = show.console(stderr=given.json), {"ok": "green", "warn": "yellow", "fail": "red"}
    for what, checks in doctor.checks(Root.at(given.root, given.data), given.tracking, given.address):
        with out.status(f"looking at: {escape(what)}"):  # on a terminal alone
            for one in checks:
                found.append(one)
                if given.json:
                    continue
                then = f" -> {one.then}" if one.then else ""
                state = (f"{one.state:<5}", colours[one.state])
                out.print(Text.assemble(state, f"{one.what:<12} {one.found}{then}"), soft_wrap=True)
    worst = [state for state in ("fail", "warn") if any(one.state == state for one in found)]
    if given.json:
        show.json_document({"usable": "fail" not in worst, "checks": [vars(one) for one in found]})
        return 1 if "fail" in worst else 0
    ends = {"": "All is well. Next: humansim demo", "warn": "Usable, with warnings. Next: humansim demo"}
    print(ends.get(worst[0] if worst else "", "Something fails: mend it, then humansim doctor again"))
    return 1 if "fail" in worst else 0
