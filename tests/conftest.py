"""Shared fixtures. Other shared code is in tests/support."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from ray.cluster_utils import Cluster

from tests.support.clone import installed_wheel
from tests.support.environment import isolate_environment
from tests.support.painted import COLOURS, paint
from tests.support.processes import signals_kept
from tests.support.ray_cluster import running_cluster
from tests.support.ray_head import ray_head

isolate_environment()

# Properties are judged by what they say, not by how busy the machine is.
settings.register_profile("zip-ray", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("zip-ray")


LONGEST = (
    *("system/test_readme.py", "cli/test_cli.py", "comparison/test_execute.py", "system/test_benchmarks.py"),
    *("system", "comparison", "contracts", "actors", "runs"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slowest files and rooms, so that parallel processes end together."""
    places = {name: place for place, name in enumerate(LONGEST)}

    def place(item: pytest.Item) -> int:
        room = item.path.parent.name
        return min(places.get(name, len(places)) for name in (f"{room}/{item.path.name}", room))

    items.sort(key=place)


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
    """A command line in this process replaces its signal handlers; restore them afterwards."""
    with signals_kept():
        yield


@pytest.fixture(scope="module")
def job_head() -> Iterator[str]:
    """Address of the dashboard of a running head, to which jobs are submitted."""
    with ray_head() as started:
        yield started.dashboard


@pytest.fixture(scope="session")
def painted_vlm_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The config of a run over a random generative model on images that are their class's colour."""
    from tests.support.tiny_vlms import save

    root = tmp_path_factory.mktemp("painted")
    for colour in COLOURS:
        for place in range(8):
            paint(root / "images" / colour / f"{place}.png", colour)
    return {
        "task": {"name": "folder", "root": str(root / "images"), "shots": 2, "batch_size": 4},
        "model": {"name": save("llava", root / "model")},
        "optimizer": {"method": "zip"},
        "prompt": {"space": "low-rank", "intrinsic_dimension": 64, "rank": 2},
        "cluster": {"pool": "in-process"},
        "execution": {"cache": False},
        "tracking": {"enabled": False},
    }
