"""`task.draw: coop` against CoOp's procedure, written out with Python's global generator, over a split file."""

import json
import os
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.coop_miniatures import LAYOUTS
from zip_ray.config.task import TaskConfig
from zip_ray.errors import InputError
from zip_ray.tasks import ImageSet, Task, load_task
from zip_ray.tasks.few_shot import draw
from zip_ray.tasks.images import ArrayImages
from zip_ray.tasks.source import Source

SPLIT = "dtd/split_zhou_DescribableTextures.json"


@pytest.fixture
def global_generator() -> Iterator[None]:
    """Restore Python's global generator."""
    before = random.getstate()
    yield
    random.setstate(before)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of textures, interleaved in the split file; the second has three validation images."""
    LAYOUTS["dtd"](tmp_path)
    load_task(TaskConfig(name="coop:dtd", root=tmp_path), 1)  # writes the split file
    split = json.loads((tmp_path / SPLIT).read_text())
    for items in split.values():
        np.random.default_rng(6).shuffle(items)
    assert split["train"][0][1] == 1, "not in the order of the labels"
    few = [item for item in split["val"] if item[1] == 1][:3]
    split["val"] = few + [item for item in split["val"] if item[1] == 0]
    (tmp_path / SPLIT).write_text(json.dumps(split))
    return tmp_path


def by_hand(items: list[list], shots: int) -> list[str]:
    """The paths that CoOp's code draws from a part, in its order."""
    classes: dict[int, list[str]] = defaultdict(list)
    for path, label, _ in items:
        classes[label].append(path)
    drawn = []
    for members in classes.values():
        drawn += random.sample(members, shots) if len(members) >= shots else members
    return drawn


def paths(images: ImageSet) -> list[str]:
    return [os.sep.join(path.split(os.sep)[-2:]) for path in images.paths]  # type: ignore[attr-defined]


def load(root: Path, seed: int, shots: int) -> Task:
    return load_task(TaskConfig(name="coop:dtd", root=root, draw="coop", shots=shots), seed)


@pytest.mark.usefixtures("global_generator")
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("shots", [2, 16])
def test_the_images_are_those_of_coops_code(root: Path, seed: int, shots: int) -> None:
    random.seed(99)
    before = random.getstate()
    task = load(root, seed, shots)
    assert random.getstate() == before, "no global generator is read"
    split = json.loads((root / SPLIT).read_text())
    random.seed(seed)
    assert paths(task.train) == by_hand(split["train"], shots)
    assert paths(task.val) == by_hand(split["val"], min(shots, 4))
    assert [path.split(os.sep)[0] for path in paths(task.train)] == [task.classnames[i] for i in task.train.labels]


def source(images: int) -> Source:
    """Two classes without a validation part, as in ImageNet."""
    labels = np.arange(2 * images) % 2
    pool = ArrayImages(np.arange(2 * images, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=3), labels)
    return Source(("even", "odd"), ("a {}.",), pool, pool)


@pytest.mark.usefixtures("global_generator")
def test_without_a_validation_part_the_training_images_are_coops_all_the_same() -> None:
    train, val = draw(source(40), 6, 3, "coop")
    random.seed(3)
    expected = [2 * i + label for label in (0, 1) for i in random.sample(range(40), 6)]
    drawn, held_out = ([one.image(i).getpixel((0, 0))[0] for i in range(len(one))] for one in (train, val))
    assert drawn == expected
    assert not set(drawn) & set(held_out)
    assert np.bincount(val.labels).tolist() == [4, 4]
    with pytest.raises(InputError, match=r"task\.shots: 16 for training and 4 for validation .* 19 images .* 'even'"):
        draw(source(19), 16, 3, "coop")
