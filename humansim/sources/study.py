"""The three releases of the study as one source with its 11 evaluation sets, and a small simulated twin of it."""

from dataclasses import replace
from typing import Literal

from humansim.errors import BadInput
from humansim.judgements import Judgements, joined
from humansim.root import Root, made_whole
from humansim.sources import source
from humansim.sources.bapps import BAPPS, bapps
from humansim.sources.psiz import BIRDS16, HSJ, birds16, hsj
from humansim.spec import digest

SETS = (*BAPPS, *HSJ, *BIRDS16)
MADE_BY = 1  # raise it when what the simulation writes changes


@source(sets=SETS)
def study(root: Root, /, *, size: int | Literal["all"] = 1000, seed: int = 0) -> Judgements:
    """BAPPS (val), ImageNet-HSJ and Birds-16 together: the 11 evaluation sets of the thesis (4.2).

    Args:
        size: triplets of each set that are evaluated, or "all". 1000, as in the thesis, cannot tell two good models
            apart: differences under about two points need more.
        seed: of the draw of these triplets.
    """
    return joined("study", _read(root, size, seed))


@source(sets=SETS, simulated=True)
def simulated(
    root: Root, /, *, size: int | Literal["all"] = 40, per_set: int = 100, trials: int = 1200, seed: int = 0
) -> Judgements:
    """The study's 11 sets, small, from simulated releases in their raw forms; photographs are real, judges are not.

    Args:
        size: triplets of each set that are evaluated, or "all".
        per_set: triplets in each of BAPPS's sets, 40 to 120.
        trials: trials of Birds-16 and of ImageNet-HSJ, 600 to 5000.
        seed: of the simulation and of the draw.
    """
    if not (40 <= per_set <= 120 and 600 <= trials <= 5000 and seed >= 0):
        raise BadInput("source simulated: per_set goes from 40 to 120, trials from 600 to 5000, seed from 0")
    from humansim.sources.simulated_bapps import write_bapps
    from humansim.sources.simulated_psiz import write_birds16, write_hsj

    folder = root.path / "sample" / f"releases-{digest([MADE_BY, per_set, trials, seed], 8)}"
    with made_whole(folder) as aside:
        if aside is not None:
            write_bapps(aside / "bapps", per_set=per_set, seed=seed)
            write_hsj(aside / "hsj", trials=trials, seed=seed)
            write_birds16(aside / "birds16", trials=trials, seed=seed)
    parts = _read(replace(root, data=folder), size, seed)
    return joined("simulated", [replace(part, simulated=True, counts=()) for part in parts])


def _read(root: Root, size: int | Literal["all"], seed: int) -> list[Judgements]:
    if size != "all" and size < 1:
        raise BadInput(f"source.size: {size} triplets of each set cannot be evaluated; give 1 or more, or 'all'")
    found, missing = [], []
    for release in (bapps, hsj, birds16):
        try:
            found.append(release(root, size=size, seed=seed))
        except BadInput as error:  # all that is missing, at once
            missing.append(str(error))
    if missing:
        raise BadInput("; ".join(missing))
    return found
