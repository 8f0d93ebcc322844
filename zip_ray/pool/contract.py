"""The pool as the driver sees it: submit work, collect answers."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Answer, Value, Work


class PoolError(Exception):
    """No scorer is left; the message names the last error. The state is saved, and the run can be resumed."""


class ScorerLike(Protocol):
    """What a pool needs of a scorer."""

    def facts(self) -> Facts: ...

    def answer(self, work: Work) -> Value: ...


@dataclass(frozen=True)
class Member:
    """A scorer of a pool, for display."""

    number: int
    state: Literal["pending", "loading", "ready", "given up"]
    """pending = not placed yet; loading = placed, and loading its model;
    given up = not replaced any more, after too many failed starts; the number is that of the last attempt."""
    held: int = 0
    """Pieces of work sent to it whose results are pending."""
    pace: float | None = None
    """Recent seconds per pass; None while unknown."""
    waits: str = ""
    """Why it is pending, in one line; empty where unknown."""


class Pool(Protocol):
    """A set of scorers. Of the works that wait, the one with the lowest (priority, id) is begun first."""

    def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:
        """Facts of model and task. Waits until the first scorer is ready; results that arrive meanwhile are kept.

        Args:
            meanwhile: called at intervals during the wait.

        Raises:
            InputError: the model or the task cannot be used as configured.
            PoolError: no scorer started.
        """

    def submit(self, works: Sequence[Work]) -> None:
        """Take works, and send as many as the scorers have room for. Never waits.

        Raises:
            ValueError: an id is in flight already, or given twice; none of the works is taken.
            InputError, PoolError: as `collect`, where the pool has ended.
        """

    def collect(self, timeout: float) -> list[Answer]:
        """All answers that are ready, in any order, each id once; waits up to `timeout` seconds for the first.

        Raises:
            InputError: a scorer found that the input cannot be used (such as an unreadable image).
            PoolError: no scorer is left.
        """

    def members(self) -> list[Member]:
        """The scorers that are there or on the way."""

    def last_error(self) -> str:
        """Why the latest member was lost; empty while none has been."""

    def close(self) -> None:
        """Free actors, processes and memory. May be called twice."""


def require_new(works: Sequence[Work], in_flight: Container[int]) -> None:
    """Refuse works of which one is known already.

    Args:
        works: are to be submitted together.
        in_flight: ids of those submitted before and not answered.

    Raises:
        ValueError: an id is in flight already, or given twice.
    """
    given = set[int]()
    for work in works:
        if work.id in in_flight or work.id in given:
            raise ValueError(f"work {work.id} is in flight already")
        given.add(work.id)
