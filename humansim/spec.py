"""What is run: `Variant`, `Trial`, `Sweep`. Frozen, checked, hashed; data only.

A `Trial` holds all that can change a number and nothing else: device, paths, workers and cluster are circumstance.
Its id is a hash of its canonical JSON with the fields at their default left out, so that a new field orphans no
result. It follows that **a default in this file never changes**: `tests/test_spec.py` pins ids made long ago.
"""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)

from humansim.errors import BadInput

Scalar = str | int | float | bool | None
FOLDER_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")


def canonical(value: object) -> str:
    """Canonical JSON: sorted keys, no spaces, 1.0 written as 1, so that equal values give equal text.

    Raises:
        TypeError: the value has no stable form (NaN, an array, an object).
    """

    def plain(x: object) -> object:
        if x is None or isinstance(x, (str, bool, int)):
            return x
        if isinstance(x, float):
            if not math.isfinite(x):
                raise TypeError(f"{x} has no canonical form")
            return int(x) if x.is_integer() and abs(x) < 2**53 else x
        if isinstance(x, Mapping):
            return {str(k): plain(v) for k, v in x.items()}
        if isinstance(x, (list, tuple)):
            return [plain(v) for v in x]
        raise TypeError(f"{type(x).__name__} {x!r} has no canonical form")

    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: object, length: int = 16) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of the canonical JSON of a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


class Variant:
    """A registered name and its keyword arguments: `Variant("triplet", margin=0.5)`.

    Arguments are strings, numbers, booleans, None, or lists of these. A bare string stands for a variant without
    arguments wherever a variant is expected.
    """

    __slots__ = ("_text", "kwargs", "name")

    def __init__(self, name: str, /, **kwargs: Any) -> None:
        if not isinstance(name, str):
            raise BadInput(f"a Variant is a registered name and its arguments; {name!r} is no name")
        try:
            text = canonical([name, kwargs])
        except TypeError as error:
            raise BadInput(f"variant {name!r}: {error}; use strings, numbers, booleans or lists of these") from None
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "kwargs", MappingProxyType(kwargs))
        object.__setattr__(self, "_text", text)

    name: str
    kwargs: Mapping[str, Any]
    _text: str

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Variant is frozen; make another with .having(...)")

    def having(self, **kwargs: Any) -> "Variant":
        """The same variant with these arguments set."""
        return Variant(self.name, **{**self.kwargs, **kwargs})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Variant) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_variant, (self.plain(),))

    def __repr__(self) -> str:
        return f"Variant({', '.join([repr(self.name), *(f'{k}={v!r}' for k, v in sorted(self.kwargs.items()))])})"

    def __str__(self) -> str:
        if not self.kwargs:
            return self.name
        return f"{self.name}({', '.join(f'{k}={v}' for k, v in sorted(self.kwargs.items()))})"

    def plain(self) -> str | dict[str, Any]:
        """Its JSON form: the bare name, or {"name": ..., "arguments": {...}}."""
        return {"name": self.name, "arguments": dict(self.kwargs)} if self.kwargs else self.name


def _variant(value: object) -> Variant:
    if isinstance(value, Variant):
        return value
    if isinstance(value, str):
        return Variant(value)
    if isinstance(value, Mapping) and set(value) == {"name", "arguments"} and isinstance(value["arguments"], Mapping):
        return Variant(value["name"], **value["arguments"])
    raise ValueError(f"expected a registered name or a Variant, got {value!r}")


AsVariant = Annotated[Variant, BeforeValidator(_variant), PlainSerializer(lambda variant: variant.plain())]


def explain(error: ValidationError) -> str:
    """The first of pydantic's complaints as one line: field, what is wrong, what was given."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "value"
    given = first.get("input")
    what = first["msg"].removeprefix("Value error, ")
    models: dict[str, type[BaseModel]] = {"Trial": Trial, "Sweep": Sweep}
    if first["type"] == "extra_forbidden" and error.title in models:
        return f"{where}: there is no such field{near(where, list(models[error.title].model_fields))}"
    return f"{where}: {what}" + ("" if isinstance(given, (Mapping, BaseModel)) else f" (got {given!r})")


class Frozen(BaseModel):
    """Checked when made (strictly: "1e-3" is no number), never changed after, unknown fields refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True, allow_inf_nan=False
    )


