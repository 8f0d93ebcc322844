"""Class names in the forms that file systems and tables give them."""

import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from tests.support.painted import load
from zip_ray.config.task import TaskConfig
from zip_ray.errors import InputError
from zip_ray.tasks.source import Lists, listed

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café_crème") for form in ("NFC", "NFD"))


def picture(folder: bytes | str, number: int) -> None:
    place = os.fsencode(folder)
    os.makedirs(place, exist_ok=True)
    Image.new("RGB", (6, 5), (number, 0, 0)).save(Path(os.fsdecode(place), f"{number}.png"))


def test_a_name_that_is_not_utf8_is_refused_at_reading(tmp_path: Path) -> None:
    for number in range(8):
        picture(os.fsencode(tmp_path) + (b"/caf\xe9" if number % 2 else b"/tea"), number)
    with pytest.raises(InputError, match=r"the class name 'caf\\udce9' is not valid UTF-8: rename the class"):
        load("folder", tmp_path, shots=1)


def test_parts_may_have_another_unicode_form(tmp_path: Path) -> None:
    """A Mac decomposes accents, other systems do not; "caf" + combining accent sorts before "cafz", "café" after."""
    for part, form in (("train", DECOMPOSED), ("test", COMPOSED)):
        for number in range(3):
            picture(str(tmp_path / part / form), number)
            picture(str(tmp_path / part / "cafz"), 10 + number)
    task = load("folder", tmp_path, shots=1)
    assert task.classnames == ("cafz", "café crème")
    assert [Path(task.test.paths[i]).parent.name for i in range(6)] == ["cafz"] * 3 + [COMPOSED] * 3
    assert Path(task.train.paths[0]).parent.name == "cafz"


def test_a_table_may_mix_unicode_forms() -> None:
    one = [("a.png", 0, COMPOSED), ("b.png", 1, "tea")]
    other = [("c.png", 0, DECOMPOSED), ("d.png", 1, "tea")]
    assert listed(Lists(one, [], other), ("a {}",), "table").classnames == ("café crème", "tea")


@pytest.fixture
def coded(tmp_path: Path) -> Path:
    for number in range(8):
        picture(str(tmp_path / ("n02084071_dog" if number % 2 else "n02121808_cat")), number)
    return tmp_path


def test_the_config_names_the_classes_of_folders(coded: Path) -> None:
    names = {"n02084071_dog": "dog", "n02121808_cat": "house cat"}
    assert load("folder", coded, shots=1, class_names=names).classnames == ("dog", "house cat")


def test_folders_that_the_config_does_not_name_keep_their_names(coded: Path) -> None:
    assert load("folder", coded, shots=1, class_names={"n02084071_dog": "dog"}).classnames == ("dog", "n02121808 cat")
    (coded / "classnames.txt").write_text("n02084071_dog hound\nn02121808_cat cat\n")
    assert load("folder", coded, shots=1, class_names={"n02084071_dog": "dog"}).classnames == ("dog", "cat")


def test_class_names_that_name_nothing_are_refused(coded: Path) -> None:
    with pytest.raises(InputError, match=r"task.class_names: no folder 'dog': the class folders are n02084071_dog, "):
        load("folder", coded, shots=1, class_names={"dog": "dog"})
    with pytest.raises(InputError, match=r"two classes of 'folder' are called 'cat'"):
        load("folder", coded, shots=1, class_names={"n02084071_dog": "cat", "n02121808_cat": "cat"})
    with pytest.raises(ValueError, match=r"class_names is for folders, and 'digits' has its own names: leave it out"):
        TaskConfig(name="digits", class_names={"a": "b"})
