"""The papers' data sets: each layout in miniature, with its oddities, and the real Caltech101."""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.support.coop_miniatures import EXPECTED, LAYOUTS, blackvips_svhn_split, touch, write
from tests.support.paths import SHARED
from zip_ray.config.task import TaskConfig
from zip_ray.errors import InputError
from zip_ray.tasks import Task, load_task
from zip_ray.tasks.coop.data_sets import SETS
from zip_ray.tasks.coop.few_shot_task import coop
from zip_ray.tasks.source import Source
from zip_ray.tasks.splits import divide

DATA = SHARED / "data"


def names_of(source: Source, part: str) -> list[tuple[str, str]]:
    """Class and file name of each image in a part."""
    images = getattr(source, part)
    assert all(os.path.isfile(path) for path in images.paths)
    return [(source.classnames[c], os.path.basename(p)) for c, p in zip(images.labels, images.paths, strict=True)]


def sizes(source: Source) -> list[list[int]]:
    parts = (source.train, source.val, source.test)
    return [np.bincount(part.labels).tolist() if part is not None else [] for part in parts]


def all_of(source: Source) -> set[str]:
    parts = (source.train, source.val, source.test)
    paths = [path for part in parts if part is not None for path in part.paths]
    assert len(paths) == len(set(paths)), "parts overlap"
    return set(paths)


@pytest.mark.parametrize("name", SETS)
def test_layout(name: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path)
    source = coop(name, tmp_path)
    classes, template, images = EXPECTED[name]
    assert source.classnames == tuple(classes.split(","))
    assert source.templates[0] == template
    assert sizes(source) == images
    all_of(source)


@pytest.mark.parametrize("name", [name for name, spec in SETS.items() if spec.split])
def test_a_missing_split_is_made_once_and_read_from_then_on(name: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path / "here")
    LAYOUTS[name](tmp_path / "there")
    path = tmp_path / "here" / SETS[name].folder / str(SETS[name].split)
    first = coop(name, tmp_path / "here")
    kept = path.read_bytes()
    assert all_of(coop(name, tmp_path / "here")) == all_of(first)
    assert path.read_bytes() == kept
    coop(name, tmp_path / "there")
    assert (tmp_path / "there" / path.relative_to(tmp_path / "here")).read_bytes() == kept, "no seed, no place"
    split = json.loads(kept)
    assert split.keys() == {"train", "val", "test"}
    for part in split:  # the file on disk decides
        split[part].reverse()
    path.write_text(json.dumps(split))
    assert names_of(coop(name, tmp_path / "here"), "test") == names_of(first, "test")[::-1]
    assert [p.name for p in path.parent.iterdir() if "split" in p.name] == [path.name], "whole or not at all"


@pytest.mark.parametrize("name", ["split_SVHN.json", "split_mlai_SVHN.json"])
def test_svhn_as_blackvips_code_splits_it(name: str, tmp_path: Path) -> None:
    """Training and validation images only, with paths below train/; BlackVIP's file takes precedence over ours."""
    LAYOUTS["svhn"](tmp_path)
    own = tmp_path / "svhn" / "split_mlai_SVHN.json"
    if name != own.name:
        coop("svhn", tmp_path)
        made = own.read_bytes()
    path = blackvips_svhn_split(tmp_path, name)
    source = coop("svhn", tmp_path)
    given = path.read_bytes()
    assert source.classnames == ("0", "1", "9")
    assert sizes(source) == [[8] * 3, [2] * 3, [3] * 3]
    train = {os.path.join(*path.split(os.sep)[-3:]) for path in source.train.paths}
    assert train == {f"train/{digit}/{i:04d}.jpg" for digit in "019" for i in range(8)}
    assert all("/svhn/test/" in path for path in source.test.paths)
    assert all_of(coop("svhn", tmp_path)) == all_of(source)
    assert path.read_bytes() == given
    assert name == own.name or own.read_bytes() == made


