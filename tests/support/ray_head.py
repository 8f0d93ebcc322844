"""A Ray head in processes of its own."""

import contextlib
import os
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from tests.support.clone import environment_without_zip_ray
from tests.support.processes import HANG_SECONDS, free_port, listens, wait_for


@dataclass
class RayHead:
    """A Ray head in processes of its own."""

    process: subprocess.Popen[bytes]
    dashboard: str
    """Address to which jobs are submitted."""
    client: str
    """Address for a driver outside the cluster."""
    address: str
    """Address for a driver on the cluster."""

    def kill(self) -> None:
        """Kill the head and everything it started."""
        subprocess.run(["pkill", "-KILL", "-s", str(self.process.pid)], check=True)
        self.process.wait(HANG_SECONDS)


@contextlib.contextmanager
def ray_head(token: str | None = None) -> Iterator[RayHead]:
    """A running head with 2 CPUs. zip-ray is not installed on it: the code must come with a job or a driver.

    Args:
        token: the token required to join; None: no token.
    """
    dashboard, client, port = free_port(), free_port(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="zr"))
    python = environment_without_zip_ray(folder / "environment")
    path = f"{python.parent}:{os.environ['PATH']}"  # a job's `python` is this one
    environment = {**os.environ, "RAY_TMPDIR": str(folder), "PATH": path}
    environment["RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"] = "300"  # 30 by default, too short on a busy machine
    if token is not None:
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    process = subprocess.Popen(
        [
            *(str(python), "-m", "ray.scripts.scripts"),
            *("start", "--head", "--block", f"--port={port}", "--num-cpus=2", "--node-ip-address=127.0.0.1"),
            *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--object-store-memory=80000000"),
            *("--no-monitor", f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={free_port()}"),
        ],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    started = RayHead(process, f"http://127.0.0.1:{dashboard}", f"ray://127.0.0.1:{client}", f"127.0.0.1:{port}")
    try:
        wait_for(lambda: _answers(f"{started.dashboard}/api/version"))
        wait_for(lambda: listens(client))
        yield started
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(HANG_SECONDS)


def _answers(url: str) -> bool:
    """Whether a page is served, with or without a token."""
    try:
        return bool(urllib.request.urlopen(url, timeout=1).status == HTTPStatus.OK)
    except urllib.error.HTTPError as error:
        return error.code == HTTPStatus.UNAUTHORIZED
