"""Few-shot draws: so many training and validation images a class, keyed by the seed."""

from collections.abc import Sequence

import numpy as np

from zip_ray.errors import InputError
from zip_ray.keys import Stream, generator
from zip_ray.work import Int64

VALIDATION_SHOTS = 4
"""Validation images a class at most (protocol of CoOp and ZIP)."""


def few_shot(labels: Int64, classnames: Sequence[str], shots: int, seed: int) -> tuple[Int64, Int64]:
    """Indices of `shots` training and min(shots, 4) validation images a class, without overlap.

    Each class has its own key, so that its draw does not depend on the others. The order is by class, then by draw.

    Args:
        labels: classes of the pool, shape (n,).
        classnames: names, for messages.
        shots: training images a class.
        seed: keys the draw.

    Raises:
        InputError: a class has fewer images than both need.
    """
    train, val = [], []
    held_out = min(shots, VALIDATION_SHOTS)
    for label, name in enumerate(classnames):
        members = np.flatnonzero(labels == label)
        if len(members) < shots + held_out:
            raise InputError(
                f"task.shots: {shots} for training and {held_out} for validation are more than the {len(members)} "
                f"images of class '{name}': lower task.shots or add images"
            )
        drawn = generator(seed, Stream.SHOTS, label).permutation(members)
        train.append(drawn[:shots])
        val.append(drawn[shots : shots + held_out])
    return np.concatenate(train), np.concatenate(val)
