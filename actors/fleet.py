"""The actors of a pool: which exist and in which state, which are replaced, and when the pool gives up.

Rules only, without Ray and without a clock: times are arguments, in seconds. The transport reports what happens to
actors, and starts the actors that the fleet asks for. An actor is pending until it has loaded its model, then ready; it
is proven once it has returned a result.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from zip_ray.config.resources import ClusterConfig
from zip_ray.errors import InputError
from zip_ray.pool.contract import PoolError
from zip_ray.protocol.facts import Facts

STARTS_PER_ACTOR = 4
"""Failed starts in a row, of any actors, after which the pool continues with one actor fewer.

A start has failed if the actor is lost before it is proven: on a GPU that other programs fill, a model may load and yet
no pass succeed. At least the number of failures after which the dispatcher gives up on a piece of work, so that work
that crashes every actor is reported as such rather than as failed starts.
"""
_log = logging.getLogger(__name__)


@dataclass
class ActorState:
    """State of an actor that has been started and is not lost."""

    placed: float | None = None
    """When it was placed on a node and began to load. Waiting for a place has no time limit."""
    pid: int | None = None
    """Its process id, once it is ready."""

    @property
    def ready(self) -> bool:
        """Whether it has loaded its model."""
        return self.pid is not None


class Fleet:
    """The actors of one pool."""

    def __init__(self, cluster: ClusterConfig, now: float) -> None:
        """Start without actors.

        Args:
            cluster: how many actors, and how long each may take; as `settled` returns it.
            now: the time.
        """
        self.cluster = cluster
        self.facts: Facts | None = None
        """Facts of the first actor that was ready; those of all others must agree."""
        self.actors: dict[int, ActorState] = {}
        """Actors by number. Numbers count from 1 and are never reused."""
        self.proven: set[int] = set()
        """Numbers of the actors that have returned a result."""
        self.last_error = ""
        """Why the latest actor was lost; empty if none was."""
        self._started = 0
        self._failed_starts: list[int] = []
        """Numbers of those that failed to start, in a row."""
        self._places = 0
        """Actors that the cluster's nodes held at the latest look."""
        self._too_few_since: float | None = now
        """Since when too few are ready; None while enough are."""

    @property
    def pids(self) -> list[int]:
        """Process ids of the ready actors."""
        return [actor.pid for actor in self.actors.values() if actor.pid is not None]

    @property
    def suffices(self) -> bool:
        """Whether the minimum number of actors is ready."""
        return len(self.pids) >= self.cluster.fewest

    @property
    def given_up(self) -> list[int]:
        """For each actor that is no longer replaced, the number of the last one that failed in its place."""
        return self._failed_starts[STARTS_PER_ACTOR - 1 :: STARTS_PER_ACTOR]

    def grow(self, places: int, free: int) -> list[int]:
        """Count the actors that are missing as started.

        Args:
            places: actors that the cluster's nodes could hold if they were otherwise empty.
            free: of those places, how many are free now; counts only where `cluster.actors` leaves the number open.

        Returns:
            Their numbers.

        Raises:
            PoolError: every actor is given up.
        """
        if places != self._places:  # a node was added or removed: retry the actors that were given up
            self._places, self._failed_starts = places, []
        wanted = self.cluster.most or self._that_fit(places, free)
        missing = max(wanted - len(self.given_up) - len(self.actors), 0)
        numbers = list(range(self._started + 1, self._started + 1 + missing))
        self._started += missing
        self.actors |= {number: ActorState() for number in numbers}
        if not self.actors:
            failed = len(self._failed_starts)
            raise PoolError(f"no actor is left after {failed} failed starts; last: {self.last_error}")
        return numbers

    def place(self, number: int, now: float) -> None:
        """An actor was placed on a node, and is loading or has loaded its model."""
        self.actors[number].placed = now

    def load(self, number: int, facts: Facts, pid: int) -> str:
        """An actor has loaded its model.

        Returns:
            Why it cannot be used, if its model or task differs from the first actor's; empty if it is ready.
        """
        self.facts = self.facts or facts
        if other := self.facts.difference(facts):
            return f"it has {other} than the first: put the same files on every node"
        self.actors[number].pid = pid
        return ""

    def prove(self, number: int) -> None:
        """An actor has returned its first result. Actors can work here, so failed starts no longer count."""
        self.proven.add(number)
        self._failed_starts = []

    def overdue(self, now: float) -> dict[int, str]:
        """The actors that take too long to load, and why that is a fault."""
        limit = self.cluster.start_timeout
        reason = f"not loaded within cluster.start_timeout = {limit:g} s"
        loading = {n: actor.placed for n, actor in self.actors.items() if not actor.ready and actor.placed is not None}
        return {number: reason for number, placed in loading.items() if now - placed > limit}

    def lose(self, number: int, reason: str, blameless: bool = False) -> None:
        """An actor is lost; `grow` replaces it.

        Args:
            number: its number.
            reason: why, in one line.
            blameless: the cause lies elsewhere (for example, its node has failed): not a failed start.
        """
        del self.actors[number]
        self.last_error = f"actor {number}: {reason}"
        _log.warning("actor %d is lost (%s)", number, reason)
        if number not in self.proven and not blameless:
            self._failed_starts.append(number)
            if self.given_up[-1:] == [number]:
                count = "1 actor is" if len(self.given_up) == 1 else f"{len(self.given_up)} actors are"
                _log.warning("%s no longer replaced; last error: %s", count, self.last_error)
        self.proven.discard(number)

    def require_enough(self, now: float, shortage: Callable[[], str | None]) -> None:
        """Give up where too few actors have been ready for `cluster.start_timeout`.

        Args:
            now: the time.
            shortage: says why no node could hold an actor; None where one could. Asked only before giving up.

        Raises:
            InputError: no node can hold an actor, and none has been ready before.
            PoolError: too few were ready for too long.
        """
        if self.suffices:
            self._too_few_since = None
            return
        ready, limit = len(self.pids), self.cluster.start_timeout
        if self._too_few_since is None:
            self._too_few_since = now
        if now - self._too_few_since <= limit:
            return
        lack = shortage()
        if lack and self.facts is None:
            raise InputError(lack)
        raise PoolError(
            f"{ready} of at least {self.cluster.fewest} actors were ready for cluster.start_timeout = {limit:g} s "
            f"(last error: {lack or self.last_error or 'none'})"
        )

    def _that_fit(self, places: int, free: int) -> int:
        """As many actors as fit beside other programs, since an actor that waits for resources held by another program
        makes an autoscaler add nodes. One if none fits, so that the autoscaler sees the demand."""
        ours = sum(actor.placed is not None for actor in self.actors.values())
        return max(min(places, ours + free), 1)
