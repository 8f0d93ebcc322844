"""Logistic regression of many classes on top of given scores: what every learner of the readout solves."""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from zip_ray.protocol.arrays import Float64, Int64

Floats = npt.NDArray[np.floating[Any]]

BIAS_SHARE = 0.1
"""Penalty of the bias, as a multiple of that of the weights."""
ROWS = 2048
"""Images at a time: what is computed for them stays in the cache, and does not grow with the training images."""


def cross_entropies(scores: Floats, labels: Int64) -> Float64:
    """Cross-entropy of each image, shape (n,), for scores (n, classes)."""
    found = np.empty(len(labels))
    for first in range(0, len(labels), ROWS):
        part = slice(first, first + ROWS)
        _, found[part] = _softmax(scores[part].copy(), labels[part])
    return found


def solve(
    features: Floats, offset: Floats, labels: Int64, penalty: float, start: Float64 | None = None, iterations: int = 60
) -> Float64:
    """The weights that minimise the mean cross-entropy of `offset + features weights + bias`, plus the penalty.

    The penalty is `penalty` times |weights|^2 + 0.1 |bias|^2. L-BFGS, in units in which the diagonal of a bound of the
    Hessian is 1: quick where the columns of the features are orthogonal.

    Args:
        features: shape (n, k); their type is that of the arithmetic.
        offset: scores that are corrected, shape (n, classes).
        labels: shape (n,).
        penalty: above 0.
        start: what is returned for another penalty, to begin from.
        iterations: maximum.

    Returns:
        Weights, then the bias as the last row; shape (k + 1, classes).
    """
    shape = (features.shape[1] + 1, offset.shape[1])
    penalties = np.full((shape[0], 1), float(penalty))
    penalties[-1] *= BIAS_SHARE
    squares = np.append(np.square(features, dtype=np.float64).mean(axis=0), 1.0)[:, None]
    units = np.sqrt(0.25 * squares + 2 * penalties)

    def objective(flat: Float64) -> tuple[float, Float64]:
        weights = flat.reshape(shape) / units
        loss, slope = _loss_and_slope(features, offset, labels, weights)
        slope += 2 * penalties * weights
        return loss + float((penalties * weights**2).sum()), (slope / units).ravel()

    begin = np.zeros(shape) if start is None else start * units
    options = {"maxiter": iterations, "ftol": 1e-7, "gtol": 1e-5}
    found = scipy.optimize.minimize(objective, begin.ravel(), jac=True, method="L-BFGS-B", options=options)
    weights: Float64 = found.x.reshape(shape) / units
    return weights


def _loss_and_slope(features: Floats, offset: Floats, labels: Int64, weights: Float64) -> tuple[float, Float64]:
    """Mean cross-entropy, and its gradient by weights and bias."""
    loss, slope = 0.0, np.zeros(weights.shape)
    narrow = weights.astype(features.dtype)
    for first in range(0, len(labels), ROWS):
        part = slice(first, first + ROWS)
        residuals: Floats = features[part] @ narrow[:-1]
        residuals += offset[part]
        residuals += narrow[-1]
        residuals, losses = _softmax(residuals, labels[part])
        residuals[np.arange(len(residuals)), labels[part]] -= 1
        loss += float(losses.sum())
        slope[:-1] += features[part].T @ residuals
        slope[-1] += residuals.sum(axis=0)
    return loss / len(labels), slope / len(labels)


def _softmax(scores: Floats, labels: Int64) -> tuple[Floats, Float64]:
    """Probabilities, in the place of the scores, and the cross-entropy of each row."""
    scores -= scores.max(axis=1, keepdims=True)
    own = scores[np.arange(len(scores)), labels].astype(np.float64)
    np.exp(scores, out=scores)
    total = scores.sum(axis=1, keepdims=True)
    scores /= total
    return scores, np.log(total[:, 0].astype(np.float64)) - own
