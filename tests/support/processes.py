"""Ports and processes, and waiting for them."""

import contextlib
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil

HANG_SECONDS = 600
"""Seconds within which anything that is going to end has ended, even on a busy machine."""


def free_port() -> int:
    """A port on which nothing listens and which the kernel or Ray does not pick by itself.

    Below the range from which Linux assigns ephemeral ports (Ray's agents use them), above Ray's range for workers.
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


def wait_for(condition: Callable[[], object], every: float = 0.1, seconds: float = HANG_SECONDS) -> None:
    """Poll until the condition holds; an OSError, such as a refused connection, means not yet.

    Args:
        condition: what to wait for.
        every: seconds between checks.
        seconds: the test fails after this long.
    """
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if condition():
                return
        assert time.monotonic() < deadline, f"has not come about within {seconds:g} s"
        time.sleep(every)


@contextlib.contextmanager
def meanwhile(act: Callable[[], object]) -> Iterator[None]:
    """Run a function in a thread during the block and raise its exceptions here."""
    with ThreadPoolExecutor(1) as beside:
        done = beside.submit(act)
        yield
        done.result()


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Restore the handlers for Ctrl-C and SIGTERM, which a command line replaces."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def below() -> list[int]:
    """The processes started by this one, and their descendants."""
    return [process.pid for process in psutil.Process().children(recursive=True)]


def is_actor(pid: int) -> bool:
    """Whether a process is an actor's, and running."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "ScorerActor" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def require_gone(pids: set[int]) -> None:
    """Check that no actor has outlived its pool or driver: neither these nor any other below this process."""
    assert pids, "no actor has been seen"
    wait_for(lambda: not any(map(is_actor, pids | set(below()))))
