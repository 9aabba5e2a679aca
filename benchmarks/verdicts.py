"""Are the statistics honest, and how long do they take?

Simulated studies whose truth is known (`analysis.planted`: soft votes of five judges, models that err alike, triplets
that share a query). For each kind of study: how often a difference is found where there is none (nominal 5 %), how
often the 95 % interval holds the true effect, and how wide it is; each share with its Monte Carlo error. Beside it what
one would write first: triplets that share a query taken for independent, one training taken for the model. Then the
verdicts: how often each is given, for no effect, for one of just the smallest that matters, for three times that, and
how often a family of nine has any wrong one. Last, the time of 10,000 resamples at full size: 11 sets of 36,344
triplets. Fails if a share that should be nominal is off by more than four Monte Carlo errors.

    OMP_NUM_THREADS=1 uv run python benchmarks/verdicts.py
    uv run python benchmarks/verdicts.py --studies 100 --triplets 2000 --json verdicts.json
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.answers import Answers
from analysis.planted import MEASURE, planted
from analysis.stats import Contrast, Estimate, Unit, estimate, mean, mixed
from analysis.verdict import Verdict, evidence, judge, within_family

SMALLEST = 0.01
ELEVEN = (*(f"bapps/{i}" for i in range(6)), "hsj/1", "hsj/2", "birds16/1", "birds16/2", "birds16/3")


@dataclass(frozen=True)
class Kind:
    """A kind of study; `nominal` says whether its error rates ought to be."""

    name: str
    shape: Mapping[str, Any]
    unit: Unit = "query"
    nominal: bool = True


def kinds() -> list[Kind]:
    clustered = {"queries": 200, "triplets": 5, "within": 0.4}
    trained = {"queries": 1000, "flips": 0.2, "between": 0.01}
    return [
        Kind("1,000 triplets of their own queries", {}),
        Kind("200 queries x 5", clustered),
        Kind("  the same, triplets taken for independent", clustered, unit="judgement", nominal=False),
        Kind("20 queries x 20", {"queries": 20, "triplets": 20, "within": 0.4}),
        Kind("11 sets x 40, sets of a release share queries", {"queries": 40, "within": 0.4, "sets": ELEVEN}),
        Kind("3 trainings, seeds differ by 1 point", {**trained, "repeats": 3}),
        Kind("2 trainings", {**trained, "repeats": 2}),
        Kind("5 trainings, seeds do not differ", {**trained, "between": 0.0, "repeats": 5}),
        Kind("  1 training, seeds differ by 1 point", {**trained, "repeats": 1}, nominal=False),
    ]


def difference(answers: Answers, a: str = "a", b: str = "b") -> Contrast:
    return mean([(a, MEASURE)], answers.sets) - mean([(b, MEASURE)], answers.sets)


def study(kind: Kind, effect: float, seed: int, resamples: int) -> Estimate:
    rng = np.random.default_rng([seed, int(1000 * effect)])
    answers = planted({"a": 0.66 + effect, "b": 0.66}, rng, **kind.shape)
    return estimate(answers, difference(answers), unit=kind.unit, resamples=resamples, seed=seed)


def error(share: float, studies: int) -> float:
    return float(np.sqrt(share * (1 - share) / studies))


def honest(kind: Kind, studies: int, resamples: int) -> dict[str, Any]:
    none = [study(kind, 0.0, i, resamples) for i in range(studies)]
    some = [study(kind, 0.03, i, resamples) for i in range(studies)]
    intervals = np.array([one.interval() for one in some])
    return {
        "false positives": float(np.mean([one.p() < 0.05 for one in none])),
        "coverage": float(np.mean((intervals[:, 0] <= 0.03) & (intervals[:, 1] >= 0.03))),
        "width": float(np.mean(intervals[:, 1] - intervals[:, 0])),
        "power": float(np.mean([one.p() < 0.05 for one in some])),
    }


def verdicts(studies: int, resamples: int) -> dict[str, dict[str, float]]:
    """How often each verdict is given on "a is better by what matters"."""
    kind = Kind("", {"queries": 4000})
    found = {}
    for effect in (0.0, 0.5 * SMALLEST, SMALLEST, 3 * SMALLEST):
        given = [judge("", evidence(study(kind, effect, i, resamples), SMALLEST)).outcome for i in range(studies)]
        found[f"{100 * effect:.1f} points"] = {
            outcome: given.count(outcome) / studies for outcome in ("supported", "refuted", "undecided")
        }
    return found


def family(studies: int, resamples: int) -> float:
    """How often any of nine claims is decided although every effect is just the smallest that matters."""
    wrong = 0
    for i in range(studies):
        answers = planted({"b": 0.66, **{f"a{k}": 0.66 + SMALLEST for k in range(9)}}, np.random.default_rng([i, 9]))
        claims: list[Verdict] = [
            judge(
                f"a{k}",
                evidence(estimate(answers, difference(answers, f"a{k}"), resamples=resamples, seed=i), SMALLEST),
            )
            for k in range(9)
        ]
        wrong += any(one.outcome != "undecided" for one in within_family(claims))
    return wrong / studies


def of_mixed(studies: int, groups: int) -> float:
    """False positives of the mixed model's Wald test: backbones of two kinds that do not differ, on 11 sets."""
    found = 0
    for i in range(studies):
        rng = np.random.default_rng([i, groups])
        table = pd.DataFrame(
            {
                "backbone": np.repeat(np.arange(groups), 11),
                "set": np.tile(np.arange(11), groups),
                "large": np.repeat(np.arange(groups) % 2, 11),
                "score": 0.7 + np.repeat(rng.normal(0, 0.02, groups), 11) + rng.normal(0, 0.01, 11 * groups),
            }
        )
        found += mixed(table, "score ~ large + C(set)", "large", "backbone").p < 0.05
    return found / studies


