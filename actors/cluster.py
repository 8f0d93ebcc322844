"""Joining a Ray cluster, or starting a local one."""

import math
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from signal import SIGTERM
from typing import Any, Literal

import psutil  # type: ignore[import-untyped]
import ray
from ray._private.state import available_resources_per_node
from ray.util import client

from zip_ray.actors.address import probe, short
from zip_ray.actors.jobs import in_job
from zip_ray.config.resources import ClusterConfig, per_gpu
from zip_ray.errors import InputError
from zip_ray.files import packaged
from zip_ray.pool.contract import PoolError

OBJECT_STORE_BYTES = 100 * 2**20
"""Object store of a local cluster, bytes: work and results are small and travel inline."""
START_TRIES = 2
"""Attempts to start a local cluster, or the server for a Ray client: either can time out on a busy machine."""


Connection = Literal["started", "joined", "shared"]
"""Where this process's Ray comes from: a local cluster it started, a cluster it joined, or a Ray that the calling
program had already initialised and that is left running."""


def connect(cluster: ClusterConfig, sources: Sequence[str] = ()) -> Connection:
    """Join the cluster at `cluster.address` or RAY_ADDRESS, or else start a local one.

    Where Ray is initialised already, as in a notebook, and no address is configured, it is used as it is.

    Args:
        cluster: where.
        sources: files and folders of modules that the workers import beside this package.

    Returns:
        Where Ray comes from. All but a shared Ray are ended with `ray.shutdown`.

    Raises:
        InputError: the cluster cannot be reached.
        PoolError: the local cluster, or the server for a Ray client, does not start.
    """
    if cluster.address is None and ray.is_initialized():
        return "shared"
    address = cluster.address or os.environ.get("RAY_ADDRESS") or "local"
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address == "local":
        _start_local(cluster, quiet | ({"runtime_env": {"py_modules": [*sources]}} if sources else {}))
        return "started"
    probe(address)
    _join(address, quiet | {"runtime_env": _code(sources)})
    return "joined"


def _join(address: str, options: dict[str, Any]) -> None:
    """Join the cluster at an address that answers; try twice if its server for this client does not start.

    Raises:
        InputError: it refuses.
        PoolError: its server for this client does not start.
    """
    for tries in range(1, START_TRIES + 1):
        try:
            ray.init(address=address, **options)
            return
        except ConnectionAbortedError as error:  # raised for nothing but this
            if tries == START_TRIES:
                cause = str(error).strip().rpartition("\n")[2]  # the message ends with the traceback of the other side
                raise PoolError(
                    f"the Ray cluster at '{address}' does not start its server for this client ({short(cause)}): free "
                    "memory or cores on its head, or join the cluster without ray://"
                ) from error
        except (Exception, SystemExit) as error:  # ConnectionError, RuntimeError, gRPC's own, or just an exit
            _stop_if_told(error)
            raise InputError(
                f"cluster.address: the Ray cluster at '{address}' is running but cannot be joined ({short(error)}): "
                "use its versions of Ray and Python; the logs of its head say more"
            ) from error


def _start_local(cluster: ClusterConfig, quiet: dict[str, Any]) -> None:
    """Start Ray on this machine; try twice.

    Raises:
        PoolError: it does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's 15 spares the other work of a cluster's node; here it would leave the actors a thirtieth of a busy core.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # On one machine the user may ask for more actors than cores; Ray would leave the surplus pending forever.
    cpus = max(os.cpu_count() or 1, math.ceil((cluster.most or 1) * cluster.cpus_per_actor))
    size = {"num_cpus": cpus, "object_store_memory": OBJECT_STORE_BYTES}
    others = set(psutil.Process().children())
    for tries in range(1, START_TRIES + 1):
        try:
            ray.init(address="local", include_dashboard=False, **size, **quiet)
            return
        except (Exception, SystemExit) as error:
            _end_started(others)
            _stop_if_told(error)
            if tries == START_TRIES:
                raise PoolError(
                    f"Ray does not start on this machine ({short(error)}): {_remedy(error)}, use --cluster.pool "
                    "in-process, or join a cluster by --cluster.address"
                ) from error


def _stop_if_told(error: BaseException) -> None:
    """Raise KeyboardInterrupt where SIGTERM ended the attempt: the handler that Ray installs exits with its number."""
    if isinstance(error, SystemExit) and error.code == SIGTERM:
        raise KeyboardInterrupt from error


def _remedy(error: BaseException) -> str:
    """What to do about a local Ray that does not start; its sockets and logs lie in RAY_TMPDIR, TMPDIR or /tmp."""
    if "AF_UNIX path length" in str(error):
        return "set RAY_TMPDIR to a folder with a shorter path, such as /tmp"
    if isinstance(error, OSError):
        return "set RAY_TMPDIR to a folder that exists and can be written to, and HOME too"
    return "free memory or cores"


def _end_started(others: set[psutil.Process]) -> None:
    """End the processes that a failed start leaves behind: Ray does not, and they would slow down the next attempt.

    Args:
        others: processes that were there before.
    """
    ray.shutdown()
    for process in set(psutil.Process().children()) - others:
        with suppress(psutil.NoSuchProcess):
            if process.name() in ("gcs_server", "raylet"):
                process.kill()
                process.wait()


def _code(sources: Sequence[str]) -> dict[str, Any]:
    """The runtime environment that brings code to the workers; a job's working_dir has brought it already."""
    if in_job():
        return {}
    return {"py_modules": [str(packaged(".")), *sources]}


