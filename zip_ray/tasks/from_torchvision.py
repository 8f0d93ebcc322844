"""`torchvision:NAME`: the classification data sets of torchvision that have a training and a test part."""

from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from zip_ray.errors import InputError
from zip_ray.protocol.arrays import Int64
from zip_ray.protocol.facts import PHOTO
from zip_ray.tasks.images import LazyImages
from zip_ray.tasks.source import Source

TRAIN, TEST = ("train", "trainval", "train-standard"), ("test", "val")
"""Torchvision's names of the two parts; the first that a data set has is taken."""
CLASSNAMES = {"MNIST": tuple("0123456789"), "SVHN": tuple("0123456789")}
"""Class names of data sets for which torchvision has no usable ones (such as '0 - zero')."""


def from_torchvision(name: str, root: Path) -> Source:
    """A data set by its class in torchvision.datasets, downloaded into `root` if it is not there.

    Raises:
        InputError: no such data set, one without parts, classes or labels, or one that cannot be downloaded.
    """
    from torchvision import datasets

    kind = getattr(datasets, name, None) if name in datasets.__all__ else None
    parameters = signature(kind).parameters if kind is not None else {}
    if kind is None or not {"train", "split"} & parameters.keys():
        raise InputError(f"task.name: torchvision has no set '{name}' with a training and a test part: use manifest")
    if "train" in parameters:
        train, test = (_fetch(kind, root, {"train": part}) for part in (True, False))
    else:
        train, test = (_part(kind, root, names) for names in (TRAIN, TEST))
    classnames = CLASSNAMES.get(name) or getattr(train, "classes", None)
    if classnames is None:
        raise InputError(f"task.name: torchvision's {name} does not name its classes: use manifest")
    names = tuple((n if isinstance(n, str) else n[0]).replace("_", " ") for n in classnames)  # or a tuple of synonyms
    return Source(names, (PHOTO,), _images(test), _images(train))


def _part(kind: Any, root: Path, names: tuple[str, ...]) -> Any:
    for name in names:
        try:
            return _fetch(kind, root, {"split": name})
        except ValueError:  # torchvision's answer to a part that the data set lacks
            continue
    raise InputError(f"task.name: torchvision's {kind.__name__} has none of the parts {', '.join(names)}: use manifest")


def _fetch(kind: Any, root: Path, part: dict[str, Any]) -> Any:
    try:
        try:
            return kind(root, **part)
        except RuntimeError:  # torchvision's answer to a data set that is not there
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / ".zip-ray.lock"):  # the actors of a machine start at the same time
                return kind(root, **part, download=True)
    except (RuntimeError, OSError, TypeError) as error:
        reason = " ".join(str(error).split())
        what = f"torchvision's {kind.__name__} is not in '{root}' and cannot be fetched ({reason})"
        raise InputError(f"task.root: {what}: put its files there") from error


def _images(dataset: Any) -> LazyImages:
    return LazyImages(lambda place: dataset[place][0], np.arange(len(dataset)), _labels(dataset))


def _labels(dataset: Any) -> Int64:
    for attribute in ("targets", "labels", "_labels"):
        if hasattr(dataset, attribute):
            return np.asarray(getattr(dataset, attribute), dtype=np.int64)
    return np.array([dataset[place][1] for place in range(len(dataset))], dtype=np.int64)
