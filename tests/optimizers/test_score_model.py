"""The inner solve of Gauss-Newton."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from zip_ray.optimizers.score_model import ScoreModel, cross_entropy, damped_steps, one_hot
from zip_ray.protocol.arrays import Float64


@pytest.mark.parametrize("amplitude", [0.3, 5.0])
def test_each_step_is_the_minimum_for_its_damping(amplitude: float) -> None:
    rng = np.random.default_rng(1)
    targets = one_hot(rng.integers(0, 5, 40), 5)
    model = ScoreModel(3 * rng.standard_normal((40, 5)), amplitude * rng.standard_normal((12, 40, 5)), targets)
    dampings = [0.1, 0.001, 0.03]
    for damping, a in zip(dampings, damped_steps(model, dampings), strict=True):
        p = softmax(model.at(a), axis=1)
        gradient = np.tensordot(model.secants, p - targets, axes=2) / 40 + damping * a
        assert np.abs(gradient).max() < 1e-6

        def objective(b: Float64, damping: float = damping) -> float:
            return cross_entropy(model.at(b), targets) + damping / 2 * float(b @ b)

        assert objective(a) <= minimize(objective, np.zeros(12)).fun + 1e-9


def test_the_same_for_a_shift_of_an_images_scores() -> None:
    rng = np.random.default_rng(2)
    scores, secants, shift = (rng.standard_normal(size) for size in ((20, 4), (6, 20, 4), (6, 20, 1)))
    targets = one_hot(rng.integers(0, 4, 20), 4)
    plain, shifted = (damped_steps(ScoreModel(scores, s, targets), [0.01])[0] for s in (secants, secants + 50 * shift))
    assert shifted == pytest.approx(plain, rel=1e-6, abs=1e-8)


def test_cross_entropy_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(3)
    scores, targets = 200 * rng.standard_normal((7, 3)), rng.dirichlet(np.ones(3), 7)
    assert cross_entropy(scores, targets) == pytest.approx(-(targets * log_softmax(scores, axis=1)).sum(axis=1).mean())