def full_size(triplets: int) -> dict[str, dict[str, float]]:
    """Seconds of 10,000 resamples; and of the answers, bytes."""
    names = [f"m{i:02d}" for i in range(33)]
    rng = np.random.default_rng(0)
    answers = planted({name: 0.7 - i / 1000 for i, name in enumerate(names)}, rng, sets=ELEVEN, queries=triplets)
    cells = [(name, MEASURE) for name in names]
    weights = rng.standard_normal(33)
    any_weights = sum(
        (w * mean([cell], answers.sets) for w, cell in zip(weights[1:], cells[1:], strict=True)),
        start=weights[0] * mean(cells[:1], answers.sets),
    )
    contrasts = {
        "a score": mean(cells[:1], answers.sets),
        "two models": mean(cells[:1], answers.sets) - mean(cells[1:2], answers.sets),
        "5 models against 6": mean(cells[:5], answers.sets) - mean(cells[5:11], answers.sets),
        "11 against 22": mean(cells[:11], answers.sets) - mean(cells[11:], answers.sets),
        "33, each of another weight": any_weights,
    }
    found = {}
    for name, contrast in contrasts.items():
        clock, cpu = time.perf_counter(), time.process_time()
        estimate(answers, contrast)
        found[name] = {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - cpu}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies of each kind")
    parser.add_argument("--resamples", type=int, default=2000, help="of each study's bootstrap")
    parser.add_argument("--triplets", type=int, default=36_344, help="in each of 11 sets, where time is measured")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    report: dict[str, Any] = {"studies": given.studies, "resamples": given.resamples, "kinds": {}}
    off = []

    def shown(share: float, nominal: float | None = None, name: str = "") -> str:
        if nominal is not None and abs(share - nominal) > 4 * error(nominal, given.studies):
            off.append(f"{name}: {100 * share:.1f} % instead of {100 * nominal:.0f} %")
        return f"{100 * share:5.1f} ± {100 * error(share, given.studies):.1f}"

    print(f"{given.studies} studies a row; per cent, ± Monte Carlo error; width in points\n")
    print(f"{'':48} {'false positives':>15} {'coverage':>12} {'width':>6} {'power, 3 points':>16}")
    for kind in kinds():
        row = report["kinds"][kind.name] = honest(kind, given.studies, given.resamples)
        false = shown(row["false positives"], 0.05 if kind.nominal else None, kind.name)
        held = shown(row["coverage"], 0.95 if kind.nominal else None, kind.name)
        print(f"{kind.name:48} {false:>15} {held:>12} {100 * row['width']:6.2f} {shown(row['power']):>16}", flush=True)
    print(f"\nverdicts on a claim of {100 * SMALLEST:.0f} point or more, 4,000 triplets\n")
    print(f"{'true effect':14} {'supported':>14} {'refuted':>14} {'undecided':>14}")
    report["verdicts"] = verdicts(given.studies, given.resamples)
    for effect, shares in report["verdicts"].items():
        print(f"{effect:14} " + " ".join(f"{shown(share):>14}" for share in shares.values()))
    report["family"] = family(given.studies, given.resamples)
    print(f"\nnine claims, each effect just the smallest: any decided {shown(report['family'])}")
    few = max(1, given.studies // 4)
    report["mixed"] = {groups: of_mixed(few, groups) for groups in (8, 11, 40)}
    for groups, share in report["mixed"].items():
        print(f"mixed model, {groups:2} backbones: false positives {100 * share:.1f} ± {100 * error(share, few):.1f}")
    print(f"\n10,000 resamples of 11 sets x {given.triplets:,} triplets\n")
    report["time"] = full_size(given.triplets)
    for name, row in report["time"].items():
        print(f"{name:28} {row['seconds']:6.1f} s ({row['cpu_seconds']:.1f} s of CPU)")
    if given.json:
        given.json.write_text(json.dumps(report, indent=1))
    if off:
        raise SystemExit("not as they should be: " + "; ".join(off))


if __name__ == "__main__":
    main()