class Trial(Frozen):
    """One training and its evaluation, or, without a paradigm, the evaluation of a pretrained backbone.

    `source` gives images and human judgements; `protocol` says which of them serve for what: under `heldout`, fit,
    validation and test share no image where the source allows it; under `heldout_images` none at all; under `thesis`
    what is fitted on is what is evaluated on, as published (results say that they are contaminated); under `all`
    every judgement is evaluated on and nothing can be trained. `fit_on` names what is fitted on: one evaluation set
    ("bapps/cnn") or the sets of one release ("bapps"); None for all of the source's. `resolution` is in pixels, None
    for the backbone's default: 224, as in the thesis, unless it says otherwise; an architecture of another fixed size
    refuses that and has to be given its own. `resize` is how an image becomes a square: squashed, as in the thesis,
    or as the publisher of the weights does it ("native": its resolution, shorter side resized, centre cut out).
    `layer` names a module of the backbone whose output is the embedding, None for its end, and `pool` how positions
    are pooled (`Backbone.read_at`). `precision` "bf16" runs the network under autocast. `threads` is here because on
    a CPU the bits of a sum depend on it. `batch_norm`: while training, normalise by each batch's statistics and adapt
    the stored ones to the data (the thesis: nothing is frozen), or keep those of pre-training ("frozen"; scale and
    shift are trained all the same). On few and alike images adapting them alone can cost ten points of 2AFC. `tuning`
    says which parameters are trained, and `head` whether the embedding that is evaluated is the backbone's, the
    projection head removed (thesis, 3.4.3), or what the head makes of it ("kept"). `workers` share each batch, each
    on a GPU (or on `threads` CPUs) of its own; it is here because batch norm's statistics are then those of a share.
    """

    source: AsVariant = Variant("sample")
    protocol: Literal["heldout", "heldout_images", "thesis", "all"] = "heldout"
    backbone: AsVariant = Variant("efficientnet_lite0")
    resolution: Annotated[int, Field(ge=8, le=4096)] | None = None
    resize: Literal["squash", "native"] = "squash"
    layer: str | None = None
    pool: Literal["mean", "class", "flat"] | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    paradigm: AsVariant | None = None
    fit_on: str | None = None
    fit_size: Annotated[int, Field(ge=1)] = 1000
    tuning: AsVariant = Variant("whole")
    head: Literal["removed", "kept"] = "removed"
    optimizer: AsVariant = Variant("adam")
    lr: Annotated[float, Field(gt=0)] = 1e-4
    epochs: Annotated[int, Field(ge=1)] = 20
    batch_size: Annotated[int, Field(ge=2)] = 64
    batch_norm: Literal["batch", "frozen"] = "batch"
    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _all_leaves_nothing_to_fit(self) -> "Trial":
        if self.paradigm is not None and self.protocol == "all":
            raise ValueError("protocol 'all' evaluates on every judgement, so nothing is left to fit on: use 'heldout'")
        return self

    @model_validator(mode="after")
    def _workers_have_equal_shares(self) -> "Trial":
        if self.batch_size % self.workers:
            raise ValueError(f"batch_size {self.batch_size} cannot be shared equally by {self.workers} workers")
        return self

    @cached_property  # it is asked for again and again; a trial never changes
    def id(self) -> str:
        """Sixteen hexadecimal digits that name this trial on every machine."""
        return digest(self.identity())

    def identity(self) -> dict[str, Any]:
        """What is hashed: the JSON form without the fields that are at their default or have no part in the trial."""
        idle = TRAINING_FIELDS if self.paradigm is None else ()
        return {
            name: value
            for name, value in self.model_dump(mode="json").items()
            if name not in idle and getattr(self, name) != type(self).model_fields[name].default
        }

    def settings(self) -> dict[str, Any]:
        """Every axis that has a part in this trial, flat: {"lr": 0.0001, "paradigm": "triplet", ...}."""
        idle = TRAINING_FIELDS if self.paradigm is None else ()
        flat: dict[str, Any] = {}
        for field in type(self).model_fields:
            value = getattr(self, field)
            if field in idle:
                continue
            flat[field] = value.name if isinstance(value, Variant) else value
            if isinstance(value, Variant):
                flat |= {f"{field}.{argument}": given for argument, given in sorted(value.kwargs.items())}
        return flat

    def __hash__(self) -> int:
        return hash(self.id)

    def having(self, settings: Mapping[str, Any]) -> "Trial":
        """The same trial with axes set. An axis is a field ("lr") or a variant's argument ("paradigm.margin").

        An argument of a paradigm is passed over where the trial has no paradigm.

        Raises:
            BadInput: an axis that does not exist, or a value that does not fit it.
        """
        values = {name: getattr(self, name) for name in type(self).model_fields}
        for axis in sorted(settings, key=lambda axis: axis.count(".")):  # fields first, then their arguments
            field, dot, argument = axis.partition(".")
            if field not in values or (dot and field not in VARIANT_FIELDS):
                raise BadInput(f"unknown axis {axis!r}{near(axis, AXES)}")
            if not dot:
                values[field] = settings[axis]
            elif values[field] is not None:
                try:
                    values[field] = _variant(values[field]).having(**{argument: settings[axis]})
                except ValueError as error:
                    raise BadInput(f"{field}: {error}") from None
        try:
            return Trial(**values)
        except ValidationError as error:
            raise BadInput(explain(error)) from None


