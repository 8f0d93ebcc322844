"""Shared fixtures. What is not a fixture lives in tests/support."""

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support.environment import isolate_environment
from tests.support.processes import free_port
from tests.support.ray_head import ray_head

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

isolate_environment()

# Properties are judged by what they say, not by how busy the machine is.
settings.register_profile("zip-ray", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("zip-ray")


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


@pytest.fixture
def handlers() -> Iterator[None]:
    """A command line that runs in this process takes its signals over: afterwards, what was there."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def job_head() -> Iterator[str]:
    """Address of the dashboard of a running head, to which jobs are submitted."""
    with ray_head() as started:
        yield started.dashboard
