"""Images that cannot be decoded: found, and left out of a data set where the config says so."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np

from zip_ray.errors import InputError
from zip_ray.tasks.asked_images import QuestionImages
from zip_ray.tasks.counted import counted
from zip_ray.tasks.from_webdataset import ShardImages
from zip_ray.tasks.images import FileImages, ImageSet, LazyImages
from zip_ray.tasks.source import Source

Place = str | int
"""What an image is known by in its data set: its path, or its place there."""
ON_DISK = (FileImages, LazyImages, ShardImages, QuestionImages)
NAMED = 5
"""Unreadable images that a remark names."""


def unreadable(images: ImageSet) -> dict[Place, str]:
    """Why an image cannot be decoded, by its place. Every image is opened; those in memory are decoded already."""
    found: dict[Place, str] = {}
    if not isinstance(images, ON_DISK):
        return found
    for index, place in enumerate(counted(places(images), len(images), "opening")):
        try:
            images.image(index)
        except InputError as error:
            found[place] = str(error)
    return found


def readable(source: Source, drawn: Callable[[Source], tuple[ImageSet, ImageSet]]) -> Source:
    """The data set without unreadable test images, and without the unreadable ones among those that are drawn.

    Only these are opened: others are drawn in their place, until all can be read.

    Args:
        source: the data set.
        drawn: its training and validation images.
    """
    found = unreadable(source.test)
    source = _without(source, found)
    while more := {place: why for part in drawn(source) for place, why in unreadable(part).items()}:
        found |= more
        source = _without(source, more)
    return replace(source, notes=(*source.notes, _remark(found))) if found else source


def sample(images: ImageSet, count: int) -> ImageSet:
    """At most `count` images, evenly spread over the set."""
    if len(images) <= count:
        return images
    return images.subset(np.linspace(0, len(images) - 1, count).astype(np.int64))


def places(images: ImageSet) -> Sequence[Place]:
    """The place of each image."""
    if isinstance(images, QuestionImages):
        return places(images.images)
    if isinstance(images, FileImages):
        return images.paths
    return images.places.tolist() if isinstance(images, LazyImages | ShardImages) else range(len(images))


def _without(source: Source, left_out: Collection[Place]) -> Source:
    def kept(images: ImageSet) -> ImageSet:
        if not isinstance(images, ON_DISK):
            return images
        return images.subset([i for i, place in enumerate(places(images)) if place not in left_out])

    train, val = (None if part is None else kept(part) for part in (source.train, source.val))
    return replace(source, test=kept(source.test), train=train, val=val)


def _remark(found: dict[Place, str]) -> str:
    names = ", ".join(str(place) for place in [*found][:NAMED])
    images = "image" if len(found) == 1 else "images"
    return f"{len(found)} unreadable {images} left out: {names}{', ...' if len(found) > NAMED else ''}"
