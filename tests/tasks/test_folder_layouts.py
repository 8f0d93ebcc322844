"""Folders as users have them: names of parts, links, suffixes, nesting; duplicate names and images."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.painted import load
from zip_ray.config.task import TaskConfig
from zip_ray.errors import InputError
from zip_ray.tasks import Task
from zip_ray.tasks.identity import identity, shared_images
from zip_ray.tasks.image_folder import folder
from zip_ray.tasks.load import twins
from zip_ray.tasks.source import Lists, listed


def noise(path: Path, key: int) -> Path:
    """Write an image that differs from all others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(key).integers(0, 255, (6, 5, 3), dtype=np.uint8)).save(path)
    return path


def lay_out(root: Path, **parts: int) -> Path:
    """Folders of two classes with this many images each."""
    for number, (part, count) in enumerate(parts.items()):
        for label, name in enumerate(("cat", "dog")):
            for i in range(count):
                noise(root / part / name / f"{i}.png", 1000 * number + 100 * label + i)
    return root


def task_of(root: Path, shots: int = 1) -> Task:
    return load("folder", root, shots=shots)


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING", "Training"])
@pytest.mark.parametrize("test", ["test", "Testing"])
def test_the_usual_names_of_parts(tmp_path: Path, train: str, test: str) -> None:
    task = task_of(lay_out(tmp_path, **{train: 5, test: 3}))
    assert (task.classnames, len(task.train), len(task.test)) == (("cat", "dog"), 2, 6)


def test_two_folders_of_one_part_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has test/ and testing/: join them"):
        folder(lay_out(tmp_path, train=2, test=2, testing=2), 1)


@pytest.mark.parametrize("val", ["val", "Valid", "validation"])
def test_val_is_the_validation_part(tmp_path: Path, val: str) -> None:
    task = task_of(lay_out(tmp_path, **{"train": 5, val: 3, "test": 3}))
    assert {Path(path).parts[-3] for path in task.val.paths} == {val}
    assert {Path(path).parts[-3] for path in task.train.paths} == {"train"}
    noise(tmp_path / val / "horse" / "0.png", 7)
    with pytest.raises(InputError, match=rf"{val}/ and test/ differ in the classes horse"):
        task_of(tmp_path)


def test_folders_of_folders_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"class folder '.*bad' holds only folders: give the folder whose folders are"):
        folder(lay_out(tmp_path, good=2, bad=2), 1)


def test_links_are_followed_within_the_root_and_never_in_circles(tmp_path: Path) -> None:
    lay_out(tmp_path, train=3, test=2)
    shutil.move(tmp_path / "train" / "dog", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", tmp_path / "train" / "dog")
    noise(tmp_path / "more" / "9.png", 9)
    os.symlink(tmp_path / "more", tmp_path / "train" / "cat" / "linked")
    os.symlink(tmp_path / "train" / "cat", tmp_path / "train" / "cat" / "circle")
    source = folder(tmp_path, 1)
    assert np.bincount(source.train.labels).tolist() == [4, 3]


def test_a_link_to_a_folder_elsewhere_is_named(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "root", train=3, test=2)
    noise(tmp_path / "outside" / "9.png", 9)
    os.symlink(tmp_path / "outside", root / "train" / "cat" / "linked")
    with pytest.raises(InputError, match=r"linked/9.png' leads out of"):
        folder(root, 1)


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    lay_out(tmp_path, train=3, test=2)
    os.symlink(tmp_path / "gone.png", tmp_path / "train" / "cat" / "link.png")
    for name in ("a.heic", "b.heic", "notes.txt", "README", ".hidden"):
        (tmp_path / "train" / "cat" / name).write_text("x")
    (note,) = folder(tmp_path, 1).notes
    assert note.startswith("5 files are ignored (2 .heic, ")
    assert {"1 .txt", "1 no ending", "1 dangling link"} <= set(re.split(r", |[()]", note))
    assert task_of(tmp_path).notes == folder(tmp_path, 1).notes


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, train=3, test=2)
    scandir = os.scandir

    def refuse(path: str) -> object:  # root can read everything
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"dog: Permission denied: make it readable, or move it away"):
        folder(tmp_path, 1)


