"""Ctrl-C and SIGTERM: the first asks a run to stop, the second ends the program."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import ParamSpec

from zip_ray.pool.contract import Pool

P = ParamSpec("P")


@contextlib.contextmanager
def stop_on_signal(
    opener: Callable[P, Pool], numbers: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM)
) -> Iterator[tuple[Callable[[], bool], Callable[P, Pool]]]:
    """Whether a signal has asked the run to stop, and what opens the pool; earlier handlers are restored at the end.

    A second signal ends the program at once. So does the first while the run is starting, since it has nothing to save
    then. Joining a cluster installs Ray's own handlers; these are installed again afterwards. Outside the main thread,
    where Python delivers no signals, nothing is installed.

    Args:
        opener: opens the pool.
        numbers: signals that ask the run to stop.
    """
    asked, looked = threading.Event(), threading.Event()
    numbers = numbers if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}

    def interrupted() -> bool:
        looked.set()
        return asked.is_set()

    def handle(number: int, _frame: object) -> None:
        asked.set()
        # print is not reentrant: the signal may have interrupted it
        os.write(2, b"stopping; interrupt again to quit immediately\n")
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        if not looked.is_set():
            raise KeyboardInterrupt

    def install() -> None:
        for number in numbers:
            signal.signal(number, handle)

    def open_and_install(*args: P.args, **kwargs: P.kwargs) -> Pool:
        pool = opener(*args, **kwargs)
        install()
        return pool

    install()
    try:
        yield interrupted, open_and_install
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
