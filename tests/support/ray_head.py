"""A Ray head in processes of its own."""

import contextlib
import os
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.clone import environment_without_zip_ray
from tests.support.processes import free_port, listens, wait_for


@dataclass
class RayHead:
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
def ray_head() -> Iterator[RayHead]:
    """A running head with 2 CPUs. zip-ray is not installed on it: the code must come with a job or a driver."""
    dashboard, client = free_port(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="zr"))
    python = environment_without_zip_ray(folder / "environment")
    path = f"{python.parent}:{os.environ['PATH']}"  # a job's `python` is this one
    environment = {**os.environ, "RAY_TMPDIR": str(folder), "PATH": path}
    environment["RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"] = "300"  # 30 by default: too little on a busy machine
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
    started = RayHead(process, f"http://127.0.0.1:{dashboard}", f"ray://127.0.0.1:{client}")
    try:
        wait_for(lambda: urllib.request.urlopen(f"{started.dashboard}/api/version", timeout=1).status == 200)
        wait_for(lambda: listens(client))
        yield started
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
