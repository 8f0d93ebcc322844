"""A task by its name: built in, rendered, or a folder of the user's own images."""

from dataclasses import dataclass

from zip_ray.config import TaskConfig
from zip_ray.data import rendered
from zip_ray.data.digits import CLASSNAMES, TEMPLATES, digits
from zip_ray.data.few_shot import VALIDATION_SHOTS, few_shot
from zip_ray.data.folder import folder
from zip_ray.data.images import ArrayImages, ImageSet
from zip_ray.errors import InputError

__all__ = ["BUILT_IN", "ImageSet", "Task", "load_task"]

BUILT_IN = ("digits", *rendered.TASKS)
FOLDER_TEMPLATE = "a photo of a {}."


@dataclass(frozen=True)
class Task:
    """A few-shot classification problem. A label is the place of its class in `classnames`."""

    name: str
    classnames: tuple[str, ...]
    template: str
    """The plain template, with {} for the class name."""
    templates: tuple[str, ...]
    """Hand-written templates, the plain one first."""
    train: ImageSet
    val: ImageSet
    test: ImageSet


def load_task(config: TaskConfig, seed: int) -> Task:
    """Load a task and draw its few shots.

    Raises:
        InputError: an unknown name, or images that are missing, too few or unreadable.
    """
    pool: ImageSet
    test: ImageSet
    if config.root is not None:
        classnames, pool, test = folder(config.root, seed)
        templates: tuple[str, ...] = (FOLDER_TEMPLATE,)
    elif config.name == "digits":
        classnames, templates = CLASSNAMES, TEMPLATES
        pool, test = digits()
    elif config.name in rendered.TASKS:
        task = rendered.TASKS[config.name]
        classnames, templates = task.classnames, task.templates
        pool = ArrayImages(*rendered.render_split(task, "pool", config.shots + VALIDATION_SHOTS))
        test = ArrayImages(*rendered.render_split(task, "test", rendered.TEST_IMAGES))
    else:
        raise InputError(
            f"task.name: '{config.name}' is unknown: choose {', '.join(BUILT_IN)}, or folder with task.root"
        )
    if config.template is not None:
        templates = (config.template, *(t for t in templates if t != config.template))
    train, val = few_shot(pool.labels, classnames, config.shots, seed)
    return Task(config.name, classnames, templates[0], templates, pool.subset(train), pool.subset(val), test)
