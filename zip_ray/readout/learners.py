"""The learners of a readout: logistic regressions on features of the class scores, of every strength."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from zip_ray.protocol.arrays import Float64, Int64
from zip_ray.readout.features import Features, whitening
from zip_ray.readout.regression import Floats, solve


@dataclass(frozen=True)
class Correction:
    """The correction that is added to the scores: values weights + bias."""

    weights: Float64
    """Shape (k, classes)."""
    bias: Float64
    """Shape (classes,)."""


@dataclass(frozen=True)
class Learner:
    """The features that a learner learns from."""

    name: str
    features: Features
    shrinkage: float | None = None
    """Shrinkage of the covariance within the classes, by which the features are whitened; None = unchanged features."""

    def corrections(
        self, rows: Int64, offset: Floats, labels: Int64, penalties: Sequence[float], iterations: int
    ) -> Iterator[Correction]:
        """The correction for each penalty, from the largest on, fitted to some of the images.

        None at all where the features cannot be whitened.

        Args:
            rows: which images.
            offset: scores that are corrected, of all images, shape (n, classes).
            labels: of all images, shape (n,).
            penalties: from the largest on, so that each fit begins where the last ended.
            iterations: of one fit, at most.
        """
        x, y = self.features.values[rows], labels[rows]
        white: Float64 | None = np.eye(x.shape[1])
        if self.shrinkage is not None:
            white = whitening(x, y, self.shrinkage)
        if white is None:
            return
        x, offset, found = x @ white.astype(x.dtype), offset[rows], None
        for penalty in penalties:
            found = solve(x, offset, y, penalty, found, iterations)
            yield Correction(white @ found[:-1], found[-1])

    def corrected(self, correction: Correction, rows: Int64, offset: Floats) -> Floats:
        """Scores of some of the images, shape (rows, classes)."""
        made: Floats = self.features.values[rows] @ correction.weights.astype(offset.dtype)
        made += offset[rows]
        made += correction.bias.astype(offset.dtype)
        return made
