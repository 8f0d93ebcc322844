"""Chosen logits with the rest pooled, against log-sum-exp over all classes."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from zip_ray.protocol.shards import shard_bounds
from zip_ray.scorer.logits import pooled


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 12), data=st.data())
def test_what_is_not_chosen_is_pooled(seed: int, classes: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, classes - 1))
    shards = data.draw(st.integers(1, classes))
    rng = np.random.default_rng(seed)
    found = rng.normal(0, 30, (2, 5, classes))
    chosen = np.stack([rng.permutation(classes)[:k] for _ in range(5)])
    whole = pooled(torch.from_numpy(found), torch.from_numpy(chosen)).numpy()
    own = np.take_along_axis(found, np.broadcast_to(chosen, (2, 5, k)), axis=2)
    np.testing.assert_array_equal(whole[..., :k], own)
    np.testing.assert_allclose(logsumexp(whole, axis=2), logsumexp(found, axis=2), rtol=1e-12)
    parts = []
    for shard in range(shards):
        first, end = shard_bounds(classes, shard, shards)
        parts.append(pooled(torch.from_numpy(found[..., first:end]), torch.from_numpy(chosen), first).numpy())
    np.testing.assert_array_equal(np.max(parts, axis=0)[..., :k], own)
    np.testing.assert_allclose(np.logaddexp.reduce(parts, axis=0)[..., k], whole[..., k], rtol=1e-12)
