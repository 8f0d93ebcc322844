"""Images painted in their class's colour, so that what a task shows for a class can be seen."""

from pathlib import Path

from PIL import Image

from zip_ray.config.task import TaskConfig
from zip_ray.tasks import Task, load_task

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def paint(path: Path, colour: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5), COLOURS[colour]).save(path)


def load(name: str, root: Path | None = None, **task: object) -> Task:
    return load_task(TaskConfig(name=name, root=root, **task), 1)


def assert_images_are_of_their_class(task: Task) -> None:
    for images in (task.train, task.val, task.test):
        for i, label in enumerate(images.labels):
            assert images.image(i).getpixel((0, 0)) == COLOURS[task.classnames[label]]
