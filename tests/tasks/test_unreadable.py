"""Images that cannot be decoded: left out and counted, or named before a run asks for them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.painted import COLOURS, assert_images_are_of_their_class, load, paint
from zip_ray.config.reading import validate
from zip_ray.errors import InputError
from zip_ray.scorer.self_checks import task as check_task
from zip_ray.tasks.images import ArrayImages, LazyImages
from zip_ray.tasks.readable import readable, sample, unreadable
from zip_ray.tasks.source import Source


def lay_out(root: Path, train: int, test: int) -> Path:
    for part, count in (("train", train), ("test", test)):
        for colour in COLOURS:
            for i in range(count):
                paint(root / part / colour / f"{i}.png", colour)
    return root


def spoil(path: Path) -> str:
    """Cut a file off in the middle, as an interrupted copy would."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return str(path)


def test_unreadable_images_are_left_out_and_others_are_drawn(tmp_path: Path) -> None:
    lay_out(tmp_path, train=8, test=3)
    whole = load("folder", tmp_path, shots=2, unreadable="skip")
    assert whole.notes == ()
    bad = [spoil(Path(path)) for path in (whole.train.paths[0], whole.val.paths[0], whole.test.paths[-1])]
    task = load("folder", tmp_path, shots=2, unreadable="skip")
    assert (len(task.train), len(task.val), len(task.test)) == (6, 6, 8)
    assert_images_are_of_their_class(task)
    (note,) = task.notes
    assert note.startswith("3 unreadable images left out: ")
    assert all(path in note for path in bad)
    again = load("folder", tmp_path, shots=2, unreadable="skip")
    assert (again.train.paths, again.val.paths, again.test.paths) == (
        (task.train.paths, task.val.paths, task.test.paths)
    )


def test_a_class_that_is_unreadable_as_a_whole_is_named(tmp_path: Path) -> None:
    lay_out(tmp_path, train=2, test=1)
    spoil(tmp_path / "test" / "blue" / "0.png")
    with pytest.raises(InputError, match="class 'blue' of 'folder' has no test images"):
        load("folder", tmp_path, shots=1, unreadable="skip")


def test_images_of_another_library_are_left_out_too() -> None:
    def fetch(place: int) -> Image.Image:
        if place == 3:
            raise OSError("image file is truncated")
        return Image.new("RGB", (2, 2))

    labels = np.array([0, 1, 0, 1, 1], dtype=np.int64)
    images = LazyImages(fetch, np.arange(5), labels)
    memory = ArrayImages(np.zeros((2, 2, 2, 3), dtype=np.uint8), np.array([0, 1]))
    source = readable(Source(("a", "b"), ("{}",), images, memory), lambda one: (one.train, one.train.subset([])))
    assert source.test.places.tolist() == [0, 1, 2, 4]
    assert len(source.train) == 2
    assert source.notes == ("1 unreadable image left out: 3",)


def test_doctor_opens_the_images(tmp_path: Path) -> None:
    """The doctor reports what would stop a run, and how to continue."""
    bad = spoil(lay_out(tmp_path, train=2, test=2) / "test" / "red" / "1.png")
    tree = {"task": {"name": "folder", "root": str(tmp_path), "shots": 1}}
    with pytest.raises(InputError, match=r"1 of the 12 images .* --task.unreadable skip leaves .*red/1.png: unreadab"):
        check_task(validate(tree, ""))
    tree["task"]["unreadable"] = "skip"
    assert f"1 unreadable image left out: {bad}" in check_task(validate(tree, ""))


def test_a_sample_spreads_over_a_large_set() -> None:
    labels = np.zeros(1000, dtype=np.int64)
    images = LazyImages(lambda _: Image.new("RGB", (2, 2)), np.arange(1000), labels)
    assert sample(images, 4).places.tolist() == [0, 333, 666, 999]
    assert sample(images, 1000) is images
    assert unreadable(sample(images, 4)) == {}