def _nodes_up() -> list[dict[str, float]]:
    """The resources of each running node; Ray's list also has nodes that are down."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def shortage(cluster: ClusterConfig) -> str | None:
    """Why no running node can hold even one actor, with the numbers; None if one can."""
    have = [(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in _nodes_up()]
    if any(cpus >= cluster.cpus_per_actor and gpus >= cluster.gpus for cpus, gpus in have):
        return None
    lacking = "gpus" if all(gpus < cluster.gpus for _, gpus in have) else "cpus"
    return (
        f"cluster.{lacking}_per_actor: an actor needs {cluster.cpus_per_actor:g} CPU and {cluster.gpus:g} "
        f"GPU on one node; there are nodes of {_list(have)}: lower it, or join a larger cluster"
    )


def places(cluster: ClusterConfig) -> int:
    """Actors that the running nodes could hold if they were otherwise empty."""
    return sum(min(_room(node, cluster), default=1) for node in _nodes_up())


def free_places(cluster: ClusterConfig, most: int) -> int:
    """Upper bound on the additional actors that fit now, beside what is running on the nodes; at most `most`.

    Counts nodes that have both a CPU and a GPU free. Counting cluster totals instead would request nodes from an
    autoscaler without end, for an actor that fits on no single node. A Ray client can only query the totals. Unlike in
    `places`, the free part of a partly used GPU counts.
    """
    needs = [(kind, need) for kind, need in (("CPU", cluster.cpus_per_actor), ("GPU", cluster.gpus)) if need]

    def room(free: dict[str, float]) -> int:
        return min([most, *(int(free.get(kind, 0.0) / need + 1e-6) for kind, need in needs)])

    if client.ray.is_connected():
        return room(ray.available_resources())
    return min(most, sum(map(room, available_resources_per_node().values())))


def _room(node: dict[str, float], cluster: ClusterConfig) -> list[int]:
    """Actors that fit on a node by its CPUs and by its GPUs, as far as actors need them."""
    cpus, gpus = cluster.cpus_per_actor, cluster.gpus
    room = [int(node.get("CPU", 0.0) / cpus + 1e-6)] if cpus > 0 else []
    if 0 < gpus < 1:  # fractions left over on several GPUs do not add up to a place
        return [*room, int(node.get("GPU", 0.0)) * per_gpu(gpus)]
    return [*room, int(node.get("GPU", 0.0) / gpus)] if gpus else room


def _list(have: list[tuple[float, float]]) -> str:
    kinds = sorted(Counter(have).items(), reverse=True)[:4]
    return "; ".join(f"{cpus:g} CPU and {gpus:g} GPU ({count} x)" for (cpus, gpus), count in kinds)


def describe_cluster(cluster: ClusterConfig) -> str:
    """Join or start the cluster, and say what it has.

    Raises:
        InputError: it cannot be reached.
    """
    connection = connect(cluster)
    try:
        have = ray.cluster_resources()
        nodes = len(_nodes_up())
    finally:
        if connection != "shared":
            ray.shutdown()
    where = {"started": "a local one will be started", "joined": "joined", "shared": "initialised"}[connection]
    return f"{where}: {nodes} node{'' if nodes == 1 else 's'}, {have.get('CPU', 0):g} CPU, {have.get('GPU', 0):g} GPU"