def test_official_lists_are_kept_apart(tmp_path: Path) -> None:
    """Class and file match the list that contains the image."""
    for name in ("oxford_pets", "sun397", "ucf101", "clevr", "fgvc_aircraft", "svhn"):
        LAYOUTS[name](tmp_path)
    assert {file for _, file in names_of(coop("oxford_pets", tmp_path), "test")} == {
        f"{breed}_{i}.jpg" for breed in ("Abyssinian", "great_pyrenees") for i in range(5, 10)
    }
    assert Counter(names_of(coop("sun397", tmp_path), "test")) == {
        (name, f"sun_{i}.jpg"): 1
        for name in ("abbey", "outdoor apartment building", "indoor church")
        for i in range(5, 10)
    }
    assert all(c.replace(" ", "").lower() in file.lower() for c, file in names_of(coop("ucf101", tmp_path), "train"))
    assert all(f"_{count}_" in file for count, file in names_of(coop("clevr", tmp_path), "train"))
    assert names_of(coop("fgvc_aircraft", tmp_path), "val") == [
        ("Boeing 717", "10.jpg"),
        ("707-320", "11.jpg"),
        ("F/A-18", "12.jpg"),
    ]
    assert all("/svhn/test/" in path for path in coop("svhn", tmp_path).test.paths)


@given(sizes=st.lists(st.integers(5, 40), min_size=1, max_size=4))
def test_divide_shares_every_class_out(sizes: list[int]) -> None:
    items = [(f"{label}/{i}", label, f"class {label}") for label, size in enumerate(sizes) for i in range(size)]
    parts = divide(items, 0.5, 0.2)
    assert sorted(item for part in parts for item in part) == sorted(items)
    for label, size in enumerate(sizes):
        counts = [sum(item[1] == label for item in part) for part in parts]
        assert counts[:2] == [round(size * 0.5), round(size * 0.2)]
    # A class's split depends neither on the order of the classes nor on the other classes.
    first = [item for item in items if item[1] == 0]
    among = divide(items[sizes[0] :] + first, 0.5, 0.2)
    assert divide(first, 0.5, 0.2) == [[item for item in part if item[1] == 0] for part in among]


def test_matlab_labels_count_from_one(tmp_path: Path) -> None:
    LAYOUTS["oxford_flowers"](tmp_path)
    source = coop("oxford_flowers", tmp_path)
    for part in ("train", "val", "test"):
        for name, file in names_of(source, part):
            odd = int(re.findall(r"\d+", file)[0]) % 2 == 1
            assert name == ("hard-leaved pocket orchid" if odd else "pink primrose")


def test_v2_folders_are_numbers_not_strings(tmp_path: Path) -> None:
    LAYOUTS["imagenetv2"](tmp_path)
    test = coop("imagenetv2", tmp_path).test
    assert [int(Path(path).parent.name) for path in test.paths] == test.labels.tolist()


def test_a_folder_may_be_a_link_to_where_the_images_are(tmp_path: Path) -> None:
    LAYOUTS["eurosat"](tmp_path / "disk")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "eurosat").symlink_to(tmp_path / "disk" / "eurosat")
    assert sizes(coop("eurosat", tmp_path / "data")) == EXPECTED["eurosat"][2]


def load(root: Path, name: str, **task: object) -> Task:
    return load_task(TaskConfig(name=f"coop:{name}", root=root, **task), 1)


def test_shots_come_from_train_and_val_and_fewer_where_there_are_fewer(tmp_path: Path) -> None:
    LAYOUTS["eurosat"](tmp_path)
    source = coop("eurosat", tmp_path)
    few = load(tmp_path, "eurosat", shots=3)
    assert (len(few.train), len(few.val), len(few.test)) == (30, 20, 30)
    assert set(few.train.paths) < set(source.train.paths)
    assert set(few.val.paths) == set(source.val.paths), "min(3, 4) of the 2 that there are"
    many = load(tmp_path, "eurosat", shots=16)
    assert sorted(many.train.paths) == sorted(source.train.paths)
    draws = {load_task(TaskConfig(name="coop:eurosat", root=tmp_path, shots=3), s).train.paths for s in range(1, 6)}
    assert len(draws) == 5