VARIANT_FIELDS = ("source", "backbone", "paradigm", "tuning", "optimizer")
TRAINING_FIELDS = (
    *("paradigm", "fit_on", "fit_size", "tuning", "head"),
    *("optimizer", "lr", "epochs", "batch_size", "batch_norm", "workers", "seed"),
)
DEFAULTS = {
    name: field.default.name if isinstance(field.default, Variant) else field.default
    for name, field in Trial.model_fields.items()
}
AXES = (*Trial.model_fields, *(f"{field}.<argument>" for field in VARIANT_FIELDS))


def near(name: str, known: Sequence[str], most: int | None = None) -> str:
    """'; did you mean a, b? Known: ...' to end a sentence about an unknown name; nothing where none is known.

    Args:
        most: of more names than this no list is given.
    """
    import difflib

    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if not known or (most is not None and len(known) > most):
        return f"; did you mean {', '.join(close)}?" if close else ""
    return (f"; did you mean {', '.join(close)}?" if close else ".") + f" Known: {', '.join(known)}"


class Uniform(Frozen):
    """A range to search: `Uniform(low=1e-5, high=1e-3, log=True)`; `step=1` for whole numbers."""

    kind: Literal["uniform"] = "uniform"
    low: float
    high: float
    log: bool = False
    step: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _has_room(self) -> "Uniform":
        if not self.low < self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range starts above 0, not at {self.low}")
        if self.step is not None and (self.log or not self.low.is_integer() or not self.high.is_integer()):
            raise ValueError("a range of whole numbers has whole ends and is not logarithmic")
        return self

    def ends(self) -> list[Any]:
        return [self.low, self.high] if self.step is None else [int(self.low), int(self.high)]


class Choice(Frozen):
    """Values to choose from: `Choice(values=(16, 32, 64))`."""

    kind: Literal["choice"] = "choice"
    values: Annotated[tuple[Scalar, ...], Field(min_length=1, strict=False)]

    def ends(self) -> list[Any]:
        return list(self.values)


Space = Annotated[Uniform | Choice, Field(discriminator="kind")]
Settings = Annotated[dict[str, Any], PlainSerializer(lambda settings: _plain(settings))]
Grid = Annotated[dict[str, list[Any]], PlainSerializer(lambda grid: _plain(grid))]


def _plain(value: Any) -> Any:
    if isinstance(value, Variant):
        return value.plain()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


