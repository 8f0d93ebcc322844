"""Tasks: images, labels, class names, templates, splits. numpy and Pillow, and what a source needs when asked for."""

from zip_ray.tasks.load import ImageSet, Task, load_task

__all__ = ["ImageSet", "Task", "load_task"]
