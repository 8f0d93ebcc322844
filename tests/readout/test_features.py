"""Features of class scores: orthogonal, of unit scale, and what the map on the scores says."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from zip_ray.readout import features
from zip_ray.readout.features import centred_scores, nothing, principal, whitening

SHAPES = [(40, 6), (8, 30)]


def drawn(n: int, columns: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    return rng.standard_normal((n, columns)) @ rng.standard_normal((columns, columns)) + 5


@pytest.mark.parametrize(("n", "columns"), SHAPES)
def test_principal_components(n: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "ROWS", 7)
    z = drawn(n, columns)
    found = principal(z, 1000)
    np.testing.assert_allclose((z - found.mean) @ found.matrix, found.values, atol=1e-9)
    np.testing.assert_allclose(found.values.mean(axis=0), 0, atol=1e-9)
    assert (found.values**2).sum(axis=1).mean() == pytest.approx(1)
    oracle = PCA().fit_transform(z)[:, : found.values.shape[1]]
    np.testing.assert_allclose(abs(found.values) / abs(found.values).max(), abs(oracle) / abs(oracle).max(), atol=1e-8)
    assert principal(z, 3).values.shape == (n, 3)
    assert found.first(2, np.float32).values.dtype == np.float32
    assert found.add_zeros(columns + 4).matrix.shape == (columns + 4, found.values.shape[1])


@pytest.mark.parametrize("n", [1, 5])
def test_what_does_not_vary_has_no_components(n: int) -> None:
    scores = np.tile(np.float32([0.1, 20.3, -7.7, 0.0]), (n, 1))
    found = principal(centred_scores([scores, 3 * scores], np.float64), 100)
    assert found.values.shape == (n, 0)
    assert nothing(scores).values.shape == (n, 0)
    assert whitening(found.values, np.zeros(n, np.int64), 0.1) is None


def test_whitened_classes_vary_alike_in_all_directions() -> None:
    z, labels = drawn(60, 5), np.arange(60) % 3
    x = principal(z, 100).values
    white = whitening(x, labels, 1e-9)
    assert white is not None
    made = x @ white
    means = np.stack([made[labels == c].mean(axis=0) for c in range(3)])
    within = (made - means[labels]).T @ (made - means[labels]) / 60
    np.testing.assert_allclose(within, within[0, 0] * np.eye(5), atol=1e-6)
    scatter = made.T @ made / 60
    np.testing.assert_allclose(scatter, np.diag(np.diag(scatter)), atol=1e-9)
    assert np.trace(scatter) == pytest.approx(1)


def test_nothing_to_whiten_with_one_image_a_class() -> None:
    x = principal(drawn(6, 4), 100).values
    assert whitening(x, np.arange(6), 0.1) is None
