"""CPU threads of an actor: how many `auto` is. Chosen once, by the driver of a new run, and kept in its config."""

import os

from zip_ray.config import ClusterConfig, Config


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def auto_threads(cluster: ClusterConfig) -> int:
    """What actors can have without getting in each other's way.

    On this machine alone its cores are shared out; on a cluster that is joined an actor has the cores that Ray
    reserves for it.
    """
    reserved = max(1, int(cluster.cpus_per_actor))
    if cluster.pool == "in-process":
        return cores()
    if cluster.address or os.environ.get("RAY_ADDRESS") or cluster.most is None:
        return reserved
    return max(1, cores() // cluster.most)


def threads(cluster: ClusterConfig) -> int:
    """`cluster.threads_per_actor` as a number."""
    return auto_threads(cluster) if cluster.threads_per_actor == "auto" else cluster.threads_per_actor


def with_threads(config: Config) -> Config:
    """The config with that number in it."""
    cluster = config.cluster.model_copy(update={"threads_per_actor": threads(config.cluster)})
    return config.model_copy(update={"cluster": cluster})
