"""The identity of a task's images, and duplicates among them."""

import hashlib
import os
from collections import defaultdict
from pathlib import Path

from zip_ray.tasks.asked_images import QuestionImages
from zip_ray.tasks.images import ArrayImages, FileImages, ImageSet
from zip_ray.tasks.load import Task


def identity(task: Task) -> str:
    """Digest of class names, labels and images: of the drawn images their content, of test files names and sizes, since
    there may be a hundred thousand of them; of test images that another library holds the labels alone.
    """
    digest = hashlib.sha256("\n".join(task.classnames).encode("utf-8", "surrogateescape"))
    for images in (task.train, task.val, task.test):
        digest.update(images.labels.tobytes())
    for images in (task.train, task.val):
        digest.update(images.digest().encode())
    digest.update(_outline(task.test).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def shared_images(task: Task) -> list[str]:
    """Warnings about files with the same bytes: in training or validation and in the test, or under two labels.

    Only files of the same size are read.
    """
    drawn = {path: label for images in (task.train, task.val) for path, label in _files(images)}
    sizes = defaultdict(list)
    for path, label in drawn.items():
        sizes[_size(path)].append((path, label))
    same: dict[bytes, list[int]] = defaultdict(list)
    for members in sizes.values():
        for path, label in members:
            same[_content(path)].append(label)
    tested, odd = 0, sum(len(labels) for labels in same.values() if len(set(labels)) > 1)
    for path, label in _files(task.test):
        if _size(path) in sizes and (labels := same.get(_content(path))) is not None:
            tested += 1
            odd += set(labels) != {label}
    found = []
    if tested:
        found.append(f"{tested} test images are also training or validation images: the test accuracy may be too high")
    if odd:
        found.append(f"{odd} images have two labels, of which one must be wrong")
    return found


def _outline(images: ImageSet) -> str:
    if isinstance(images, QuestionImages):
        return f"{_outline(images.images)} {images.asked}"
    if isinstance(images, FileImages):
        return "\n".join(f"{os.path.join(*Path(path).parts[-2:])} {_size(path)}" for path in images.paths)
    return images.digest() if isinstance(images, ArrayImages) else ""


def _files(images: ImageSet) -> list[tuple[str, int]]:
    return list(zip(images.paths, images.labels.tolist(), strict=True)) if isinstance(images, FileImages) else []


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # decoding reports the error
        return -1


def _content(path: str) -> bytes:
    try:
        return hashlib.sha256(Path(path).read_bytes()).digest()
    except OSError:
        return path.encode("utf-8", "surrogateescape")
