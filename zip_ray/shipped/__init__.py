"""Models and images that ship with the package, each with its card."""

from zip_ray.files import packaged

SMALL_CLIP = packaged("shipped/small_clip")
"""Folder of the small CLIP; `local-dir:` and this path is its name for open_clip."""
MODELS = {"small-clip": SMALL_CLIP}
"""Folders of the models, by the names that `model.name` takes."""
TINY_VLM = packaged("shipped/tiny_vlm")
"""Folder of the tiny vision-language model, as transformers loads it."""
DIGITS = packaged("shipped/digits/digits.safetensors")
"""Handwritten digits: `images`, shape (1797, 8, 8), grey levels 0 to 16, and `labels`, shape (1797,)."""
