"""What goes on outside the test's own process: ports, other processes, and waiting for either."""

import contextlib
import secrets
import socket
import time
from collections.abc import Callable

import psutil


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


def below() -> list[int]:
    """The processes that this one has started, and those that they have."""
    return [process.pid for process in psutil.Process().children(recursive=True)]


def is_actor(pid: int) -> bool:
    """Whether a process is an actor's, and alive."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "ScorerActor" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def require_gone(pids: set[int]) -> None:
    """That no actor has outlived its pool, or its driver: neither one of these, nor any other below this process."""
    assert pids, "no actor has been seen"
    deadline = time.monotonic() + 20
    while left := [pid for pid in pids | set(below()) if is_actor(pid)]:
        assert time.monotonic() < deadline, f"processes left behind: {left}"
        time.sleep(0.2)
