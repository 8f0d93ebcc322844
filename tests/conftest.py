"""Shared fixtures. Ray's and MLflow's own environment must not leak into the tests."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support.clone import environment_without_zip_ray

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
    """A port that nothing listens on, and that no other process is given unasked.

    Below the range from which Linux serves those who ask for any port (Ray's agents do), above Ray's for workers.
    """
    while True:
        with (
            contextlib.suppress(OSError),
            socket.create_server(("127.0.0.1", secrets.choice(range(20000, 32768)))) as server,
        ):
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


@pytest.fixture
def handlers() -> Iterator[None]:
    """A command line that runs in this process takes its signals over: afterwards, what was there."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@dataclass
class Head:
    """A Ray head in processes of its own."""

    process: subprocess.Popen[bytes]
    dashboard: str
    """Where jobs are submitted."""
    client: str
    """Where a driver joins that is not on the cluster."""

    def kill(self) -> None:
        """It is lost with all that it started."""
        subprocess.run(["pkill", "-KILL", "-s", str(self.process.pid)], check=True)
        self.process.wait(30)


@contextlib.contextmanager
def head() -> Iterator[Head]:
    """A running head with 2 CPUs. zip-ray is not installed on it: the code must come with a job or a driver."""
    dashboard, client = free_port(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="zr"))
    python = environment_without_zip_ray(folder / "environment")
    path = f"{python.parent}:{os.environ['PATH']}"  # a job's `python` is this one
    environment = {**os.environ, "RAY_TMPDIR": str(folder), "PATH": path}
    process = subprocess.Popen(
        [
            *(str(python), "-m", "ray.scripts.scripts"),
            *("start", "--head", "--block", f"--port={free_port()}", "--num-cpus=2", "--node-ip-address=127.0.0.1"),
            *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--object-store-memory=80000000"),
            *(f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={free_port()}"),
        ],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    started = Head(process, f"http://127.0.0.1:{dashboard}", f"ray://127.0.0.1:{client}")
    try:
        wait_for(lambda: urllib.request.urlopen(f"{started.dashboard}/api/version", timeout=1).status == 200, 60)
        wait_for(lambda: listens(client), 60)
        yield started
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def job_head() -> Iterator[str]:
    """Address of the dashboard of a running head, to which jobs are submitted."""
    with head() as started:
        yield started.dashboard


def listens(port: int) -> bool:
    """Whether something listens on a port of this machine.

    Raises:
        OSError: nothing does.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Try until it holds; a connection that is refused does not."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)
