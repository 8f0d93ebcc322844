"""How classes or images are cut into shards."""


def shard_bounds(size: int, shard: int, shards: int) -> tuple[int, int]:
    """First and end of one of `shards` nearly equal runs of `size` classes or images."""
    return size * shard // shards, size * (shard + 1) // shards
