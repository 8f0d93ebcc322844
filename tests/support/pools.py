"""Pools that return results out of order, fail or keep a record, for tests of the layers above a pool."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tests.support.fakes import FACTS, FakeScorer
from zip_ray.config.tree import Config
from zip_ray.pool.contract import Member, Pool, PoolError, ScorerLike
from zip_ray.pool.in_process import InProcessPool
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Answer, Ask, Body, Pass, Slice, Work

POOL_LOST = "no actor is left after 7 failed starts; last: out of luck"
"""The error of a `FailingPool`."""


class ShuffledPool(InProcessPool):
    """Returns results in random order and batches; some are late, or marked as issued twice."""

    def __init__(self, seed: int, scorer: FakeScorer | None = None) -> None:
        super().__init__(lambda: scorer or FakeScorer())
        self._random = random.Random(seed)
        self._held: list[Work] = []

    def submit(self, works: Sequence[Work]) -> None:
        self._held += works

    def collect(self, timeout: float) -> list[Answer]:  # noqa: ARG002
        self._random.shuffle(self._held)
        portion = [self._held.pop() for _ in range(self._random.randint(0, len(self._held)))]
        return [Answer(work.id, self._scorer.answer(work), self._random.choice([1, 1, 2])) for work in portion]


class SharingPool(InProcessPool):
    """Several scorers that share the works by a keyed draw, and answer in a different order from the works."""

    def __init__(self, scorers: Sequence[ScorerLike]) -> None:
        super().__init__(lambda: scorers[0])
        self._scorers, self._held, self._random = scorers, [], random.Random(len(scorers))

    def submit(self, works: Sequence[Work]) -> None:
        self._held += works

    def collect(self, timeout: float) -> list[Answer]:  # noqa: ARG002
        self._random.shuffle(self._held)
        works, self._held = self._held, []
        return [Answer(work.id, self._random.choice(self._scorers).answer(work)) for work in works]


class ReorderedPool(InProcessPool):
    """Answers in the given order, whatever the priority."""

    def __init__(self, order: Callable[[Work], Any], scorer: ScorerLike | None = None) -> None:
        super().__init__(lambda: scorer or FakeScorer())
        self._order = order
        self._held: list[Work] = []

    def submit(self, works: Sequence[Work]) -> None:
        self._held += works

    def collect(self, timeout: float) -> list[Answer]:  # noqa: ARG002
        if not self._held:
            return []
        first = min(self._held, key=self._order)
        self._held.remove(first)
        return [Answer(first.id, self._scorer.answer(first))]


class FailingPool(InProcessPool):
    """Loses its last scorer after a given number of answers."""

    def __init__(self, answers: int) -> None:
        super().__init__(FakeScorer)
        self._left = answers

    def collect(self, timeout: float) -> list[Answer]:
        if self._left == 0:
            raise PoolError(POOL_LOST)
        self._left -= 1
        return super().collect(timeout)


class PacedPool(InProcessPool):
    """Reports actors of these paces (seconds per pass) and a task with so many classes."""

    now = 0.0

    def __init__(self, paces: list[float], classes: int = 10) -> None:
        super().__init__(FakeScorer)
        self.paces, self.looks = paces, 0
        self._facts = replace(FACTS, classnames=tuple(map(str, range(classes))))

    def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:  # noqa: ARG002
        return self._facts

    def members(self) -> list[Member]:
        self.looks += 1
        return [Member(number, "ready", 0, pace) for number, pace in enumerate(self.paces)]


class RecordingPool:
    """A pool that records its work."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.submitted: list[Work] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def submit(self, works: Sequence[Work]) -> None:
        self.submitted += works
        self._pool.submit(works)

    @property
    def bodies(self) -> list[Body]:
        return [work.body for work in self.submitted]

    @property
    def passes(self) -> list[Pass]:
        return [body for body in self.bodies if isinstance(body, Pass)]

    @property
    def slices(self) -> list[Slice]:
        return [body for body in self.bodies if isinstance(body, Slice)]


class CountingPool:
    """The pool of one driver, with its own count of pairs, independent of the run's account."""

    def __init__(self, pool: Pool, told: Counter[int], asked: int, meanwhile: Callable[[], None] = lambda: None):
        """Wrap a pool.

        Args:
            pool: does the work.
            told: how often each pair's result was returned, by its index; this driver adds its own.
            asked: index of the first pair that the driver may ask; earlier results from there on do not count.
            meanwhile: called before each wait.
        """
        self._pool, self._told, self._meanwhile = pool, told, meanwhile
        self._asks: dict[int, tuple[Ask, ...]] = {}
        self._given = self._answered = 0
        for pair in [pair for pair in told if pair >= asked]:
            del told[pair]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def submit(self, works: Sequence[Work]) -> None:
        self._asks.update((work.id, work.body.asks) for work in works if isinstance(work.body, Pass))
        self._given = sum(map(len, self._asks.values()))
        self._pool.submit(works)

    def collect(self, timeout: float) -> list[Answer]:
        self._meanwhile()
        answers = self._pool.collect(timeout)
        pairs = [ask.index for answer in answers for ask in self._asks.get(answer.id, ())]
        self._told.update(pairs)
        self._answered += len(pairs)
        return answers

    def issued(self, config: Config, killed: bool) -> int:
        """Queries issued, as far as can be known: a killed driver has recorded only whole steps."""
        size = config.optimizer.pairs_per_step
        return 2 * (self._answered // size * size if killed else self._given)
