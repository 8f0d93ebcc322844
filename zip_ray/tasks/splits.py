"""Split files, and the splits that are made if they are missing (protocol of CoOp, Zhou et al., IJCV 2022)."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from zip_ray.errors import InputError
from zip_ray.files import write_shared
from zip_ray.protocol.random_keys import Stream, generator
from zip_ray.tasks.paths import locate
from zip_ray.tasks.source import Item, Lists

_FILE = TypeAdapter(Lists)


def read_split(path: Path) -> Lists:
    """The lists of a split file: JSON with train, val, test, each a list of [path, label, class name].

    Raises:
        InputError: the file is not of that form.
    """
    try:
        return _FILE.validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}: give a split file that can be read") from error
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"]) or "file"
        raise InputError(f"{path}: {where}: {fault['msg']}: download the split file again") from error


def located(lists: Lists, images: Path, origin: str) -> Lists:
    """The same lists, with paths that can be opened.

    Raises:
        InputError: an image is missing or outside of `images`.
    """

    def full(items: Sequence[Item]) -> list[Item]:
        paths = locate(images, (name for name, _, _ in items), origin)
        return [(path, label, classname) for path, (_, label, classname) in zip(paths, items, strict=True)]

    return Lists(full(lists.train), full(lists.val), full(lists.test))


def keep_split(path: Path, make: Callable[[], Lists]) -> None:
    """Make a split file if there is none. Its content does not depend on the run: no seed changes it.

    Raises:
        InputError: the folder cannot be written.
    """
    if path.is_file():
        return
    data = json.dumps(asdict(make()))
    try:
        write_shared(path, data.encode())
    except OSError as error:
        reason = error.strerror
        raise InputError(f"{path}: is missing and cannot be made ({reason}): put the split file there") from error


def divide(items: Sequence[Item], *shares: float) -> list[list[Item]]:
    """One list per share, with that share of each class, rounded, and one for the rest; each has images of every class.

    Raises:
        InputError: a class has too few images.
    """
    classes: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        classes[item[1]].append(item)
    parts: list[list[Item]] = [[] for _ in range(len(shares) + 1)]
    for label, members in sorted(classes.items()):
        order = generator(0, Stream.SPLIT, 2, label).permutation(len(members))
        bounds = np.cumsum([round(len(members) * share) for share in shares])
        for part, chosen in zip(parts, np.split(order, bounds), strict=True):
            if not len(chosen):
                few = f"the {len(members)} images of class '{members[0][2]}' are too few to split"
                raise InputError(f"task.root: {few} in {len(parts)}: add some or remove the class")
            part += [members[i] for i in chosen]
    return parts
