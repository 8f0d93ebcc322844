"""Inputs of the learners of a readout: the class scores in other coordinates, all linear."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from zip_ray.protocol.arrays import Float64, Int64
from zip_ray.readout.regression import Floats

SMALLEST = 1e-4
"""Directions with a smaller singular value, against the largest, are left out."""
ROUNDING = 1e-6
"""Relative rounding error of a score in float32: smaller variation is treated as none."""
ROWS = 2048


@dataclass(frozen=True)
class Features:
    """Features of images, and how they come of their centred scores z: values = (z - mean) matrix.

    The columns of the values are orthogonal, their mean is 0, and the mean squared length of a row is 1.
    """

    values: Floats
    """Shape (n, k)."""
    mean: Float64
    """Shape (columns,)."""
    matrix: Float64
    """Shape (columns, k)."""

    def first(self, most: int, dtype: type[np.floating]) -> "Features":
        """The first features, at most `most`, as that type."""
        return Features(self.values[:, :most].astype(dtype, copy=False), self.mean, self.matrix[:, :most])

    def add_zeros(self, columns: int) -> "Features":
        """The same features of z that has more columns behind, up to so many."""
        more = columns - len(self.mean)
        return Features(self.values, np.pad(self.mean, (0, more)), np.pad(self.matrix, ((0, more), (0, 0))))


def centred_scores(scores: Sequence[Floats], dtype: type[np.floating]) -> Floats:
    """The scores of all prompts side by side, each with its mean over the classes taken off; (n, prompts * classes)."""
    n, classes = scores[0].shape
    made = np.empty((n, len(scores) * classes), dtype)
    for index, one in enumerate(scores):
        part = made[:, index * classes : (index + 1) * classes]
        part[:] = one
        part -= part.mean(axis=1, keepdims=True)
    return made


def nothing(z: Floats) -> Features:
    """No feature at all: a learner has its bias alone."""
    return Features(np.zeros((len(z), 0), z.dtype), np.zeros(z.shape[1]), np.zeros((z.shape[1], 0)))


def principal(z: Floats, most: int) -> Features:
    """The principal components of centred scores, up to a maximum number, with their own variances.

    Constant scores have none. The values have the type of `z`.
    """
    mean = z.mean(axis=0, dtype=np.float64)
    wide = len(z) < z.shape[1]
    gram = _gram((z - mean).T) if wide else _gram(z, mean)
    noise = ROUNDING**2 * float(np.linalg.norm(z)) ** 2
    variances, vectors = _top(gram, most, noise)
    lengths = np.sqrt(variances)
    total = np.sqrt(variances.sum() / len(z)) or 1.0
    directions = (z - mean).T @ vectors / lengths if wide else vectors
    matrix = directions / total
    values = z @ matrix.astype(z.dtype)
    values -= (mean @ matrix).astype(z.dtype)
    return Features(values, mean, matrix)


def flattened(x: Features, power: float) -> Features:
    """Principal components with their standard deviations to a power: 1 leaves them, 0 makes them alike.

    Between the two, what only few prompts show of the images counts for more.
    """
    lengths = np.linalg.norm(x.values.astype(np.float64), axis=0)
    stretch = lengths ** (power - 1.0)
    stretch /= np.sqrt(np.sum((lengths * stretch) ** 2) / len(x.values)) or 1.0
    return Features(x.values * stretch.astype(x.values.dtype), x.mean, x.matrix * stretch)


def whitening(x: Floats, labels: Int64, shrinkage: float) -> Float64 | None:
    """The map to the coordinates of linear discriminant analysis, shape (k, k).

    There the covariance within the classes, mixed with a share of the multiple of the identity that has its trace, is
    the identity (regularised discriminant analysis, Friedman 1989; for few-shot CLIP: Wang et al., ICLR 2024, "A
    hard-to-beat baseline for training-free CLIP-based adaptation"). Then scaled and turned as `Features` are.

    Args:
        x: features, shape (n, k).
        labels: shape (n,).
        shrinkage: that share, above 0.

    Returns:
        The map; None if the classes do not vary in themselves, as with one image each.
    """
    within = _within(x, labels)
    scatter = _gram(x, x.mean(axis=0, dtype=np.float64)) / len(x)
    mean_variance = np.trace(within) / max(1, len(within))
    if not np.trace(within) > ROUNDING * np.trace(scatter):
        return None
    variances, axes = scipy.linalg.eigh(within)
    white = axes / np.sqrt((1 - shrinkage) * np.maximum(variances, 0.0) + shrinkage * mean_variance)
    spread, turn = scipy.linalg.eigh(white.T @ scatter @ white)
    made: Float64 = white @ turn[:, ::-1] / np.sqrt(spread.sum())
    return made


def _within(x: Floats, labels: Int64) -> Float64:
    """Covariance of the features within the classes, shape (k, k)."""
    classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.zeros((len(classes), x.shape[1]))
    np.add.at(means, index, x)
    means /= counts[:, None]
    return _gram(x - means[index].astype(x.dtype)) / len(x)


def _gram(z: Floats, mean: Float64 | None = None) -> Float64:
    """(z - mean)^T (z - mean), summed in float64."""
    made = np.zeros((z.shape[1], z.shape[1]))
    for first in range(0, len(z), ROWS):
        part = z[first : first + ROWS].astype(np.float64)
        if mean is not None:
            part -= mean
        made += part.T @ part
    return made


def _top(gram: Float64, most: int, noise: float) -> tuple[Float64, Float64]:
    """The largest eigenvalues, up to a maximum number and above rounding, in descending order; and their vectors."""
    size = len(gram)
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=(max(0, size - most), size - 1))
    kept = values > max(SMALLEST**2 * values[-1], noise)
    order = np.flatnonzero(kept)[::-1]
    return values[order], vectors[:, order]
