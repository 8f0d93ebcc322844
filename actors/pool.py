"""The pool of Ray actors: least-busy dispatch, work of dead actors re-issued, each id answered once.

Ray's own restarts and retries are off (max_restarts=0, max_task_retries=0): retries would go to the same actor and
hide the account of queries, and a restarted actor has no scorer. The pool replaces a dead actor with a new one.
"""

import heapq
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from actors.cluster import connect, shortage
from actors.scorer_actor import ScorerActor
from zip_ray.config import ClusterConfig
from zip_ray.errors import InputError
from zip_ray.pool import PoolError, ScorerLike
from zip_ray.work import Answer, Facts, Result, Work

IN_FLIGHT = 2
"""Work an actor holds at once: the second hides the round trip."""
DEATHS_PER_ACTOR = 3
"""Deaths that a pool survives, times its actors; deaths at start-up count too."""
FAILURES_PER_WORK = 3
"""Exceptions that one piece of work may raise before the run is given up."""
TAKE_SECONDS = 30.0
"""Longest wait for an answer that Ray has called ready: its node may die just then."""
_log = logging.getLogger(__name__)


@dataclass
class _Member:
    """An actor as the pool sees it."""

    number: int
    handle: Any
    loading: Any
    """Reference of its `load` call while it is pending; None once it is ready."""
    pid: int | None = None
    held: dict[Any, Work] = field(default_factory=dict)
    """Work in flight, by reference."""

    @property
    def state(self) -> Literal["pending", "ready"]:
        return "pending" if self.loading is not None else "ready"


