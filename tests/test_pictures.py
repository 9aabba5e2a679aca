"""What is seen of an image file: upright, RGB, of the size asked for; and by what near duplicates are known."""

import io
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from humansim.audit import BITS
from humansim.pictures import Pixels, Resize, phash, upright


def decode(data: bytes, resolution: int) -> Pixels:
    return Resize(resolution)(upright(data))


def encoded(picture: Image.Image, kind: str = "png", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def picture(height: int = 40, width: int = 30, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "P", "RGBA", "CMYK", "1"])
def test_every_kind_of_image_becomes_rgb_of_the_size_asked_for(mode: str) -> None:
    data = encoded(picture().convert(mode), "tiff" if mode == "CMYK" else "png")
    pixels = decode(data, 16)
    assert (pixels.shape, pixels.dtype) == ((16, 16, 3), np.uint8)
    assert pixels.std() > 5


def test_sixteen_bits_of_grey_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    pixels = decode(encoded(Image.fromarray(ramp)), 32)
    assert np.abs(pixels[..., 0].astype(int) - ramp // 256).max() <= 2


def test_an_image_of_the_right_size_keeps_its_pixels() -> None:
    one = picture(16, 16)
    assert (decode(encoded(one), 16) == np.asarray(one)).all()


def test_images_are_squashed_bicubically_not_cropped() -> None:
    one = picture(40, 30)
    assert (decode(encoded(one), 16) == np.asarray(one.resize((16, 16), Image.Resampling.BICUBIC))).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_upright_as_their_exif_says(orientation: int) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL's names for how the camera was held
    upright = picture(24, 16)
    stored = upright
    if orientation > 1:
        stored = upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert (decode(encoded(stored, exif=exif), 16) == decode(encoded(upright), 16)).all()


PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "brick", "grass", "gravel")


def test_near_duplicates_have_near_hashes_and_other_photographs_far_ones() -> None:
    hashes = []
    for name in PHOTOGRAPHS:
        one = Image.open(Path(skimage.__file__).parent / "data" / f"{name}.png").convert("RGB")
        small, narrow = one.resize((120, 90), Image.Resampling.LANCZOS), one.resize((224, 224))
        copies = [encoded(one), encoded(one, "jpeg", quality=30), encoded(small), encoded(narrow, "jpeg", quality=60)]
        hashes.append([phash(upright(data)) for data in copies])
    for first, *others in hashes:
        assert all((first ^ other).bit_count() <= BITS for other in others)
    for i in range(len(hashes)):
        for other in hashes[:i]:
            assert (hashes[i][0] ^ other[0]).bit_count() > 1.5 * BITS


def test_plain_pictures_have_one_hash() -> None:
    assert {phash(Image.new("RGB", (17, 90), (grey, grey, grey))) for grey in range(0, 256, 5)} == {0}
