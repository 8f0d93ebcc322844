"""Shared fixtures. Ray's and MLflow's own environment must not leak into the tests."""

import os
import socket
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

os.environ.pop("RAY_ADDRESS", None)
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="zip-ray-cache-")


# Properties are judged by what they say, not by how busy the machine is.
settings.register_profile("zip-ray", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("zip-ray")


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def cluster() -> Iterator["Cluster"]:
    """A running Ray cluster of one node with 4 CPUs, to which tests may add nodes; shut down after the module."""
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 4, "object_store_memory": 80 * 2**20, "ray_client_server_port": free_port()}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.client_address = f"ray://127.0.0.1:{head['ray_client_server_port']}"
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def ray_cluster(cluster: "Cluster") -> str:
    """Address of a running cluster that pools join."""
    return str(cluster.address)
