"""Reading a release anew against reading what an earlier trial parsed of it: every trial of a sweep begins with it.

BAPPS: a tree of many triplets with empty image files, which nobody opens. ImageNet-HSJ: the simulated release's JSON
sequences, repeated under other ids, and no images: trials only. Both in turn, in a temporary folder. Fails if the two
ways give different judgements.

    uv run python benchmarks/reading.py
    uv run python benchmarks/reading.py --triplets 6000 --trials 20000 --repeats 1 --json reading.json
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from humansim.root import Root
from humansim.sources import bapps, psiz
from humansim.sources.simulated_psiz import write_hsj


def write_votes(folder: Path, triplets: int) -> None:
    """BAPPS val with so many triplets in all."""
    rng = np.random.default_rng(0)
    for name in bapps.VAL:
        for which in ("ref", "p0", "p1", "judge"):
            (folder / "2afc" / "val" / name / which).mkdir(parents=True)
        for number in range(triplets // len(bapps.VAL)):
            for which in ("ref", "p0", "p1"):
                (folder / "2afc" / "val" / name / which / f"{number:06d}.png").touch()
            share = np.array([rng.integers(0, 6) / 5], dtype=np.float32)
            np.save(folder / "2afc" / "val" / name / "judge" / f"{number:06d}.npy", share)


def write_trials(folder: Path, trials: int) -> None:
    """HSJ's sequences, so many trials at least."""
    write_hsj(folder, trials=5000, form="json")
    for file in list(folder.glob("*/*_seqs/*.json")):
        release = json.loads(file.read_text())
        for copy in range(1, -(-trials // 5000)):
            for sequence in release["data"]:
                sequence["sequence_id"] = f"{sequence['sequence_id']}-{copy}"
            file.with_stem(f"{file.stem}-{copy}").write_text(json.dumps(release))


def compared(read: Callable[[Root | None], Any], root: Root, repeats: int) -> dict[str, Any]:
    """Seconds of both ways in turn, and their ratio; the first reading fills the cache and is not counted."""
    kept = read(root)
    anew: list[float] = []
    again: list[float] = []
    for _ in range(repeats):
        for times, place in ((anew, None), (again, root)):
            start = time.perf_counter()
            found = read(place)
            times.append(time.perf_counter() - start)
            if found != kept:
                raise SystemExit("the cache gives other judgements than the files")
    ratios = [a / b for a, b in zip(anew, again, strict=True)]
    return {"anew_s": median(anew), "kept_s": median(again), "ratio": median(ratios), "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triplets", type=int, default=36_000, help="of BAPPS (36000; the release has 36,344)")
    parser.add_argument("--trials", type=int, default=100_000, help="of HSJ (100000; the release has 384,277)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Root.at(Path(place) / "root")
        write_votes(root.data / "bapps", given.triplets)
        write_trials(root.data / "hsj", given.trials)

        def votes(at: Root | None) -> bytes:
            return bapps.read(root.data / "bapps", root=at).triplets.choice.tobytes()

        def trials(at: Root | None) -> bytes:
            return psiz.read_trials(root.data / "hsj", at)[0].references.tobytes()

        found = {
            f"BAPPS, {given.triplets:,} triplets": compared(votes, root, given.repeats),
            f"HSJ JSON, {given.trials:,} trials": compared(trials, root, given.repeats),
        }
    for name, row in found.items():
        ratios = ", ".join(f"{one:.1f}" for one in row["ratios"])
        print(
            f"{name}: anew {row['anew_s']:.2f} s, kept {row['kept_s']:.3f} s, anew / kept {row['ratio']:.1f} ({ratios})"
        )
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
