"""The members of a pool, reported when they change and at intervals, so that long waits show progress."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from zip_ray.pool.contract import Pool

LOOK_SECONDS = 2.0
"""Between two looks."""
TELL_SECONDS = 60.0
"""Seconds between two reports while only the speeds change."""


@dataclass(frozen=True)
class PoolReport:
    """The members of a pool at a check."""

    ready: int
    """Members that have loaded their model."""
    pending: int
    """Members that are not placed yet."""
    given_up: int
    """Members that are not replaced any more."""
    last_error: str
    """Why a member failed last; empty if none did."""
    loading: int = 0
    """Members that are loading their model."""
    waits: str = ""
    """Why a member is pending; empty if none is, or that is unknown."""
    paces: tuple[float, float] | None = None
    """Seconds per pass of the fastest and of the slowest member; None before the first pass."""
    asked: tuple[int, int] | None = None
    """Pieces of work done, and how many there are, while the run waits for them alone; else None."""


class PoolWatch:
    """Checks the members of a pool at intervals."""

    def __init__(
        self, pool: Pool, tell: Callable[[PoolReport], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare the watch.

        Args:
            pool: the pool.
            tell: receives the members found by a check.
            clock: seconds, monotonic.
        """
        self._pool, self._tell, self._clock = pool, tell, clock
        self.due = self._told = float("-inf")
        """Time of the next check."""
        self._before: PoolReport | None = None
        self.ready = 0
        """Members that were ready at the latest check."""
        self._asked: tuple[int, int] | None = None

    def wait(self, done: int, total: int) -> None:
        """Check during a wait for work, if it is due.

        Args:
            done: pieces of that work.
            total: how many there are.
        """
        self._asked = (done, total)
        self.look()
        self._asked = None

    def look(self, now: float | None = None) -> None:
        """Check if it is due; report changes, or the members if the last report is old."""
        now = self._clock() if now is None else now
        if now < self.due:
            return
        self.due = now + LOOK_SECONDS
        members = self._pool.members()
        states = Counter(member.state for member in members)
        self.ready = states["ready"]
        counts = (self.ready, states["pending"], states["given up"])
        waits = next((member.waits for member in members if member.waits), "")
        seen = PoolReport(*counts, self._pool.last_error(), states["loading"], waits, asked=self._asked)
        if seen == self._before and now - self._told < TELL_SECONDS:
            return
        self._before, self._told = seen, now
        paces = sorted(member.pace for member in members if member.pace is not None)
        self._tell(replace(seen, paces=(paces[0], paces[-1]) if paces else None))
