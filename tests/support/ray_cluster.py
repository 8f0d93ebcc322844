"""A Ray cluster of several nodes, all on this machine."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psutil
import ray
from ray.cluster_utils import Cluster

from tests.support.processes import free_port

STORE_BYTES = 80 * 2**20
START_TRIES = 5
"""Ray gives a node 30 s to start, which is too short while other programs use the cores."""

Started = TypeVar("Started")


def start_again(start: Callable[[], Started]) -> Started:
    """Call `start`, retrying if it fails, and end the processes a failed start leaves behind."""
    for tries in range(1, START_TRIES + 1):
        before = set(psutil.Process().children())
        try:
            return start()
        except (Exception, SystemExit):
            _end(set(psutil.Process().children()) - before)
            if tries == START_TRIES:
                raise
    raise AssertionError("unreachable")


def _end(processes: set[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.name() in ("gcs_server", "raylet"):
                process.kill()
                process.wait()


def add_node(cluster: Cluster, **resources: int) -> Any:
    """Add a node with `num_cpus` and `num_gpus`."""
    return start_again(lambda: cluster.add_node(object_store_memory=STORE_BYTES, **resources))


@contextmanager
def running_cluster(num_cpus: int) -> Iterator[Cluster]:
    """A cluster of one node with that many CPUs, to which nodes can be added.

    `client_address` is where a driver joins as a Ray client.
    """

    def start() -> Cluster:
        port = free_port()
        head = {"num_cpus": num_cpus, "object_store_memory": STORE_BYTES, "ray_client_server_port": port}
        spared = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
        cluster = Cluster(initialize_head=True, head_node_args={**head, **spared})
        cluster.client_address = f"ray://127.0.0.1:{port}"
        return cluster

    cluster = start_again(start)
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
