"""The readout against its formula, written out class by class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zip_ray.protocol.readout import Readout, apply


def random_case(seed: int, classes: int, prompts: int) -> tuple[Readout, list[np.ndarray]]:
    """A readout, and the scores of five images at the prompt and at each additional one."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 1, ((1 + prompts) * classes, classes)).astype(np.float32)
    bias = rng.normal(0, 1, classes).astype(np.float32)
    scores = [rng.normal(0, 9, (5, classes)).astype(np.float32) for _ in range(1 + prompts)]
    return Readout(("a {}.",) * prompts, weights, bias, 3.0), scores


@given(seed=st.integers(0, 10**6), classes=st.integers(1, 6), prompts=st.integers(0, 3))
def test_scores_are_corrected_by_all_scores(seed: int, classes: int, prompts: int) -> None:
    readout, scores = random_case(seed, classes, prompts)
    found = apply(readout, scores)
    for image in range(5):
        for made in range(classes):
            expected = float(scores[0][image, made]) + float(readout.bias[made])
            for which, of_prompt in enumerate(scores):
                mean = float(of_prompt[image].astype(float).mean())
                for seen in range(classes):
                    weight = float(readout.weights[which * classes + seen, made])
                    expected += (float(of_prompt[image, seen]) - mean) / 3.0 * weight
            assert found[image, made] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(seed=st.integers(0, 10**6))
def test_a_readout_of_zeros_changes_nothing(seed: int) -> None:
    readout, scores = random_case(seed, 4, 1)
    nothing = Readout(readout.prompts, 0 * readout.weights, 0 * readout.bias, 1.0)
    np.testing.assert_array_equal(apply(nothing, scores), scores[0])


def test_other_prompts_or_classes_are_refused() -> None:
    readout, scores = random_case(1, 4, 1)
    with pytest.raises(ValueError, match="mismatch"):
        apply(readout, scores[:1])
    with pytest.raises(ValueError, match="mismatch"):
        apply(readout, [one[:, :3] for one in scores])
