"""The regression under every learner, against a closed form, scikit-learn and finite differences."""

import numpy as np
import pytest
from scipy.optimize import brentq, check_grad
from sklearn.linear_model import LogisticRegression

from zip_ray.readout import regression
from zip_ray.readout.regression import cross_entropies, solve


def drawn(seed: int, n: int, k: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return rng.standard_normal((n, k)) + rng.standard_normal((classes, k))[labels], labels


def test_cross_entropy_is_that_of_the_formula() -> None:
    scores = np.random.default_rng(0).standard_normal((7, 3)) * 50
    labels = np.array([0, 1, 2, 0, 1, 2, 2])
    expected = [np.log(np.exp(row - row[label]).sum()) for row, label in zip(scores, labels, strict=True)]
    np.testing.assert_allclose(cross_entropies(scores, labels), expected, atol=1e-9)


@pytest.mark.parametrize("penalty", [1e-3, 0.1, 10.0])
def test_bias_of_two_classes_is_the_root_of_its_equation(penalty: float) -> None:
    """By symmetry b = (t, -t); at the optimum mean(probability of class 0) - share of class 0 = -0.2 penalty t."""
    rng = np.random.default_rng(1)
    offset = rng.standard_normal((40, 2))
    labels = np.repeat([0, 1], (30, 10))

    def slope(t: float) -> float:
        probability = 1 / (1 + np.exp(offset[:, 1] - offset[:, 0] - 2 * t))
        return float(probability.mean() - 0.75 + 2 * 0.1 * penalty * t)

    t = brentq(slope, -20, 20)
    found = solve(np.zeros((40, 0)), offset, labels, penalty)
    np.testing.assert_allclose(found, [[t, -t]], atol=2e-3)


@pytest.mark.parametrize("penalty", [0.001, 0.03, 0.5])
def test_scikit_learn_finds_the_same_map(penalty: float) -> None:
    """Its objective is n C times ours where |W|^2 / 2 = n C penalty |W|^2; the bias is a feature sqrt(10) there, whose
    weight is bias / sqrt(10): the penalty of one tenth."""
    x, labels = drawn(2, 90, 4, 3)
    oracle = LogisticRegression(C=1 / (2 * penalty * len(x)), fit_intercept=False, tol=1e-10, max_iter=10_000)
    oracle.fit(np.column_stack([x, np.full(len(x), np.sqrt(10))]), labels)
    found = solve(x, np.zeros((90, 3)), labels, penalty, iterations=1000)
    np.testing.assert_allclose(found[:-1], oracle.coef_.T[:-1], atol=5e-3)
    np.testing.assert_allclose(found[-1], np.sqrt(10) * oracle.coef_.T[-1], atol=5e-3)


def test_an_offset_is_learnt_around() -> None:
    """With a negligible penalty the sum has the same optimum, so the weights move by what the offset already gives."""
    x, labels = drawn(3, 60, 2, 3)
    x += 3 * np.random.default_rng(0).standard_normal(x.shape)
    given = np.array([[1.0, -1.0, 0.0], [0.5, 0.0, -0.5]])
    plain = solve(x, np.zeros((60, 3)), labels, 1e-7, iterations=1000)
    on_top = solve(x, x @ given, labels, 1e-7, iterations=1000)
    np.testing.assert_allclose(x @ (on_top[:-1] + given), x @ plain[:-1], atol=0.02)


def test_gradient_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = drawn(4, 30, 2, 3)
    offset = np.random.default_rng(0).standard_normal((30, 3))
    whole = regression._loss_and_slope(x, offset, labels, np.ones((3, 3)))
    monkeypatch.setattr(regression, "ROWS", 7)

    def loss(flat: np.ndarray) -> float:
        return regression._loss_and_slope(x, offset, labels, flat.reshape(3, 3))[0]

    def slope(flat: np.ndarray) -> np.ndarray:
        return regression._loss_and_slope(x, offset, labels, flat.reshape(3, 3))[1].ravel()

    assert check_grad(loss, slope, np.random.default_rng(1).standard_normal(9)) < 1e-6
    parts = regression._loss_and_slope(x, offset, labels, np.ones((3, 3)))
    assert parts[0] == pytest.approx(whole[0])
    np.testing.assert_allclose(parts[1], whole[1], atol=1e-12)


def test_a_start_changes_no_optimum_and_float32_little() -> None:
    x, labels = drawn(5, 60, 3, 4)
    offset = np.zeros((60, 4))
    cold = solve(x, offset, labels, 0.01)
    warm = solve(x, offset, labels, 0.01, solve(x, offset, labels, 0.1))
    single = solve(x.astype(np.float32), offset.astype(np.float32), labels, 0.01)
    np.testing.assert_allclose(warm, cold, atol=0.01)
    np.testing.assert_allclose(single, cold, atol=0.01)
