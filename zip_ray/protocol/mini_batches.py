"""Which training images an ask is about: the same at both ends, so that only keys travel.

A mini-batch is drawn by its key. A chunk is one of ceil(n / batch_size) nearly equal runs that cover all n training
images in their order, and is counted from 0.
"""

import numpy as np

from zip_ray.protocol.arrays import Int64
from zip_ray.protocol.messages import Ask
from zip_ray.protocol.random_keys import Stream, generator
from zip_ray.protocol.shards import shard_bounds


def asked_images(ask: Ask, images: int, batch_size: int, seed: int) -> Int64:
    """Indices of the training images that an ask is about, in the order of its scores, shape (images of the ask,).

    Args:
        ask: on a mini-batch or a chunk.
        images: n, the training images.
        batch_size: of the config.
        seed: of the run.

    Raises:
        ValueError: there is no such chunk.
    """
    if ask.chunk is None:
        return mini_batch(images, batch_size, seed, ask.batch)
    return np.arange(*chunk_bounds(images, batch_size, ask.chunk))


def mini_batch(images: int, batch_size: int, seed: int, batch: int) -> Int64:
    """Images of the `batch`-th mini-batch, counted from 1: indices of shape (min(batch_size, images),).

    An epoch is a keyed order of all images; its last partial batch is dropped when the set holds a whole one, and a
    smaller set is one batch (reference protocol of CoOp and ZIP).
    """
    size = min(batch_size, images)
    epoch, place = divmod(batch - 1, images // size)
    order = generator(seed, Stream.BATCH, epoch).permutation(images)
    return order[place * size : (place + 1) * size]


def mini_batch_views(size: int, views: int, seed: int, batch: int) -> Int64:
    """Fixed view of each place in the `batch`-th mini-batch, shape (size,)."""
    return generator(seed, Stream.VIEW, 0, batch).integers(views, size=size)


def chunks(images: int, batch_size: int) -> int:
    """How many chunks cover all images."""
    return -(-images // batch_size)


def chunk_bounds(images: int, batch_size: int, chunk: int) -> tuple[int, int]:
    """First and end of the images of a chunk.

    Raises:
        ValueError: there is no such chunk.
    """
    count = chunks(images, batch_size)
    if not 0 <= chunk < count:
        raise ValueError(f"chunk {chunk} of {count}: they are counted from 0")
    return shard_bounds(images, chunk, count)
