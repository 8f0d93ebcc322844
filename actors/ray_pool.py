"""The pool of Ray actors: keeps as many as it should have, sends what the dispatcher says, replaces who is lost.

Ray's own restarts and retries are off: retries would go to the same actor and hide the account of queries, and a
restarted actor has no scorer. The pool replaces a dead actor with a new one.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc  # type: ignore[import-untyped]
import ray
from ray.exceptions import (
    ActorUnschedulableError,
    GetTimeoutError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
)

from zip_ray.actors.cluster import connect, free_places, places, shortage
from zip_ray.actors.scorer_actor import ScorerActor
from zip_ray.config.resources import ClusterConfig
from zip_ray.errors import InputError
from zip_ray.pool.contract import Member, PoolError, ScorerLike
from zip_ray.pool.dispatcher import FAILURES_PER_WORK, Dispatcher
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Answer, Work

STARTS_PER_ACTOR = FAILURES_PER_WORK
"""Failed starts in a row, of any actors, after which the pool does with one actor less; with none left it gives up.

A start has failed when the actor is lost before it has answered one work: on a GPU that others fill, a model may load
and no pass succeed. So many that a work which brings down whoever tries it is found out first, and named.
"""
OPTIONS = {"max_restarts": 0, "max_task_retries": 0, "enable_task_events": False}
"""Of every actor. Without the last, Ray would report each of thousands of calls a second to its head."""
CALL_SECONDS = 0.006
"""Of the driver's time for each call, which takes 0.6 ms of it: the rest is for the passes themselves."""
TAKE_SECONDS = 30.0
"""Longest wait for an answer that Ray has called ready: its node may die just then."""
TEND_SECONDS = 1.0
"""Between two looks at who hangs and at what the cluster has; no wait is longer."""
IDLE_SECONDS = 5.0
"""Between two calls to those who have nothing to do: an actor's death is told only to whoever waits for it."""
OWN_FAULT = (OutOfMemoryError, RuntimeEnvSetupError, ActorUnschedulableError)
"""Ends of an actor that are not its node's, and that Ray does not count among the deaths of actors."""
LOST_CLUSTER = (ConnectionError, RayError, grpc.RpcError)
"""What Ray raises where no actor is at fault: its head, or the way to it, is gone."""
NODE_DIED = "its node has died"
"""How Ray says that an actor went with its node."""
_log = logging.getLogger(__name__)


