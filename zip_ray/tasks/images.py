"""Sets of labelled images, in memory or on disk; every image comes out as RGB."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from zip_ray.errors import InputError
from zip_ray.protocol.arrays import Int64
from zip_ray.tasks.decoding import LAW, as_rgb, named, read_image


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
        """SHA-256 of the images in their order (of files: their bytes, and how they are decoded), without labels.

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
    turned: bool = True
    """Whether an image is turned as its EXIF orientation says; the papers' data sets are read without."""

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        return read_image(self.paths[index], self.turned)

    def subset(self, indices: Sequence[int] | Int64) -> "FileImages":
        return replace(self, paths=tuple(self.paths[i] for i in indices), labels=self.labels[indices])

    def labelled(self, labels: Int64) -> "FileImages":
        return replace(self, labels=labels)

    def digest(self) -> str:
        digest = hashlib.sha256(f"{LAW} {self.turned}".encode())
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
        place = int(self.places[index])
        with named(f"image {place} of its data set"):
            return as_rgb(self.fetch(place))

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
