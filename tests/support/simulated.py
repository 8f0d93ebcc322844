"""A cluster in virtual time: members that are slow, hang, fail, raise and return, under the real dispatcher."""

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.support.fakes import FakeScorer
from zip_ray.pool.contract import Member, ScorerLike
from zip_ray.pool.dispatcher import Dispatcher
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Answer, Work


class DriverKilled(Exception):
    """Ends the driver without saving its state."""


@dataclass(frozen=True)
class Faults:
    """Rates of faults, in events per virtual second over the whole cluster, and how long faults continue."""

    kill: float = 0.0
    """A member fails."""
    kill_node: float = 0.0
    """Half of the members fail at once."""
    hang: float = 0.0
    """A member never answers again."""
    slow: float = 0.0
    """A member becomes ten times slower, permanently."""
    fail: float = 0.0
    """A member raises at its next piece of work."""
    kill_driver: float = 0.0
    """The driver ends immediately."""
    stop_driver: float = 0.0
    """The driver is asked to stop, and saves its state."""
    until: float = float("inf")


KINDS = ("kill", "kill_node", "hang", "slow", "fail", "kill_driver", "stop_driver")
"""Kinds of faults."""


@dataclass
class _Worker:
    pace: float
    queue: deque[tuple[Work, ...]] = field(default_factory=deque)
    hung: bool = False
    fails: bool = False


class SimulatedPool:
    """Members with a service time of about 1, whose answers come from a scorer without a model by default."""

    LOAD = 5.0
    ANSWER_TIMEOUT = 60.0

    def __init__(
        self,
        seed: int,
        members: int,
        faults: Faults,
        paces: Callable[[int], float] = lambda _: 1.0,
        start: float = 0.0,
        call_seconds: float = 0.0,
        scorer: ScorerLike | None = None,
    ) -> None:
        """Create the members, still loading, and the schedule of faults.

        Args:
            seed: of all random events.
            members: their number when none is lost.
            faults: what happens to them.
            paces: seconds per pass, by the number of the member.
            start: virtual time now.
            call_seconds: of the driver's time that one call may take.
            scorer: computes the answers; None for a `FakeScorer`.
        """
        self.now = start
        self.done: list[tuple[float, int]] = []
        """Time and member of each returned answer to pairs."""
        self.struck: Counter[str] = Counter()
        """Faults so far, by kind."""
        self._random = random.Random(seed)
        self._faults, self._paces = faults, paces
        self._dispatcher = Dispatcher(self.ANSWER_TIMEOUT, call_seconds)
        self._scorer = scorer or FakeScorer()
        self._workers: dict[int, _Worker] = {}
        self._told_to_stop = False
        self._agenda: list[tuple[float, int, Callable[[], list[Answer]]]] = []
        self._entries = self._numbers = 0
        for _ in range(members):
            self._add(delay=self._random.random())
        for kind in KINDS:
            if getattr(faults, kind) > 0:
                self._next_fault(kind)

    def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:  # noqa: ARG002
        return self._scorer.facts()

    def submit(self, works: Sequence[Work]) -> None:
        for work in works:
            self._dispatcher.submit(work)
        self._send()

    def collect(self, timeout: float) -> list[Answer]:
        deadline = self.now + timeout
        while self._agenda and self._agenda[0][0] <= deadline:
            self.now, _, event = heapq.heappop(self._agenda)
            answers = event()
            for number in self._dispatcher.hung(self.now):
                self._lose(number, "hung")
            self._send()
            if answers:
                return answers
        self.now = deadline
        for number in self._dispatcher.hung(self.now):
            self._lose(number, "hung")
        self._send()
        return []

    def interrupted(self) -> bool:
        """Whether the driver has been asked to stop; counted here, where the driver checks it."""
        self.struck["stop_driver"] += self._told_to_stop
        return self._told_to_stop

    def members(self) -> list[Member]:
        return [Member(n, "ready", self._dispatcher.held(n), self._dispatcher.pace(n)) for n in self._workers]

    def last_error(self) -> str:
        return ""

    def close(self) -> None:
        self._agenda.clear()

    def _at(self, time: float, event: Callable[[], list[Answer]]) -> None:
        self._entries += 1
        heapq.heappush(self._agenda, (time, self._entries, event))

    def _add(self, delay: float) -> None:
        self._numbers += 1
        number = self._numbers

        def join() -> list[Answer]:
            self._workers[number] = _Worker(self._paces(number))
            self._dispatcher.join(number, self.now)
            return []

        self._at(self.now + delay, join)

    def _send(self) -> None:
        for number, call in self._dispatcher.assignments(self.now):
            worker = self._workers[number]
            worker.queue.append(call)
            if len(worker.queue) == 1:
                self._begin(number)

    def _begin(self, number: int) -> None:
        worker = self._workers[number]
        call = worker.queue[0]
        seconds = worker.pace * self._random.uniform(0.9, 1.1) * call[0].body.share

        def finish() -> list[Answer]:
            if self._workers.get(number) is not worker or worker.hung:
                return []
            if worker.fails:
                self._lose(number, "raised")
                return []
            worker.queue.popleft()
            if worker.queue:
                self._begin(number)
            values = [(self._scorer.answer(work), seconds) for work in call]
            answers = self._dispatcher.answered(number, call[0].id, values, self.now)
            self.done += [(self.now, number) for answer in answers if isinstance(answer.value, tuple)]
            return answers

        self._at(self.now + seconds * len(call), finish)

    def _lose(self, number: int, reason: str, blameless: bool = False) -> None:
        if self._workers.pop(number, None) is not None:
            self._dispatcher.leave(number, reason, blameless)
            self._add(self.LOAD)

    def _next_fault(self, kind: str) -> None:
        time = self.now + self._random.expovariate(getattr(self._faults, kind))
        if time <= self._faults.until:
            self._at(time, lambda: self._strike(kind))

    def _strike(self, kind: str) -> list[Answer]:
        self._next_fault(kind)
        if kind == "stop_driver":
            self._told_to_stop = True
            return []
        takes = {"kill_driver": 0, "kill_node": 2}
        if len(self._workers) < takes.get(kind, 1):
            return []
        self.struck[kind] += 1
        if kind == "kill_driver":
            raise DriverKilled
        number = self._random.choice(sorted(self._workers))
        worker = self._workers[number]
        if kind == "kill":
            self._lose(number, "killed", blameless=True)
        elif kind == "kill_node":
            for victim in self._random.sample(sorted(self._workers), len(self._workers) // 2):
                self._lose(victim, "node", blameless=True)
        elif kind == "hang":
            worker.hung = True
        elif kind == "slow":
            worker.pace *= 10
        else:
            worker.fails = True
        return []
