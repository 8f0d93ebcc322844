"""Image files as RGB, as a browser shows them: rotated by EXIF, transparency on white, wide greys scaled."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from zip_ray.errors import InputError

LAW = "turned, scaled"
"""Version of the decoding, part of digests: features that were kept under another version are not reused."""
SIXTEEN_BITS = 65535


def read_image(path: Path | str, turned: bool = True) -> Image.Image:
    """An image file as RGB.

    Args:
        path: of the file.
        turned: whether it is turned as its EXIF orientation says.

    Raises:
        InputError: the file is missing, truncated or no image, or its range of values is not plain.
    """
    with named(str(path)), Path(path).open("rb") as file:  # given a path, Pillow 12.3 garbles a TIFF that says "turned"
        return decode(file, turned)


def decode(file: BinaryIO, turned: bool = True) -> Image.Image:
    """An image in any encoding as RGB; errors are Pillow's own."""
    with Image.open(file) as image:
        return as_rgb(image, turned)


@contextmanager
def named(image: str) -> Iterator[None]:
    """Say which image it is that Pillow cannot decode.

    Raises:
        InputError: in place of Pillow's errors.
    """
    try:
        yield
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        unknown = isinstance(error, UnidentifiedImageError)  # whose message has a Python object in it
        reason = "not in a format that Pillow reads" if unknown else " ".join(str(error).split())
        raise InputError(f"{image}: unreadable image ({reason}): replace or remove the file") from error


def as_rgb(image: Image.Image, turned: bool = True) -> Image.Image:
    """An image as RGB; transparency is laid on white, greys of more than 8 bits are scaled to 8.

    Args:
        image: that is open.
        turned: whether it is turned as its EXIF orientation says.

    Raises:
        ValueError: a mode that Pillow does not convert, or a range of values that is not plain.
    """
    if turned:
        image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return _narrowed(image).convert("RGB")
    if image.has_transparency_data:
        layered = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        paper = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(paper, layered).convert("RGB")
    return image.convert("RGB")


def _narrowed(image: Image.Image) -> Image.Image:
    """An image of 16-bit, 32-bit or float greys in 8 bits; `convert` would cut them off at 255."""
    values = np.asarray(image).astype(np.float64)
    lowest, highest = values.min(), values.max()
    top = _top(image.mode, float(highest))
    if not 0 <= lowest <= highest <= top:
        found = f"mode {image.mode}, values from {lowest:g} to {highest:g}"
        raise ValueError(f"{found}, which is not a supported range of greys; save it in 8 or 16 bits")
    shown = np.rint(values * (255 / top))
    clear = image.info.get("transparency")
    if isinstance(clear, int):  # of a 16-bit PNG: the value that is transparent
        shown[values == clear] = 255
    return Image.fromarray(shown.astype(np.uint8))


def _top(mode: str, highest: float) -> int:
    """The value that is white: of floats 1 or 255, of 32-bit integers 255 or that of 16 bits, which else is white."""
    if mode == "F":
        return 1 if highest <= 1 else 255
    return 255 if mode == "I" and highest <= 255 else SIXTEEN_BITS
