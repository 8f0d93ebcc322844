"""The inner problem of Gauss-Newton against scipy, closed forms and symmetries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize
from scipy.special import expit, log_softmax, softmax

from zip_ray.optimizers.score_model import ScoreModel, cross_entropy, damped_steps
from zip_ray.protocol.arrays import Float64

DAMPINGS = [1e-5, 0.03, 1.0]


def make_model(seed: int, directions: int = 7, images: int = 12, classes: int = 4, size: float = 1.0) -> ScoreModel:
    rng = np.random.default_rng(seed)
    scores = 3 * rng.standard_normal((images, classes))
    secants = size * rng.standard_normal((directions, images, classes))
    return ScoreModel(scores, secants.astype(np.float32), np.eye(classes)[rng.integers(0, classes, images)])


def damped_step(model: ScoreModel, damping: float) -> Float64:
    (step,) = damped_steps(model, [damping])
    return step


def objective(model: ScoreModel, a: np.ndarray, damping: float) -> float:
    scores = model.scores + np.tensordot(a, model.secants.astype(np.float64), axes=1)
    return cross_entropy(scores, model.targets) + damping / 2 * float(a @ a)


@pytest.mark.parametrize("damping", DAMPINGS)
@pytest.mark.parametrize("size", [0.1, 1.0, 10.0])
def test_it_is_scipys_minimum(damping: float, size: float) -> None:
    """However large the secants are: a step of Newton's that overshoots is halved."""
    model = make_model(1, size=size)
    found = minimize(lambda a: objective(model, a, damping), np.zeros(7), method="BFGS", options={"gtol": 1e-9})
    ours = damped_step(model, damping)
    assert objective(model, ours, damping) <= found.fun * (1 + 1e-6) + 1e-9
    if damping > 1e-3:
        np.testing.assert_allclose(ours, found.x, atol=1e-3 / min(size, 1.0))


def test_two_classes_and_one_direction_are_logistic_regression() -> None:
    """The gradient of mean log(1 + exp(-m_i - a d_i)) + damping a^2 / 2 is zero there."""
    rng = np.random.default_rng(2)
    margins, slopes, damping = rng.standard_normal(20), rng.standard_normal(20), 0.1
    scores, secant = (np.stack([one, np.zeros(20)], axis=1) for one in (margins, slopes))
    model = ScoreModel(scores, secant[None].astype(np.float32), np.tile([1.0, 0.0], (20, 1)))
    root = brentq(lambda a: damping * a - np.mean(slopes * expit(-margins - a * slopes)), -100, 100, xtol=1e-14)
    np.testing.assert_allclose(damped_step(model, damping), [root], rtol=1e-4)


def test_a_small_step_is_newtons() -> None:
    """With much damping the minimum is -(H + damping I)^-1 g to first order, H from the dense Jacobian."""
    model, damping = make_model(3, size=0.1), 10.0
    images, classes = model.scores.shape
    p = np.exp(model.scores) / np.exp(model.scores).sum(axis=1, keepdims=True)
    jacobians = model.secants.transpose(1, 2, 0)  # of each image, (classes, directions)
    gradient = sum(j.T @ (one - target) for j, one, target in zip(jacobians, p, model.targets, strict=True)) / images
    hessian = sum(j.T @ (np.diag(one) - np.outer(one, one)) @ j for j, one in zip(jacobians, p, strict=True)) / images
    newton = -np.linalg.solve(hessian + damping * np.eye(len(model.secants)), gradient)
    np.testing.assert_allclose(damped_step(model, damping), newton, rtol=1e-3, atol=1e-7)
    assert classes == 4


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), damping=st.sampled_from(DAMPINGS))
def test_it_never_ends_above_its_start_and_more_damping_is_a_shorter_step(seed: int, damping: float) -> None:
    model = make_model(seed)
    step = damped_step(model, damping)
    assert objective(model, step, damping) <= objective(model, np.zeros_like(step), damping)
    assert np.linalg.norm(damped_step(model, 4 * damping)) <= np.linalg.norm(step) * (1 + 1e-3) + 1e-9


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), data=st.data())
def test_the_order_of_images_classes_and_directions_changes_nothing(seed: int, data: st.DataObject) -> None:
    model = make_model(seed)
    directions, images, classes = model.secants.shape
    turn = [np.array(data.draw(st.permutations(range(size)))) for size in (directions, images, classes)]
    turned = ScoreModel(model.scores[np.ix_(*turn[1:])], model.secants[np.ix_(*turn)], model.targets[np.ix_(*turn[1:])])
    np.testing.assert_allclose(damped_step(turned, 0.03), damped_step(model, 0.03)[turn[0]], atol=1e-3)


def test_scores_that_nothing_changes_and_a_single_class_make_no_step() -> None:
    model = make_model(4)
    np.testing.assert_array_equal(damped_step(model._replace(secants=0 * model.secants), 0.03), np.zeros(7))
    alone = ScoreModel(model.scores[:, :1], model.secants[..., :1], np.ones((12, 1)))
    np.testing.assert_array_equal(damped_step(alone, 0.03), np.zeros(7))


def test_a_constant_added_to_all_scores_of_an_image_changes_nothing() -> None:
    model = make_model(5)
    shifted = model._replace(scores=model.scores + 5 * np.arange(12)[:, None])
    np.testing.assert_allclose(damped_step(shifted, 0.03), damped_step(model, 0.03), atol=1e-6)


def test_the_same_bits_each_time() -> None:
    model = make_model(6)
    np.testing.assert_array_equal(damped_step(model, 0.03), damped_step(model, 0.03))


@pytest.mark.parametrize("amplitude", [0.3, 5.0])
def test_each_step_is_the_minimum_for_its_damping(amplitude: float) -> None:
    rng = np.random.default_rng(1)
    targets = np.eye(5)[rng.integers(0, 5, 40)]
    secants = amplitude * rng.standard_normal((12, 40, 5), np.float32)
    model = ScoreModel(3 * rng.standard_normal((40, 5)), secants, targets)
    dampings = [0.1, 0.001, 0.03]
    for damping, a in zip(dampings, damped_steps(model, dampings), strict=True):
        p = softmax(model.at(a), axis=1)
        gradient = np.tensordot(model.secants, p - targets, axes=2) / 40 + damping * a
        assert np.abs(gradient).max() < 1e-4 * amplitude  # float32

        found = minimize(lambda b, damping=damping: objective(model, b, damping), np.zeros(12))
        assert objective(model, a, damping) <= found.fun + 1e-9


def test_cross_entropy_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(3)
    scores, targets = 200 * rng.standard_normal((7, 3)), rng.dirichlet(np.ones(3), 7)
    assert cross_entropy(scores, targets) == pytest.approx(-(targets * log_softmax(scores, axis=1)).sum(axis=1).mean())
