"""How classes or images are cut into shards, and what a shard answers."""

from dataclasses import dataclass
from typing import Literal

from zip_ray.protocol.arrays import Bool, Float32, Float64

Over = Literal["classes", "images"]
"""What the shards of a pass are shards of."""


@dataclass(frozen=True, slots=True)
class ShardStatistics:
    """Terms of the cross-entropy for some classes and images of an ask, each of shape (sides, images)."""

    maxima: Float64
    """Largest logit."""
    sums: Float64
    """Sum of exp(logit - largest)."""
    targets: Float64
    """Logit of the image's own class; -inf where it is not among these."""
    right: Bool
    """Whether the largest logit is that of the image's own class."""
    scores: Float32 | Float64 | None = None
    """If wanted: float32 logits of these classes, shape (sides, images, classes); or of the chosen classes, float64,
    shape (sides, images, k + 1), -inf where a class is not among these, and those that are not chosen pooled."""


@dataclass(frozen=True, slots=True)
class SliceResult:
    """Answer to a `Slice`."""

    of_asks: tuple[ShardStatistics, ...]
    """In the order of the asks."""


def shard_bounds(size: int, shard: int, shards: int) -> tuple[int, int]:
    """First and end of one of `shards` nearly equal runs of `size` classes or images."""
    return size * shard // shards, size * (shard + 1) // shards
