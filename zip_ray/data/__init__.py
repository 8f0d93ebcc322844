"""Tasks: images, labels, class names, template and splits. numpy and Pillow only."""

from zip_ray.data.tasks import ImageSet, Task, load_task

__all__ = ["ImageSet", "Task", "load_task"]