class RayPool:
    """Actors on a Ray cluster, each with its own scorer."""

    def __init__(self, build: Callable[[], ScorerLike], cluster: ClusterConfig) -> None:
        """Join or start Ray, and ask for the actors; they load while the caller goes on.

        Args:
            build: makes a scorer; runs on each actor.
            cluster: where, how many actors, and what each reserves.

        Raises:
            InputError: the cluster cannot be reached, or can never place an actor.
        """
        self._build, self._cluster = build, cluster
        self._local = connect(cluster)
        self._connected = True
        self._members: list[_Member] = []
        self._waiting: list[tuple[int, int, Work]] = []
        self._order = 0
        self._attempts: dict[int, int] = {}
        self._failures: dict[int, int] = {}
        self._facts: Facts | None = None
        self._numbers = 0
        self._deaths = 0
        self._last_error = "none"
        self._none_ready_since = time.monotonic()
        try:
            self._require_resources()
            for _ in range(cluster.actors):
                self._add_member()
        except BaseException:
            self.close()
            raise

    def facts(self) -> Facts:
        while self._facts is None:
            self._wait(1.0)
        return self._facts

    def submit(self, work: Work) -> None:
        if work.id in self._attempts:
            raise ValueError(f"work {work.id} is in flight already")
        self._attempts[work.id] = 0
        self._queue(work)
        self._dispatch()

    def collect(self, timeout: float) -> list[Answer]:
        deadline = time.monotonic() + timeout
        while self._attempts:
            answers = self._wait(max(0.0, deadline - time.monotonic()))
            if answers or time.monotonic() >= deadline:
                return answers
        return []

    def close(self) -> None:
        for member in self._members:
            ray.kill(member.handle)
        self._members = []
        if self._connected:
            ray.shutdown()  # a local cluster ends with it, a joined one lives on
            self._connected = False

    def pids(self) -> list[int]:
        """Process ids of the ready actors."""
        return [member.pid for member in self._members if member.pid is not None]

    def describe(self) -> list[tuple[int, str, int]]:
        """Number, state and work in flight of each actor."""
        return [(member.number, member.state, len(member.held)) for member in self._members]

    def _wait(self, timeout: float) -> list[Answer]:
        """Wait for any actor, then take all that is ready."""
        owner = {ref: member for member in self._members for ref in (member.loading, *member.held) if ref is not None}
        ready, _ = ray.wait(list(owner), num_returns=1, timeout=timeout) if owner else ([], [])
        if ready:  # everything else that has come in by now
            ready, _ = ray.wait(list(owner), num_returns=len(owner), timeout=0)
        answers = []
        for ref in ready:
            member = owner[ref]
            if member in self._members:  # it may have died earlier in this very loop
                answers += self._take(member, ref)
        self._dispatch()
        if not answers:
            self._require_life()
        return answers

    def _take(self, member: _Member, ref: Any) -> list[Answer]:
        """The outcome of one finished call."""
        try:
            value = ray.get(ref, timeout=TAKE_SECONDS)
        except RayActorError as error:
            self._bury(member, f"actor died: {_line(error)}")
        except RayTaskError as error:
            self._failed(member, ref, error)
        except (GetTimeoutError, RayError) as error:  # the answer was lost with its node
            self._bury(member, f"answer lost: {_line(error)}")
        else:
            if ref == member.loading:
                self._loaded(member, *value)
                return []
            return self._answered(member.held.pop(ref), value)
        return []

    def _loaded(self, member: _Member, facts: Facts, pid: int) -> None:
        member.loading, member.pid = None, pid
        self._facts = self._facts or facts
        if facts.weights_digest != self._facts.weights_digest:
            raise InputError(
                f"model.name: actor {member.number} loaded other weights ({facts.weights_digest[:12]}) than the first "
                f"({self._facts.weights_digest[:12]}): put the same checkpoint on every node"
            )

    def _answered(self, work: Work, result: Result) -> list[Answer]:
        self._failures.pop(work.id, None)
        return [Answer(result, self._attempts.pop(work.id))]

    def _failed(self, member: _Member, ref: Any, error: RayTaskError) -> None:
        """An exception. Its actor is replaced: after a CUDA error, say, all that it is given next would fail too."""
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause)) from error
        reason = _line(error.cause or error)
        if ref == member.loading:
            self._bury(member, f"scorer not built: {reason}")
            return
        work = member.held[ref]
        self._failures[work.id] = self._failures.get(work.id, 0) + 1
        if self._failures[work.id] >= FAILURES_PER_WORK:
            raise PoolError(f"work {work.id} failed {FAILURES_PER_WORK} times, last with: {reason}") from error
        self._bury(member, f"work {work.id} failed: {reason}")

    def _bury(self, member: _Member, reason: str) -> None:
        """Take back a lost actor's work and put a new actor in its place, while the budget of deaths lasts."""
        self._members.remove(member)
        ray.kill(member.handle)
        for work in member.held.values():
            self._queue(work)
        self._deaths += 1
        self._last_error = reason
        _log.warning("actor %d is lost (%s)", member.number, reason)
        if member.state == "ready" and not self.pids():
            self._none_ready_since = time.monotonic()
        if self._deaths <= DEATHS_PER_ACTOR * self._cluster.actors:
            self._add_member()

    def _require_life(self) -> None:
        """Give up when no actor is left, or none that is ready and none has become so for `start_timeout`."""
        if not self._members:
            raise PoolError(f"no actor is left after {self._deaths} deaths; last error: {self._last_error}")
        limit = self._cluster.start_timeout
        if self.pids() or time.monotonic() - self._none_ready_since <= limit:
            return
        lack = shortage(self._cluster)
        if lack and self._facts is None:
            raise InputError(lack)
        raise PoolError(
            f"no actor was ready after cluster.start_timeout = {limit:g} s (last error: {lack or self._last_error})"
        )

    def _dispatch(self) -> None:
        """Hand waiting work, lowest id first, to the least busy of the ready actors."""
        while self._waiting:
            ready = [member for member in self._members if member.state == "ready" and len(member.held) < IN_FLIGHT]
            if not ready:
                return
            member = min(ready, key=lambda m: (len(m.held), m.number))
            work = heapq.heappop(self._waiting)[2]
            self._attempts[work.id] += 1
            member.held[member.handle.answer.remote(work)] = work

    def _queue(self, work: Work) -> None:
        self._order += 1
        heapq.heappush(self._waiting, (work.id, self._order, work))

    def _add_member(self) -> None:
        self._numbers += 1
        handle = (
            ray.remote(ScorerActor)
            .options(
                num_cpus=self._cluster.cpus_per_actor,
                num_gpus=self._cluster.gpus_per_actor,
                max_restarts=0,
                max_task_retries=0,
            )
            .remote()
        )
        self._members.append(_Member(self._numbers, handle, handle.load.remote(self._build)))

    def _require_resources(self) -> None:
        """Refuse what this machine can never hold. A joined cluster may still grow: there it is a warning."""
        lack = shortage(self._cluster)
        if lack and self._local:
            raise InputError(lack)
        if lack:
            _log.warning("%s; waiting up to cluster.start_timeout for such a node", lack)


def _line(error: BaseException) -> str:
    """One line: where Ray has much to say, its beginning and its end, which names the cause."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    text = text if len(text) <= 300 else f"{text[:100]} ... {text[-200:]}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
