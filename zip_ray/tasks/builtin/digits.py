"""Handwritten digits (Alpaydin & Kaynak, UCI, 1998): real data, 1,797 images of 8 x 8, which ship with the package."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy
from safetensors.numpy import load_file

from zip_ray.protocol.random_keys import Stream, generator
from zip_ray.shipped import DIGITS
from zip_ray.tasks.images import ArrayImages

CLASSNAMES = tuple("0123456789")
TEMPLATES = (
    'a photo of the number: "{}".',  # CLIP's own template for MNIST (Radford et al., 2021), with seven words to tune
    "a photo of the digit {}.",
    "a handwritten photo of the digit {}.",
    "a pixelated photo of the digit {}.",
    "a pixelated photo of the digit {} in white on a black background.",
    "a pixelated image of the number {}.",
    "a blurred photo of the digit {} in white on a black background.",
)
TEST_IMAGES = 898
NOISE = 40.0
"""Standard deviation, grey levels of 255."""
TURN = (20.0, 35.0)
"""Least and most, degrees, to either side."""

Grey = npt.NDArray[np.uint8]
SHIFTS: dict[str, Callable[[Grey, np.random.Generator], npt.NDArray[Any]]] = {
    "inverted": lambda grey, _: 255 - grey,
    "noisy": lambda grey, rng: grey + rng.normal(0, NOISE, grey.shape),
    "rotated": lambda grey, rng: scipy.ndimage.rotate(
        grey.astype(np.float64), rng.choice((-1, 1)) * rng.uniform(*TURN), reshape=False, order=1
    ),
    "moved": lambda grey, rng: scipy.ndimage.shift(grey, rng.choice((-1, 1), size=2), order=0),
}
"""Shifted test sets: what becomes of a test image of (8, 8) grey levels. Their order keys the draws: append."""


def digits(test_set: str = "test") -> tuple[ArrayImages, ArrayImages]:
    """The pool to draw training and validation images from, and the test half, which no seed changes.

    Args:
        test_set: `test`, or the name of a shift of the test half.
    """
    data = load_file(DIGITS)
    grey = np.round(data["images"] * (255 / 16)).astype(np.uint8)
    labels = data["labels"].astype(np.int64)
    order = generator(0, Stream.SPLIT).permutation(len(labels))
    pool, test = order[TEST_IMAGES:], order[:TEST_IMAGES]
    shown = grey[test] if test_set == "test" else _shifted(grey[test], test_set)
    return _images(grey[pool], labels[pool]), _images(shown, labels[test])


def _shifted(grey: Grey, name: str) -> Grey:
    key = list(SHIFTS).index(name)
    shifted = [SHIFTS[name](image, generator(0, Stream.SHIFT, key, i)) for i, image in enumerate(grey)]
    return np.asarray(np.round(np.clip(shifted, 0, 255)), dtype=np.uint8)


def _images(grey: Grey, labels: npt.NDArray[np.int64]) -> ArrayImages:
    return ArrayImages(np.repeat(grey[..., None], 3, axis=3), labels)
