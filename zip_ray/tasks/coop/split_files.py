"""The data sets' own files: class folders, text lists, MATLAB labels, scenes. Each reader takes the data set's folder
and that of its images.

Readers whose lists are kept as a split file give paths below the images' folder; the others give whole paths.
"""

import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from zip_ray.errors import InputError
from zip_ray.tasks.image_folder import SUFFIXES
from zip_ray.tasks.source import Item, Lists
from zip_ray.tasks.splits import divide, located


def class_folders(
    folder: Path, images: Path, dropped: Collection[str] = (), renamed: Mapping[str, str] | None = None
) -> Lists:
    """One folder per class: half of it for training, a fifth for validation, the rest for testing."""
    renamed = renamed or {}
    names = [name for name in _folders(images) if name not in dropped]
    items = [
        (f"{name}/{file}", label, renamed.get(name, name))
        for label, name in enumerate(names)
        for file in _images(images / name)
    ]
    return Lists(*divide(items, 0.5, 0.2))


def oxford_pets(folder: Path, images: Path) -> Lists:
    """annotations/trainval.txt and test.txt: `Breed_Name_17 LABEL ...`, labels from 1."""

    def read(file: str) -> list[Item]:
        rows = (line.split() for line in _lines(folder / "annotations" / file))
        return [(f"{name}.jpg", int(label) - 1, name.rpartition("_")[0].lower()) for name, label, *_ in rows]

    return _with_validation(read("trainval.txt"), read("test.txt"), 0.2)


