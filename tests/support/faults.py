"""One test over many items, such as the files of a folder, that reports every fault, not only the first."""

from collections.abc import Callable, Iterable
from typing import TypeVar

Thing = TypeVar("Thing")


def check_each(things: Iterable[Thing], check: Callable[[Thing], None]) -> None:
    """Check all items; there must be at least one.

    Raises:
        AssertionError: names all things whose check has failed, and why.
    """
    checked, faults = 0, []
    for thing in things:
        checked += 1
        try:
            check(thing)
        except Exception as fault:
            faults.append(f"{thing}: {type(fault).__name__}: {fault}")
    assert checked, "nothing to check"
    assert not faults, "\n".join(faults)
