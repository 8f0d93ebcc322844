"""Tasks: few-shot draws, the fixed test half of digits, and folders in every state in which users may provide them."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file
from scipy.ndimage import label
from sklearn.datasets import load_digits

from tests.support.paths import SHARED
from zip_ray.config.reading import validate
from zip_ray.config.task import BUILT_IN, TaskConfig, known_test_sets
from zip_ray.errors import InputError
from zip_ray.protocol.random_keys import Stream, generator
from zip_ray.shipped import DIGITS
from zip_ray.tasks import load_task
from zip_ray.tasks.builtin import pictures, rendered
from zip_ray.tasks.builtin.digits import SHIFTS, digits
from zip_ray.tasks.decoding import read_image
from zip_ray.tasks.few_shot import few_shot
from zip_ray.tasks.image_folder import folder, list_images


@given(sizes=st.lists(st.integers(8, 30), min_size=1, max_size=5), shots=st.integers(1, 5), seed=st.integers(0, 2**40))
def test_few_shot_draws(sizes: list[int], shots: int, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    names = [f"class {i}" for i in range(len(sizes))]
    if min(sizes) < shots + min(shots, 4):
        with pytest.raises(InputError, match=r"task.shots"):
            few_shot(labels, names, shots, seed)
        return
    train, val = few_shot(labels, names, shots, seed)
    assert not set(train) & set(val)
    assert np.bincount(labels[train]).tolist() == [shots] * len(sizes)
    assert np.bincount(labels[val]).tolist() == [min(shots, 4)] * len(sizes)
    again, _ = few_shot(labels, names, shots, seed)
    np.testing.assert_array_equal(again, train)
    # A class's draw does not depend on the classes that follow.
    first = labels == 0
    alone, _ = few_shot(labels[first], names[:1], shots, seed)
    np.testing.assert_array_equal(alone, train[:shots])


def test_few_shot_depends_on_the_seed() -> None:
    labels = np.repeat(np.arange(3), 50)
    draws = {tuple(few_shot(labels, "abc", 4, seed)[0]) for seed in range(10)}
    assert len(draws) == 10


def test_too_few_images_are_named_with_numbers() -> None:
    with pytest.raises(InputError, match=r"task.shots: 16 for training and 4 .* the 12 images of class 'cat': lower"):
        few_shot(np.zeros(12, dtype=np.int64), ["cat"], 16, 1)


@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 1000))
def test_digits_keep_their_test_half(seed: int) -> None:
    _, fixed = digits()
    task = load_task(TaskConfig(), seed)
    assert (len(task.train), len(task.val), len(task.test)) == (160, 40, 898)
    np.testing.assert_array_equal(task.test.pixels, fixed.pixels)
    pool_pixels = {image.tobytes() for image in digits()[0].pixels}
    assert all(image.tobytes() in pool_pixels for image in task.train.pixels)


def test_digits_are_the_data_set() -> None:
    pool, test = digits()
    assert (len(pool), len(test)) == (899, 898)
    pixels = np.concatenate([pool.pixels, test.pixels])
    assert pixels.shape == (1797, 8, 8, 3)
    assert pixels.max() == 255
    assert np.bincount(test.labels).min() > 70, "classes are balanced"


def test_the_digits_that_ship_are_those_of_scikit_learn() -> None:
    shipped, theirs = load_file(DIGITS), load_digits()
    np.testing.assert_array_equal(shipped["images"], theirs.images)
    np.testing.assert_array_equal(shipped["labels"], theirs.target)


IMAGES = {
    "digits": "40cab1ea735cc40b 945cee2689d7d6d0",
    "count": "9ea866461c85b2d5 54f5a7ab1edae148",
    "texture": "7bab599d989269f7 d5504323770e9618",
    "shape": "bd06535a689b9f13 ce6cf56ebc79821e",
    "letter": "36373ebe41b286ba e5f238a19f216429",
    "colour": "e36a9791d98fac2d fd4b67210d92142e",
    "street": "895bed4e10134c07 347688b9382bc310",
    "style": "def4804a9fc84813 daf0703d953cf2fa",
    "crowd": "6b2820a76aeb5beb 4cf5a663c3224712",
    "inlay": "9d78988a3ee4cbea 8fa08b9d9336c63e",
    "background": "e3c3ab72d7fff758 7305d941037a39dc",
    "stars": "1075fe933d4fc413 9c7bd594b1b6793b",
}
"""First digits of the digests of test and training images, 2 shots, seed 1, with the pinned Pillow and scipy."""


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_tasks_are_fixed_and_their_splits_apart(name: str) -> None:
    task = load_task(TaskConfig(name=name, shots=2), 1)
    assert f"{task.test.digest()[:16]} {task.train.digest()[:16]}" == IMAGES[name]
    classes = len(task.classnames)
    assert classes >= 4, "two base and two new classes"
    assert np.bincount(task.train.labels).tolist() == [2] * classes
    if name != "digits":
        assert np.bincount(task.test.labels).tolist() == [50] * classes
    tests = {image.tobytes() for image in task.test.pixels}
    assert not any(image.tobytes() in tests for image in task.train.pixels)
    assert all(template.count("{}") == 1 for template in task.templates)
    assert task.templates[0] == task.template


@pytest.mark.parametrize("name", ["digits", "texture"])
def test_seeds_share_few_training_images(name: str) -> None:
    """Two draws share about a quarter, or less where the pool is larger."""
    one, two = ({image.tobytes() for image in load_task(TaskConfig(name=name), seed).train.pixels} for seed in (1, 2))
    assert len(one & two) < len(one) / 3


@pytest.mark.parametrize("name", rendered.TASKS)
def test_an_image_depends_on_its_key_alone(name: str) -> None:
    task = rendered.TASKS[name]
    assert len(BUILT_IN[name]) >= 2
    shown = {}
    for split in ("pool", *known_test_sets(name)):
        one, labels = rendered.render_split(task, split, 1)
        two, more_labels = rendered.render_split(task, split, 2)
        np.testing.assert_array_equal(two[::2], one)
        np.testing.assert_array_equal(labels, np.arange(len(task.classnames)))
        np.testing.assert_array_equal(more_labels, np.repeat(labels, 2))
        shown |= {image.tobytes(): split for image in two}
    assert len(shown) == len(more_labels) * (2 + len(BUILT_IN[name])), "no image is shown twice"


@pytest.mark.parametrize("name", ["digits", "count"])
def test_a_shifted_test_set_has_the_labels_of_test_and_the_same_few_shots(name: str) -> None:
    plain, *shifted = (load_task(TaskConfig(name=name, test_set=s, shots=1), 1) for s in known_test_sets(name))
    assert len(shifted) >= 2
    assert len({task.test.digest() for task in (plain, *shifted)}) == 1 + len(shifted)
    for task in shifted:
        np.testing.assert_array_equal(task.test.labels, plain.test.labels)
        assert task.train.digest() == plain.train.digest()
        assert task.val.digest() == plain.val.digest()
        assert task.test.pixels.shape == plain.test.pixels.shape


def test_shifted_digits_are_what_they_say() -> None:
    test, inverted, noisy, rotated, moved = (
        digits(name)[1].pixels[..., 0].astype(int) for name in known_test_sets("digits")
    )
    np.testing.assert_array_equal(inverted, 255 - test)
    middle = (test > 120) & (test < 136)  # greys so far from 0 and 255 that the noise is not cut off
    assert np.std((noisy - test)[middle]) == pytest.approx(40, rel=0.05)
    framed = np.pad(test, ((0, 0), (1, 1), (1, 1)))
    corners = np.stack([framed[:, y : y + 8, x : x + 8] for y in (0, 2) for x in (0, 2)])
    places = (corners == moved).all(axis=(2, 3))
    assert (places.sum(axis=0) == 1).all()
    assert (places.sum(axis=1) > 180).all(), "each corner about as often"
    # Near the centre a rotation moves the ink but keeps almost all of it.
    centre = (slice(None), slice(2, 6), slice(2, 6))
    assert rotated[centre].mean() == pytest.approx(test[centre].mean(), rel=0.05)
    assert (rotated != test).any(axis=(1, 2)).all()


def test_unknown_test_set_lists_the_known(tmp_path: Path) -> None:
    known = "test, inverted, noisy, rotated, moved"
    with pytest.raises(InputError, match=f"^mine: task: test_set is 'dark': 'digits' has {known}$"):
        validate({"task": {"test_set": "dark"}}, "mine")
    with pytest.raises(InputError, match=r"^mine: task: test_set is 'dark': 'folder' has test$"):
        validate({"task": {"name": "folder", "root": str(tmp_path), "test_set": "dark"}}, "mine")


def test_config_lists_the_built_in_tasks() -> None:
    assert list(BUILT_IN) == ["digits", *rendered.TASKS]
    assert BUILT_IN["digits"] == tuple(SHIFTS)
    text = " ".join((TaskConfig.model_fields["name"].description or "").split())
    assert f"({', '.join(BUILT_IN)}: docs/measurements/tasks.md)" in text


@pytest.mark.parametrize("number", range(1, 9))
def test_a_crowd_has_as_many_objects_as_it_says(number: int) -> None:
    for i in range(5):
        picture = pictures.crowd(number, generator(1, Stream.RENDER, number, i))
        objects = np.abs(picture - picture[0, 0]).max(axis=2) > 0.01
        assert label(objects, np.ones((3, 3)))[1] == number


def test_a_street_number_has_neighbours_that_the_sides_cut_off() -> None:
    masks = np.stack([pictures.street_number("8", generator(1, Stream.RENDER, 0, i)) for i in range(40)])
    ink = masks > 0.5
    assert ink[:, :, 20:44].any(axis=(1, 2)).all(), "the digit"
    for side in (ink[:, :, :4], ink[:, :, -4:]):
        assert side.any(axis=(1, 2)).mean() > 0.6
    assert ((masks > 0.14) & ~ink).mean() > 0.05, "the wall"


def test_an_inlay_is_a_texture_with_paper_around_it() -> None:
    masks = np.stack([pictures.inlay("grid", generator(1, Stream.RENDER, 0, i)) for i in range(40)])
    assert not masks[:, [0, 0, -1, -1], [0, -1, 0, -1]].any()
    ink = masks.mean(axis=(1, 2))
    assert 0.05 < ink.min() < ink.max() < 0.5


def test_stars_are_dots_on_the_outline() -> None:
    for i in range(10):
        mask = pictures.stars("square", generator(1, Stream.RENDER, 0, i))
        _, dots = label(mask)
        assert dots >= 8
        assert mask.mean() < 0.25
        assert not mask[0, 0]


def paint(path: Path, colour: tuple[int, ...] = (200, 10, 10), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (12, 9), colour if mode in ("RGB", "RGBA") else 120).save(path)


@pytest.fixture
def two_classes(tmp_path: Path) -> Path:
    for part, count in (("train", 6), ("test", 3)):
        for name in ("sea_lion", "cat"):
            for i in range(count):
                paint(tmp_path / "data" / part / name / f"{i}.png", (i, 0, 0))
    return tmp_path / "data"


def task_of(root: Path, shots: int = 2, seed: int = 1):
    return load_task(TaskConfig(name="folder", root=root, shots=shots), seed)


def test_folder_with_train_and_test(two_classes: Path) -> None:
    task = task_of(two_classes)
    assert task.classnames == ("cat", "sea lion")
    assert task.template == "a photo of a {}."
    assert (len(task.train), len(task.val), len(task.test)) == (4, 4, 6)
    assert task.test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert task.train.image(0).mode == "RGB"


def test_one_folder_is_split_by_the_seed(two_classes: Path) -> None:
    root = two_classes / "train"
    splits = {tuple(task_of(root, 1, seed).test.paths) for seed in range(8)}
    assert len(splits) > 1
    task = task_of(root, 1, 3)
    assert task.test.paths == task_of(root, 1, 3).test.paths
    assert np.bincount(task.test.labels).tolist() == [3, 3]
    assert not set(task.test.paths) & set(task.train.paths + task.val.paths)


def test_other_files_and_hidden_ones_are_passed_over(two_classes: Path) -> None:
    (two_classes / "train" / "cat" / "Thumbs.db").write_text("x")
    (two_classes / "train" / "cat" / "notes.txt").write_text("x")
    paint(two_classes / "train" / "cat" / ".hidden.png")
    paint(two_classes / "train" / ".git" / "a.png")
    paint(two_classes / "train" / "cat" / "more" / "NESTED.JPG")
    pool = folder(two_classes, 1).train
    assert pool is not None
    assert len(pool) == 13
    note = "2 files are ignored (1 .db, 1 .txt)"
    assert folder(two_classes, 1).notes == load_task(TaskConfig(name="folder", root=two_classes, shots=2), 1).notes[:1]
    assert folder(two_classes, 1).notes == (note,)


def spoil(root: Path, how: str) -> Path:
    cat = root / "train" / "cat"
    if how == "missing":
        return root / "nowhere"
    if how == "a file":
        paint(root / "x.png")
        return root / "x.png"
    if how == "empty":
        for file in cat.iterdir():
            file.unlink()
    if how == "different":
        (root / "test" / "cat").rename(root / "test" / "dog")
    if how == "single":
        for part in ("train", "test"):
            (root / part / "cat").rename(root.parent / f"{part}-cat")
    if how == "twice":
        paint(root / "train" / "sea lion" / "0.png")
    if how == "escape":
        paint(root.parent / "secret.png")
        os.symlink(root.parent / "secret.png", cat / "link.png")
    if how == "unreadable":
        (cat / "0.png").write_bytes((cat / "0.png").read_bytes()[:40])
    return root


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", r"task.root: '.*nowhere' is not a folder: give the folder"),
        ("a file", r"task.root: '.*x.png' is not a folder"),
        ("empty", r"task.root: class folder '.*cat' holds no images: add some or remove it"),
        ("different", r"task.root: '.*': train/ and test/ differ in the classes cat, dog"),
        ("single", r"task.root: '.*test' holds 1 class folders: give at least two"),
        ("twice", r"two folders in '.*train' are called 'sea lion': rename one"),
        ("escape", r"task.root: '.*link.png' leads out of '.*': copy the image"),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(two_classes: Path, how: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        task_of(spoil(two_classes, how))
    assert "\n" not in str(caught.value)


def test_a_folder_with_test_images_alone_is_for_testing_only(two_classes: Path) -> None:
    (two_classes / "train").rename(two_classes.parent / "gone")
    task = task_of(two_classes)
    assert (task.classnames, len(task.train), len(task.val), len(task.test)) == (("cat", "sea lion"), 0, 0, 6)


def test_unreadable_image_is_named(two_classes: Path) -> None:
    spoil(two_classes, "unreadable")
    with pytest.raises(InputError, match=r"0.png: unreadable image \(.*\): replace or remove the file"):
        read_image(two_classes / "train" / "cat" / "0.png")


def test_unknown_task_lists_the_known() -> None:
    with pytest.raises(InputError, match=r"task.name: 'diggits' is unknown: choose digits, count, .* or folder"):
        load_task(TaskConfig(name="diggits"), 1)


def test_own_template_comes_first() -> None:
    task = load_task(TaskConfig(template="number {}"), 1)
    assert task.template == task.templates[0] == "number {}"
    assert len(task.templates) > 2


def test_list_images(two_classes: Path) -> None:
    cat = two_classes / "test" / "cat"
    assert [p.name for p in list_images(cat)] == ["0.png", "1.png", "2.png"]
    assert list_images(cat / "1.png") == [cat / "1.png"]
    with pytest.raises(InputError, match="no such file or folder"):
        list_images(cat / "nope")
    (cat / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        list_images(cat / "empty")


def test_real_photographs() -> None:
    if not (SHARED / "data").is_dir():
        pytest.skip("../shared/data is not here: it holds real photographs")
    task = task_of(SHARED / "data" / "cifar10", shots=16)
    assert len(task.classnames) == 10
    assert (len(task.train), len(task.val), len(task.test)) == (160, 40, 1000)
    halves = load_task(TaskConfig(name="folder", root=SHARED / "data" / "dtd10" / "images", shots=8), 2)
    assert len(halves.test) == 600
    assert halves.train.image(0).size[0] >= 96
