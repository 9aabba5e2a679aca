"""Everything that is registered is documented and callable by its defaults; what is not is refused with a hint."""

import inspect
from typing import Any, Literal

import pytest

from humansim.errors import BadInput
from humansim.plan import REGISTRIES
from humansim.registry import Entry, Registry
from humansim.spec import Variant

EVERY = [(registry, entry) for registry in REGISTRIES.values() for entry in registry]
IDS = [f"{registry.kind}-{entry.name}" for registry, entry in EVERY]


def in_a_small_family(registry: Registry, entry: Entry) -> tuple[Registry, str]:
    """The part in a registry of its own, where a family has the one member "member": listing timm's loads torch."""
    if not entry.is_family:
        return registry, entry.name
    small = Registry(registry.kind)
    small(**{**entry.facts, "names": lambda: ["member"]})(entry.function)
    return small, f"{entry.name}:member"


def required(entry: Entry) -> dict[str, Any]:
    """Something for each argument that has no default; all of them are names so far."""
    empty = inspect.Parameter.empty
    return {name: "x" for name, parameter in entry.arguments.items() if parameter.default is empty}


@pytest.fixture
def cakes() -> Registry:
    cake = Registry("cake")

    @cake(sweet=True)
    def sponge(*, eggs: int = 3, sugar: float = 0.5, glaze: Literal["lemon", "none"] = "none", jam: str | None = None):
        """A light one.

        With a second paragraph.
        """
        return ("sponge", eggs, sugar, glaze, jam)

    @cake()
    def layered(base: str, /, *, layers: int):
        """A tall one."""
        return (base, layers)

    @cake(names=lambda: ["apple", "apricot", "plum"])
    def tart(name: str, /, *, sour: bool = False):
        """Any tart."""
        return (name, sour)

    return cake


def test_there_is_something_of_each_kind() -> None:
    assert {registry.kind for registry, _ in EVERY} == {"source", "backbone", "paradigm", "tuning", "optimizer"}


@pytest.mark.parametrize(("registry", "entry"), EVERY, ids=IDS)
def test_every_part_says_in_one_line_what_it_is(registry: Registry, entry: Entry) -> None:
    assert entry.summary.endswith((".", ":"))
    assert 10 < len(entry.summary) <= 120


@pytest.mark.parametrize(("registry", "entry"), EVERY, ids=IDS)
def test_every_part_takes_its_own_defaults_and_its_normal_form_drops_them(registry: Registry, entry: Entry) -> None:
    registry, name = in_a_small_family(registry, entry)
    arguments = {argument: parameter.default for argument, parameter in entry.arguments.items()} | required(entry)
    assert registry.normal(Variant(name, **arguments)) == Variant(name, **required(entry))


@pytest.mark.parametrize(("registry", "entry"), EVERY, ids=IDS)
def test_every_part_refuses_an_argument_it_does_not_have(registry: Registry, entry: Entry) -> None:
    registry, name = in_a_small_family(registry, entry)
    with pytest.raises(BadInput, match="has no argument 'nonsense'"):
        registry.normal(Variant(name, **required(entry), nonsense=1))


@pytest.mark.parametrize(("registry", "entry"), EVERY, ids=IDS)
def test_every_argument_refuses_what_is_not_of_its_type(registry: Registry, entry: Entry) -> None:
    registry, name = in_a_small_family(registry, entry)
    for argument in entry.arguments:
        with pytest.raises(BadInput, match=rf"{registry.kind}\.{argument}: .*takes .*got"):
            registry.normal(Variant(name, **{**required(entry), argument: [["no argument is a list of lists"]]}))


@pytest.mark.parametrize("registry", REGISTRIES.values(), ids=REGISTRIES)
def test_a_misspelt_name_is_refused_and_near_ones_named(registry: Registry) -> None:
    first = next(iter(registry)).name
    misspelt = first[:-1] + "_"
    with pytest.raises(BadInput, match=f"unknown {registry.kind} '{misspelt}'; did you mean .*{first}"):
        registry.normal(Variant(misspelt))


def test_a_family_needs_a_member() -> None:
    for name in ("timm", "torchvision"):
        with pytest.raises(BadInput, match=rf"unknown backbone '{name}'.*{name}:<name>"):
            REGISTRIES["backbone"].entry(Variant(name))


def test_what_is_no_family_has_no_members() -> None:
    for name in ("efficientnet_lite0:x", "pixels:", "nothing:x"):
        with pytest.raises(BadInput, match=f"unknown backbone '{name}'"):
            REGISTRIES["backbone"].entry(Variant(name))


def test_an_unknown_member_is_refused_and_near_ones_named(cakes: Registry) -> None:
    with pytest.raises(BadInput, match="unknown cake 'tart:aple'; did you mean apple"):
        cakes.entry(Variant("tart:aple"))
    with pytest.raises(BadInput, match="there are 3, none with a like name"):
        cakes.entry(Variant("tart:zzz"))


def test_the_normal_form_keeps_only_what_differs_from_the_default(cakes: Registry) -> None:
    assert cakes.normal(Variant("sponge", eggs=3, sugar=0.5, glaze="none", jam=None)) == Variant("sponge")
    assert cakes.normal(Variant("sponge", eggs=4, sugar=0.5)) == Variant("sponge", eggs=4)
    assert cakes.normal(Variant("sponge", sugar=1)) == Variant("sponge", sugar=1.0)
    assert cakes.normal(Variant("tart:plum", sour=False)) == Variant("tart:plum")


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("eggs", "3"),
        ("eggs", 2.5),
        ("eggs", True),
        ("eggs", None),
        ("sugar", "much"),
        ("sugar", False),
        ("glaze", "toffee"),
        ("glaze", None),
        ("jam", 1),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_the_name_of_its_argument(
    cakes: Registry, argument: str, value: object
) -> None:
    with pytest.raises(BadInput, match=rf"cake\.{argument}: 'sponge' takes .*, got {value!r}"):
        cakes.normal(Variant("sponge", **{argument: value}))


def test_a_misspelt_argument_is_refused_and_near_ones_named(cakes: Registry) -> None:
    with pytest.raises(BadInput, match="cake 'sponge' has no argument 'suger'; did you mean sugar"):
        cakes.normal(Variant("sponge", suger=1.0))


def test_a_missing_argument_is_named(cakes: Registry) -> None:
    with pytest.raises(BadInput, match="cake 'layered' needs the argument 'layers'"):
        cakes.normal(Variant("layered"))


def test_two_parts_of_one_name_are_an_error_that_says_where_the_other_is(cakes: Registry) -> None:
    def sponge():
        """Another."""

    with pytest.raises(ValueError, match=r"two cakes are called 'sponge'.*test_registry\.py"):
        cakes()(sponge)


def test_a_part_is_made_from_what_is_given_then_its_member_then_its_arguments(cakes: Registry) -> None:
    assert cakes.make(Variant("sponge", eggs=5)) == ("sponge", 5, 0.5, "none", None)
    assert cakes.make(Variant("layered", layers=2), "nut") == ("nut", 2)
    assert cakes.make(Variant("tart:plum", sour=True)) == ("plum", True)


def test_facts_and_summary_are_known_without_calling_anything(cakes: Registry) -> None:
    entry = cakes.entry(Variant("sponge"))
    assert entry.facts == {"sweet": True}
    assert entry.summary == "A light one."
    assert [e.name for e in cakes] == ["layered", "sponge", "tart"]