def test_imagenet_validates_beside_its_training_images(tmp_path: Path) -> None:
    LAYOUTS["imagenet"](tmp_path)
    task = load(tmp_path, "imagenet")
    assert (len(task.train), len(task.val), len(task.test)) == (64, 16, 8)
    assert not set(task.train.paths) & set(task.val.paths)
    assert not any("/val/" in path for path in task.train.paths + task.val.paths)


def test_variants_are_for_testing_only(tmp_path: Path) -> None:
    LAYOUTS["imagenet_a"](tmp_path)
    task = load(tmp_path, "imagenet_a")
    assert (len(task.train), len(task.val), len(task.test)) == (0, 0, 4)


def drop_image(folder: Path) -> None:
    (folder / "2750" / "Forest" / "0003.jpg").unlink()


def climb(folder: Path) -> None:
    touch(folder, "secret.jpg")
    edit(folder, lambda split: split["train"][0].__setitem__(0, "../secret.jpg"))


def absolute(folder: Path) -> None:
    touch(folder, "secret.jpg")
    edit(folder, lambda split: split["train"][0].__setitem__(0, str(folder / "secret.jpg")))


def link(folder: Path) -> None:
    touch(folder, "secret.jpg")
    image = folder / "2750" / "Forest" / "0003.jpg"
    image.unlink()
    image.symlink_to(folder / "secret.jpg")


def link_folder(folder: Path) -> None:
    (folder / "2750" / "Forest").rename(folder / "Forest")
    (folder / "2750" / "Forest").symlink_to(folder / "Forest")


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "split_zhou_EuroSAT.json"
    split = json.loads(path.read_text())
    change(split)
    path.write_text(json.dumps(split))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop_image, r"split_zhou_EuroSAT.json: 'Forest/0003.jpg' is not in '.*2750': add the image"),
        (climb, r"split_zhou_EuroSAT.json: '../secret.jpg' leads out of '.*2750': copy the image into it"),
        (absolute, r"json: '/.*secret.jpg' leads out of '.*2750'"),
        (link, r"json: 'Forest/0003.jpg' leads out of '.*2750'"),
        (link_folder, r"json: 'Forest/\d+.jpg' leads out of '.*2750'"),
        (
            lambda folder: edit(folder, lambda split: split.update(test=[i for i in split["test"] if i[1] != 1])),
            r"task.name: class 'Forest' of 'coop:eurosat' has no test images: add some or remove the class",
        ),
        (
            lambda folder: edit(folder, lambda split: split["val"][0].__setitem__(2, "Wood")),
            r"label \d is both '.*' and 'Wood': give a class one name",
        ),
        (lambda folder: edit(folder, lambda split: split.pop("val")), r"json: val: Field required: download the split"),
        (
            lambda folder: edit(folder, lambda split: split.pop("test")),
            r"task.root: '.*': 10 classes and 0 test images: a task needs at least two classes and one test image: add",
        ),
        (
            lambda folder: edit(folder, lambda split: split["val"].append(["x"])),
            r"json: val.20.1: .*: download the split",
        ),
        (lambda folder: (folder / "split_zhou_EuroSAT.json").write_text("{"), r"json: file: Invalid JSON"),
    ],
)
def test_what_is_wrong_with_a_split_is_named(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    LAYOUTS["eurosat"](tmp_path)
    coop("eurosat", tmp_path)
    spoil(tmp_path / "eurosat")
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path, "eurosat")
    assert "\n" not in str(caught.value)


def unsort(root: Path) -> None:
    """The files of a user who has unpacked only the validation images."""
    val = root / "imagenet" / "images" / "val"
    val.unlink()
    touch(val, "ILSVRC2012_val_00000001.JPEG")


