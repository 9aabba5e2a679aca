"""Sources of human judgements: `name(root, /, **arguments) -> Judgements`. One file and `@source()` add one."""

from humansim.judgements import Judgements
from humansim.registry import Registry
from humansim.root import Root
from humansim.spec import Variant

source = Registry("source")

from humansim.sources import sample, table  # noqa: E402, F401


def read(variant: Variant, root: Root) -> Judgements:
    """The judgements of a source.

    Raises:
        BadInput: unknown source, or its files are missing or wrong.
    """
    judgements: Judgements = source.make(variant, root)
    return judgements
