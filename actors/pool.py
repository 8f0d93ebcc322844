"""The pool of Ray actors: least-busy dispatch, work of dead actors re-issued, each id answered once.

Ray's own restarts and retries are off (max_restarts=0, max_task_retries=0): retries would go to the same actor and
hide the account of queries, and a restarted actor has no scorer. The pool replaces a dead actor with a new one.
"""

import heapq
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from actors.cluster import connect
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
        try:
            self._require_resources()
            for _ in range(cluster.actors):
                self._add_member()
        except BaseException:
            self.close()
            raise

    def facts(self) -> Facts:
        deadline = time.monotonic() + self._cluster.start_timeout
        while self._facts is None:
            if time.monotonic() > deadline:
                raise PoolError(
                    f"no actor was ready after cluster.start_timeout = {self._cluster.start_timeout:g} s "
                    f"(last error: {self._last_error})"
                )
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
        ready, _ = ray.wait(list(owner), num_returns=1, timeout=timeout)
        if ready:  # everything else that has come in by now
            ready, _ = ray.wait(list(owner), num_returns=len(owner), timeout=0)
        answers = []
        for ref in ready:
            member = owner[ref]
            if member in self._members:  # it may have died earlier in this very loop
                answers += self._take(member, ref)
        self._dispatch()
        return answers

    def _take(self, member: _Member, ref: Any) -> list[Answer]:
        """The outcome of one finished call."""
        try:
            value = ray.get(ref, timeout=0)
        except RayActorError as error:
            self._bury(member, f"actor died: {_line(error)}")
        except RayTaskError as error:
            self._failed(member, ref, error)
        except (GetTimeoutError, RayError) as error:  # the answer was lost with its node
            self._bury(member, f"answer lost: {_line(error)}")
        else:
            if ref is member.loading:
                member.loading = None
                self._facts, member.pid = self._facts or value[0], value[1]
                return []
            return self._answered(member.held.pop(ref), value)
        return []

    def _answered(self, work: Work, result: Result) -> list[Answer]:
        self._failures.pop(work.id, None)
        return [Answer(result, self._attempts.pop(work.id))]

    def _failed(self, member: _Member, ref: Any, error: RayTaskError) -> None:
        """An exception on an actor that lives on."""
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause)) from error
        reason = _line(error.cause or error)
        if ref is member.loading:
            self._bury(member, f"scorer not built: {reason}")
            return
        work = member.held.pop(ref)
        self._last_error = reason
        self._failures[work.id] = self._failures.get(work.id, 0) + 1
        _log.warning("actor %d failed on work %d: %s", member.number, work.id, reason)
        if self._failures[work.id] >= FAILURES_PER_WORK:
            raise PoolError(f"work {work.id} failed {FAILURES_PER_WORK} times, last with: {reason}")
        self._queue(work)

    def _bury(self, member: _Member, reason: str) -> None:
        """Take back a dead actor's work and put a new actor in its place, while the budget of deaths lasts."""
        self._members.remove(member)
        ray.kill(member.handle)
        for work in member.held.values():
            self._queue(work)
        self._deaths += 1
        self._last_error = reason
        _log.warning("actor %d is lost (%s)", member.number, reason)
        if self._deaths <= DEATHS_PER_ACTOR * self._cluster.actors:
            self._add_member()
        elif not self._members:
            raise PoolError(f"no actor is left after {self._deaths} deaths; last error: {reason}")

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
            .remote(self._build)
        )
        self._members.append(_Member(self._numbers, handle, handle.load.remote()))

    def _require_resources(self) -> None:
        """Refuse what this machine can never hold. A joined cluster may still grow: there it is a warning."""
        wants = {"CPU": self._cluster.cpus_per_actor, "GPU": self._cluster.gpus_per_actor}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        for kind, amount in wants.items():
            most = max((node.get(kind, 0.0) for node in nodes), default=0.0)
            if amount <= most:
                continue
            name = f"cluster.{kind.lower()}s_per_actor"
            text = f"{name}: {amount:g} is more than any node has ({most:g} {kind}): lower it, or join a larger cluster"
            if self._local:
                raise InputError(text)
            _log.warning("%s; waiting for such a node", text)


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{type(error).__name__}: {text}"[:300]
