"""The pool of Ray actors, as transport: starts actors, sends them work, receives their results.

Every call to an actor is here. The dispatcher decides which actor gets which work, the fleet which actors exist.
Ray's own restarts and retries are off: a retry would go to the same actor and bypass the query account, and a
restarted actor has no scorer. The pool replaces a lost actor with a new one.
"""

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import ray
from ray.exceptions import RayError

from zip_ray.actors.cluster import Connection, connect, free_places, places, shortage
from zip_ray.actors.fleet import ActorState, Fleet
from zip_ray.actors.ray_errors import LOST_CLUSTER, fault, lost_cluster, raise_refusal
from zip_ray.actors.scorer_actor import ScorerActor
from zip_ray.actors.waiting import actor_name, why_waiting
from zip_ray.config.resources import ClusterConfig
from zip_ray.errors import InputError
from zip_ray.pool.contract import Member, ScorerLike
from zip_ray.pool.dispatcher import Dispatcher
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Answer, Work

_log = logging.getLogger(__name__)

OPTIONS = {"max_restarts": 0, "max_task_retries": 0, "enable_task_events": False}
"""Options of every actor. The last keeps Ray from reporting each of thousands of calls per second to its head."""
CALL_SECONDS = 0.006
"""Seconds of the driver's time allowed per call, of which the call itself takes 0.6 ms; the rest is for the passes."""
TAKE_SECONDS = 30.0
"""Longest wait, in seconds, for a result that Ray reports as ready: its node may fail at that moment."""
TEND_SECONDS = 1.0
"""Seconds between two checks for hung actors and for cluster changes; no wait is longer."""
IDLE_SECONDS = 5.0
"""Seconds between two calls to idle actors: Ray reports the failure of an actor only to a pending call."""
WAIT_SECONDS = 5.0
"""Seconds that actors may be pending before the reason is asked for, and between two such queries: by then an actor
that has a place has started its process."""
Call = int | Literal["arrive", "load"]
"""The call behind a reference: the id of its first work, or the name of a method that takes no work."""


