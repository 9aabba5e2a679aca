"""Colours are told apart with every kind of colour vision, simulated."""

import itertools

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from analysis.figures.forests import OUTCOMES
from analysis.figures.heat import SHADES
from analysis.figures.look import PALE, PALETTE
from analysis.figures.subjects import LOOKS, SUPERVISIONS

with np.printoptions():  # importing it changes how numbers are written, of all that is written afterwards
    import colour

VISIONS = (None, "Deuteranomaly", "Protanomaly", "Tritanomaly")
APART = 20.0  # CAM02-UCS; about 1 is the least that is seen at all side by side. Okabe and Ito's palette has 11
OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")


def seen(colours: list[tuple[float, float, float]], vision: str | None) -> np.ndarray:
    """Where colours lie in CAM02-UCS [n, 3], as seen without one kind of cone (Machado et al. 2009, severity 1)."""
    linear = colour.models.eotf_sRGB(np.array(colours))
    if vision is not None:
        linear = np.clip(linear @ colour.matrix_cvd_Machado2009(vision, 1.0).T, 0, 1)
    return np.asarray(colour.XYZ_to_CAM02UCS(colour.RGB_to_XYZ(linear, "sRGB")))


def least(colours: list[str], vision: str | None) -> float:
    at = seen([to_rgb(one) for one in colours], vision)
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(at, 2))


# Machado's model shifts what the other two lack; of tritanopia, which it only approximates, it says so.
@pytest.mark.filterwarnings("ignore:.*simulation of tritanomaly")
@pytest.mark.parametrize("vision", VISIONS)
def test_any_two_colours_are_far_apart(vision: str | None) -> None:
    assert least(list(PALETTE.values()), vision) > APART
    assert least([*PALETTE.values(), PALE], vision) > 9  # the shade behind them
    assert least(list(PALETTE.values()), vision) > least(list(OKABE_ITO), vision) or vision is None


@pytest.mark.filterwarnings("ignore:.*simulation of tritanomaly")
@pytest.mark.parametrize("vision", VISIONS)
def test_shades_grow_lighter_all_the_way(vision: str | None) -> None:
    lightness = seen([to_rgb(colormaps[SHADES](share)) for share in np.linspace(0, 1, 40)], vision)[:, 0]
    assert (np.diff(lightness) > 0).all()
    assert lightness[-1] - lightness[0] > 60


def test_markers_say_it_too() -> None:
    assert len({marker for _, marker in LOOKS.values()}) == len(LOOKS)
    assert len({colour for colour, _ in LOOKS.values()}) == len(LOOKS)
    assert len(set(SUPERVISIONS.values())) == len(SUPERVISIONS)
    assert len({(marker, filled) for _, marker, filled in OUTCOMES.values()}) == len(OUTCOMES)
