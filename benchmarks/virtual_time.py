"""Many actors without their processes: a pool whose clock moves from one answer to the next."""

import heapq
import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from hashlib import sha256
from typing import Any

import numpy as np

from zip_ray.pool.contract import Member, ScorerLike, require_new
from zip_ray.pool.split_planner import Partition
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Answer, Pass, Priority, Value, Work

SAME_TIME = 1e-9
"""Seconds; parts that end within this of each other end together."""


class VirtualPool:
    """Actors that take a fixed time per query, in virtual time; one real scorer computes their answers.

    Idle actors begin what waits at once. The driver takes no virtual time.
    """

    def __init__(
        self,
        scorer: ScorerLike,
        actors: int,
        seconds: float,
        partition: Partition | None = None,
        repeated: float = 0.0,
    ) -> None:
        """All actors are idle at time 0.

        Args:
            scorer: computes the answers.
            actors: how many there are.
            seconds: per query, and per evaluation.
            partition: the parts that a pass is done in, by as many actors; None for one.
            repeated: share of a pass that every shard repeats.
        """
        self._scorer, self._actors, self._seconds = scorer, actors, seconds
        self._partition, self._repeated = partition or Partition(), repeated
        self.now = 0.0
        """Seconds."""
        self._idle = actors
        self._works: dict[int, Work] = {}
        """Unanswered work, by id."""
        self._missing: dict[int, int] = {}
        """Unfinished parts of each piece of work."""
        self._waiting: list[tuple[Priority, int]] = []
        """Parts that no actor has begun: a heap."""
        self._running: list[tuple[float, int]] = []
        """Parts that actors are working on, by the time at which they end: a heap."""

    def clock(self) -> float:
        """The clock of a loop that uses this pool."""
        return self.now

    def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:  # noqa: ARG002 - there is no wait
        return self._scorer.facts()

    def submit(self, works: Sequence[Work]) -> None:
        require_new(works, self._works)
        for work in works:
            self._works[work.id] = work
            self._missing[work.id] = self._partition.parts if isinstance(work.body, Pass) else 1
            for _ in range(self._missing[work.id]):
                heapq.heappush(self._waiting, (work.priority, work.id))
        self._begin()

    def collect(self, timeout: float) -> list[Answer]:
        until = self.now + timeout
        while self._running and self._running[0][0] <= until:
            if done := self._advance():
                return [Answer(work.id, self._scorer.answer(work)) for work in done]
        self.now = until
        return []

    def members(self) -> list[Member]:
        return [Member(number, "ready", int(number <= len(self._running))) for number in range(1, self._actors + 1)]

    def last_error(self) -> str:
        return ""

    def close(self) -> None:
        for held in (self._works, self._missing, self._waiting, self._running):
            held.clear()
        self._idle = self._actors

    def _begin(self) -> None:
        while self._idle and self._waiting:
            _, work_id = heapq.heappop(self._waiting)
            heapq.heappush(self._running, (self.now + self._duration(self._works[work_id]), work_id))
            self._idle -= 1

    def _advance(self) -> list[Work]:
        """Advance to the next time at which a part ends; returns the works completed then."""
        self.now = self._running[0][0]
        done = []
        while self._running and self._running[0][0] <= self.now + SAME_TIME:
            _, work_id = heapq.heappop(self._running)
            self._idle += 1
            self._missing[work_id] -= 1
            if not self._missing[work_id]:
                del self._missing[work_id]
                done.append(self._works.pop(work_id))
        self._begin()
        return done

    def _duration(self, work: Work) -> float:
        """Seconds of a part."""
        if not isinstance(work.body, Pass):
            return self._seconds
        sides, shards = self._partition.sides, self._partition.shards
        whole = self._seconds * sum(ask.queries for ask in work.body.asks)
        return whole / sides * (self._repeated + (1 - self._repeated) / shards)


class Remembering:
    """A scorer that computes the same answer once: a synchronous run asks the same on any number of actors."""

    def __init__(self, scorer: ScorerLike) -> None:
        self._scorer = scorer
        self._known: dict[bytes, Value] = {}

    def facts(self) -> Facts:
        return self._scorer.facts()

    def answer(self, work: Work) -> Value:
        key = sha256(json.dumps(work.body, default=_plain).encode()).digest()
        if key not in self._known:
            self._known[key] = self._scorer.answer(work)
        return self._known[key]


def _plain(value: Any) -> object:
    """A message, an array or a numpy number as JSON, equal only for equal values."""
    if isinstance(value, np.ndarray):
        return [value.dtype.str, value.shape, value.tobytes().hex()]
    if isinstance(value, np.generic):
        return value.item()
    return [type(value).__name__, [getattr(value, field.name) for field in fields(value)]]