def lose_test_images(root: Path) -> None:
    blackvips_svhn_split(root, "split_SVHN.json")
    (root / "svhn" / "test").rename(root / "svhn" / "testing")


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("cars", lambda _: None, "task.name: 'coop:cars' is unknown: choose one of imagenet, caltech101,"),
        ("dtd", lambda _: None, r"task.root: '.*' has no folder dtd/: lay it out as docs/guides/datasets.md says"),
        (
            "eurosat",
            lambda root: touch(root / "eurosat" / "2750" / "Empty", "notes.txt"),
            "'.*Empty' holds no images: add",
        ),
        (
            "eurosat",
            lambda root: touch(root / "eurosat" / "2750" / "Single", "1.jpg"),
            "the 1 images of class 'Single' are too few to split in 3: add some",
        ),
        ("oxford_pets", lambda root: (root / "oxford_pets/annotations/test.txt").unlink(), "not laid out .*test.txt"),
        (
            "oxford_flowers",
            lambda root: (root / "oxford_flowers/imagelabels.mat").write_bytes(b""),
            "not laid out .*Mat file",
        ),
        (
            "sun397",
            lambda root: write(root / "sun397" / "ClassName.txt", "/a/abbey"),
            "not laid out .*apartment_building",
        ),
        (
            "imagenet",
            lambda root: write(root / "imagenet" / "classnames.txt", "n01440764"),
            "not laid out as docs/guides/data",
        ),
        (
            "imagenet",
            unsort,
            "task.root: '.*images/val' has no class folders: sort its images into WordNet folders, as",
        ),
        (
            "svhn",
            lose_test_images,
            r"not laid out as docs/guides/data.* \(FileNotFoundError: .*svhn/test'\): unpack it again",
        ),
    ],
)
def test_what_is_wrong_with_a_layout_is_named(
    tmp_path: Path, name: str, spoil: Callable[[Path], None], message: str
) -> None:
    if name in LAYOUTS and name != "dtd":
        LAYOUTS[name](tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        coop(name, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("split_[mz]*")), "nothing is left behind"


def test_a_split_that_cannot_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, data: bytes) -> None:
        del path, data
        raise PermissionError(13, "Permission denied")

    LAYOUTS["eurosat"](tmp_path)
    monkeypatch.setattr("zip_ray.tasks.splits.write_shared", refuse)
    with pytest.raises(InputError, match=r"EuroSAT.json: is missing and cannot be made \(Permission denied\): put the"):
        coop("eurosat", tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here: it holds Caltech101's real images")
def test_caltech101_as_it_is() -> None:
    source = coop("caltech101", DATA)
    assert [len(part) for part in (source.train, source.val, source.test)] == [4128, 1649, 2465]
    names = source.classnames
    assert len(set(names)) == 100
    assert names[:6] == ("face", "leopard", "motorbike", "accordion", "airplane", "anchor")
    assert names[-1] == "yin yang"
    assert not {"BACKGROUND Google", "Faces easy", "Faces", "airplanes"} & set(names)
    folders = {"face": "Faces", "leopard": "Leopards", "motorbike": "Motorbikes", "airplane": "airplanes"}
    for label, path in zip(source.test.labels, source.test.paths, strict=True):
        assert Path(path).parent.name.replace("_", " ") == folders.get(names[label], names[label])
    task = load(DATA, "caltech101")
    assert (len(task.train), len(task.val), len(task.test)) == (1600, 400, 2465)
    assert min(Image.open(task.test.paths[0]).size) == 80


@pytest.mark.parametrize("parts", [("train",), ("val",), ("train", "val")])
def test_an_imagenet_without_a_class_is_refused(tmp_path: Path, parts: tuple[str, ...]) -> None:
    """Missing in both parts, it would shift all later labels without any other sign."""
    LAYOUTS["imagenet"](tmp_path)
    for part in parts:
        shutil.rmtree(tmp_path / "elsewhere" / part / "n02391049")
    message = rf"images/{parts[0]}' lacks 1 of the classes in classnames.txt \(n02391049\): unpack"
    with pytest.raises(InputError, match=message):
        load(tmp_path, "imagenet")
