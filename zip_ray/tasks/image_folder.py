"""A user's own images: one folder per class, in parts (train, val, test) or in one folder that a seed splits."""

import math
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from zip_ray.errors import InputError
from zip_ray.protocol.facts import PHOTO
from zip_ray.protocol.random_keys import Stream, generator
from zip_ray.tasks.images import FileImages
from zip_ray.tasks.source import Source, class_name

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".avif", ".tif", ".tiff"),
    *(".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
}
NAMES = "classnames.txt"
"""File in the root with a line per class folder: its name, a blank (or a tab), the class name."""
PARTS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""Names of the folders of a part, in any case."""


def folder(
    root: Path, seed: int, test_share: float | None = None, class_names: Mapping[str, str] | None = None
) -> Source:
    """Class names are those of the folders, sorted, "_" read as a space; or those of classnames.txt, or given.

    With train/ and test/ they are the pool and the test set, and val/ the validation part; test/ alone is a set for
    testing only, without a pool. Without test/, and in a single folder of classes, a share of each class is the test
    set, keyed by the seed. Folders inside a class folder are searched too, links to folders too; hidden files are not.

    Args:
        root: the folder.
        seed: chooses the test images where there is no test/.
        test_share: their share of each class; half where absent.
        class_names: by folder; of those that it does not have, the file's or the folder's own.

    Raises:
        InputError: the root or a class is missing, empty or ambiguous, or a file lies outside of the root.
    """
    if not root.is_dir():
        raise InputError(f"task.root: '{root}' is not a folder: give the folder that holds your images")
    places = _parts(root)
    passed: Counter[str] = Counter()
    if not {"train", "test"} & places.keys():
        places = {"train": root}
    if "test" in places and test_share is not None:
        raise InputError(f"task.test_share: '{root}' has a folder {places['test'].name}/: leave the share out")
    found = {part: _read(place, root, passed) for part, place in places.items()}
    main = "test" if "test" in found else "train"
    names = found[main][0]
    for part, (others, _) in found.items():
        if others != names:
            odd = ", ".join(sorted(set(names) ^ set(others)))
            raise InputError(
                f"task.root: '{root}': {places[part].name}/ and {places[main].name}/ differ in the classes {odd}: "
                "give both the same"
            )
    train, val, test = (found[part][1] if part in found else None for part in ("train", "val", "test"))
    divided = test is None
    if test is None:
        assert train is not None
        train, test = _divided(train, names, seed, 0.5 if test_share is None else test_share)
    shown = _renamed(_shown(names, root / NAMES), names, class_names or {})
    return Source(shown, (PHOTO,), test, train, None if train is None else val, _notes(passed), test_of_train=divided)


def list_images(path: Path) -> list[Path]:
    """The image files below a folder, sorted; or the file itself.

    Raises:
        InputError: there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder: give an image or a folder of images")
    found = _image_files(path, Counter())
    if not found:
        raise InputError(f"{path}: holds no images ({', '.join(sorted(SUFFIXES))})")
    return found


def _parts(root: Path) -> dict[str, Path]:
    """The folders of the parts, by part. One with a part's name, beside classes and without folders, is a class."""
    found: dict[str, Path] = {}
    folders = [place for place in sorted(root.iterdir()) if place.is_dir() and not place.name.startswith(".")]
    parts = [next((part for part, names in PARTS.items() if place.name.lower() in names), None) for place in folders]
    for place, part in zip(folders, parts, strict=True):
        if part is None or (None in parts and not any(inner.is_dir() for inner in place.iterdir())):
            continue
        if part in found:
            raise InputError(f"task.root: '{root}' has {found[part].name}/ and {place.name}/: join them")
        found[part] = place
    return found


