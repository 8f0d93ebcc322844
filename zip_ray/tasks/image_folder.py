"""A user's own images: one folder per class, under train/ and test/ or in one folder that a seed splits."""

from pathlib import Path

import numpy as np

from zip_ray.errors import InputError
from zip_ray.protocol.random_keys import Stream, generator
from zip_ray.tasks.images import FileImages

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


def folder(root: Path, seed: int) -> tuple[tuple[str, ...], FileImages | None, FileImages]:
    """Class names (those of the folders, sorted, "_" read as a space), the pool and the test images.

    With train/ and test/ they are the pool and the test set; test/ alone is a set for testing only, without a pool. A
    single folder of classes is split in two halves, class by class, keyed by the seed. Folders inside a class folder
    are searched too; hidden files are not.

    Raises:
        InputError: the root or a class is missing, empty or ambiguous, or a file lies outside of the root.
    """
    if not root.is_dir():
        raise InputError(f"task.root: '{root}' is not a folder: give the folder that holds your images")
    if not (root / "train").is_dir() and not (root / "test").is_dir():
        names, images = _read(root, root)
        return names, *_halves(images, names, seed)
    if not (root / "test").is_dir():
        raise InputError(f"task.root: '{root}' has no folder test/ beside train/: add it")
    test_names, test = _read(root / "test", root)
    if not (root / "train").is_dir():
        return test_names, None, test
    names, pool = _read(root / "train", root)
    if names != test_names:
        odd = ", ".join(sorted(set(names) ^ set(test_names)))
        raise InputError(f"task.root: '{root}': train/ and test/ differ in the classes {odd}: give both the same")
    return names, pool, test


def list_images(path: Path) -> list[Path]:
    """The image files below a folder, sorted; or the file itself.

    Raises:
        InputError: there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder: give an image or a folder of images")
    found = _image_files(path)
    if not found:
        raise InputError(f"{path}: holds no images ({', '.join(sorted(SUFFIXES))})")
    return found


def _read(folder: Path, root: Path) -> tuple[tuple[str, ...], FileImages]:
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        raise InputError(f"task.root: '{folder}' holds {len(classes)} class folders: give at least two")
    names = tuple(p.name.replace("_", " ") for p in classes)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"task.root: two folders in '{folder}' are called '{twice}': rename one")
    paths: list[str] = []
    labels: list[int] = []
    for label, class_folder in enumerate(classes):
        files = _image_files(class_folder)
        if not files:
            raise InputError(f"task.root: class folder '{class_folder}' holds no images: add some or remove it")
        for file in files:
            if not file.resolve().is_relative_to(root.resolve()):
                raise InputError(f"task.root: '{file}' leads out of '{root}': copy the image into its class folder")
        paths += map(str, files)
        labels += [label] * len(files)
    return names, FileImages(tuple(paths), np.array(labels, dtype=np.int64))


def _halves(images: FileImages, names: tuple[str, ...], seed: int) -> tuple[FileImages, FileImages]:
    pool, test = [], []
    for label in range(len(names)):
        members = generator(seed, Stream.SPLIT, 1, label).permutation(np.flatnonzero(images.labels == label))
        half = len(members) // 2
        pool.append(members[half:])
        test.append(members[:half])
        if half == 0:
            raise InputError(f"task.root: class '{names[label]}' has a single image, none to test on: add images")
    return images.subset(np.concatenate(pool)), images.subset(np.concatenate(test))


def _image_files(folder: Path) -> list[Path]:
    files = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(p for p in files if not any(part.startswith(".") for part in p.relative_to(folder).parts))
