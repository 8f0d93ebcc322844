"""A task by its name: built in, rendered, or a folder of the user's own images."""

from dataclasses import dataclass

from zip_ray.config import TaskConfig
from zip_ray.data.built_in import BUILT_IN, built_in, known_test_sets
from zip_ray.data.few_shot import few_shot
from zip_ray.data.folder import folder
from zip_ray.data.images import ImageSet
from zip_ray.errors import InputError

__all__ = ["BUILT_IN", "ImageSet", "Task", "load_task"]

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
        InputError: an unknown name or test set, or images that are missing, too few or unreadable.
    """
    if config.test_set not in (known := known_test_sets(config.name)):
        raise InputError(f"task.test_set: '{config.test_set}' is unknown: '{config.name}' has {', '.join(known)}")
    pool: ImageSet
    test: ImageSet
    if config.root is not None:
        classnames, pool, test = folder(config.root, seed)
        templates: tuple[str, ...] = (FOLDER_TEMPLATE,)
    elif config.name in BUILT_IN:
        classnames, templates, pool, test = built_in(config.name, config.test_set, config.shots)
    else:
        raise InputError(
            f"task.name: '{config.name}' is unknown: choose {', '.join(BUILT_IN)}, or folder with task.root"
        )
    if config.template is not None:
        templates = (config.template, *(t for t in templates if t != config.template))
    train, val = few_shot(pool.labels, classnames, config.shots, seed)
    return Task(config.name, classnames, templates[0], templates, pool.subset(train), pool.subset(val), test)
