"""Three hosts with addresses of their own, as network namespaces of this machine: a link is cut, a host is lost.

`make network`; needs root. A run over two hosts of actors and a head must end with the bits of an undisturbed one.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from tests.support.environment import isolate_environment
from tests.support.paths import RAY, ROOT
from tests.support.processes import wait_for
from zip_ray.runs.checkpoint import load_checkpoint
from zip_ray.runs.event_log import read_record

BRIDGE = "zr-bridge"
HOSTS = {"zr-head": "10.77.0.10", "zr-one": "10.77.0.11", "zr-two": "10.77.0.12"}
HEAD = "zr-head"
PORT = 6379
START_SECONDS = 120
"""Time for a node to start; a busy machine is slow."""
RUN = ("configs/methods/zip-tuned.yaml", "--budget.queries", "4000", "--tracking.no-enabled")


def sh(*command: str) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, check=True)


@contextmanager
def network() -> Iterator[None]:
    """A bridge, and a namespace with an address on it for each host."""
    with ExitStack() as undo:
        sh("ip", "link", "add", BRIDGE, "type", "bridge")
        undo.callback(sh, "ip", "link", "del", BRIDGE)
        sh("ip", "link", "set", BRIDGE, "up")
        for host, address in HOSTS.items():
            sh("ip", "netns", "add", host)
            undo.callback(sh, "ip", "netns", "del", host)
            undo.callback(shutil.rmtree, ray_folder(host), ignore_errors=True)
            undo.callback(lose, host)
            ray_folder(host).mkdir()
            sh("ip", "link", "add", link(host), "type", "veth", "peer", "name", "eth0", "netns", host)
            undo.callback(subprocess.run, ("ip", "link", "del", link(host)), check=False)
            sh("ip", "link", "set", link(host), "master", BRIDGE, "up")
            for settings in (f"addr add {address}/24 dev eth0", "link set eth0 up", "link set lo up"):
                sh("ip", "-n", host, *settings.split())
        yield


def link(host: str) -> str:
    """The bridge's end of a host's cable."""
    return f"{host}-l"


def ray_folder(host: str) -> Path:
    """Ray's folder on a host: its name must be short because it holds sockets."""
    return Path(tempfile.gettempdir()) / host


def lose(host: str) -> None:
    """Kill everything running on a host."""
    found = subprocess.run(["ip", "netns", "pids", host], capture_output=True, text=True, check=True)
    for pid in found.stdout.split():
        os.kill(int(pid), signal.SIGKILL)


def on(host: str, *command: str) -> "subprocess.Popen[bytes]":
    """Start a command on a host."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": str(ray_folder(host))}
    return subprocess.Popen(["ip", "netns", "exec", host, *command], cwd=ROOT, env=environment)


def start_ray(host: str, *options: str) -> None:
    """Start a cluster node on a host, and return once it is up."""
    done = on(host, RAY, "start", f"--node-ip-address={HOSTS[host]}", "--object-store-memory=80000000", *options)
    assert done.wait(START_SECONDS) == 0, f"no node on {host}"


def run(folder: Path, *strikes: tuple[float, str, str]) -> int:
    """Start or resume a run from the head, and strike this long after its steps began; returns the driver's exit code.

    Args:
        folder: the run folder.
        strikes: seconds, cut or lose, host.
    """
    with network():
        start_ray(HEAD, "--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false")
        for host in list(HOSTS)[1:]:
            start_ray(host, f"--address={HOSTS[HEAD]}:{PORT}", "--num-cpus=1")
        record = folder / "metrics.jsonl"
        command = ("resume", str(folder)) if record.exists() else ("tune", *RUN, "--output.dir", str(folder))
        at = ("--cluster.address", f"{HOSTS[HEAD]}:{PORT}", "--cluster.actors", "auto")
        driver = on(HEAD, sys.executable, "run.py", *command, *at)
        if strikes:
            wait_for(lambda: record.exists() and any(getattr(e, "ready", 0) == 2 for e in read_record(record)))
        for seconds, what, host in strikes:
            time.sleep(seconds)
            assert driver.poll() is None, "the run has ended before it was struck"
            print(f"{what} {host} at {read_record(record)[-1].queries} queries", flush=True)
            if what == "cut":
                sh("ip", "link", "set", link(host), "down")
            else:
                lose(host)
        return driver.wait(400)


STRIKES = {
    "link cut": [(0.5, "cut", "zr-one")],
    "host lost": [(0.5, "lose", "zr-two")],
    "head lost, with the driver": [(0.5, "lose", HEAD)],
}


def main() -> int:
    """Run all the scenarios; returns the exit code."""
    if os.getuid() != 0:
        print("needs root: network namespaces are made and removed")
        return 1
    isolate_environment()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # a terminated test still removes the namespaces
    with tempfile.TemporaryDirectory() as place:
        alone = Path(place) / "alone"
        sh(sys.executable, "run.py", "tune", *RUN, "--cluster.pool", "in-process", "--output.dir", str(alone))
        expected = load_checkpoint(alone / "checkpoint.safetensors").optimizer.w
        for name, strikes in STRIKES.items():
            folder = Path(place) / name.replace(" ", "-")
            code = run(folder, *strikes)
            if strikes[-1][2] == HEAD:
                assert code != 0, "the driver was on the head"
                code = run(folder)
            assert code == 0, "the run has failed"
            end = load_checkpoint(folder / "checkpoint.safetensors")
            np.testing.assert_array_equal(end.optimizer.w, expected)
            account = end.account
            print(f"{name}: the same bits; {account.wasted} queries wasted of {account.issued}, {end.seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
