"""The readout: a small linear map of the class scores, kept beside a prompt. The driver fits it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.facts import Prompt

ReadoutKind = Literal["none", "bias", "linear", "auto"]
"""What is fitted: nothing, a bias per class, a map of the prompt's own scores, or of those of several prompts."""


@dataclass(frozen=True)
class Readout:
    """Corrects the scores L of a prompt: L + Z weights + bias.

    Z has, for the prompt and then for each further one, its scores with their mean over the classes taken off, divided
    by `scale`.
    """

    prompts: tuple[Prompt | str, ...]
    """Further prompts, or sentences with {} for the class name, whose scores are features too; may be empty."""
    weights: Float32
    """Shape ((1 + prompts) * classes, classes)."""
    bias: Float32
    """Shape (classes,)."""
    scale: float


def apply(readout: Readout, scores: Sequence[Float32 | Float64]) -> Float64:
    """The scores that a readout makes, shape (n, classes); in float64, with the same bits on every device.

    Args:
        readout: the map.
        scores: of the prompt and of each further one, each of shape (n, classes).

    Raises:
        ValueError: other prompts or other classes than the readout was fitted to.
    """
    features = np.concatenate([centred(of_prompt) for of_prompt in scores], axis=1) / readout.scale
    corrected: Float64 = scores[0] + features @ readout.weights + readout.bias
    return corrected


def fold(readout: Readout, text_features: Sequence[Float32], logit_scale: float) -> Float32:
    """A readout as features of the classes: its scores of an image are `image_features @ head.T + bias`.

    That holds where all prompts see the same image, so not for further prompts of which one changes images.

    Args:
        readout: the map.
        text_features: unit-length features of the classes at the prompt and at each further one, (classes, embed).
        logit_scale: factor of the cosine.

    Returns:
        The head, shape (classes, embed); it has the factor in it.

    Raises:
        ValueError: other prompts or other classes than the readout was fitted to.
    """
    stacked = np.concatenate([text - text.mean(axis=0) for text in map(_exact, text_features)])
    made = logit_scale * (_exact(text_features[0]) + _exact(readout.weights).T @ stacked / readout.scale)
    head: Float32 = made.astype(np.float32)
    return head


def _exact(array: Float32) -> Float64:
    return array.astype(np.float64)


def centred(scores: Float32 | Float64) -> Float64:
    """Scores (n, classes) with their mean over the classes taken off: what softmax sees of them."""
    exact: Float64 = scores.astype(np.float64)
    exact -= exact.mean(axis=1, keepdims=True)
    return exact
