"""How soon the command line answers: `humansim --help` against a Python that does nothing.

Measured: the wall time of whole processes, `humansim --help` and `python -c pass`, in turn, as the ratio of their
medians. Checked: that `--help` imports none of the big libraries; the script fails, naming them, if it does.

    uv run python benchmarks/startup.py
    uv run python benchmarks/startup.py --repeats 50 --json startup.json
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

BIG = ("torch", "ray", "mlflow", "pandas", "numpy")

# Run in a process of its own: what `humansim --help` has imported by the time that it has answered.
IMPORTED = f"""
import contextlib, io, sys
from humansim.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(["--help"])
print(*[name for name in {BIG!r} if name in sys.modules])
"""


def humansim_command() -> list[str]:
    """The installed console script beside this Python, else the module."""
    script = Path(sys.executable).with_name("humansim")
    return [str(script)] if script.exists() else [sys.executable, "-m", "humansim.cli"]


def seconds(command: list[str]) -> float:
    """Wall time of a process from start to end."""
    clock = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - clock


def big_imports() -> list[str]:
    """The big libraries that `humansim --help` imports."""
    return subprocess.run([sys.executable, "-c", IMPORTED], check=True, capture_output=True, text=True).stdout.split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="runs of each command (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()

    found = big_imports()
    if found:
        raise SystemExit(f"humansim --help imports {', '.join(found)}: it should import none of {', '.join(BIG)}")

    ours, bare = humansim_command(), [sys.executable, "-c", "pass"]
    seconds(ours), seconds(bare)  # once unmeasured: compiled bytecode and a warm page cache
    of_ours, of_bare = [], []
    for _ in range(given.repeats):
        of_ours.append(seconds([*ours, "--help"]))
        of_bare.append(seconds(bare))
    figures = {
        "repeats": given.repeats,
        "command": " ".join([*ours, "--help"]),
        "humansim_help_seconds": median(of_ours),
        "bare_python_seconds": median(of_bare),
        "ratio": median(a / b for a, b in zip(of_ours, of_bare, strict=True)),
        "not_imported": list(BIG),
    }
    print(f"median of {given.repeats} processes each, in turn")
    print(f"  humansim --help   {1000 * median(of_ours):7.1f} ms")
    print(f"  python -c pass    {1000 * median(of_bare):7.1f} ms")
    print(f"  ratio             {figures['ratio']:7.2f}")
    print(f"  imports none of   {', '.join(BIG)}")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
