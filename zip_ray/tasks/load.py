"""A task by its name: built in, a data set that is laid out in a known way, or a user's own images."""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zip_ray import registry
from zip_ray.config.task import BUILT_IN, TaskConfig
from zip_ray.errors import InputError
from zip_ray.tasks.asked_images import QuestionImages
from zip_ray.tasks.builtin.catalogue import built_in
from zip_ray.tasks.coop.few_shot_task import coop
from zip_ray.tasks.few_shot import draw
from zip_ray.tasks.from_huggingface import from_huggingface
from zip_ray.tasks.from_torchvision import from_torchvision
from zip_ray.tasks.from_webdataset import from_webdataset
from zip_ray.tasks.image_folder import folder
from zip_ray.tasks.images import ImageSet
from zip_ray.tasks.manifest import manifest
from zip_ray.tasks.readable import readable
from zip_ray.tasks.source import DataSet, Source

__all__ = ["ImageSet", "Task", "load_task"]


@dataclass(frozen=True)
class Task:
    """A few-shot classification problem. A label is the place of its class in `classnames`."""

    name: str
    classnames: tuple[str, ...]
    template: str
    """The plain template, with {} for the class name."""
    templates: tuple[str, ...]
    """Hand-written templates, the plain one first."""
    train: ImageSet
    """Empty, like `val`, if the data set is for testing only."""
    val: ImageSet
    test: ImageSet
    notes: tuple[str, ...] = ()
    """Remarks on them for the user, one line each."""
    questions: tuple[str, ...] = ()
    """Hand-written questions for generative models, the plain one first; may be empty."""


def load_task(config: TaskConfig, seed: int) -> Task:
    """Load a task, draw its few shots and choose its classes.

    Shots are drawn before classes are chosen, so that a class has the same images with `classes` all, base and new.
    Base is the first half of the classes in the order of their labels, rounded up; new is the other half, with labels
    from 0 (CoCoOp's protocol, Zhou et al., CVPR 2022).

    Raises:
        InputError: an unknown name, or images that are missing, too few or unreadable.
    """
    source = _read(config, seed)
    _check_parts(config.name, source)

    def drawn(source: Source) -> tuple[ImageSet, ImageSet]:
        return draw(source, config.shots, seed, config.draw)

    if config.unreadable == "skip":
        source = readable(source, drawn)
        _check_parts(config.name, source)
    _require_text(source.classnames)
    if config.classes != "all" and isinstance(source.test, QuestionImages):
        raise InputError(f"task.classes: '{config.classes}': images with questions have no classes: leave it out")
    notes = (*source.notes, *twins(config.name, source.classnames))
    train, val = drawn(source)
    count = len(source.classnames)
    half = math.ceil(count / 2)
    first, last = {"all": (0, count), "base": (0, half), "new": (half, count)}[config.classes]
    templates = source.templates
    if config.template is not None:
        templates = (config.template, *(t for t in templates if t != config.template))
    return Task(
        config.name,
        source.classnames[first:last],
        templates[0],
        templates,
        _of_classes(train, first, last),
        _of_classes(val, first, last),
        _of_classes(source.test, first, last),
        notes,
        source.questions,
    )


def _read(config: TaskConfig, seed: int) -> Source:
    kind, _, name = config.name.partition(":")
    root = config.root or Path()  # the config has checked that a source that needs a root has one
    match kind:
        case "folder":
            return folder(root, seed, config.test_share, config.class_names)
        case "coop":
            return coop(name, root)
        case "manifest":
            return manifest(root)
        case "torchvision":
            return from_torchvision(name, root)
        case "huggingface":
            return from_huggingface(name, config.root)
        case "webdataset":
            return from_webdataset(root)
    if config.name in BUILT_IN:
        return built_in(config.name, config.test_set, config.shots)
    if registry.is_own("task", config.name):
        own: DataSet = registry.find("task", config.name)(config, seed)
        return own.source()
    raise InputError(
        f"task.name: '{config.name}' is unknown: choose {', '.join(BUILT_IN)}, or folder with task.root, or another "
        "source of docs/guides/datasets.md"
    )


def _require_text(classnames: Sequence[str]) -> None:
    """Refuse names with bytes that are not UTF-8, which a prompt's file could not hold.

    Raises:
        InputError: names the class, its bytes escaped.
    """
    for name in classnames:
        shown = name.encode("utf-8", "backslashreplace").decode()
        if shown != name:
            raise InputError(f"task.name: the class name '{shown}' is not valid UTF-8: rename the class")


def twins(name: str, classnames: Sequence[str]) -> list[str]:
    """A warning about classes with the same name, which no prompt can distinguish. In the user's own lists an error.

    Raises:
        InputError: an empty name, or one that two of the user's classes share.
    """
    shown = [" ".join(unicodedata.normalize("NFC", one).split()) for one in classnames]
    if "" in shown:
        raise InputError(f"task.name: class {shown.index('')} of '{name}' has an empty name: give it one")
    twice = sorted({one for one in shown if shown.count(one) > 1})
    if not twice:
        return []
    if name.partition(":")[0] in ("folder", "manifest", "webdataset"):
        raise InputError(f"task.name: two classes of '{name}' are called '{twice[0]}': rename or join them")
    return [f"{len(twice)} class names occur twice, such as '{twice[0]}': no prompt can distinguish those classes"]


def _check_parts(name: str, source: Source) -> None:
    for part, images in (("train", source.train), ("val", source.val), ("test", source.test)):
        if images is None or isinstance(images, QuestionImages):
            continue
        counts = np.bincount(images.labels, minlength=len(source.classnames))
        if not counts.all():
            empty = source.classnames[int(counts.argmin())]
            raise InputError(
                f"task.name: class '{empty}' of '{name}' has no {part} images: add some or remove the class"
            )


def _of_classes(images: ImageSet, first: int, last: int) -> ImageSet:
    """The images with labels from `first` to below `last`, under labels from 0."""
    kept = images.subset(np.flatnonzero((first <= images.labels) & (images.labels < last)))
    return kept.labelled(kept.labels - first)
