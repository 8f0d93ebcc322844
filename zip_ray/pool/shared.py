"""One pool for many runs: each gets a pool of its own, a channel, and knows nothing of the others.

A pool is used from one thread. The hub's thread is the only one that touches it; channels, each in the thread of its
run, speak to it through queues.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from queue import Empty, SimpleQueue

from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.contract import Member, Pool, PoolError
from zip_ray.pool.multi_scorer import scorer_key
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Answer, Failure, Hosted, HostedResult, Work

WAIT_SECONDS = 0.005
"""Longest that new work waits for the hub, while it waits for answers."""
LOOK_SECONDS = 0.5
"""Between two looks at who is in the pool."""
RANK = 2**40
"""A pool does the lowest id first, and a run numbers its works by that (see `tuning`): below 0 evaluations, then
queries, from here on what may wait. The hub keeps these three ranks, and within each the order of asking over all
runs."""


@dataclass(frozen=True)
class _Asked:
    """A piece of a run's work on its way."""

    channel: "Channel"
    work: Work | None
    """None asks for the facts."""


class PoolHub:
    """Shares a pool whose scorers are `ScorerHost`s. The pool stays its opener's to close, after the hub."""

    def __init__(self, pool: Pool) -> None:
        """Begin to serve."""
        self._pool = pool
        self._inbox: SimpleQueue[_Asked | None] = SimpleQueue()
        self._out: dict[int, _Asked] = {}
        """By the id that the pool knows."""
        self._numbers = count()
        self._members: list[Member] = []
        self._last_error = ""
        self._looked = float("-inf")
        self._closing = False
        self._error: InputError | PoolError | None = None
        self._gate = threading.Lock()
        """Held to put work in, and to refuse all further work."""
        self._thread = threading.Thread(target=self._run, name="hub", daemon=True)
        self._thread.start()

    def channel(self, config: Config) -> "Channel":
        """The pool of one run."""
        return Channel(self, scorer_key(config))

    def submit(self, asked: _Asked) -> None:
        """Queue a channel's work.

        Raises:
            InputError, PoolError: those that the pool has ended with.
        """
        with self._gate:
            if self._error is not None:
                raise type(self._error)(str(self._error))
            self._inbox.put(asked)

    def members(self) -> list[Member]:
        """Who is there, as of late."""
        return self._members

    def last_error(self) -> str:
        """Why the member lost last was lost."""
        return self._last_error

    @property
    def error(self) -> InputError | PoolError | None:
        """What the pool has ended with; None while it serves."""
        return self._error

    def close(self) -> None:
        """Serve no longer; runs that still wait are told so. May be called twice."""
        self._closing = True
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closing:
                self._look()
                self._send(wait=not self._out)
                for answer in self._pool.collect(WAIT_SECONDS) if self._out else ():
                    self._deliver(answer)
            self._refuse(PoolError("the pool was closed"))
        except (InputError, PoolError) as error:
            self._refuse(error)
        except Exception as error:  # a fault of the pool must reach the runs, or they would wait for ever
            self._refuse(PoolError(f"{type(error).__name__}: {error}"))

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked, self._members, self._last_error = now, self._pool.members(), self._pool.last_error()

    def _send(self, wait: bool) -> None:
        """Give the pool what has come in; with nothing out, wait for it."""
        try:
            asked = self._inbox.get(wait, LOOK_SECONDS)
            while asked is not None:
                rank = 0 if asked.work is None or asked.work.id < 0 else 1 if asked.work.id < RANK else 2
                number = (rank - 1) * RANK + next(self._numbers)
                self._out[number] = asked
                self._pool.submit(Hosted(number, asked.channel.scorer, asked.work))
                asked = self._inbox.get_nowait()
        except Empty:
            return

    def _deliver(self, answer: Answer) -> None:
        assert isinstance(answer.result, HostedResult)
        asked = self._out.pop(answer.result.id)
        match answer.result.result:
            case Failure(text, is_input=True):
                asked.channel.take(InputError(text))
            case Failure(text):  # the pool has tried it elsewhere
                asked.channel.take(PoolError(text))
            case Facts() as facts:
                asked.channel.take(facts)
            case result:
                asked.channel.take(Answer(result, answer.attempts))

    def _refuse(self, error: InputError | PoolError) -> None:
        with self._gate:
            self._error = error
            while not self._inbox.empty():
                asked = self._inbox.get()
                if asked is not None:
                    asked.channel.take(error)
        for asked in self._out.values():
            asked.channel.take(error)


class Channel:
    """The pool as one run sees it. A fault of its work is raised here and nowhere else."""

    def __init__(self, hub: PoolHub, scorer: str) -> None:
        """Ask for nothing yet.

        Args:
            hub: serves it.
            scorer: key of the run's scorer.
        """
        self._hub = hub
        self.scorer = scorer
        self._answers: SimpleQueue[Answer | Facts | Exception] = SimpleQueue()
        self._out: set[int] = set()

    def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:
        self._hub.submit(_Asked(self, None))
        before: list[Answer] = []
        while not isinstance(came := self._next(LOOK_SECONDS), Facts):
            if came is None:
                meanwhile()
            else:
                before.append(came)
        for answer in before:
            self._answers.put(answer)
        return came

    def submit(self, work: Work) -> None:
        if work.id in self._out:
            raise ValueError(f"work {work.id} is in flight already")
        self._hub.submit(_Asked(self, work))
        self._out.add(work.id)

    def collect(self, timeout: float) -> list[Answer]:
        answers: list[Answer] = []
        while self._out and (came := self._next(0.0 if answers else timeout)) is not None:
            if isinstance(came, Answer):
                self._out.discard(came.result.id)
                answers.append(came)
        return answers

    def members(self) -> list[Member]:
        return self._hub.members()

    def last_error(self) -> str:
        return self._hub.last_error()

    def close(self) -> None:
        """What is still out will be done for nobody; the pool lives on."""
        self._out.clear()

    def take(self, came: Answer | Facts | Exception) -> None:
        """From the hub's thread: what has come for this run."""
        self._answers.put(came)

    def _next(self, timeout: float) -> Answer | Facts | None:
        """What came first; None if nothing comes for `timeout` seconds. A fault is raised, as a copy: several threads
        may raise the same."""
        try:
            came = self._answers.get(timeout=timeout)
        except Empty:
            return None
        if isinstance(came, Exception):
            raise type(came)(str(came))
        return came
