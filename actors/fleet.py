"""The actors of a pool: which exist and in which state, which are replaced, and when the pool gives up.

Rules only, without Ray and without a clock: times are given, in seconds. The transport reports what happens to an
actor, asks which actors to start, and does so. An actor is pending until it has loaded its model, then ready; it is
proven once it has answered a work.
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

A start has failed when the actor is lost before it is proven: on a GPU that others fill, a model may load and no pass
succeed. No fewer than the failures after which the dispatcher gives up on a work: a work that brings down every actor
is named as such, and not taken for failed starts.
"""
_log = logging.getLogger(__name__)


@dataclass
class ActorState:
    """What is known of an actor that has been started and is not lost."""

    placed: float | None = None
    """When it was known to have its place on a node, where it loads. Before, it may wait as long as it takes."""
    pid: int | None = None
    """Its process id, once it is ready."""

    @property
    def ready(self) -> bool:
        """Whether it has loaded its model."""
        return self.pid is not None


class Fleet:
    """The actors of one pool."""

    def __init__(self, cluster: ClusterConfig, now: float) -> None:
        """No actor yet.

        Args:
            cluster: how many actors, and how long each may take; `settled` for the cluster at hand.
            now: the time.
        """
        self.cluster = cluster
        self.facts: Facts | None = None
        """Of the first actor that was ready; all others must have the same."""
        self.actors: dict[int, ActorState] = {}
        """By number. Numbers count from 1 and are given once."""
        self.proven: set[int] = set()
        """Numbers of the actors that have answered a work."""
        self.last_error = ""
        """Why the latest actor was lost; empty while none has been."""
        self._started = 0
        self._failed_starts: list[int] = []
        """Numbers of those that failed to start, in a row."""
        self._places = 0
        """Actors that the cluster's nodes held at the latest look."""
        self._too_few_since: float | None = now
        """Since when fewer are ready than must be; None while enough are."""

    @property
    def pids(self) -> list[int]:
        """Process ids of the ready actors."""
        return [actor.pid for actor in self.actors.values() if actor.pid is not None]

    @property
    def suffices(self) -> bool:
        """Whether a run can work: the least number of actors is ready."""
        return len(self.pids) >= self.cluster.fewest

    @property
    def given_up(self) -> list[int]:
        """For each actor that the pool does without, the number of the last one that failed in its place."""
        return self._failed_starts[STARTS_PER_ACTOR - 1 :: STARTS_PER_ACTOR]

    def grow(self, places: int, free: int) -> list[int]:
        """Count the actors that are missing as started.

        Args:
            places: actors that the cluster's nodes could hold, were nothing else on them.
            free: of those places, how many are free now; counts only where `cluster.actors` leaves the number open.

        Returns:
            Their numbers.

        Raises:
            PoolError: every actor is given up.
        """
        if places != self._places:  # a node has come or gone: those that were given up are tried again
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
        """An actor has its place on a node, and loads or has loaded its model."""
        self.actors[number].placed = now

    def load(self, number: int, facts: Facts, pid: int) -> str:
        """An actor has loaded its model.

        Returns:
            Why it cannot be used: it would answer other questions than the first. Empty where it is ready.
        """
        self.facts = self.facts or facts
        if other := self.facts.difference(facts):
            return f"it has {other} than the first: put the same files on every node"
        self.actors[number].pid = pid
        return ""

    def prove(self, number: int) -> None:
        """An actor has answered its first work. Actors can work here: failed starts are forgotten."""
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
            blameless: it had no part in it (its node has died, say): not a failed start.
        """
        del self.actors[number]
        self.last_error = f"actor {number}: {reason}"
        _log.warning("actor %d is lost (%s)", number, reason)
        if number not in self.proven and not blameless:
            self._failed_starts.append(number)
            if self.given_up[-1:] == [number]:
                _log.warning("%d actors are given up; last error: %s", len(self.given_up), self.last_error)
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
        """As many as the nodes hold beside other programs: an actor that waits for a place which another program holds
        makes an autoscaler add nodes. One where there is no place: the autoscaler must see that it is wanted."""
        ours = sum(actor.placed is not None for actor in self.actors.values())
        return max(min(places, ours + free), 1)
