"""Joining a Ray cluster, or starting a local one."""

import contextlib
import math
import os
import socket
from pathlib import Path
from typing import Any

import ray

import actors
import zip_ray
from zip_ray.config import ClusterConfig
from zip_ray.errors import InputError

OBJECT_STORE_BYTES = 100 * 2**20
"""Of a local cluster: work and answers are small and travel inline."""
CONNECT_SECONDS = 10.0


def connect(cluster: ClusterConfig) -> bool:
    """Join the cluster at `cluster.address` or RAY_ADDRESS, or else start a local one.

    Returns:
        Whether a local cluster was started, which ends with `ray.shutdown`.

    Raises:
        InputError: the cluster cannot be reached.
    """
    address = cluster.address or os.environ.get("RAY_ADDRESS") or "local"
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # More actors than cores is the user's choice on one machine: Ray would leave the rest pending for ever.
        cpus = max(os.cpu_count() or 1, math.ceil(cluster.actors * cluster.cpus_per_actor))
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **quiet,
        )
        return True
    _probe(address)
    try:
        ray.init(address=address, runtime_env=_code(), **quiet)
    except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and gRPC's own here
        raise _unreachable(address, error) from error
    return False


def _code() -> dict[str, Any]:
    """The runtime environment that brings this code to the workers; a job's working_dir has brought it already."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return {}
    return {"py_modules": [str(Path(package.__file__ or "").parent) for package in (zip_ray, actors)]}


def _probe(address: str) -> None:
    """Knock at host:port first: Ray itself tries for most of a minute before it gives an answer."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # `auto`, or a name that Ray resolves itself
    try:
        with contextlib.closing(socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS)):
            return
    except OSError as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(
        f"cluster.address: no Ray cluster answers at '{address}' ({reason}): start one with `ray start --head`, "
        "correct the address (or RAY_ADDRESS), or leave it out for a local one"
    )


def describe_cluster(cluster: ClusterConfig) -> str:
    """Join or start the cluster, and say what it has.

    Raises:
        InputError: it cannot be reached.
    """
    local = connect(cluster)
    try:
        have = ray.cluster_resources()
        nodes = len(ray.nodes())
    finally:
        ray.shutdown()
    where = "a local one will be started" if local else "joined"
    return f"{where}: {nodes} nodes, {have.get('CPU', 0):g} CPU, {have.get('GPU', 0):g} GPU"
