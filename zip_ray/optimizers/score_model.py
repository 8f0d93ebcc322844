"""The inner problem of Gauss-Newton: a linear model of the class scores under the cross-entropy.

Scores at the point x + sum_k a_k u_k are modelled as L + sum_k a_k D_k. Their mean cross-entropy plus a damping
(Levenberg-Marquardt: More, 1978) is convex in a, and Newton's matrix of it is the generalised Gauss-Newton matrix of
the true loss in the span of the directions (Schraudolph, Neural Computation 14, 2002).
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import logsumexp, softmax

from zip_ray.protocol.arrays import Float64, Int64

NEWTON_STEPS = 10
"""Most of one solve. The problem is convex and smooth: four to six reach the tolerance."""
HALVINGS = 12
"""Most of one Newton step, before the solve ends where it is."""
TOLERANCE = 1e-8
"""Relative decrease of the objective at which a solve ends."""


class ScoreModel(NamedTuple):
    """A linear model of the scores of n images over C columns along K directions."""

    scores: Float64
    """L: at the model's centre, shape (n, C)."""
    secants: Float64
    """D: change of the scores along each direction, shape (K, n, C)."""
    targets: Float64
    """Of each image a distribution over the columns, shape (n, C)."""

    def at(self, a: Float64) -> Float64:
        """Scores at coefficients of shape (K,); shape (n, C)."""
        return self.scores + np.tensordot(a, self.secants, axes=1)

    def recentred(self, a: Float64) -> "ScoreModel":
        """The same model around the point of the coefficients."""
        return self._replace(scores=self.at(a))


def cross_entropy(scores: Float64, targets: Float64) -> float:
    """Mean cross-entropy of scores (n, C) against target distributions (n, C)."""
    return float(np.mean(logsumexp(scores, axis=1) - (targets * scores).sum(axis=1)))


def damped_step(model: ScoreModel, damping: float, start: Float64 | None = None) -> Float64:
    """Coefficients a, shape (K,), that minimise the model's cross-entropy plus damping / 2 |a|^2.

    Args:
        model: what is minimised.
        damping: lambda > 0, which makes the minimum unique.
        start: coefficients to begin from; 0 where absent.
    """
    a = np.zeros(len(model.secants)) if start is None else start
    value = _objective(model, a, damping)
    for _ in range(NEWTON_STEPS):
        direction = _newton_direction(model, a, damping)
        for halving in range(HALVINGS):
            tried = a + 0.5**halving * direction
            lower = _objective(model, tried, damping)
            if lower <= value:
                break
        else:
            return a
        decrease, a, value = value - lower, tried, lower
        if decrease <= TOLERANCE * abs(value):
            return a
    return a


def _objective(model: ScoreModel, a: Float64, damping: float) -> float:
    return cross_entropy(model.at(a), model.targets) + damping / 2 * float(a @ a)


def _newton_direction(model: ScoreModel, a: Float64, damping: float) -> Float64:
    """-H^-1 g of the objective: H = sum_i D_i (diag p_i - p_i p_i^T) D_i^T / n + damping I."""
    directions, images, _ = model.secants.shape
    p = softmax(model.at(a), axis=1)
    gradient = np.tensordot(model.secants, p - model.targets, axes=2) / images + damping * a
    centred = model.secants - (model.secants * p).sum(axis=2, keepdims=True)
    root = (np.sqrt(p) * centred).reshape(directions, -1)
    hessian = root @ root.T / images + damping * np.eye(directions)
    step: Float64 = -cho_solve(cho_factor(hessian, overwrite_a=True, check_finite=False), gradient, check_finite=False)
    return step


def one_hot(labels: Int64, columns: int) -> Float64:
    """Targets that are certain, shape (n, columns)."""
    return np.eye(columns)[labels]