def oxford_flowers(folder: Path, images: Path) -> Lists:
    """imagelabels.mat holds the class, from 1, of image_00001.jpg and so on; cat_to_name.json the classes' names."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        labels = loadmat(folder / "imagelabels.mat")["labels"].ravel()
    except MatReadError as error:
        raise ValueError(f"imagelabels.mat: {error}") from error
    names = json.loads((folder / "cat_to_name.json").read_text(encoding="utf-8"))
    items = [(f"image_{i:05d}.jpg", int(label) - 1, names[str(label)]) for i, label in enumerate(labels, 1)]
    return Lists(*divide(items, 0.5, 0.2))


def fgvc_aircraft(folder: Path, images: Path) -> Lists:
    """variants.txt names the classes, images_variant_PART.txt holds one `IMAGE VARIANT NAME` per line."""
    labels = {name: label for label, name in enumerate(_lines(folder / "variants.txt"))}

    def read(part: str) -> list[Item]:
        rows = (line.split(" ", 1) for line in _lines(folder / f"images_variant_{part}.txt"))
        return [(f"{image}.jpg", labels[name], name) for image, name in rows]

    return located(Lists(read("train"), read("val"), read("test")), images, str(folder))


def sun397(folder: Path, images: Path) -> Lists:
    """ClassName.txt holds /a/apartment_building/outdoor and the like, whose name is `outdoor apartment_building`;
    Training_01.txt and Testing_01.txt hold images below those."""
    labels = {name.strip("/"): label for label, name in enumerate(_lines(folder / "ClassName.txt"))}

    def read(file: str) -> list[Item]:
        paths = [line.strip("/") for line in _lines(folder / file)]
        classes = [os.path.dirname(path) for path in paths]
        return [
            (path, labels[place], " ".join(reversed(place.split("/")[1:])))
            for path, place in zip(paths, classes, strict=True)
        ]

    return _with_validation(read("Training_01.txt"), read("Testing_01.txt"), 0.2)


def ucf101(folder: Path, images: Path) -> Lists:
    """ucfTrainTestlist/: classInd.txt holds `1 ApplyEyeMakeup`, the first pair of lists `ApplyEyeMakeup/v_g01.avi`; the
    middle frames lie as Apply_Eye_Makeup/v_g01.jpg."""
    lists = folder / "ucfTrainTestlist"
    rows = (line.split() for line in _lines(lists / "classInd.txt"))
    labels = {action: int(label) - 1 for label, action in rows}

    def read(file: str) -> list[Item]:
        items = []
        for line in _lines(lists / file):
            action, video = line.split()[0].split("/")
            name = "_".join(re.findall("[A-Z][^A-Z]*", action))
            items.append((f"{name}/{video.removesuffix('.avi')}.jpg", labels[action], name))
        return items

    return _with_validation(read("trainlist01.txt"), read("testlist01.txt"), 0.2)


def svhn(folder: Path, images: Path) -> Lists:
    """train/DIGIT/ and test/DIGIT/; 30% of the former for validation."""

    def read(part: str) -> list[Item]:
        digits = enumerate(_folders(folder / part))
        return [(f"{part}/{d}/{file}", label, d) for label, d in digits for file in _images(folder / part / d)]

    return _with_validation(read("train"), read("test"), 0.3)


def clevr(folder: Path, images: Path) -> Lists:
    """The class of a scene is its number of objects; the classes are sorted as strings, so that 10 comes before 3."""

    def read(part: str) -> list[tuple[str, str]]:
        scenes = json.loads((folder / "scenes" / f"CLEVR_{part}_scenes.json").read_bytes())["scenes"]
        return [(f"{s['split']}/{s['image_filename']}", str(len(s["objects"]))) for s in scenes]

    train, test = read("train"), read("val")
    labels = {count: label for label, count in enumerate(sorted({count for _, count in train}))}
    trainval, held_out = ([(path, labels[count], count) for path, count in part] for part in (train, test))
    return _with_validation(trainval, held_out, 0.2)


def imagenet(folder: Path, images: Path) -> Lists:
    """images/train/ and images/val/, one WordNet folder per class. `val` is the test set, as usual; validation
    images are drawn from `train` too."""
    parts = images / "train", images / "val"
    lists = Lists(_wordnet(folder, parts[0]), [], _wordnet(folder, parts[1]))
    for part in parts:
        if lacking := sorted(set(_classnames(folder)) - set(_folders(part))):
            some = ", ".join(lacking[:3])  # a label is a place among the folders: all later ones would shift
            raise InputError(
                f"task.root: '{part}' lacks {len(lacking)} of the classes in classnames.txt ({some}): unpack them"
            )
    return lists


def imagenet_variant(folder: Path, images: Path) -> Lists:
    """WordNet folders of some or all of the classes, for testing only."""
    return Lists([], [], _wordnet(folder, images))


def imagenetv2(folder: Path, images: Path) -> Lists:
    """Folders 0 to 999, by the class's line in classnames.txt, for testing only."""
    names = enumerate(_classnames(folder).values())
    return Lists([], [], [(str(images / f"{i}" / f), i, name) for i, name in names for f in _images(images / f"{i}")])


def _wordnet(folder: Path, images: Path) -> list[Item]:
    names, folders = _classnames(folder), _folders(images)
    if not folders:
        remedy = "sort its images into WordNet folders, as CoOp's instructions say"
        raise InputError(f"task.root: '{images}' has no class folders: {remedy}")
    items = []
    for label, wordnet_id in enumerate(folders):
        place = str(images / wordnet_id)
        items += [(f"{place}/{file}", label, names[wordnet_id]) for file in _images(place)]
    return items


def _classnames(folder: Path) -> dict[str, str]:
    """classnames.txt: one line such as `n01440764 tench` per class."""
    return dict(line.split(" ", 1) for line in _lines(folder / "classnames.txt"))


def _with_validation(trainval: list[Item], test: list[Item], share: float) -> Lists:
    val, train = divide(trainval, share)
    return Lists(train, val, test)


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def _images(path: Path | str) -> list[str]:
    names = (entry.name for entry in os.scandir(path))
    found = sorted(n for n in names if not n.startswith(".") and os.path.splitext(n)[1].lower() in SUFFIXES)
    if not found:
        raise InputError(f"task.root: class folder '{path}' holds no images: add some or remove it")
    return found
