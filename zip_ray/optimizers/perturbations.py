"""Perturbation vectors, drawn from their key wherever they are needed."""

import numpy as np

from zip_ray.keys import Stream, generator
from zip_ray.work import Float64, Perturbation


def perturbation(key: Perturbation, size: int) -> Float64:
    """The vector z of a key, shape (size,): independent entries, bounded away from zero as SPSA requires.

    random-sign: +1 or -1 (Spall, IEEE Trans. Automatic Control, 1992). segmented-uniform: a random sign times
    U[0.5, 1] (released ZIP code).
    """
    rng = generator(key.seed, Stream.PERTURBATION, key.step, key.index)
    signs = rng.choice(np.array([-1.0, 1.0]), size=size)
    if key.law == "random-sign":
        return signs
    return signs * rng.uniform(0.5, 1.0, size=size)
