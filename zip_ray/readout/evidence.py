"""The evidence for a classifier from images that were not used for tuning."""

from dataclasses import dataclass

import numpy as np

from zip_ray.protocol.arrays import Float32, Float64, Int64
from zip_ray.readout.regression import cross_entropies

NORMAL_95 = 1.96
"""Half-width of a 95% interval, in standard errors."""


@dataclass(frozen=True)
class Evidence:
    """A classifier against the start, on the validation images."""

    loss: float
    """Mean cross-entropy of the classifier."""
    accuracy: float
    start_loss: float
    start_accuracy: float
    gain: float
    """Mean of how much lower the cross-entropy of an image is than at the start."""
    half_width: float
    """Half-width of the 95% interval around the gain, from the spread over the images; infinite for a single image."""
    images: int


def weigh(scores: Float64, start: Float32, labels: Int64) -> Evidence:
    """Compare a classifier's scores with the start's, each of shape (n, classes), image by image."""
    own, before = cross_entropies(scores, labels), cross_entropies(start.astype(np.float64), labels)
    gains, n = before - own, len(labels)
    spread = float(np.std(gains, ddof=1)) if n > 1 else np.inf
    return Evidence(
        loss=float(own.mean()),
        accuracy=float(np.mean(scores.argmax(axis=1) == labels)),
        start_loss=float(before.mean()),
        start_accuracy=float(np.mean(start.argmax(axis=1) == labels)),
        gain=float(gains.mean()),
        half_width=NORMAL_95 * spread / np.sqrt(n),
        images=n,
    )
