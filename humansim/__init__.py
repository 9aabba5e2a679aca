"""humansim: which image model judges similarity as people do, and what makes it better at it?"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from humansim.loading import load as load
    from humansim.metric import Metric as Metric


def __getattr__(name: str) -> Any:
    """`humansim.load` and `humansim.Metric`; with them comes torch, which whoever wants neither does not wait for."""
    if name == "load":
        from humansim.loading import load

        return load
    if name == "Metric":
        from humansim.metric import Metric

        return Metric
    raise AttributeError(f"module 'humansim' has no attribute {name!r}")