@pytest.mark.parametrize("ending", [".jfif", ".avif", ".jp2", ".ppm", ".PGM", ".jpe"])
def test_endings_of_formats_that_are_read(tmp_path: Path, ending: str) -> None:
    lay_out(tmp_path, train=3, test=2)
    path = tmp_path / "test" / "cat" / f"more{ending}"
    Image.new("L" if ending == ".PGM" else "RGB", (8, 8)).save(path)
    assert str(path) in folder(tmp_path, 1).test.paths
    assert task_of(tmp_path).test.image(0).mode == "RGB"


TABLE = "path,label,classname,split\n" + "".join(
    f"{name}-{part}.png,{label},{shown},{part}\n"
    for label, name, shown in ((0, "a", "NAME"), (1, "b", "sea_lion"))
    for part in ("train", "test")
)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sea lion", r"two classes of 'manifest' are called 'sea lion': rename or join them"),
        ("sea_lion", r"two classes of 'manifest' are called 'sea lion'"),
        (" sea  lion", r"two classes of 'manifest' are called 'sea lion'"),
        (" ", r"class 0 of 'manifest' has an empty name: give it one"),
        ("_", r"class 0 of 'manifest' has an empty name"),
    ],
)
def test_two_labels_with_one_name_are_refused(tmp_path: Path, name: str, message: str) -> None:
    for key, image in enumerate(("a-train", "a-test", "b-train", "b-test")):
        noise(tmp_path / f"{image}.png", key)
    (tmp_path / "t.csv").write_text(TABLE.replace("NAME", name))
    with pytest.raises(InputError, match=message):
        load("manifest", tmp_path / "t.csv", shots=1)


def test_forms_of_one_name_are_one_name(tmp_path: Path) -> None:
    for number, name in enumerate(("caf\u00e9", "cafe\u0301")):
        for i in range(6):
            noise(tmp_path / name / f"{i}.png", 10 * number + i)
    with pytest.raises(InputError, match=r"two folders in '.*' are called 'caf\u00e9'"):
        task_of(tmp_path)


def test_published_lists_with_twins_are_warned_of() -> None:
    (note,) = twins("coop:imagenet", ("maillot", "cat", "maillot"))
    assert note.startswith("1 class names occur twice, such as 'maillot'")
    assert twins("coop:imagenet", ("a", "b")) == []
    items = [("x.png", label, name) for label, name in enumerate(("maillot", "maillot"))]
    assert listed(Lists(items, [], items), ("{}",), "x", published=True).classnames == ("maillot", "maillot")


def test_images_that_are_there_twice_are_counted(tmp_path: Path) -> None:
    lay_out(tmp_path, train=4, test=3)
    assert shared_images(task_of(tmp_path, 2)) == []
    shutil.copy(tmp_path / "train" / "cat" / "0.png", tmp_path / "test" / "cat" / "copy.png")
    shutil.copy(tmp_path / "train" / "cat" / "1.png", tmp_path / "test" / "dog" / "copy.png")
    tested, odd = shared_images(task_of(tmp_path, 2))
    assert tested.startswith("2 test images are also training or validation images")
    assert odd.startswith("1 images have two labels")