class Cell(Frozen):
    """One point of a sweep's grid: the settings that name it, and the trial that its search varies."""

    settings: Settings
    trial: Trial
    search: dict[str, Space]

    @cached_property
    def key(self) -> str:
        """Names the cell's search by what is searched around, not by how the sweep spells or orders its axes.

        Fields at their default are left out, as in a trial's id: a new field begins no search anew.
        """
        settings = self.trial.settings()
        fixed = {
            axis: value
            for axis, value in settings.items()
            if axis not in self.search and (axis not in DEFAULTS or value != DEFAULTS[axis])
        }
        return digest([fixed, {axis: space.model_dump() for axis, space in self.search.items()}])

    def __str__(self) -> str:
        return " ".join(f"{axis}={value}" for axis, value in self.settings.items()) or "(the base trial)"


class Sweep(Frozen):
    """One question: a grid of factors, and inside each of its cells a search over what is only a nuisance.

    Args:
        name: names the sweep and its MLflow experiment: letters, digits, dot, dash, underscore.
        question: what it is to find out.
        base: the trial from which all others differ only in the axes.
        grid: axis -> values, all combinations of which are asked about; or a list of such grids, joined.
        search: axis -> range, searched inside each cell for the best validation 2AFC score.
        samples: trials in each cell's search, the same number for each.
        sampler: Optuna's TPESampler (the default: multivariate, ten random samples first), GPSampler or
            RandomSampler, with its own arguments.
        pruner: Optuna's MedianPruner or PercentilePruner, with its own arguments, a step being an epoch: a sample is
            given up after the first epoch at which its best validation so far is below that of the samples it is
            compared with, those of 0 .. i - parallel that were not given up. None: every sample is trained to its end.
        repeats: how often the best trial of a cell is run in all, each time with the next seed.
        parallel: sample i of a cell is drawn from the outcomes of samples 0 .. i - parallel, whatever else is
            known by then, so that the samples do not depend on timing or interruption. More is faster on many
            devices, fewer searches better. The first ten are random and wait for nothing; with a pruner they too wait,
            once the outcomes are as many as it wants to compare with.
    """

    name: str
    question: str = ""
    base: Trial = Trial()
    grid: Annotated[list[Grid], Field(min_length=1)] = [{}]
    search: dict[str, Space] = {}
    samples: Annotated[int, Field(ge=1)] = 1
    sampler: AsVariant = Variant("TPESampler")
    pruner: AsVariant | None = None
    repeats: Annotated[int, Field(ge=1)] = 1
    parallel: Annotated[int, Field(ge=1)] = 4

    @field_validator("name")
    @classmethod
    def _is_a_folder_name(cls, name: str) -> str:
        if not FOLDER_NAME.match(name):
            raise ValueError("use letters, digits, dot, dash and underscore, starting with a letter or digit")
        return name

    @field_validator("grid", mode="before")
    @classmethod
    def _one_grid_or_several(cls, grid: object) -> object:
        grids = [grid] if isinstance(grid, Mapping) else grid
        if not isinstance(grids, Sequence):
            raise ValueError("a grid maps axes to lists of values")
        for one in grids:
            if not isinstance(one, Mapping):
                raise ValueError(f"a grid maps axes to lists of values, and {one!r} does not")
            for axis, values in one.items():
                if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                    raise ValueError(f"axis {axis!r} needs a list of values")
        return [
            {axis: [_variant(v) if isinstance(v, Mapping) else v for v in values] for axis, values in one.items()}
            for one in grids
        ]

    @model_validator(mode="after")
    def _axes_exist_and_do_not_clash(self) -> "Sweep":
        for one in self.grid:
            both = sorted(set(one) & set(self.search))
            if both:
                raise ValueError(f"axis {both[0]!r} is both in the grid and searched")
        if self.repeats > 1 and ("seed" in self.search or any("seed" in one for one in self.grid)):
            raise ValueError("repeats already vary the seed: take it out of the grid and the search")
        return self

    @property
    def title(self) -> str:
        """Its name, and its question where it has one."""
        return f"{self.name}: {self.question}" if self.question else self.name

    @property
    def axes(self) -> list[str]:
        """What is varied: the grid's axes, then those that are searched."""
        return list(dict.fromkeys([*(axis for one in self.grid for axis in one), *self.search]))

    def settings(self) -> Iterator[dict[str, Any]]:
        """Each combination of the grid's values, in order."""
        for one in self.grid:
            for values in itertools.product(*one.values()):
                yield dict(zip(one, values, strict=True))
