"""Shared fixtures. Ray's and MLflow's own environment must not leak into the tests."""

import os
from collections.abc import Iterator

import pytest

os.environ.pop("RAY_ADDRESS", None)
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[str]:
    """Address of a running local cluster that pools join; shut down after the module."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "object_store_memory": 80 * 2**20})
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()
