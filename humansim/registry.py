"""Named parts: a variant is a function from keyword arguments to the working thing; one decorator adds one.

There is one `Registry` for each kind of part: `sources.source`, `backbones.backbone`, `paradigms.paradigm`,
`tunings.tuning`, `optimizers.optimizer`. The name is the function's name. A function whose first parameter is `name` is
a family: `timm:resnet18` calls `timm("resnet18")`. Parts from outside (`own`) are loaded
when a registry is first asked.
"""

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from humansim import own
from humansim.errors import BadInput
from humansim.spec import Variant, canonical, near


@dataclass(frozen=True)
class Entry:
    """A registered function and what is known of it without calling it."""

    name: str
    function: Callable[..., Any]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @cached_property
    def arguments(self) -> dict[str, inspect.Parameter]:
        """Its keyword-only parameters: what a variant may set."""
        parameters = inspect.signature(self.function).parameters
        return {name: p for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}

    @property
    def is_family(self) -> bool:
        return "names" in self.facts


class Registry:
    """The parts of one kind, by name."""

    def __init__(self, kind: str, facts: Sequence[str] = (), needed: Sequence[str] = ()) -> None:
        """For parts of one kind.

        Args:
            facts: that may be known of one; none: whatever one says.
            needed: those that have to be, but of a family whose members have facts of their own (`of`).
        """
        self.kind, self.facts_known, self.facts_needed = kind, facts, needed
        self._entries: dict[str, Entry] = {}

    def __call__(self, **facts: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator: register the function under its own name, with facts that are known without calling it."""

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            name = function.__name__
            at = f"@{self.kind} of {name!r} in {inspect.getsourcefile(function)}"
            for fact in facts:
                if self.facts_known and fact not in self.facts_known:
                    raise BadInput(f"{at}: no such fact as {fact!r}{near(fact, self.facts_known)}")
            for fact in self.facts_needed:
                if fact not in facts and "of" not in facts:
                    raise BadInput(f"{at}: {fact} is missing; write @{self.kind}({fact}=...)")
            if name in self._entries:
                other = inspect.getsourcefile(self._entries[name].function)
                raise BadInput(f"two {self.kind}s are called {name!r}: the other is in {other}; rename one of them")
            self._entries[name] = Entry(name, function, facts)
            own.registering(self.kind, name, function)
            return function

        return register

    def __iter__(self) -> typing.Iterator[Entry]:
        own.ready()
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))

    def entry(self, variant: Variant) -> Entry:
        """The entry that a variant names.

        Raises:
            BadInput: no part of this kind has that name.
        """
        own.ready()
        stem, colon, member = variant.name.partition(":")
        entry = self._entries.get(stem)
        if entry is None and own.recall(self.kind, stem):
            entry = self._entries.get(stem)
        if entry is None or bool(colon) != entry.is_family:
            known = [e.name + (":<name>" if e.is_family else "") for e in self]
            raise BadInput(f"unknown {self.kind} {variant.name!r}{near(variant.name, known)}{own.why_missing()}")
        if colon and member not in entry.facts.get("known", ()) and member not in (names := entry.facts["names"]()):
            raise BadInput(f"unknown {self.kind} {variant.name!r}{_near_few(member, names)}")
        return entry

    def facts(self, variant: Variant) -> dict[str, Any]:
        """What is known of a variant without making it: its entry's facts, and its own as the member of a family."""
        known = self.entry(variant).facts
        return {**known, **known["of"](variant.name.partition(":")[2])} if "of" in known else known

    def normal(self, variant: Variant) -> Variant:
        """The variant without the arguments that are at their default: one spelling, one identity.

        Raises:
            BadInput: unknown name, unknown or missing argument, or a value of the wrong type.
        """
        entry = self.entry(variant)
        kept = {}
        for name, value in variant.kwargs.items():
            parameter = entry.arguments.get(name)
            if parameter is None:
                known = list(entry.arguments)
                raise BadInput(f"{self.kind} {variant.name!r} has no argument {name!r}{near(name, known)}")
            hint = parameter.annotation
            if not _fits(value, hint):
                wanted = _spelt(hint)
                raise BadInput(f"{self.kind}.{name}: {variant.name!r} takes {wanted}, got {value!r}")
            if parameter.default is inspect.Parameter.empty or canonical(value) != canonical(parameter.default):
                kept[name] = value
        for name, parameter in entry.arguments.items():
            if parameter.default is inspect.Parameter.empty and name not in kept:
                raise BadInput(f"{self.kind} {variant.name!r} needs the argument {name!r}")
        return Variant(variant.name, **kept)

    def make(self, variant: Variant, *given: Any) -> Any:
        """Call the variant's function: `given` comes first, then a family's member name, then the arguments."""
        entry = self.entry(variant)
        _, colon, member = variant.name.partition(":")
        return entry.function(*given, *([member] if colon else []), **variant.kwargs)


def _spelt(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return f"a list of {_spelt(typing.get_args(hint)[0])}"
    return getattr(hint, "__name__", None) or str(hint).replace("typing.", "")


def _near_few(name: str, names: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    return f"; did you mean {', '.join(close)}?" if close else f"; there are {len(names)}, none with a like name"


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value fits an annotation: of bool, int, float, str, None, Literal, unions and tuples of these."""
    origin = typing.get_origin(hint)
    if hint is Any:
        return True
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if origin is tuple:  # a list in JSON and on the command line
        return isinstance(value, (list, tuple)) and all(_fits(item, typing.get_args(hint)[0]) for item in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return value is None if hint in (None, type(None)) else isinstance(value, hint)
