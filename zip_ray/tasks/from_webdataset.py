"""`webdataset`: tar shards of images (.jpg, .jpeg, .png, .webp) with the number of their class (.cls).

The layout is that of CLIP benchmark's shards: train/*.tar, test/*.tar, and classnames.txt with one name per line.
"""

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from zip_ray.errors import InputError
from zip_ray.protocol.arrays import Int64
from zip_ray.protocol.facts import PHOTO
from zip_ray.tasks.decoding import LAW, decode, named
from zip_ray.tasks.source import Source

SUFFIXES = ("jpg", "jpeg", "png", "webp")


@dataclass(frozen=True)
class ShardImages:
    """Images in shards. Shards can only be read from their start: the first access loads all images of this set into
    memory, still encoded."""

    shards: tuple[str, ...]
    places: Int64
    """Position of each image, counted over all shards."""
    labels: Int64

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        place = int(self.places[index])
        with named(f"image {place} of {Path(self.shards[0]).parent}"):
            return decode(BytesIO(self._encoded[place]))

    def subset(self, indices: Sequence[int] | Int64) -> "ShardImages":
        return replace(self, places=self.places[indices], labels=self.labels[indices])

    def labelled(self, labels: Int64) -> "ShardImages":
        return replace(self, labels=labels)

    def digest(self) -> str:
        digest = hashlib.sha256(LAW.encode())
        for place in self.places.tolist():
            digest.update(hashlib.sha256(self._encoded[place]).digest())
        return digest.hexdigest()

    @cached_property
    def _encoded(self) -> dict[int, bytes]:
        wanted = set(self.places.tolist())
        return {place: image for place, (image, _) in enumerate(_samples(self.shards)) if place in wanted}


def from_webdataset(root: Path) -> Source:
    """The shards below a folder. Validation images are drawn from `train` too.

    Raises:
        InputError: `webdataset` is not installed, or the folder or a shard is damaged or has another layout.
    """
    try:
        names = (root / "classnames.txt").read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"task.root: '{root}' has no classnames.txt ({error}): write one class name per line"
        ) from error
    classnames = tuple(name.strip().replace("_", " ") for name in names if name.strip())
    return Source(classnames, (PHOTO,), _part(root / "test", len(classnames)), _part(root / "train", len(classnames)))


def _part(folder: Path, classes: int) -> ShardImages:
    shards = tuple(map(str, sorted(folder.glob("*.tar"))))
    if not shards:
        raise InputError(f"task.root: '{folder}' holds no .tar shards: add them")
    labels = np.array([label for _, label in _samples(shards)], dtype=np.int64)
    if not len(labels) or not 0 <= labels.min() <= labels.max() < classes:
        raise InputError(f"task.root: the labels of '{folder}' are not the {classes} of classnames.txt: correct it")
    return ShardImages(shards, np.arange(len(labels)), labels)


def _samples(shards: tuple[str, ...]) -> Iterator[tuple[bytes, int]]:
    """Encoded image and label of each sample."""
    try:
        from webdataset import WebDataset
    except ImportError as error:
        raise InputError("task.name: webdataset needs its library: pip install 'zip-ray[webdataset]'") from error
    try:
        for sample in WebDataset(list(shards), shardshuffle=False):
            yield next(sample[suffix] for suffix in SUFFIXES if suffix in sample), int(sample["cls"])
    except (StopIteration, KeyError, ValueError, OSError, tarfile.TarError) as error:
        folder = Path(shards[0]).parent
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"task.root: a shard of '{folder}' cannot be read ({reason}): write it again") from error
