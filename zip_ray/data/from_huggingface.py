"""`huggingface:NAME`: a set of the Hugging Face hub, or a folder of its files, with an image and a class column."""

from pathlib import Path
from typing import Any

import numpy as np

from zip_ray.data.images import LazyImages
from zip_ray.data.source import PHOTO, Source
from zip_ray.errors import InputError

PARTS = {"train": ("train",), "val": ("validation", "val", "valid"), "test": ("test", "validation", "val", "valid")}
"""What sets call their parts; the first that a set has. Its only held-out part is for testing."""


def from_huggingface(name: str, root: Path | None) -> Source:
    """A set by its name; `root` is where it is kept, the library's own cache where that is None.

    Raises:
        InputError: `datasets` is not installed, the set cannot be had, or has no such columns and parts.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise InputError("task.name: huggingface needs its library: pip install 'zip-ray[huggingface]'") from error
    try:
        parts = load_dataset(name, cache_dir=None if root is None else str(root))
    except Exception as error:  # the library raises what the hub, the network and its parsers raise
        reason = " ".join(str(error).split())
        raise InputError(f"task.name: 'huggingface:{name}' is not to be had ({reason}): check its name") from error
    found = {part: next((n for n in names if n in parts), None) for part, names in PARTS.items()}
    if found["val"] == found["test"]:
        found["val"] = None
    if found["train"] is None or found["test"] is None:
        raise InputError(f"task.name: 'huggingface:{name}' has the parts {', '.join(parts)}: it needs train and test")
    image, label = (_column(name, parts[found["train"]], kind) for kind in ("Image", "ClassLabel"))
    classnames = tuple(n.replace("_", " ") for n in parts[found["train"]].features[label].names)

    def images(part: str) -> LazyImages | None:
        if found[part] is None:
            return None
        rows = parts[found[part]]
        labels = np.asarray(rows[label][:], dtype=np.int64)  # at once, not row by row
        return LazyImages(lambda place: rows[place][image], np.arange(len(rows)), labels)

    test = images("test")
    assert test is not None
    return Source(classnames, (PHOTO,), test, images("train"), images("val"))


def _column(name: str, rows: Any, kind: str) -> str:
    for column, feature in rows.features.items():
        if type(feature).__name__ == kind:
            return str(column)
    raise InputError(f"task.name: 'huggingface:{name}' has no column of the kind {kind}: use manifest")
