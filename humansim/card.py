"""What people should know of a metric, as a page of Markdown: the model card of an exported folder."""

from collections.abc import Sequence
from typing import Any

from humansim.audit import of_images
from humansim.backbones import backbone
from humansim.results import Result, Score
from humansim.scores import CHANCE
from humansim.spec import Variant
from humansim.tables import kind

UNKNOWN = "unknown"
SIMULATED = "**The judges were simulated: these numbers say nothing about people.**"


def licence_of(variant: Variant) -> str:
    """What its publisher says of the licence of a backbone's weights; "unknown" where nothing is known."""
    if variant.kwargs.get("weights") == "random" or variant.name.startswith("miniature:"):
        return "none: random weights"
    known = backbone.entry(variant).facts.get("licence", UNKNOWN)
    if callable(known):
        member = variant.name.partition(":")[2]
        return str(known(*([member] if member else []), **variant.kwargs))
    return str(known)


def written(result: Result, calibration: dict[str, Any], sweeps: Sequence[str], beside: Sequence[Result] = ()) -> str:
    """The page, from its front matter to its licence; `beside` as for `in_short`."""
    others = "".join(f" {kind(one)} `{one.trial.backbone}` |" for one in beside)
    trial, made = result.trial, result.provenance
    how = "as pre-trained" if trial.paradigm is None else f"fine-tuned by `{trial.paradigm}`"
    weights, judges = made["weights"], "simulated judges" if made["simulated_judges"] else "people"
    settings = "\n".join(f"| {axis} | {value} |" for axis, value in trial.settings().items())
    return f"""---
library_name: humansim
pipeline_tag: image-feature-extraction
tags: [perceptual-similarity]
---
# {trial.backbone}, {how}, as a perceptual metric

{SIMULATED if made["simulated_judges"] else "Judged against people's choices."} {_leakage(result)}

```python
import humansim

metric = humansim.load("this folder")
metric.distance("a.png", "b.png")
```

## Scores

2AFC on the test part under `{result.measure}`, in per cent; chance is {100 * CHANCE:.0f}. "Fresh judge" is what a
person who did not vote would score, "best" what no metric can exceed.

| set | triplets | score | 95 % interval | accuracy | fresh judge | best |{others}
|---|---|---|---|---|---|---|{"---|" * len(beside)}
{_scores(result, beside)}

## Calibration

P(b is closer) = sigmoid((d(query, a) - d(query, b)) / temperature), the temperature by maximum likelihood on the votes
of the validation part. Brier score and expected calibration error (ECE), at temperature 1 and as calibrated:

| measure | temperature | part | triplets | Brier before | after | ECE before | after |
|---|---|---|---|---|---|---|---|
{_calibrated(calibration)}

## Where it comes from

| | |
|---|---|
| trial | `{trial.id}`, of the sweep {", ".join(sweeps) or UNKNOWN} |
| judgements | {trial.source}, {judges}, SHA-256 `{made["data"][:16]}` |
| weights | {weights["origin"]}, before fine-tuning SHA-256 `{weights["fingerprint"][:16]}` |
| licence of the weights | {licence_of(trial.backbone)} |
| licence of the judgements and images | {UNKNOWN}: see their publisher |
| made with | {", ".join(f"{name} {version}" for name, version in made["versions"].items())}, {made["device"]} |

## The trial

| | |
|---|---|
{settings}
"""


def in_short(
    result: Result, calibration: dict[str, Any], sweeps: Sequence[str], beside: Sequence[Result], address: str
) -> str:
    """The same in a few lines, for the description of a registered model's version.

    Args:
        beside: results to see the scores beside: floor, untrained, pretrained.
        address: `models:/name`.
    """
    trial = result.trial
    others = [(one, {s.set: s for s in _tested(one)}) for one in beside]
    columns = ["set", "score", "95 % interval", *(f"{kind(one)} `{one.trial.backbone}`" for one, _ in others)]
    rows = [
        [
            f"{s.set} ({s.n} triplets)",
            f"**{_points(s.score)}**",
            f"{_points(s.low)} to {_points(s.high)}",
            *(_points(there[s.set].score if s.set in there else None) for _, there in others),
            _points(s.best),
        ]
        for s in _tested(result)
    ]
    table = [[*columns, "best possible"], ["---"] * (len(columns) + 1), *rows]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in table)
    one = calibration.get(result.measure)
    part = None if one is None else one.test or one.validation
    calibrated = "Not calibrated: the trial had no validation part."
    if one is not None and part is not None:
        calibrated = (
            f"Calibrated on votes: temperature {one.temperature:.4g}; on {part.part}, Brier score {part.brier:.4f} "
            f"({part.brier_uncalibrated:.4f} before), ECE {part.ece:.4f}."
        )
    how = "" if trial.paradigm is None else f", fine-tuned by {trial.paradigm}"
    judged = SIMULATED if result.provenance["simulated_judges"] else "Judged against people's choices."
    return f"""\
**{trial.backbone}{how}**: trial `{trial.id}` of the sweep {", ".join(sweeps) or UNKNOWN}. {judged} {_leakage(result)}

2AFC on the test part under `{result.measure}`, in per cent; chance is {100 * CHANCE:.0f}:

{lines}

{calibrated} Licence of the weights: {licence_of(trial.backbone)}. Load it: `humansim.load("{address}/VERSION")`
"""


def _leakage(result: Result) -> str:
    shared = result.provenance["shared"]
    if shared.get("contaminated"):
        return "**Contaminated: it was fitted on what it is evaluated on.**"
    if result.trial.paradigm is None:
        what = "Nothing was fitted"
    else:
        counts = shared["test"] | {"images": of_images(shared)}
        test = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
        what = f"What it was fitted on shares with the test part: {test}"
    pretraining = "; ".join(f"{name}: {said}" for name, said in shared.get("pretraining", {}).items())
    return f"{what}. Pre-training: {pretraining or UNKNOWN}."


def _scores(result: Result, beside: Sequence[Result]) -> str:
    others = [{s.set: s.score for s in _tested(one)} for one in beside]
    return "\n".join(
        f"| {s.set} | {s.n} | {_points(s.score)} | {_points(s.low)} to {_points(s.high)} | {_points(s.accuracy)} "
        f"| {_points(s.fresh_judge)} | {_points(s.best)} |{''.join(f' {_points(o.get(s.set))} |' for o in others)}"
        for s in _tested(result)
    )


def _tested(result: Result) -> list[Score]:
    return [s for s in result.scores if s.part == "test" and s.measure == result.measure]


def _points(share: float | None) -> str:
    return UNKNOWN if share is None else f"{100 * share:.2f}"


def _calibrated(calibration: dict[str, Any]) -> str:
    rows = [
        f"| {measure} | {one.temperature:.4g} | {part.part} | {part.n} | {part.brier_uncalibrated:.4f} "
        f"| {part.brier:.4f} | {part.ece_uncalibrated:.4f} | {part.ece:.4f} |"
        for measure, one in calibration.items()
        for part in (one.validation, one.test)
        if part is not None
    ]
    return "\n".join(rows) or "| none: the trial had no validation part | | | | | | | |"