def test_a_task_has_an_identity(tmp_path: Path) -> None:
    """Adding, removing, replacing or renaming a file changes it; moving the whole folder does not."""
    lay_out(tmp_path / "a", train=4, test=3)
    before = identity(task_of(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert identity(task_of(tmp_path / "b")) == before
    changes = {
        "added": lambda root: noise(root / "test" / "cat" / "9.png", 77),
        "removed": lambda root: (root / "test" / "dog" / "0.png").unlink(),
        "training image replaced": lambda root: [noise(root / "train" / "cat" / f"{i}.png", 80 + i) for i in range(4)],
        "class renamed": lambda root: [(root / p / "cat").rename(root / p / "car") for p in ("train", "test")],
    }
    for name, change in changes.items():
        root = tmp_path / name
        shutil.copytree(tmp_path / "a", root)
        change(root)
        assert identity(task_of(root)) != before, name


@pytest.mark.parametrize("name", ["train", "Test", "val"])
def test_a_class_may_be_called_as_a_part_is(tmp_path: Path, name: str) -> None:
    for label, place in enumerate((name, "bus")):
        for i in range(4):
            noise(tmp_path / place / f"{i}.png", 10 * label + i)
    assert set(task_of(tmp_path).classnames) == {name, "bus"}


def test_without_test_folder_a_share_of_train_is_tested(tmp_path: Path) -> None:
    task = task_of(lay_out(tmp_path, train=10, val=3))
    assert (len(task.train), len(task.val), len(task.test)) == (2, 2, 10)
    assert {Path(path).parts[-3] for path in task.val.paths} == {"val"}
    assert not {*task.train.paths} & {*task.test.paths}


def test_the_test_share_is_that_of_each_class(tmp_path: Path) -> None:
    lay_out(tmp_path, **{".": 10})
    task = load("folder", tmp_path, shots=4, test_share=0.2)
    assert np.bincount(task.test.labels).tolist() == [2, 2]
    pool = {*task.train.paths, *task.val.paths}
    assert len(pool) == 16
    assert not pool & {*task.test.paths}
    assert np.bincount(folder(tmp_path, 1, 0.29).test.labels).tolist() == [2, 2]
    assert np.bincount(folder(tmp_path, 1, 0.3).test.labels).tolist() == [3, 3]
    assert folder(tmp_path, 1, 0.5).test.paths == folder(tmp_path, 1).test.paths
    with pytest.raises(InputError, match=r"task.test_share: a share of 0.05 of the 10 images of class 'cat' is none"):
        folder(tmp_path, 1, 0.05)


def test_a_test_share_without_effect_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"task.test_share: '.*' has a folder test/: leave the share out"):
        folder(lay_out(tmp_path, train=2, test=2), 1, 0.5)
    with pytest.raises(ValueError, match=r"test_share is 0\.5, and 'digits' has its own test images: leave it out"):
        TaskConfig(name="digits", test_share=0.5)


def test_too_few_images_are_told_with_all_numbers(tmp_path: Path) -> None:
    message = (
        r"task.shots: 4 for training and 4 for validation are more than the 5 images of class 'cat', which 5 for "
        r"testing leave of 10: lower task.shots or task.test_share, or add images"
    )
    with pytest.raises(InputError, match=message):
        task_of(lay_out(tmp_path, train=10), shots=4)


def test_a_file_names_the_classes_of_folders(tmp_path: Path) -> None:
    lay_out(tmp_path, train=3, test=2)
    file = tmp_path / "classnames.txt"
    file.write_text("dog Great Dane\ncat\tn_1 cat\n\n")
    task = task_of(tmp_path)
    assert (task.classnames, task.notes) == (("n_1 cat", "Great Dane"), ())
    assert {Path(path).parts[-2] for path, label in zip(task.test.paths, task.test.labels, strict=True) if label} == {
        "dog"
    }
    for text, message in (
        ("dog Great Dane\n", r"classnames.txt: names other folders than there are \(cat\): give each class a line"),
        ("dog a\ncat b\nhorse c\n", r"names other folders than there are \(horse\)"),
        ("dog a\ndog b\n", r"classnames.txt: 'dog b': give each folder one line"),
        ("dog\ncat b\n", r"classnames.txt: 'dog': give each folder one line"),
        ("dog cat\ncat cat\n", r"two classes of 'folder' are called 'cat'"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            task_of(tmp_path)
