"""`humansim completion`: what a shell needs to complete commands, options, sweeps and backbones."""

import argparse
from typing import Any

DESCRIPTION = """\
print what a shell needs to complete commands, options, sweeps, backbones and files; the shell itself does it, at once

bash, for this shell:         eval "$(humansim completion bash)"
bash, for every later one:    humansim completion bash > ~/.local/share/bash-completion/completions/humansim
zsh, after compinit:          eval "$(humansim completion zsh)"
zsh, in a folder of fpath:    humansim completion zsh > ~/.zfunc/_humansim"""
FILES, FOLDERS = ("FILE", "MODULE"), ("DIR", "FOLDER")  # placeholders that stand for these

# What the shell runs at the TAB key: names known when this was printed, and sweeps that were submitted since. Colons,
# at which bash breaks words, leave families of backbones out.
BASH = """
_humansim_sweeps() {{
  local there=$(cd "${{HUMANSIM_ROOT:-humansim-runs}}/sweeps" 2>/dev/null && compgen -G '*/')
  compgen -W "{sweeps} ${{there//\\//}}" -- "$1"
  compgen -f -X '!*.py' -- "$1"
  compgen -d -S / -- "$1"
}}
_humansim_backbones() {{
  compgen -W "{backbones}" -- "$1"
}}
_humansim_both() {{
  _humansim_backbones "$1"
  _humansim_sweeps "$1"
}}
"""
ZSH = """
_humansim_sweeps() {{
  local -a known=({sweeps} ${{HUMANSIM_ROOT:-humansim-runs}}/sweeps/*(N/:t))
  _alternative "sweeps:sweep:(${{(u)known}})" 'files:file:_files -g "*.py"'
}}
_humansim_backbones() {{
  _values backbone {backbones}
}}
_humansim_both() {{
  _humansim_backbones
  _humansim_sweeps
}}
"""
NAMES = {"SWEEP": "_humansim_sweeps", "BACKBONE": "_humansim_backbones", "BACKBONE|SWEEP": "_humansim_both"}


def add(commands: Any, whole: argparse.ArgumentParser) -> None:
    """Adds the command to the parser, which is `whole`."""
    one = commands.add_parser(
        "completion",
        help="print what a shell needs to complete commands and options",
        description=DESCRIPTION,
    )
    one.set_defaults(command=lambda given: _completion(given.shell, whole))
    one.add_argument("shell", choices=("bash", "zsh"))


def _completion(shell: str, whole: argparse.ArgumentParser) -> int:
    import shtab

    from humansim import cli_help, sweep_file
    from humansim.backbones import backbone

    completed = dict.fromkeys(FILES, shtab.FILE) | dict.fromkeys(FOLDERS, shtab.DIRECTORY)
    completed |= {placeholder: {"bash": name, "zsh": name} for placeholder, name in NAMES.items()}
    for _, one in cli_help.commands(whole):
        for action in one._actions:
            if action.metavar in completed:
                action.complete = completed[action.metavar]  # type: ignore[attr-defined]
    known = {
        "sweeps": " ".join(sweep_file.packaged()),
        "backbones": " ".join(entry.name for entry in backbone if not entry.is_family),
    }
    ours = {"bash": BASH, "zsh": ZSH}[shell].format(**known)
    print(shtab.complete(whole, shell, preamble=ours))
    return 0
