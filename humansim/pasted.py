"""Commands that are shown to be pasted: started as this very process was, and about the same root and data."""

import argparse
import os
import shlex

TRACKED = ("sweep", "retry", "report")  # commands that are told where MLflow is


def pasted(*command: str) -> str:
    """A command in a line, with `uv run` before it if this process was started so."""
    return shlex.join([*(("uv", "run") if "UV" in os.environ else ()), *command])


def to_follow(given: argparse.Namespace, *command: str) -> str:
    """A command of humansim, with those options of the one that is running that say where things are."""
    names = ("root", "data", "tracking") if command[0] in TRACKED else ("root", "data")
    options = {f"--{name}": str(value) for name in names if (value := getattr(given, name, None))}
    return pasted("humansim", *command, *(part for option in options.items() for part in option))
