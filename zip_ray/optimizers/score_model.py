"""The inner problem of Gauss-Newton: a linear model of the class scores under the cross-entropy.

Scores at the point x + sum_k a_k u_k are modelled as L + sum_k a_k D_k. Their mean cross-entropy plus a damping
(Levenberg-Marquardt: More, 1978) is convex in a, and Newton's matrix of it is the generalised Gauss-Newton matrix of
the true loss in the span of the directions (Schraudolph, Neural Computation 14, 2002). That matrix is most of the work:
it is kept for as long as steps with it converge fast (Shamanskii, Ukrainian Mathematical Journal 19, 1967).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from zip_ray.protocol.arrays import Float32, Float64

STEPS = 50
"""Maximum of iterations of one solve. The problem is convex and smooth: about ten reach the tolerance."""
HALVINGS = 12
"""Maximum of step halvings before the solve ends."""
SLOW = 0.1
"""If a step promises more than this share of the previous step's promise, the matrix is computed anew."""
TOLERANCE = 1e-9
"""Relative decrease of the objective that the last step of a solve promises."""


class ScoreModel(NamedTuple):
    """A linear model of the scores of n images over C columns along K directions."""

    scores: Float64
    """L: at the model's centre, shape (n, C)."""
    secants: Float32
    """D: change of the scores along each direction, shape (K, n, C). Scores travel as float32, and
    what is computed from all secants is computed in it too: it takes half the time."""
    targets: Float64
    """Target distribution over the columns per image, shape (n, C)."""

    def at(self, a: Float64) -> Float64:
        """Scores at coefficients of shape (K,); shape (n, C)."""
        change = a.astype(np.float32) @ self.secants.reshape(len(a), -1)
        return np.asarray(self.scores + change.reshape(self.scores.shape))


class _Place(NamedTuple):
    """The prediction of the model at some coefficients a."""

    a: Float64
    loss: float
    """Mean cross-entropy."""
    p: Float64
    """Probabilities, shape (n, C)."""

    def objective(self, damping: float) -> float:
        return self.loss + damping / 2 * float(self.a @ self.a)


def cross_entropy(scores: Float32 | Float64, targets: Float64) -> float:
    """Mean cross-entropy of scores (n, C) against target distributions (n, C)."""
    return _softmax(scores.astype(np.float64), targets)[0]


def damped_steps(model: ScoreModel, dampings: Sequence[float]) -> list[Float64]:
    """For each damping lambda > 0 the coefficients, shape (K,), that minimise the model's cross-entropy plus lambda / 2
    |a|^2: a unique minimum. The solves begin with the largest damping, each where the one before has ended."""
    place, matrix = _place(model, np.zeros(len(model.secants))), None
    found = {}
    for damping in sorted(dampings, reverse=True):
        place, matrix = _minimise(model, damping, place, matrix)
        found[damping] = place.a
    return [found[damping] for damping in dampings]


def _minimise(model: ScoreModel, damping: float, place: _Place, matrix: Float64 | None) -> tuple[_Place, Float64]:
    """The minimum, from a place and with a matrix of one nearby; and the latest matrix."""
    if matrix is None:
        matrix = _curvature(model, place.p)
    factor, promised = _factor(matrix, damping), np.inf
    for _ in range(STEPS):
        gradient = _gradient(model, place) + damping * place.a
        step = -scipy.linalg.cho_solve(factor, gradient, check_finite=False)
        if -gradient @ step / 2 > SLOW * promised:
            matrix = _curvature(model, place.p)
            factor = _factor(matrix, damping)
            step = -scipy.linalg.cho_solve(factor, gradient, check_finite=False)
        promised = float(-gradient @ step / 2)
        value = place.objective(damping)
        if promised <= TOLERANCE * abs(value):
            return _place(model, place.a + step), matrix
        for halving in range(HALVINGS):
            tried = _place(model, place.a + 0.5**halving * step)
            if tried.objective(damping) <= value:
                break
        else:
            return place, matrix
        place = tried
    return place, matrix


def _place(model: ScoreModel, a: Float64) -> _Place:
    return _Place(a, *_softmax(model.at(a), model.targets))


def _softmax(scores: Float64, targets: Float64) -> tuple[float, Float64]:
    """Mean cross-entropy, and probabilities of shape (n, C)."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(axis=1, keepdims=True)
    p /= total
    return float(np.log(total).mean() - np.vdot(targets, shifted) / len(scores)), p


def _gradient(model: ScoreModel, place: _Place) -> Float64:
    """Gradient of the mean cross-entropy, shape (K,)."""
    directions, images, _ = model.secants.shape
    residual = (place.p - model.targets).ravel().astype(np.float32)
    return np.asarray(model.secants.reshape(directions, -1) @ residual, dtype=np.float64) / images


def _curvature(model: ScoreModel, p: Float64) -> Float64:
    """sum_i D_i (diag p_i - p_i p_i^T) D_i^T / n, shape (K, K)."""
    directions, images, _ = model.secants.shape
    root = np.sqrt(p).astype(np.float32)
    weighted = model.secants * root
    means = np.einsum("knc,nc->kn", weighted, root)
    weighted = weighted.reshape(directions, -1)
    return np.asarray(weighted @ weighted.T - means @ means.T, dtype=np.float64) / images


def _factor(matrix: Float64, damping: float) -> tuple[Float64, bool]:
    damped = matrix.copy()
    damped.flat[:: len(matrix) + 1] += damping
    found: tuple[Float64, bool] = scipy.linalg.cho_factor(damped, overwrite_a=True, check_finite=False)
    return found
