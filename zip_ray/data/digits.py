"""The UCI handwritten digits that scikit-learn carries (Alpaydin & Kaynak, 1998): real data, 1,797 images of 8 x 8."""

import numpy as np

from zip_ray.data.images import ArrayImages
from zip_ray.keys import Stream, generator

CLASSNAMES = tuple("0123456789")
TEMPLATES = (
    'a photo of the number: "{}".',  # CLIP's own for MNIST (Radford et al., 2021): seven words to tune
    "a photo of the digit {}.",
    "a handwritten photo of the digit {}.",
    "a pixelated photo of the digit {}.",
    "a pixelated photo of the digit {} in white on a black background.",
    "a pixelated image of the number {}.",
    "a blurred photo of the digit {} in white on a black background.",
)
TEST_IMAGES = 898


def digits() -> tuple[ArrayImages, ArrayImages]:
    """The pool to draw training and validation images from, and the test half, which no seed changes."""
    from sklearn.datasets import load_digits

    data = load_digits()
    grey = np.round(data.images * (255 / 16)).astype(np.uint8)
    images = ArrayImages(np.repeat(grey[..., None], 3, axis=3), data.target.astype(np.int64))
    order = generator(0, Stream.SPLIT).permutation(len(images))
    return images.subset(order[TEST_IMAGES:]), images.subset(order[:TEST_IMAGES])
