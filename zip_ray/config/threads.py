"""CPU threads: how many `auto` gives an actor, chosen once, by the driver of a new run; and the driver's own."""

import os

from threadpoolctl import threadpool_limits

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


def one_blas_thread() -> None:
    """Have numpy compute norms and eigenvectors in one thread of this process, from now on.

    Several would add in another order: the bits of a run would be those of the driver's number of cores. Not for a
    while only, since a process may drive several runs.
    """
    threadpool_limits(1, user_api="blas")
