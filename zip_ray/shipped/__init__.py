"""Models that ship with the package: weights and model cards."""

from zip_ray.files import packaged

SMALL_CLIP = packaged("shipped/small_clip")
"""Folder of the small CLIP; `local-dir:` and this path is its name for open_clip."""
MODELS = {"small-clip": SMALL_CLIP}
"""Folders of the models, by the names that `model.name` takes."""