def _read(folder: Path, root: Path, passed: Counter[str]) -> tuple[tuple[str, ...], FileImages]:
    classes = []
    for place in sorted(folder.iterdir(), key=lambda place: (unicodedata.normalize("NFC", place.name), place.name)):
        if place.is_dir() and not place.name.startswith("."):
            classes.append(place)
        elif place != root / NAMES:
            _count(place, passed)
    if len(classes) < 2:
        raise InputError(f"task.root: '{folder}' holds {len(classes)} class folders: give at least two")
    names = tuple(unicodedata.normalize("NFC", place.name) for place in classes)
    shown = [class_name(name) for name in names]
    if len(set(shown)) < len(shown):
        twice = next(name for name in shown if shown.count(name) > 1)
        raise InputError(f"task.root: two folders in '{folder}' are called '{twice}': rename one")
    paths: list[str] = []
    labels: list[int] = []
    for label, class_folder in enumerate(classes):
        files = _image_files(class_folder, passed)
        if not files:
            raise InputError(f"task.root: class folder '{class_folder}' holds no images: add some or remove it")
        if not any(file.parent == class_folder for file in files):
            raise InputError(
                f"task.root: class folder '{class_folder}' holds only folders: give the folder whose folders are the "
                f"classes, or move the images up into '{class_folder}'"
            )
        for file in files:
            if not file.resolve().is_relative_to(root.resolve()):
                raise InputError(f"task.root: '{file}' leads out of '{root}': copy the image into its class folder")
        paths += map(str, files)
        labels += [label] * len(files)
    return names, FileImages(tuple(paths), np.array(labels, dtype=np.int64))


def _shown(folders: tuple[str, ...], file: Path) -> tuple[str, ...]:
    """The class names of folders: by the lines of a file, each of a folder and its name, or the folders' own.

    Raises:
        InputError: the file does not name each folder once.
    """
    given: dict[str, str] = {}
    if file.is_file():
        for line in filter(str.strip, file.read_text(encoding="utf-8-sig").splitlines()):
            one, *name = line.split("\t" if "\t" in line else None, 1)
            if not name or one in given:
                raise InputError(f"{file}: '{line}': give each folder one line: the folder, a blank, its class name")
            given[unicodedata.normalize("NFC", one)] = name[0].strip()
        if odd := sorted(given.keys() ^ set(folders)):
            raise InputError(f"{file}: names other folders than there are ({', '.join(odd)}): give each class a line")
    return tuple(given.get(one, class_name(one)) for one in folders)


def _renamed(shown: tuple[str, ...], folders: tuple[str, ...], given: Mapping[str, str]) -> tuple[str, ...]:
    """The class names of folders, those of the config in place of others.

    Raises:
        InputError: the config names a folder that is not there.
    """
    names = {unicodedata.normalize("NFC", one): unicodedata.normalize("NFC", name) for one, name in given.items()}
    if odd := sorted(names.keys() - set(folders)):
        raise InputError(f"task.class_names: no folder '{odd[0]}': the class folders are {', '.join(folders)}")
    return tuple(names.get(one, name) for one, name in zip(folders, shown, strict=True))


def _divided(images: FileImages, names: tuple[str, ...], seed: int, share: float) -> tuple[FileImages, FileImages]:
    """The pool and the test set: of each class that share, rounded down."""
    pool, test = [], []
    for label in range(len(names)):
        members = generator(seed, Stream.SPLIT, 1, label).permutation(np.flatnonzero(images.labels == label))
        count = math.floor(len(members) * share + 1e-9)  # 0.29 of 100 are 29
        pool.append(members[count:])
        test.append(members[:count])
        if count == 0:
            few = f"a share of {share:g} of the {len(members)} images of class '{names[label]}' is none to test on"
            raise InputError(f"task.test_share: {few}: add images, or raise it")
    return images.subset(np.concatenate(pool)), images.subset(np.concatenate(test))


def _image_files(folder: Path, passed: Counter[str]) -> list[Path]:
    """The images below a folder, sorted; ignored files are counted by kind.

    Raises:
        InputError: a folder that may not be read.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: {error.strerror}: make it readable, or move it away") from error

    found, entered = [], set()
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        entered.add(os.path.realpath(place))
        folders[:] = [
            one for one in folders if one[0] != "." and os.path.realpath(os.path.join(place, one)) not in entered
        ]
        for name in files:
            path = Path(place, name)
            if path.suffix.lower() in SUFFIXES and path.is_file() and name[0] != ".":
                found.append(path)
            else:
                _count(path, passed)
    return sorted(found)


def _count(path: Path, passed: Counter[str]) -> None:
    """Count an ignored file, unless it is hidden."""
    if not path.name.startswith("."):
        passed["dangling link" if path.is_symlink() and not path.exists() else path.suffix.lower() or "no ending"] += 1


def _notes(passed: Counter[str]) -> tuple[str, ...]:
    kinds = ", ".join(f"{count} {kind}" for kind, count in passed.most_common(5))
    return (f"{passed.total()} files are ignored ({kinds})",) if passed else ()
