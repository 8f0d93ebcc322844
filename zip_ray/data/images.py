"""Sets of labelled images, in memory or on disk; every image comes out as RGB."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from zip_ray.errors import InputError
from zip_ray.work import Int64


class ImageSet(Protocol):
    """Labelled images."""

    @property
    def labels(self) -> Int64:
        """Class of each image, shape (n,)."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image:
        """One image, RGB.

        Raises:
            InputError: its file cannot be read.
        """

    def subset(self, indices: Sequence[int] | Int64) -> "ImageSet":
        """The images of these indices, in this order."""

    def digest(self) -> str:
        """SHA-256 of the images in their order, of file bytes where they are files; labels are not part of it.

        Raises:
            InputError: a file cannot be read.
        """


@dataclass(frozen=True)
class ArrayImages:
    """Images in memory."""

    pixels: npt.NDArray[np.uint8]
    """Shape (n, height, width, 3)."""
    labels: Int64

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])

    def subset(self, indices: Sequence[int] | Int64) -> "ArrayImages":
        return ArrayImages(self.pixels[indices], self.labels[indices])

    def digest(self) -> str:
        return hashlib.sha256(str(self.pixels.shape).encode() + self.pixels.tobytes()).hexdigest()


@dataclass(frozen=True)
class FileImages:
    """Images on disk, opened when they are asked for."""

    paths: tuple[Path, ...]
    labels: Int64

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        return read_image(self.paths[index])

    def subset(self, indices: Sequence[int] | Int64) -> "FileImages":
        return FileImages(tuple(self.paths[i] for i in indices), self.labels[indices])

    def digest(self) -> str:
        digest = hashlib.sha256()
        for path in self.paths:
            try:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
            except OSError as error:
                raise InputError(f"{path}: unreadable image ({error.strerror}): replace or remove the file") from error
        return digest.hexdigest()


def read_image(path: Path) -> Image.Image:
    """An image file as RGB; transparency is laid on white, as a browser shows it.

    Raises:
        InputError: the file is missing, truncated or no image.
    """
    try:
        with Image.open(path) as image:
            if image.has_transparency_data:
                layered = image.convert("RGBA")
                paper = Image.new("RGBA", layered.size, "white")
                return Image.alpha_composite(paper, layered).convert("RGB")
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: unreadable image ({reason}): replace or remove the file") from error
