"""A real Ray cluster of several nodes, and a thread that strikes at the pool on it."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import ray
from ray.cluster_utils import Cluster

from actors import RayPool
from tests.conftest import free_port

MEMBERS = 4
"""Actors."""
NODES = 2
"""Nodes that hold them, beside the head, which holds none."""


@contextmanager
def real_cluster() -> Iterator[Cluster]:
    """A head without room for actors, and nodes that may be lost."""
    store = 80 * 2**20
    head = {"num_cpus": 0, "object_store_memory": store, "ray_client_server_port": free_port()}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(NODES):
            cluster.add_node(num_cpus=MEMBERS // NODES, object_store_memory=store)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


class Saboteur(threading.Thread):
    """Strikes at a real pool, by a seeded schedule, until it is told to stop."""

    def __init__(self, seed: int, cluster: Cluster, pool: RayPool) -> None:
        super().__init__(daemon=True)
        self._draw, self._cluster, self._pool = random.Random(seed), cluster, pool
        self._done = threading.Event()
        self._error: Exception | None = None
        self.seen: set[int] = set()
        """Every process that has been an actor."""
        self._interrupt = False
        self._nodes_due = 0

    def run(self) -> None:
        try:
            self._strike()
        except Exception as error:
            self._error = error

    def _strike(self) -> None:
        strikes = (self._kill, self._stop, self._pause, self._lose_node, self._ask_to_stop)
        for _ in range(self._draw.randint(1, 3)):
            if self._done.wait(self._draw.uniform(0.05, 0.8)):
                return
            self._draw.choice(strikes)()

    def interrupted(self) -> bool:
        """Whether the driver has been asked to stop. Called by the main thread: only that may start a node."""
        while self._nodes_due:
            self._nodes_due -= 1
            self._cluster.add_node(num_cpus=MEMBERS // NODES, object_store_memory=80 * 2**20)
        return self._interrupt

    def finish(self) -> None:
        """Strike no more.

        Raises:
            Exception: whatever went wrong with striking.
        """
        self._done.set()
        if self.ident is not None:
            self.join()
        self.interrupted()
        if self._error:
            raise self._error

    def _victim(self) -> int | None:
        pids = sorted(self._pool.pids())
        self.seen.update(pids)
        return self._draw.choice(pids) if pids else None

    def _send(self, what: signal.Signals) -> int | None:
        pid = self._victim()
        if pid is not None and psutil.pid_exists(pid):
            os.kill(pid, what)
        return pid

    def _kill(self) -> None:
        self._send(signal.SIGKILL)

    def _stop(self) -> None:
        """It hangs: no sign of life, and its process is there."""
        self._send(signal.SIGSTOP)

    def _pause(self) -> None:
        """It is slow for a while."""
        pid = self._send(signal.SIGSTOP)
        time.sleep(0.7)
        if pid is not None and psutil.pid_exists(pid):
            os.kill(pid, signal.SIGCONT)

    def _lose_node(self) -> None:
        """One node is killed, with all that runs on it, and another comes."""
        node = self._draw.choice(sorted(self._cluster.worker_nodes, key=lambda node: node.node_id))
        (raylet,) = node.all_processes["raylet"]
        workers = psutil.Process(raylet.process.pid).children()
        self._cluster.remove_node(node, allow_graceful=False)
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        self._nodes_due += 1

    def _ask_to_stop(self) -> None:
        self._interrupt = True


def require_gone(pids: set[int]) -> None:
    """That no actor has outlived its pool."""
    deadline = time.monotonic() + 20
    while left := [pid for pid in pids if _is_actor(pid)]:
        assert time.monotonic() < deadline, f"processes left behind: {left}"
        time.sleep(0.2)


def _is_actor(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "ScorerActor" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
