"""Shared fixtures. What is not a fixture lives in tests/support."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from ray.cluster_utils import Cluster

from tests.support.clone import installed_wheel
from tests.support.environment import isolate_environment
from tests.support.processes import signals_kept
from tests.support.ray_cluster import running_cluster
from tests.support.ray_head import ray_head

isolate_environment()

# Properties are judged by what they say, not by how busy the machine is.
settings.register_profile("zip-ray", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("zip-ray")


LONG_ROOMS = ("system", "cli", "comparison", "contracts", "actors", "runs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the rooms that take longest: several processes share the files, and end together."""
    rooms = {room: place for place, room in enumerate(LONG_ROOMS)}
    items.sort(key=lambda item: rooms.get(item.path.parent.name, len(rooms)))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running Ray cluster of one node with 4 CPUs, which all tests of this process share.

    A test that adds a node removes it.
    """
    with running_cluster(num_cpus=4) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def ray_cluster(cluster: Cluster) -> str:
    """Address of a running cluster that pools join."""
    return str(cluster.address)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel."""
    return installed_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def handlers() -> Iterator[None]:
    """A command line that runs in this process takes its signals over: afterwards, what was there."""
    with signals_kept():
        yield


@pytest.fixture(scope="session")
def job_head() -> Iterator[str]:
    """Address of the dashboard of a running head, to which jobs are submitted."""
    with ray_head() as started:
        yield started.dashboard
