"""A data set as its source gives it, before shots are drawn and classes chosen."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, Protocol

import numpy as np

from zip_ray.config.task import TaskConfig
from zip_ray.errors import InputError
from zip_ray.tasks.images import FileImages, ImageSet

Item = tuple[str, int, str]
"""Path of an image, label, class name."""


@dataclass(frozen=True)
class Source:
    """Images by their part. A label is the place of its class in `classnames`."""

    classnames: tuple[str, ...]
    templates: tuple[str, ...]
    """Hand-written templates, the plain one first."""
    test: ImageSet
    train: ImageSet | None = None
    """Where training images are drawn from; None if the data set is for testing only."""
    val: ImageSet | None = None
    """Where validation images are drawn from; None if they are drawn from `train` too."""
    notes: tuple[str, ...] = ()
    """Remarks for the user, one line each."""
    questions: tuple[str, ...] = ()
    """Hand-written questions for generative models, the plain one first; may be empty."""
    test_of_train: bool = False
    """Whether the test images were taken from those that `train` would otherwise have."""


class DataSet(Protocol):
    """A user's task, made from its section of the config and the seed; shots are drawn from its source."""

    Options: ClassVar[type[TaskConfig]]
    """Its section of the config: `TaskConfig`, or that with fields of its own."""

    def source(self) -> Source:
        """All its images.

        Raises:
            InputError: they are missing or unreadable.
        """


@dataclass(frozen=True)
class Lists:
    """The images of a data set's three parts; a missing part is empty."""

    train: Sequence[Item]
    val: Sequence[Item]
    test: Sequence[Item] = ()


def class_name(name: str) -> str:
    """The name of a class as prompts use it: "_" read as a space, in one form of Unicode (NFC)."""
    return unicodedata.normalize("NFC", name.replace("_", " "))


def listed(lists: Lists, templates: tuple[str, ...], origin: str, published: bool = False) -> Source:
    """The source that lists describe: classes in the order of their labels, under their `class_name`.

    Args:
        lists: with paths that can be opened.
        templates: hand-written templates, the plain one first.
        origin: where the lists come from, for messages.
        published: whether they are a paper's, whose protocol is kept: images are not rotated by EXIF.

    Raises:
        InputError: two names for one label, fewer than two classes, or no test images.
    """
    names: dict[int, str] = {}
    for _, label, given in chain(lists.train, lists.val, lists.test):
        name = class_name(given)
        if names.setdefault(label, name) != name:
            raise InputError(f"{origin}: label {label} is both '{names[label]}' and '{name}': give a class one name")
    if len(names) < 2 or not lists.test:
        found = f"{len(names)} classes and {len(lists.test)} test images"
        raise InputError(
            f"{origin}: {found}: a task needs at least two classes and one test image: add what is missing"
        )
    places = {label: place for place, label in enumerate(sorted(names))}

    def images(items: Sequence[Item]) -> FileImages | None:
        labels = np.array([places[label] for _, label, _ in items], dtype=np.int64)
        return FileImages(tuple(path for path, _, _ in items), labels, turned=not published) if items else None

    test = images(lists.test)
    assert test is not None
    return Source(tuple(names[label] for label in places), templates, test, images(lists.train), images(lists.val))
