"""Mini-batches and chunks: which images an ask covers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.scoring import query_at
from zip_ray.protocol.mini_batches import asked_images, chunk_bounds, chunks, mini_batch, mini_batch_views


def test_mini_batches_cover_an_epoch_once() -> None:
    epoch = [mini_batch(100, 32, seed=4, batch=b) for b in (1, 2, 3)]
    images = np.concatenate(epoch)
    assert len(images) == len(set(images.tolist())) == 96, "the last partial batch is dropped"
    assert set(mini_batch_views(32, 3, seed=4, batch=1).tolist()) == {0, 1, 2}
    np.testing.assert_array_equal(mini_batch(100, 32, seed=4, batch=2), epoch[1])
    assert not np.array_equal(mini_batch(100, 32, seed=4, batch=4), epoch[0])
    assert sorted(mini_batch(20, 32, seed=4, batch=9).tolist()) == list(range(20)), "a small set is one batch"


@given(images=st.integers(1, 300), batch_size=st.integers(1, 64))
def test_chunks_cover_all_images_once_in_their_order(images: int, batch_size: int) -> None:
    count = chunks(images, batch_size)
    found = [asked_images(query_at(np.zeros(2), chunk=chunk), images, batch_size, seed=1) for chunk in range(count)]
    assert np.concatenate(found).tolist() == list(range(images))
    sizes = [len(one) for one in found]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_an_ask_without_a_chunk_is_about_its_mini_batch() -> None:
    found = asked_images(query_at(np.zeros(2), batch=3), 100, 32, seed=4)
    np.testing.assert_array_equal(found, mini_batch(100, 32, seed=4, batch=3))


@pytest.mark.parametrize("chunk", [-1, 4])
def test_a_chunk_that_is_not_there_is_refused(chunk: int) -> None:
    assert chunk_bounds(100, 32, 3) == (75, 100)
    with pytest.raises(ValueError, match=f"chunk {chunk} of 4"):
        chunk_bounds(100, 32, chunk)
