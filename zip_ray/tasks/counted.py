"""How far long work on images is, on stderr: what a Ray actor writes there appears at its driver."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

AFTER, EVERY = 2.0, 5.0
"""Seconds of work before the first line, and between two lines."""

T = TypeVar("T")


def counted(
    items: Iterable[T],
    total: int,
    doing: str,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[T]:
    """The same items; work on them that takes more than two seconds says how far it is.

    Args:
        items: one per image.
        total: how many there are.
        doing: what is done to them, such as "encoding".
        clock: seconds, monotonic.
    """
    say = counter(doing, clock)
    for number, item in enumerate(items):
        say(number, total)
        yield item


def counter(doing: str, clock: Callable[[], float] = time.monotonic) -> Callable[[int, int], None]:
    """What says how far work on images is, when that takes more than two seconds: called with the images done, and how
    many there are.

    Args:
        doing: what is done to them, such as "encoding".
        clock: seconds, monotonic.
    """
    due = clock() + AFTER

    def say(done: int, total: int) -> None:
        nonlocal due
        if (now := clock()) >= due:
            due = now + EVERY
            sys.stderr.write(f"{doing} images: {done:,} of {total:,}\n")
            sys.stderr.flush()

    return say
