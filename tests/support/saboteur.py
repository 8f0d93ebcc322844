"""A real Ray cluster of several nodes, and a thread that injects faults into its pool, nodes, driver and disk."""

import errno
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import ray
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from tests.support.ray_cluster import add_node, running_cluster
from tests.support.simulated import DriverKilled
from zip_ray.actors.ray_pool import RayPool
from zip_ray.runs import checkpoint
from zip_ray.runs.event_log import FILE_NAME as RECORD

MEMBERS = 4
"""Number of actors."""
NODES = 2
"""Number of nodes with actors; the head has none."""
WRITE_SECONDS = 0.1
"""Duration of writing a checkpoint, about as long as the steps between two checkpoints."""
SILENT_SECONDS = 3.0
"""Longer than `cluster.answer_timeout` in these runs."""


@contextmanager
def real_cluster() -> Iterator[Cluster]:
    """A head without room for actors, and nodes that may be lost."""
    with running_cluster(num_cpus=0) as cluster:
        for _ in range(NODES):
            add_actors_node(cluster)
        yield cluster


def add_actors_node(cluster: Cluster) -> None:
    """A node with room for its share of the actors."""
    add_node(cluster, num_cpus=MEMBERS // NODES)


class Disk:
    """The disk with checkpoint and record; when full, it writes half a line and then nothing."""

    def __init__(self) -> None:
        self.full = False

    def write(self, file: int, data: bytes) -> int:
        """As os.write."""
        if self.full and len(data) < 40:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(file, data[: len(data) // 2] if self.full else data)

    def write_whole(self, path: Path, data: bytes) -> None:
        """As `files.write_whole`, but slow, so that a killed driver may end before its last checkpoint is written."""
        time.sleep(WRITE_SECONDS)
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        WRITE_WHOLE(path, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    @contextmanager
    def mounted(self) -> Iterator["Disk"]:
        """Keep checkpoint and record on this disk."""
        with (
            mock.patch("zip_ray.runs.event_log.os", self),
            mock.patch("zip_ray.runs.checkpoint.write_whole", self.write_whole),
        ):
            yield self


WRITE_WHOLE = checkpoint.write_whole


def tear(folder: Path) -> None:
    """Leave the files of a driver killed while writing: a torn line, and part of a checkpoint beside a complete one."""
    if (folder / RECORD).exists():
        with (folder / RECORD).open("ab") as file:
            file.write(b'{"event": "st')
        (folder / f"{checkpoint.FILE_NAME}.partial").write_bytes(b"torn")


class Saboteur(threading.Thread):
    """Injects faults into a real pool, by a seeded schedule, until it is stopped."""

    def __init__(self, seed: int, cluster: Cluster, pool: RayPool, disk: Disk) -> None:
        super().__init__(daemon=True)
        self._draw, self._cluster, self._pool, self._disk = random.Random(seed), cluster, pool, disk
        self._done = threading.Event()
        self._error: Exception | None = None
        self.seen: set[int] = set()
        """Process ids of all actors seen so far."""
        self.struck: Counter[str] = Counter()
        """Number of faults so far, by kind."""
        self._pool_closes = threading.Event()
        self._stopped_at_the_end: list[int] = []
        """Actors that have hung since the pool began to close. Ray considers an actor ended that has disconnected and
        is stopped before it ends, and leaves its process behind."""
        self._interrupt = self._kill_driver = False
        self._extra_nodes = 0

    def run(self) -> None:
        try:
            self._strike()
        except Exception as error:
            self._error = error

    def _strike(self) -> None:
        """Inject a random fault; each returns whether it took effect. The driver's are counted when it meets them."""
        strikes: dict[str, Callable[[], bool]] = {
            "actor killed": self._kill,
            "actor hung": self._stop,
            "actor paused": self._pause,
            "node killed": partial(self._to_node, self._lose_node),
            "node silent": partial(self._to_node, self._silence_node),
            "node drained": partial(self._to_node, self._drain_node),
            "node added": self._add_node,
            "driver asked to stop": self._ask_to_stop,
            "driver killed": self._end_driver,
            "disk full": self._fill_disk,
        }
        for _ in range(self._draw.randint(1, 3)):
            if self._done.wait(self._draw.uniform(0.05, 0.8)):
                return
            what = self._draw.choice(list(strikes))
            self.struck[what] += strikes[what]()

    def interrupted(self) -> bool:
        """Whether the driver has been asked to stop.

        Raises:
            DriverKilled: the driver must end at once; from then on it writes nothing.
        """
        if self._kill_driver:
            self.struck["driver killed"] += 1
            self._disk.full = True
            raise DriverKilled
        self.struck["driver asked to stop"] += self._interrupt
        return self._interrupt

    def close_pool(self) -> None:
        """Close the pool, with faults still being injected."""
        self._pool_closes.set()
        self._pool.close()

    def finish(self) -> None:
        """Stop injecting faults.

        Raises:
            Exception: an error raised while injecting faults.
        """
        self._done.set()
        if self.ident is not None:
            self.join()
        for pid in self._stopped_at_the_end:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._disk.full, self._extra_nodes = False, 0
        for node in [node for node in self._cluster.worker_nodes if not is_up(node)]:
            self._cluster.remove_node(node, allow_graceful=False)
        while len(self._cluster.worker_nodes) > NODES:
            self._cluster.remove_node(self._nodes()[-1])
        self.replace_nodes()
        if self._error:
            raise self._error

    def _send(self, what: signal.Signals) -> int | None:
        """Send a signal to an actor; returns its process id, or None if there is no actor."""
        pids = sorted(filter(psutil.pid_exists, self._pool.pids()))
        if not pids:
            return None
        pid = self._draw.choice(pids)
        os.kill(pid, what)
        return pid

    def _kill(self) -> bool:
        return self._send(signal.SIGKILL) is not None

    def _stop(self) -> bool:
        """Hang an actor: it does not respond, but its process exists."""
        pid = self._send(signal.SIGSTOP)
        if pid is not None and self._pool_closes.is_set():
            self._stopped_at_the_end.append(pid)
        return pid is not None

    def _pause(self) -> bool:
        """Make an actor slow for a while."""
        pid = self._send(signal.SIGSTOP)
        time.sleep(0.7)
        if pid is not None and psutil.pid_exists(pid):
            os.kill(pid, signal.SIGCONT)
        return pid is not None

    def meanwhile(self) -> None:
        """Record the actors seen, and replace lost nodes as an autoscaler would."""
        self.seen.update(self._pool.pids())
        self.replace_nodes()

    def replace_nodes(self) -> None:
        """Keep the planned number of nodes; one that does not respond may already have been given up.

        Call it from the main thread: Ray starts nodes from no other.
        """
        while sum(map(is_up, list(self._cluster.worker_nodes))) < NODES + self._extra_nodes:
            add_actors_node(self._cluster)

    def _nodes(self) -> list[Any]:
        return sorted(filter(is_up, self._cluster.worker_nodes), key=lambda node: node.node_id)

    def _to_node(self, strike: Callable[[Any], None]) -> bool:
        if up := self._nodes():  # none may be left, and none new yet
            strike(self._draw.choice(up))
        return bool(up)

    def _lose_node(self, node: Any) -> None:
        """Kill a node and everything on it."""
        workers = processes(node)[1:]
        self._cluster.remove_node(node, allow_graceful=False)
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.kill()

    def _silence_node(self, node: Any) -> None:
        """Stop all its processes for longer than the answer timeout."""
        silent = processes(node)
        for process in silent:
            with suppress(psutil.NoSuchProcess):  # a worker may have just ended
                process.suspend()
        self._done.wait(SILENT_SECONDS)
        for process in silent:
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def _drain_node(self, node: Any) -> None:
        """Announce a node's removal; a second later it ends gracefully."""
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        client = ray._raylet.GcsClient(address=self._cluster.address)
        client.drain_node(node.node_id, reason, "chaos", int(1000 * (time.time() + 1)))
        self._done.wait(1.0)
        self._cluster.remove_node(node, allow_graceful=True)

    def _add_node(self) -> bool:
        self._extra_nodes += 1
        return True

    def _ask_to_stop(self) -> bool:
        self._interrupt = True
        return False

    def _end_driver(self) -> bool:
        self._kill_driver = True
        return False

    def _fill_disk(self) -> bool:
        """Fill the disk for a while, or until the driver ends."""
        self._disk.full = True
        self._done.wait(0.5)
        self._disk.full = False
        return True


def is_up(node: Any) -> bool:
    """Whether a node's raylet is running."""
    raylets = node.all_processes.get("raylet")
    return bool(raylets) and raylets[0].process.poll() is None


def processes(node: Any) -> list[psutil.Process]:
    """The raylet of a node, and its workers."""
    (raylet,) = node.all_processes["raylet"]
    found = psutil.Process(raylet.process.pid)
    return [found, *found.children()]
