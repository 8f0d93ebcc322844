"""One pool for many runs: each gets a channel, which acts as a pool of its own, independent of the others.

A pool is used from one thread. Only the hub's thread uses it; channels, each in the thread of its run, communicate with
the hub through queues.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import NamedTuple

from zip_ray.errors import InputError
from zip_ray.pool.contract import Member, Pool, PoolError, require_new
from zip_ray.pool.dispatcher import PREFETCH
from zip_ray.pool.multi_scorer import RUNS_AT_ONCE
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Answer, FactsRequest, Failure, Priority, Work, new_work

WAIT_SECONDS = 0.005
"""Longest time, in seconds, that new work waits while the hub waits for results."""
CLOSE_SECONDS = 2.0
"""Longest wait, in seconds, for the hub's thread to end."""
LOOK_SECONDS = 0.5
"""Between two looks at the members of the pool."""


class _Sent(NamedTuple):
    """Works of a run on their way to the hub."""

    channel: "Channel"
    works: list[Work]


class PoolHub:
    """Shares a pool whose scorers are `MultiScorer`s. The pool is closed by the code that opened it, after the hub."""

    most_runs = RUNS_AT_ONCE
    """Runs that may use it at once."""

    def __init__(self, pool: Pool) -> None:
        """Begin to serve."""
        self._pool = pool
        self._inbox: SimpleQueue[_Sent | None] = SimpleQueue()
        self._owners: dict[int, Channel] = {}
        """By the id of the work."""
        self._members: list[Member] = []
        self._last_error = ""
        self._looked = float("-inf")
        self._closing = False
        self._error: InputError | PoolError | None = None
        self._gate = threading.Lock()
        """Held to put work in, and to refuse all further work."""
        self._thread = threading.Thread(target=self._run, name="hub", daemon=True)
        self._thread.start()

    def channel(self, scorer: str) -> "Channel":
        """The pool of one run, given the key of its scorer."""
        return Channel(self, scorer)

    def submit(self, channel: "Channel", works: list[Work]) -> None:
        """Queue a channel's works.

        Raises:
            InputError, PoolError: those that the pool has ended with.
        """
        with self._gate:
            if self._error is not None:
                raise type(self._error)(str(self._error))
            self._inbox.put(_Sent(channel, works))

    def has_room(self, passes: int) -> bool:
        """Whether the pool's ready members can hold more than so many passes, with which some of them would be idle."""
        return passes < PREFETCH * sum(member.state == "ready" for member in self._members)

    def members(self) -> list[Member]:
        """The members of the pool at the latest check."""
        return self._members

    def last_error(self) -> str:
        """Why the latest member was lost."""
        return self._last_error

    @property
    def error(self) -> InputError | PoolError | None:
        """The error that ended the pool; None while it serves."""
        return self._error

    def close(self) -> None:
        """Stop serving; runs that still wait get an error at once. May be called twice.

        A pool in this process may be in the midst of a long piece of work, which cannot be interrupted: it is not
        waited for.
        """
        self._closing = True
        self._refuse(PoolError("the pool was closed"))
        self._inbox.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            while not self._closing:
                self._look()
                self._send(wait=not self._owners)
                if self._closing:  # work that arrives now is refused, not begun
                    break
                for answer in self._pool.collect(WAIT_SECONDS) if self._owners else ():
                    self._owners.pop(answer.id).take(answer)
            self._refuse(PoolError("the pool was closed"))
        except (InputError, PoolError) as error:
            self._refuse(error)
        except Exception as error:  # an error of the pool must reach the runs, or they would wait forever
            self._refuse(PoolError(f"{type(error).__name__}: {error}"))

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked, self._members, self._last_error = now, self._pool.members(), self._pool.last_error()

    def _send(self, wait: bool) -> None:
        """Give the pool what has come in; with nothing in flight, wait for it."""
        works: list[Work] = []
        try:
            sent = self._inbox.get(wait, LOOK_SECONDS)
            while sent is not None:
                self._owners.update(dict.fromkeys([work.id for work in sent.works], sent.channel))
                works += sent.works
                sent = self._inbox.get_nowait()
        except Empty:
            pass
        if works:
            self._pool.submit(works)

    def _refuse(self, error: InputError | PoolError) -> None:
        with self._gate:
            self._error = self._error or error
            with suppress(Empty):
                while True:
                    sent = self._inbox.get_nowait()
                    if sent is not None:
                        sent.channel.take(error)
        for channel in list(self._owners.values()):
            channel.take(error)


class Channel:
    """The pool for one run. Errors of its work are raised only here."""

    def __init__(self, hub: PoolHub, scorer: str) -> None:
        """Open the channel without work.

        Args:
            hub: serves it.
            scorer: key of the run's scorer.
        """
        self._hub, self._scorer = hub, scorer
        self._came: SimpleQueue[Answer | Exception] = SimpleQueue()
        self._out: set[int] = set()

    def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:
        request = new_work(FactsRequest(), Priority.EVALUATION)
        self.submit([request])
        before: list[Answer] = []
        while True:
            came = self._next(LOOK_SECONDS)
            if came is None:
                meanwhile()
            elif came.id == request.id:
                break
            else:
                before.append(came)
        for answer in before:
            self._came.put(answer)
        self._out.discard(request.id)
        assert isinstance(came.value, Facts)
        return came.value

    def submit(self, works: Sequence[Work]) -> None:
        require_new(works, self._out)
        self._hub.submit(self, [replace(work, scorer=self._scorer) for work in works])
        self._out.update(work.id for work in works)

    def collect(self, timeout: float) -> list[Answer]:
        answers: list[Answer] = []
        while self._out and (came := self._next(0.0 if answers else timeout)) is not None:
            self._out.discard(came.id)
            answers.append(came)
        return answers

    def members(self) -> list[Member]:
        return self._hub.members()

    def last_error(self) -> str:
        return self._hub.last_error()

    def close(self) -> None:
        """Discard the results of what is in flight; the pool stays open."""
        self._out.clear()

    def take(self, came: Answer | Exception) -> None:
        """Called by the hub's thread: deliver results to this run."""
        self._came.put(came)

    def _next(self, timeout: float) -> Answer | None:
        """The first delivery; None if nothing arrives within `timeout` seconds.

        Raises:
            InputError, PoolError: the run's work cannot be done; a copy, since several threads may raise the same.
        """
        try:
            came = self._came.get(timeout=timeout)
        except Empty:
            return None
        if isinstance(came, Exception):
            raise type(came)(str(came))
        if isinstance(came.value, Failure):  # the pool has already retried it on several members
            raise (InputError if came.value.is_input else PoolError)(came.value.text)
        return came