class RayPool:
    """Actors on a Ray cluster, each with its own scorer."""

    def __init__(
        self,
        build: Callable[[], ScorerLike],
        cluster: ClusterConfig,
        sources: Sequence[str] = (),
        run: str = "unnamed",
    ) -> None:
        """Join or start Ray, and start the actors; they load while the caller continues.

        Args:
            build: makes a scorer; runs on each actor.
            cluster: where, how many actors, and what each reserves.
            sources: files and folders of modules that the actors import beside this package.
            run: what the actors are for, in their names; need not be unique.

        Raises:
            InputError: the cluster cannot be reached, or can never place an actor.
        """
        self._build = build
        self._connection: Connection | None = connect(cluster, sources)
        """None once it is closed."""
        self._dispatcher = Dispatcher(cluster.answer_timeout, CALL_SECONDS)
        self._handles: dict[int, Any] = {}
        """The actors by number."""
        self._refs: dict[Any, tuple[int, Call]] = {}
        """Pending calls: the actor and the call."""
        self._answers: list[Answer] = []
        """Answers received and not yet collected."""
        self._tended = self._called = 0.0
        self._waits, self._asked = "", time.monotonic()
        """Why actors are pending, and when that was asked."""
        self._run, self._namespace = run, f"zip-ray-{uuid.uuid4().hex}"
        """Parts of the actors' names. With a namespace per pool, the names of two runs with one name do not collide."""
        try:
            self._cluster = cluster.settled(ray.cluster_resources().get("GPU", 0.0))
            self._fleet = Fleet(self._cluster, time.monotonic())
            self._refuse_the_impossible()
            self._tend()
        except BaseException as error:
            self.close()
            if isinstance(error, LOST_CLUSTER):
                raise lost_cluster(error) from error
            raise

    def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:
        try:
            while (facts := self._fleet.facts) is None or not self._fleet.suffices:
                meanwhile()
                self._wait(TEND_SECONDS)
        except LOST_CLUSTER as error:
            raise lost_cluster(error) from error
        return facts

    def submit(self, works: Sequence[Work]) -> None:
        self._dispatcher.submit(*works)
        try:
            self._send()  # work that is submitted together can share calls
        except LOST_CLUSTER as error:
            raise lost_cluster(error) from error

    def collect(self, timeout: float) -> list[Answer]:
        deadline = time.monotonic() + timeout
        try:
            while self._dispatcher.awaited and not self._answers:
                self._wait(max(0.0, deadline - time.monotonic()))
                if time.monotonic() >= deadline:
                    break
        except LOST_CLUSTER as error:
            raise lost_cluster(error) from error
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        with suppress(Exception):  # the cluster is lost; this must not hide why the pool is closed
            if ray.is_initialized():  # otherwise Ray would reconnect
                for handle in self._handles.values():
                    ray.kill(handle)
        self._handles, self._refs = {}, {}
        connection, self._connection = self._connection, None
        if connection in ("started", "joined"):
            with suppress(Exception):
                ray.shutdown()  # ends a local cluster; a joined one keeps running

    def pids(self) -> list[int]:
        """Process ids of the ready actors."""
        return self._fleet.pids

    def members(self) -> list[Member]:
        present = [self._member(number, actor) for number, actor in self._fleet.actors.items()]
        return present + [Member(number, "given up") for number in self._fleet.given_up]

    def last_error(self) -> str:
        return self._fleet.last_error

    def _member(self, number: int, actor: ActorState) -> Member:
        if actor.ready:
            return Member(number, "ready", self._dispatcher.held(number), self._dispatcher.pace(number))
        return Member(number, "pending", waits=self._waits) if actor.placed is None else Member(number, "loading")

    def _wait(self, timeout: float) -> None:
        """Receive finished calls, waiting up to `timeout` seconds; replace lost actors; send waiting work."""
        for ref in self._ready(min(timeout, TEND_SECONDS)):
            self._take(ref)
        if time.monotonic() - self._tended >= TEND_SECONDS:
            self._tend()
        if self._dispatcher.awaited:
            self._send()

    def _ready(self, timeout: float) -> list[Any]:
        """The finished calls; if there are none, wait up to `timeout` seconds for the first."""
        refs = list(self._refs)
        if not refs:
            time.sleep(timeout)
            return []
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        if not ready:
            ready, _ = ray.wait(refs, num_returns=1, timeout=timeout)
        return list(ready)

    def _take(self, ref: Any) -> None:
        """Handle one finished call.

        Raises:
            InputError: the scorer refuses the run's input.
        """
        number, call = self._refs.pop(ref, (0, "arrive"))
        if not number:  # its actor was found lost earlier in this pass
            return
        try:
            value = ray.get(ref, timeout=TAKE_SECONDS)
        except RayError as error:
            # If another actor is ready, a refusal while loading is this node's fault: its files differ.
            if call != "load" or self._fleet.facts is None:
                raise_refusal(error)
            self._remove(number, *fault(error, loading=call == "load"))
            return
        if call == "load":
            self._join(number, *value)
        elif call == "arrive":
            self._fleet.place(number, time.monotonic())
        else:
            if number not in self._fleet.proven:
                self._fleet.prove(number)
            self._answers += self._dispatcher.answered(number, call, value, time.monotonic())

    def _join(self, number: int, facts: Facts, pid: int) -> None:
        """An actor has loaded: give it work, unless its files differ."""
        if unusable := self._fleet.load(number, facts, pid):
            self._remove(number, unusable)
        else:
            self._dispatcher.join(number, time.monotonic())

    def _remove(self, number: int, reason: str, blameless: bool = False) -> None:
        """End an actor and queue its work again. The next check replaces it."""
        ray.kill(self._handles.pop(number))
        self._refs = {ref: awaited for ref, awaited in self._refs.items() if awaited[0] != number}
        self._tended = 0.0
        self._fleet.lose(number, reason, blameless)
        self._dispatcher.leave(number, reason, blameless)

    def _tend(self) -> None:
        """Replace actors that hang or are lost, and check that enough are left."""
        self._tended = now = time.monotonic()
        hung = f"no answer for cluster.answer_timeout = {self._cluster.answer_timeout:g} s"
        for number, reason in (dict.fromkeys(self._dispatcher.hung(now), hung) | self._fleet.overdue(now)).items():
            self._remove(number, reason)
        found = places(self._cluster)
        free = 0 if self._cluster.most else free_places(self._cluster, found)
        for number in self._fleet.grow(found, free):
            self._start(number)
        self._fleet.require_enough(now, partial(shortage, self._cluster))
        if now - self._called >= IDLE_SECONDS:
            self._called = now
            self._call_idle()
        self._ask_why(now)

    def _ask_why(self, now: float) -> None:
        """Find out why actors are pending, if any are and it is time."""
        if all(actor.placed is not None for actor in self._fleet.actors.values()):
            self._waits, self._asked = "", now
        elif now - self._asked >= WAIT_SECONDS:
            self._waits, self._asked = why_waiting(self._cluster), now

    def _call_idle(self) -> None:
        """Call the idle actors, to detect those that have failed."""
        owing = {number for number, _ in self._refs.values()}
        for number in self._handles.keys() - owing:
            self._refs[self._handles[number].arrive.remote()] = number, "arrive"

    def _send(self) -> None:
        """Make the calls that the dispatcher chooses."""
        for number, works in self._dispatcher.assignments(time.monotonic()):
            self._refs[self._handles[number].answer.remote(works)] = number, works[0].id

    def _start(self, number: int) -> None:
        """Start an actor, and have it load its model."""
        handle = self._handles[number] = self._start_actor(actor_name(self._run, number))
        self._refs[handle.arrive.remote()] = number, "arrive"
        self._refs[handle.load.remote(self._build)] = number, "load"

    def _start_actor(self, name: str) -> Any:
        size = {"num_cpus": self._cluster.cpus_per_actor, "num_gpus": self._cluster.gpus}
        shown = {"name": name, "namespace": self._namespace}
        return ray.remote(ScorerActor).options(**size, **shown, **OPTIONS).remote(name)

    def _refuse_the_impossible(self) -> None:
        """Refuse a local cluster on which no actor can ever fit; a joined one may still grow.

        Raises:
            InputError: a local cluster can hold no actor.
        """
        if lack := shortage(self._cluster):
            if self._connection == "started":
                raise InputError(lack)
            _log.warning("%s; waiting up to cluster.start_timeout for such a node", lack)
