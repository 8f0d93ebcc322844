"""Draws by key against NumPy's own Philox, given the same key and counter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zip_ray.protocol.random_keys import Stream, generator, random_signs

WORDS = st.integers(0, 2**63 - 1)


@given(WORDS, st.sampled_from(Stream), st.lists(WORDS, max_size=3))
def test_a_generator_is_philox_at_its_key_and_counter(seed: int, stream: Stream, index: list[int]) -> None:
    counter = [0, *index, *[0] * (3 - len(index))]
    key = np.array([seed, stream], dtype=np.uint64)
    plain = np.random.Generator(np.random.Philox(key=key, counter=np.array(counter, dtype=np.uint64)))
    keyed = generator(seed, stream, *index)
    assert np.array_equal(keyed.integers(2**63, size=9), plain.integers(2**63, size=9))
    assert np.array_equal(keyed.standard_normal(9), plain.standard_normal(9))


@pytest.mark.parametrize("key", [(-1,), (0, -1), (0, 1, 2, 3, 4)], ids=str)
def test_what_is_no_key_is_refused(key: tuple[int, ...]) -> None:
    seed, *index = key
    with pytest.raises(ValueError, match="none negative"):
        generator(seed, Stream.BATCH, *index)


@pytest.mark.parametrize("size", [0, 1, 8, 1001])
def test_random_signs_are_one_bit_each(size: int) -> None:
    signs = random_signs(generator(1, Stream.DIRECTION), size)
    assert signs.shape == (size,)
    assert set(signs) <= {-1.0, 1.0}
    np.testing.assert_array_equal(signs, random_signs(generator(1, Stream.DIRECTION), size))


def test_random_signs_are_balanced_and_independent_between_keys() -> None:
    signs = np.stack([random_signs(generator(1, Stream.DIRECTION, place), 4096) for place in range(20)])
    products = signs @ signs.T / 4096
    assert np.abs(signs.mean(axis=1)).max() < 5 / 64
    assert np.abs(products - np.eye(20)).max() < 5 / 64
