"""Shards are contiguous, nearly equal in size, and cover everything."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zip_ray.protocol.shards import shard_bounds


@given(size=st.integers(1, 1000), shards=st.integers(1, 16))
def test_shards_are_nearly_equal_runs(size: int, shards: int) -> None:
    bounds = [shard_bounds(size, shard, shards) for shard in range(shards)]
    sizes = np.diff(bounds)
    assert (bounds[0][0], bounds[-1][1]) == (0, size)
    assert [first for first, _ in bounds[1:]] == [end for _, end in bounds[:-1]]
    assert sizes.max() - sizes.min() <= 1
