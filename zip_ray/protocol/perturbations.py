"""Perturbation vectors, drawn from their key wherever they are needed."""

import numpy as np

from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.messages import Ask, Pair, Perturbation
from zip_ray.protocol.random_keys import Stream, generator

SIGNS = np.array([-1.0, 1.0])


def perturbation(key: Perturbation, size: int) -> Float64:
    """The vector z of a key, shape (size,): independent entries, bounded away from zero as SPSA requires.

    random-sign: +1 or -1 (Spall, IEEE Trans. Automatic Control, 1992). segmented-uniform: a random sign times
    U[0.5, 1] (released ZIP code).
    """
    rng = generator(key.seed, Stream.PERTURBATION, key.step, key.index)
    signs = SIGNS[rng.integers(2, size=size)]
    if key.law == "random-sign":
        return signs
    return signs * rng.uniform(0.5, 1.0, size=size)


def points(ask: Ask) -> tuple[Float64, ...]:
    """The points at which an ask wants the model: w + c z and w - c z of a pair, else w alone; each of shape (d,)."""
    if isinstance(ask, Pair):
        z = ask.scale * perturbation(ask.perturbation, ask.w.size)
        return ask.w + z, ask.w - z
    return (ask.w,)
