"""Tasks: images, labels, class names, templates, splits. Needs numpy and Pillow; a source's own library when used."""

from zip_ray.tasks.load import ImageSet, Task, load_task

__all__ = ["ImageSet", "Task", "load_task"]
