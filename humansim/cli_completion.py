"""`humansim completion`: what a shell needs to complete commands and options."""

import argparse
from typing import Any

FILES = ("FILE", "DIR", "MODULE", "SWEEP")  # placeholders that stand for files


def add(commands: Any, whole: argparse.ArgumentParser) -> None:
    """Adds the command to the parser, which is `whole`."""
    one = commands.add_parser(
        "completion",
        help="print what a shell needs to complete commands and options",
        description="Print what a shell needs to complete commands, options and files; the shell itself does it, at "
        "once.\n\nbash, for this and every later shell:  humansim completion bash > "
        "~/.local/share/bash-completion/completions/humansim\nzsh, in a folder of its fpath:            humansim "
        "completion zsh > ~/.zfunc/_humansim",
    )
    one.set_defaults(command=lambda given: _completion(given.shell, whole))
    one.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def _completion(shell: str, whole: argparse.ArgumentParser) -> int:
    import shtab

    from humansim import cli_help

    for _, one in cli_help.commands(whole):
        for action in one._actions:
            if action.metavar in FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(whole, shell))
    return 0
