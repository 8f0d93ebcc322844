"""Baselines on image features, against scikit-learn and against the formula, image by image."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from zip_ray.protocol.arrays import Float32, Int64
from zip_ray.readout.feature_baselines import PENALTIES, SHARES, SHARPNESSES, linear_probe, tip_adapter

CLASSES, EMBED = 4, 12


def drawn(seed: int, shots: int) -> tuple[Float32, Int64]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), shots)
    centres = np.random.default_rng(0).standard_normal((CLASSES, EMBED))
    features = centres[labels] + 1.5 * rng.standard_normal((len(labels), EMBED))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), labels


def test_the_probe_is_a_logistic_regression_of_the_penalty_that_validation_chooses() -> None:
    (train, y), (val, vy), (test, _) = drawn(1, 16), drawn(2, 4), drawn(3, 25)
    scale = np.sqrt(EMBED)
    losses, found = [], []
    for penalty in PENALTIES:  # ours is penalty |w|^2 + mean loss; theirs is |w|^2 / 2 + C sum of losses
        theirs = LogisticRegression(C=1 / (2 * penalty * len(y)), tol=1e-8, max_iter=5000).fit(scale * train, y)
        losses.append(-np.mean(theirs.predict_log_proba(scale * val)[np.arange(len(vy)), vy]))
        found.append(theirs.predict_proba(scale * test))
    best = int(np.argmin(losses))
    assert 0 < best < len(PENALTIES) - 1  # the best strength is at neither end
    made = linear_probe(train, y, val, vy, test)
    own = np.exp(made) / np.exp(made).sum(axis=1, keepdims=True)
    assert np.abs(own - found[best]).mean() < 0.005  # scikit-learn does not penalise the bias


def test_tip_adapter_is_its_formula_at_the_best_pair() -> None:
    (train, y), (val, vy), (test, ty) = drawn(1, 8), drawn(2, 8), drawn(3, 5)
    rng = np.random.default_rng(4)
    of_val, of_test = (rng.standard_normal((len(one), CLASSES)).astype(np.float32) for one in (val, test))

    def by_hand(images: Float32, of_template: Float32, alpha: float, beta: float) -> np.ndarray:
        made = of_template.astype(np.float64)
        for i, image in enumerate(images):
            for cached, label in zip(train, y, strict=True):
                made[i, label] += alpha * np.exp(-beta * (1 - float(image.astype(np.float64) @ cached)))
        return made

    made = tip_adapter(train, y, (val, of_val), vy, (test, of_test))
    pairs = [(a, b) for a in SHARES for b in SHARPNESSES]
    right = [np.mean(by_hand(val, of_val, a, b).argmax(axis=1) == vy) for a, b in pairs]
    best = [pair for pair, share in zip(pairs, right, strict=True) if share == max(right)]
    assert any(np.allclose(made, by_hand(test, of_test, a, b), atol=1e-5) for a, b in best)
    assert np.mean(made.argmax(axis=1) == ty) > np.mean(of_test.argmax(axis=1) == ty) + 0.2


@pytest.mark.parametrize("classes", [2, 5])
def test_features_that_say_all_are_learnt(classes: int) -> None:
    labels = np.repeat(np.arange(classes), 4)
    features = np.eye(classes, dtype=np.float32)[labels]
    assert (linear_probe(features, labels, features, labels, features).argmax(axis=1) == labels).all()
    nothing = np.zeros((len(labels), classes), np.float32)
    made = tip_adapter(features, labels, (features, nothing), labels, (features, nothing))
    assert (made.argmax(axis=1) == labels).all()
