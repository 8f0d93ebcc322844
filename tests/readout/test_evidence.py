"""Evidence from validation images."""

import numpy as np
import pytest

from zip_ray.readout.evidence import weigh

LABELS = np.array([0, 1, 1, 0])


def test_gain_and_interval_by_hand() -> None:
    """Two classes, scores (s, 0) with s for the image's own class: the cross-entropy is log(1 + exp(-s))."""
    own, before = np.array([3.0, 2.0, 1.0, -1.0]), np.array([0.0, 0.5, 1.0, 1.0])

    def scores(margins: np.ndarray) -> np.ndarray:
        return np.where(np.arange(2) == LABELS[:, None], margins[:, None], 0.0)

    found = weigh(scores(own), scores(before).astype(np.float32), LABELS)
    gains = np.log1p(np.exp(-before)) - np.log1p(np.exp(-own))
    assert found.gain == pytest.approx(gains.mean())
    assert found.half_width == pytest.approx(1.96 * gains.std(ddof=1) / 2)
    assert (found.accuracy, found.start_accuracy, found.images) == (0.75, 1.0, 4)
    assert found.start_loss - found.loss == pytest.approx(found.gain)


def test_one_image_says_nothing_of_the_spread() -> None:
    assert weigh(np.zeros((1, 2)), np.zeros((1, 2), np.float32), LABELS[:1]).half_width == np.inf