@dataclass
class _Member:
    """An actor as the pool sees it."""

    handle: Any
    loading: Any
    """Reference of its `load` call while it is pending; None once it is ready."""
    placed: float | None = None
    """When it was seen to have its place and to load; before, it may wait for a node as long as it takes."""
    pid: int | None = None
    proven: bool = False
    """Whether it has answered a work."""


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
        self._build = build
        self._local = connect(cluster)
        self._connected = True
        self._dispatcher = Dispatcher(cluster.answer_timeout, CALL_SECONDS)
        self._members: dict[int, _Member] = {}
        self._refs: dict[Any, tuple[int, int | None]] = {}
        """What is awaited: by reference, the member's number and, of works, the id of the first in the call."""
        self._answers: list[Answer] = []
        """Taken in, and not yet handed out."""
        self._facts: Facts | None = None
        self._numbers = 0
        self._failed_starts: list[int] = []
        """Numbers of those that failed to start, in a row."""
        self._places = 0
        self._last_error = ""
        self._too_few_since: float | None = time.monotonic()
        self._tended = self._called = 0.0
        try:
            with _naming_a_lost_cluster():
                self._cluster = cluster.settled(ray.cluster_resources().get("GPU", 0.0))
                self._require_resources()
                self._tend()
        except BaseException:
            self.close()
            raise

    def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:
        with _naming_a_lost_cluster():
            while self._facts is None or len(self.pids()) < self._cluster.fewest:
                meanwhile()
                self._wait(TEND_SECONDS)
        return self._facts

    def submit(self, works: Sequence[Work]) -> None:
        for work in works:
            self._dispatcher.submit(work)
        try:
            self._send()  # what is submitted together can share calls
        except LOST_CLUSTER as error:
            raise _lost_cluster(error) from error

    def collect(self, timeout: float) -> list[Answer]:
        deadline = time.monotonic() + timeout
        try:
            while self._dispatcher.awaited and not self._answers:
                self._wait(max(0.0, deadline - time.monotonic()))
                if time.monotonic() >= deadline:
                    break
        except LOST_CLUSTER as error:
            raise _lost_cluster(error) from error
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        with suppress(Exception):  # of a cluster that is lost; it must not hide why the pool is closed
            if ray.is_initialized():  # else Ray would connect anew
                for member in self._members.values():
                    ray.kill(member.handle)
        self._members, self._refs = {}, {}
        if self._connected:
            self._connected = False
            with suppress(Exception):
                ray.shutdown()  # a local cluster ends with it, a joined one lives on

    def pids(self) -> list[int]:
        """Process ids of the ready actors."""
        return [member.pid for member in self._members.values() if member.pid is not None]

    def members(self) -> list[Member]:
        held, pace = self._dispatcher.held, self._dispatcher.pace
        present = [
            Member(number, "pending") if member.loading else Member(number, "ready", held(number), pace(number))
            for number, member in self._members.items()
        ]
        return present + [Member(number, "given up") for number in self._given_up]

    def last_error(self) -> str:
        return self._last_error

    def _wait(self, timeout: float) -> None:
        """Take in what has finished, or wait for it up to `timeout` seconds; look after the actors."""
        for ref in self._ready(min(timeout, TEND_SECONDS)):
            self._take(ref)
        if time.monotonic() - self._tended >= TEND_SECONDS:
            self._tend()
        if self._dispatcher.awaited:
            self._send()

    def _ready(self, timeout: float) -> list[Any]:
        """The finished calls; where none is, the first, or none after `timeout` seconds."""
        refs = list(self._refs)
        if not refs:
            time.sleep(timeout)
            return []
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        if not ready:
            ready, _ = ray.wait(refs, num_returns=1, timeout=timeout)
        return list(ready)

    def _take(self, ref: Any) -> None:
        """Take in the outcome of one finished call."""
        number, call = self._refs.pop(ref, (None, None))
        if number is None:  # its actor was found dead in this very round
            return
        member = self._members[number]
        try:
            value = ray.get(ref, timeout=TAKE_SECONDS)
        except RayActorError as error:
            self._bury(number, f"actor died: {_line(error)}", blameless=NODE_DIED in str(error))
        except RayTaskError as error:
            # Once others are at work it is this actor's place that is at fault, and the run goes on without it.
            if isinstance(error.cause, InputError) and not (member.loading and self._facts):
                raise InputError(str(error.cause)) from error
            # The actor is replaced: after a CUDA error, say, all that it is given next would fail too.
            what = "scorer not built" if member.loading else "work failed"
            self._bury(number, f"{what}: {_line(error.cause or error)}")
        except OWN_FAULT as error:
            self._bury(number, f"actor failed: {_line(error)}")
        except (GetTimeoutError, RayError) as error:
            self._bury(number, f"answer lost with its node: {_line(error)}", blameless=True)
        else:
            if ref == member.loading:
                self._loaded(number, *value)
            elif call is None:  # it has arrived
                member.placed = time.monotonic()
            else:
                if not member.proven:  # actors can do work here: failed starts have no bearing on those to come
                    member.proven, self._failed_starts = True, []
                self._answers += self._dispatcher.answered(number, call, value, time.monotonic())

    def _loaded(self, number: int, facts: Facts, pid: int) -> None:
        self._facts = self._facts or facts
        if other := self._facts.difference(facts):
            self._bury(number, f"it has {other} than the first: put the same files on every node")
            return
        member = self._members[number]
        member.loading, member.pid = None, pid
        self._dispatcher.join(number, time.monotonic())

    def _bury(self, number: int, reason: str, blameless: bool = False) -> None:
        """Take back a lost actor's work. Whether another takes its place is seen at the next look."""
        member = self._members.pop(number)
        ray.kill(member.handle)
        self._refs = {ref: owner for ref, owner in self._refs.items() if owner[0] != number}
        self._last_error = f"actor {number}: {reason}"
        _log.warning("actor %d is lost (%s)", number, reason)
        self._dispatcher.leave(number, reason, blameless)
        if not member.proven and not blameless:
            self._failed_starts.append(number)
            if self._given_up[-1:] == [number]:
                _log.warning("%d actors are given up; last error: %s", len(self._given_up), self._last_error)
        self._tended = 0.0

    def _tend(self) -> None:
        """Replace who hangs, ask for who is missing, and see whether there is anybody to go on with."""
        self._tended = now = time.monotonic()
        self._bury_hung(now)
        found = places(self._cluster)
        if found != self._places:  # a node has come or gone: those who were given up are tried again
            self._places, self._failed_starts = found, []
        wanted = self._cluster.most or self._that_fit(found)
        for _ in range(wanted - len(self._given_up) - len(self._members)):
            self._add_member()
        if not self._members and wanted <= len(self._given_up):
            failed = len(self._failed_starts)
            raise PoolError(f"no actor is left after {failed} failed starts; last: {self._last_error}")
        self._require_life(now)
        if now - self._called >= IDLE_SECONDS:
            self._call_idle(now)

    def _that_fit(self, found: int) -> int:
        """As many as the nodes hold beside what others have there: who waits for that in vain makes an autoscaler add
        nodes. Where there is no place yet, it shall see that one is wanted."""
        ours = sum(member.placed is not None for member in self._members.values())
        return max(min(found, ours + free_places(self._cluster, found)), 1)

    def _call_idle(self, now: float) -> None:
        """Call those who owe nothing, that the dead among them are found and replaced."""
        self._called = now
        owing = {number for number, _ in self._refs.values()}
        for number in self._members.keys() - owing:
            self._refs[self._members[number].handle.arrive.remote()] = number, None

    def _bury_hung(self, now: float) -> None:
        """Those who have been at one work, or at loading, for too long."""
        for number in self._dispatcher.hung(now):
            self._bury(number, f"no answer for cluster.answer_timeout = {self._cluster.answer_timeout:g} s")
        limit = self._cluster.start_timeout
        loading = {number: m.placed for number, m in self._members.items() if m.loading and m.placed is not None}
        for number, placed in loading.items():
            if now - placed > limit:
                self._bury(number, f"not loaded within cluster.start_timeout = {limit:g} s")

    @property
    def _given_up(self) -> list[int]:
        """Of each actor that the pool does without, the number of the last that failed to be it."""
        return self._failed_starts[STARTS_PER_ACTOR - 1 :: STARTS_PER_ACTOR]

    def _require_life(self, now: float) -> None:
        """Give up when too few actors have been ready for `start_timeout`."""
        ready, limit = len(self.pids()), self._cluster.start_timeout
        if ready >= self._cluster.fewest:
            self._too_few_since = None
            return
        self._too_few_since = self._too_few_since or now
        if now - self._too_few_since <= limit:
            return
        lack = shortage(self._cluster)
        if lack and self._facts is None:
            raise InputError(lack)
        raise PoolError(
            f"{ready} of at least {self._cluster.fewest} actors were ready for cluster.start_timeout = {limit:g} s "
            f"(last error: {lack or self._last_error or 'none'})"
        )

    def _send(self) -> None:
        """Hand out what the dispatcher says."""
        for number, works in self._dispatcher.assignments(time.monotonic()):
            self._refs[self._members[number].handle.answer.remote(works)] = number, works[0].id

    def _add_member(self) -> None:
        self._numbers += 1
        handle = self._start_actor()
        placed, loading = handle.arrive.remote(), handle.load.remote(self._build)
        self._members[self._numbers] = _Member(handle, loading)
        self._refs[placed] = self._refs[loading] = self._numbers, None

    def _start_actor(self) -> Any:
        actor = ray.remote(ScorerActor).options(
            num_cpus=self._cluster.cpus_per_actor,
            num_gpus=self._cluster.gpus,
            **OPTIONS,
        )
        return actor.remote()

    def _require_resources(self) -> None:
        """Refuse what this machine can never hold. A joined cluster may still grow: there it is a warning."""
        lack = shortage(self._cluster)
        if lack and self._local:
            raise InputError(lack)
        if lack:
            _log.warning("%s; waiting up to cluster.start_timeout for such a node", lack)


@contextmanager
def _naming_a_lost_cluster() -> Iterator[None]:
    """Turn what Ray raises where no actor is at fault into what the user can do.

    Raises:
        PoolError: the head, or the way to it, is gone.
    """
    try:
        yield
    except LOST_CLUSTER as error:
        raise _lost_cluster(error) from error


def _lost_cluster(error: Exception) -> PoolError:
    return PoolError(f"the Ray cluster is lost ({_line(error)}): once one is up, `zip-ray resume RUN_DIR` continues")


def _line(error: BaseException) -> str:
    """One line: where Ray has much to say, its beginning and its end, which names the cause."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    text = text if len(text) <= 300 else f"{text[:100]} ... {text[-200:]}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
