"""Tables of results as plain rows: what the command line prints and writes as JSON."""

from collections.abc import Iterable, Sequence
from typing import Any

from humansim.backbones import backbone
from humansim.results import Result, Score
from humansim.scores import CHANCE
from humansim.spec import VARIANT_FIELDS, Cell

Table = list[dict[str, Any]]


def kind(result: Result) -> str:
    """What a result is to a reader: the floor (no network), an untrained (random weights), pretrained or fine-tuned
    model, a published metric; contaminated if it was fitted on what it is evaluated on."""
    made = result.provenance.get("backbone") or backbone.entry(result.trial.backbone).facts
    if made.get("family") == "none":
        return "floor"
    if result.trial.paradigm is None:
        if "random" in (result.trial.backbone.kwargs.get("weights"), result.provenance["weights"]["origin"]):
            return "untrained"
        return "metric" if result.measure == "own" else "pretrained"
    return "contaminated" if result.provenance["shared"].get("contaminated") else "fine-tuned"


def counted(n: int, one: str) -> str:
    """Things and how many there are, as a person writes it: "1 set", "1,200 triplets"."""
    return f"{n:,} {one if n == 1 else f'{one}s'}"


def of_sweep(best: Iterable[tuple[Cell, Result | None]]) -> Table:
    """One row for each cell, of its best trial by validation score, on the test part; chance and ceilings around.

    Each row has kind, axes (those that any cell names, and their values here), trial (its id), validation, and sets:
    name -> score, low, high. Shares in [0, 1].
    """
    found = [(cell, result) for cell, result in best if result is not None]
    named = dict.fromkeys(axis for cell, _ in found for axis in (*cell.settings, *cell.search))
    table: Table = []
    for cell, result in found:
        settings, chosen = cell.model_dump(mode="json")["settings"], result.trial.settings()
        chosen |= {axis: str(getattr(result.trial, axis)) for axis in VARIANT_FIELDS if axis in chosen}
        given = {
            axis: chosen[axis] for axis in named if axis not in settings and chosen.get(axis) not in (None, "None")
        }
        table.append(
            {
                "kind": kind(result),
                "axes": {axis: (given | settings)[axis] for axis in named if axis in given or axis in settings},
                "trial": result.trial.id,
                "validation": None if (mean := result.mean("validation")) != mean else mean,
                "sets": {
                    score.set: {"score": score.score, "low": score.low, "high": score.high}
                    for score in result.scores
                    if score.part == "test" and score.measure == result.measure
                },
            }
        )
    order = ("floor", "untrained", "metric", "pretrained", "fine-tuned", "contaminated")
    table.sort(key=lambda row: order.index(row["kind"]))
    return with_people(table, [result for _, result in found])


def of_result(result: Result, floors: Sequence[Result] = ()) -> Table:
    """One row for each measure of one evaluated model and for each floor, chance and ceilings around."""
    rows = [(floor, floor.measure) for floor in floors]
    rows += [(result, measure) for measure in dict.fromkeys(score.measure for score in result.scores)]
    table: Table = [
        {
            "kind": kind(result),
            "axes": {"backbone": str(result.trial.backbone), "measure": measure},
            "trial": result.trial.id,
            "sets": {
                score.set: {
                    "score": score.score,
                    "low": score.low,
                    "high": score.high,
                    "accuracy": score.accuracy,
                    "n": score.n,
                }
                for score in result.scores
                if score.part == "test" and score.measure == measure
            },
        }
        for result, measure in rows
    ]
    return with_people(table, [result])


def with_people(table: Table, results: Sequence[Result]) -> Table:
    """Chance above, the human ceilings below."""
    scores: dict[str, Score] = {
        score.set: score for result in results for score in result.scores if score.part == "test"
    }
    people: Table = []
    for name, label in (("fresh_judge", "ceiling: fresh judge"), ("best", "ceiling: best")):
        sets = {s: {"score": getattr(score, name)} for s, score in scores.items() if getattr(score, name) is not None}
        if sets:
            people.append({"kind": label, "axes": {}, "sets": sets})
    chance = {"kind": "chance", "axes": {}, "sets": {s: {"score": CHANCE} for s in scores}}
    return [chance, *table, *people] if scores else table


def simulated(results: Iterable[Result]) -> bool:
    """Whether any of the judges were simulated; whatever shows the results must say so."""
    return any(result.provenance["simulated_judges"] for result in results)
