"""Sets of labelled images, in memory or on disk; every image comes out as RGB."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from zip_ray.errors import InputError
from zip_ray.protocol.arrays import Int64


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

    def labelled(self, labels: Int64) -> "ImageSet":
        """The same images under other labels, shape (n,)."""

    def digest(self) -> str:
        """SHA-256 of the images in their order (of file bytes, if they are files), without labels.

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

    def labelled(self, labels: Int64) -> "ArrayImages":
        return replace(self, labels=labels)

    def digest(self) -> str:
        return hashlib.sha256(str(self.pixels.shape).encode() + self.pixels.tobytes()).hexdigest()


@dataclass(frozen=True)
class FileImages:
    """Images on disk, opened when they are needed."""

    paths: tuple[str, ...]
    """Strings, since a pool may hold a million of them."""
    labels: Int64

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        return read_image(self.paths[index])

    def subset(self, indices: Sequence[int] | Int64) -> "FileImages":
        return FileImages(tuple(self.paths[i] for i in indices), self.labels[indices])

    def labelled(self, labels: Int64) -> "FileImages":
        return replace(self, labels=labels)

    def digest(self) -> str:
        digest = hashlib.sha256()
        for path in self.paths:
            try:
                digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
            except OSError as error:
                raise InputError(f"{path}: unreadable image ({error.strerror}): replace or remove the file") from error
        return digest.hexdigest()


@dataclass(frozen=True)
class LazyImages:
    """Images that another library holds, fetched when they are needed."""

    fetch: Callable[[int], Image.Image]
    """The image at a place."""
    places: Int64
    labels: Int64

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        return as_rgb(self.fetch(int(self.places[index])))

    def subset(self, indices: Sequence[int] | Int64) -> "LazyImages":
        return replace(self, places=self.places[indices], labels=self.labels[indices])

    def labelled(self, labels: Int64) -> "LazyImages":
        return replace(self, labels=labels)

    def digest(self) -> str:
        digest = hashlib.sha256()
        for image in map(self.image, range(len(self))):
            digest.update(str(image.size).encode() + image.tobytes())
        return digest.hexdigest()


def each_image(images: ImageSet) -> Iterator[Image.Image]:
    """The images of a set, in their order.

    Raises:
        InputError: a file cannot be read.
    """
    return (images.image(i) for i in range(len(images)))


def read_image(path: Path | str) -> Image.Image:
    """An image file as RGB.

    Raises:
        InputError: the file is missing, truncated or no image.
    """
    return decode(path, str(path))


def decode(file: Path | str | BinaryIO, name: str) -> Image.Image:
    """An image in any encoding as RGB; `name` says in messages which it is.

    Raises:
        InputError: the file is missing, truncated or no image.
    """
    try:
        with Image.open(file) as image:
            return as_rgb(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name}: unreadable image ({reason}): replace or remove the file") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """An image as RGB; transparency is laid on white, as a browser shows it."""
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        paper = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(paper, layered).convert("RGB")
    return image.convert("RGB")
