"""Readouts of different kinds of prompt in one form."""

import numpy as np
from scipy.special import softmax

from zip_ray.protocol.readout import Readout, apply
from zip_ray.readout.linear_map import LinearMap

IMAGES, CLASSES = 7, 4
RNG = np.random.default_rng(5)
SCORES = [RNG.normal(size=(IMAGES, CLASSES)).astype(np.float32) for _ in range(3)]


def readout(prompts: int) -> Readout:
    further = tuple(f"a {place} {{}}." for place in range(prompts))
    weights = RNG.normal(size=((1 + prompts) * CLASSES, CLASSES)).astype(np.float32)
    return Readout(further, weights, RNG.normal(size=CLASSES).astype(np.float32), 1.7)


def assert_alike(one: np.ndarray, other: np.ndarray) -> None:
    """The linear form gives the same probabilities."""
    np.testing.assert_allclose(softmax(one, axis=1), softmax(other, axis=1), atol=1e-5)


def test_alone_are_the_scores_themselves() -> None:
    assert_alike(LinearMap.alone(1, 3, CLASSES).of(SCORES), SCORES[1])


def test_of_a_readout_is_the_readout() -> None:
    of_first, of_second = readout(2), readout(1)
    assert_alike(LinearMap.of_readout(of_first, 0, 3).of(SCORES), apply(of_first, SCORES))
    assert_alike(LinearMap.of_readout(of_second, 1, 3).of(SCORES), apply(of_second, SCORES[1:]))


def test_a_readout_of_the_start_becomes_one_of_the_first_prompt() -> None:
    of_start = LinearMap.of_readout(readout(1), 1, 3)
    made = of_start.readout(["the start", "another"])
    assert made.prompts == ("the start", "another")
    assert_alike(apply(made, SCORES), of_start.of(SCORES))


def test_prompts_that_the_map_does_not_look_at_are_left_out() -> None:
    made = LinearMap.of_readout(readout(0), 0, 3).readout(["the start", "another"])
    assert made.prompts == ()
    assert made.weights.shape == (CLASSES, CLASSES)


def test_the_mean_is_half_of_each() -> None:
    one, other = LinearMap.of_readout(readout(2), 0, 3), LinearMap.of_readout(readout(1), 1, 3)
    np.testing.assert_allclose(one.mean_with(other).of(SCORES), (one.of(SCORES) + other.of(SCORES)) / 2, atol=1e-9)
