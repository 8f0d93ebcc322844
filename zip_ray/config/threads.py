"""CPU threads: the number that `auto` gives an actor, chosen once, by the driver of a new run; and the driver's own."""

import os

from threadpoolctl import threadpool_limits

from zip_ray.config.resources import ClusterConfig
from zip_ray.config.tree import Config


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def auto_threads(cluster: ClusterConfig) -> int:
    """Threads per actor without oversubscription of the cores.

    On this machine alone its cores are shared out; on a cluster that is joined an actor has the cores that Ray
    reserves for it.
    """
    reserved = max(1, int(cluster.cpus_per_actor))
    if cluster.pool == "in-process":
        return cores()
    if cluster.address or os.environ.get("RAY_ADDRESS") or cluster.most is None:
        return reserved
    return max(1, cores() // cluster.most)


def threads(config: Config) -> int:
    """`execution.threads` as a number."""
    given = config.execution.threads
    return auto_threads(config.cluster) if given == "auto" else given


def with_threads(config: Config) -> Config:
    """The config with that number in it."""
    execution = config.execution.model_copy(update={"threads": threads(config)})
    return config.model_copy(update={"execution": execution})


def one_blas_thread() -> None:
    """Have numpy compute norms and eigenvectors in one thread of this process, from now on.

    Several threads add in a different order, so that the bits of a run would depend on the driver's number of cores.
    The setting is permanent, since a process may drive several runs. SciPy brings a BLAS of its own, which is limited
    only once it is loaded.
    """
    import scipy.linalg  # noqa: F401

    threadpool_limits(1, user_api="blas")
