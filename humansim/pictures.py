"""From an image file's bytes to pixels as people see them, and to a hash of what they look like."""

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Pixels = NDArray[np.uint8]

HASHED = 32  # pixels square of which a perceptual hash is taken


Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True)
class Resize:
    """How a picture of any shape becomes a square one.

    Attributes:
        resolution: pixels of its side.
        shorter: the shorter side is brought to this many pixels, and the centre is cut out; None: the whole picture is
            squashed into the square, as the thesis does (4.1).
        interpolation: Pillow's, antialiased.
    """

    resolution: int
    shorter: int | None = None
    interpolation: Interpolation = "bicubic"

    @property
    def name(self) -> str:
        """Names the rule, as in `squash-bicubic-224` or `crop-bilinear-256-224`."""
        if self.shorter is None:
            return f"squash-{self.interpolation}-{self.resolution}"
        return f"crop-{self.interpolation}-{self.shorter}-{self.resolution}"

    def __call__(self, picture: Image.Image) -> Pixels:
        """The picture as [resolution, resolution, 3]; sizes are rounded and centred as torchvision does."""
        filter_ = Image.Resampling[self.interpolation.upper()]
        side = self.resolution
        if self.shorter is None:
            return np.asarray(picture.resize((side, side), filter_))
        wide, high = picture.size
        if wide <= high:
            size = (self.shorter, int(self.shorter * high / wide))
        else:
            size = (int(self.shorter * wide / high), self.shorter)
        left, top = (round((length - side) / 2.0) for length in size)
        return np.asarray(picture.resize(size, filter_).crop((left, top, left + side, top + side)))


def upright(data: bytes) -> Image.Image:
    """An image file as an RGB picture of its own size, turned as its EXIF says."""
    with Image.open(io.BytesIO(data)) as picture:
        return as_seen(picture)


def as_seen(picture: Image.Image) -> Image.Image:
    """A picture in RGB, turned as its EXIF says."""
    turned = ImageOps.exif_transpose(picture)
    if turned.mode.startswith("I;16"):  # Pillow would clip sixteen bits of grey to eight, not scale them
        turned = Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
    return turned.convert("RGB")


def phash(picture: Image.Image) -> int:
    """64 bits that hardly change with size and compression: pHash (Zauner 2010), the signs of low frequencies.

    Of the picture in grey at 32 x 32 the 8 x 8 lowest frequencies but those of rows and columns alone, each above
    their median or not, from the lowest on.
    """
    from scipy.fft import dctn

    grey = picture.convert("L").resize((HASHED, HASHED), Image.Resampling.BICUBIC, reducing_gap=2)  # 5 times as fast
    low = dctn(np.asarray(grey, dtype=np.float64), norm="ortho")[1:9, 1:9].round(
        6
    )  # rounded: a plain picture's zeros have no sign
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")
