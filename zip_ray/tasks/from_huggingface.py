"""`huggingface:NAME`: a data set of the Hugging Face hub or a folder of its files, with an image and a class column."""

from pathlib import Path
from typing import Any

import numpy as np

from zip_ray.errors import InputError
from zip_ray.protocol.arrays import Int64
from zip_ray.protocol.facts import PHOTO
from zip_ray.tasks.images import LazyImages
from zip_ray.tasks.source import Source

HELD_OUT = ("validation", "val", "valid")
PARTS = (("train",), HELD_OUT, ("test", *HELD_OUT))
"""Names of the training, validation and test part; the first that has labels is taken. A validation part serves as the
test part of a data set that has no other."""


def from_huggingface(name: str, root: Path | None) -> Source:
    """A data set by its name, kept in `root`, or in the library's own cache if that is None.

    Raises:
        InputError: `datasets` is not installed, or the data set cannot be loaded or lacks such columns or parts.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise InputError("task.name: huggingface needs its library: pip install 'zip-ray[huggingface]'") from error
    try:
        parts = load_dataset(name, cache_dir=None if root is None else str(root))
    except Exception as error:  # the library raises what the hub, the network and its parsers raise
        reason = " ".join(str(error).split())
        raise InputError(f"task.name: 'huggingface:{name}' cannot be loaded ({reason}): check its name") from error
    first = next(iter(parts.values()))
    image, label = (_column(name, first, kind) for kind in ("Image", "ClassLabel"))
    labels = {part: found for part, rows in parts.items() if (found := _labels(rows, label)) is not None}
    train, val, test = (next((part for part in known if part in labels), None) for known in PARTS)
    if train is None or test is None:
        there = ", ".join(labels) or "no part"
        raise InputError(
            f"task.name: 'huggingface:{name}' has labels in {there}: it needs train and test: use manifest"
        )
    classnames = tuple(n.replace("_", " ") for n in first.features[label].names)

    def images(part: str) -> LazyImages:
        rows = parts[part]
        return LazyImages(lambda place: rows[place][image], np.arange(len(rows)), labels[part])

    held_out = None if val in (None, test) else images(val)
    return Source(classnames, (PHOTO,), images(test), images(train), held_out)


def _labels(rows: Any, column: str) -> Int64 | None:
    """The labels of a part; None if any is withheld (-1, or empty)."""
    found = rows[column][:]  # all at once, not row by row
    return None if None in found or -1 in found else np.asarray(found, dtype=np.int64)


def _column(name: str, rows: Any, kind: str) -> str:
    for column, feature in rows.features.items():
        if type(feature).__name__ == kind:
            return str(column)
    raise InputError(f"task.name: 'huggingface:{name}' has no column of the kind {kind}: use manifest")
