"""Baselines on the model's image features, which a black box does not return: they show the cost of not having them."""

import numpy as np
import scipy

from zip_ray.protocol.arrays import Float32, Float64, Int64
from zip_ray.readout.regression import cross_entropies, solve

PENALTIES = 10.0 ** np.arange(1, -7, -1)
"""Penalties of the probe's weights; the features have unit length."""
SHARPNESSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Tip-Adapter's beta."""
SHARES = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Tip-Adapter's alpha."""


def linear_probe(train: Float32, labels: Int64, val: Float32, val_labels: Int64, test: Float32) -> Float64:
    """Scores of the test images, shape (n, classes): logistic regression on the features (Radford et al., ICML 2021).

    The penalty is the one of lowest loss on the validation images.

    Args:
        train: unit-length features, shape (images, embed); `val` and `test` likewise.
        labels: shape (images,), every class among them; `val_labels` likewise.
        val: see `train`.
        val_labels: see `labels`.
        test: see `train`.
    """
    classes = int(labels.max()) + 1
    scale = np.sqrt(train.shape[1])  # so that each feature has a mean square of 1
    x, nothing = scale * train.astype(np.float64), np.zeros((len(train), classes))
    found: list[Float64] = []
    for penalty in PENALTIES:
        found.append(solve(x, nothing, labels, penalty, found[-1] if found else None, 500))
    best = min(found, key=lambda one: float(cross_entropies(_scores(one, scale * val), val_labels).mean()))
    return _scores(best, scale * test)


def _scores(weights: Float64, features: Float32) -> Float64:
    made: Float64 = features.astype(np.float64) @ weights[:-1] + weights[-1]
    return made


def tip_adapter(
    train: Float32,
    labels: Int64,
    val: tuple[Float32, Float32],
    val_labels: Int64,
    test: tuple[Float32, Float32],
) -> Float64:
    """Scores of the test images, shape (n, classes), by the training-free Tip-Adapter (Zhang et al., ECCV 2022).

    To the template's scores it adds alpha sum_i exp(-beta (1 - f . f_i)) onehot(y_i) over the training images. alpha
    and beta are those of the highest accuracy on the validation images, and among these of the lowest loss.

    Args:
        train: unit-length features, shape (images, embed).
        labels: shape (images,), every class among them.
        val: features of the validation images, and the template's scores of them, shape (images, classes).
        val_labels: shape (images,).
        test: as `val`.
    """
    onehot = np.eye(val[1].shape[1])[labels]

    def scores(images: tuple[Float32, Float32], alpha: float, beta: float) -> Float64:
        features, of_template = images
        similar = features.astype(np.float64) @ train.astype(np.float64).T
        made: Float64 = of_template + alpha * np.exp(-beta * (1 - similar)) @ onehot
        return made

    def merit(alpha: float, beta: float) -> tuple[float, float]:
        made = scores(val, alpha, beta)
        own = scipy.special.softmax(made, axis=1)[np.arange(len(val_labels)), val_labels]
        return float(np.mean(made.argmax(axis=1) == val_labels)), float(np.log(np.maximum(own, 1e-300)).mean())

    alpha, beta = max(((a, b) for a in SHARES for b in SHARPNESSES), key=lambda chosen: merit(*chosen))
    return scores(test, alpha, beta)
