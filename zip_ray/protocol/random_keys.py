"""Keyed random draws: every generator is named by what it is for, never by what was drawn before.

Order and place of evaluation therefore never matter, and no global generator is read: the same config and seed make
the same run.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt
from numpy.random.bit_generator import ISeedSequence

from zip_ray.protocol.arrays import Float64


class Stream(IntEnum):
    """What a draw is for. The numbers are part of a run's reproducibility: append, never renumber."""

    SHOTS = 1
    SPLIT = 2
    RENDER = 3
    CONTEXT = 4
    PROJECTION = 5
    PARAMETERS = 6
    PERTURBATION = 7
    BATCH = 8
    VIEW = 9
    TRAINING = 10
    CROP = 11
    SHIFT = 12
    DIRECTION = 13
    FOLDS = 14
    FURTHER = 15


class _Key(ISeedSequence):
    """Passes Philox its key unchanged; with `key=`, NumPy first reads entropy from the system, which is then unused."""

    def __init__(self, seed: int, stream: Stream) -> None:
        self._words = np.array([seed, int(stream)], dtype=np.uint64)

    def generate_state(self, n_words: int, dtype: npt.DTypeLike = np.uint64) -> npt.NDArray[np.uint64]:  # noqa: ARG002
        return self._words


def generator(seed: int, stream: Stream, *index: int) -> np.random.Generator:
    """The generator of (seed, stream, index): counter-based Philox (Salmon et al., SC 2011).

    Seed and stream are the 128-bit key. Up to three indices fill the high words of the 256-bit counter; its
    lowest word is what the generator itself counts, so that generators of different indices never overlap.

    Raises:
        ValueError: more than three indices, or a negative seed or index.
    """
    if len(index) > 3 or min((seed, *index)) < 0:
        raise ValueError(f"a key takes a seed and up to three indices, none negative; got {seed}, {index}")
    counter = np.array([0, *index, *[0] * (3 - len(index))], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(_Key(seed, stream), counter=counter))  # type: ignore[arg-type]


def random_signs(rng: np.random.Generator, size: int) -> Float64:
    """Independent entries +1.0 or -1.0 with equal probability, shape (size,): one random bit each."""
    bits = np.unpackbits(np.frombuffer(rng.bytes(-(-size // 8)), dtype=np.uint8), count=size)
    return np.asarray(2.0 * bits - 1.0, dtype=np.float64)
