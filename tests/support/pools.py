"""Pools that answer out of order, fail or count, for tests of what stands above a pool."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.support.fakes import FakeScorer
from zip_ray.config.tree import Config
from zip_ray.pool.contract import Pool, PoolError
from zip_ray.pool.in_process import InProcessPool
from zip_ray.protocol.messages import Answer, Work


def drain(pool: Pool, count: int) -> list[Answer]:
    answers: list[Answer] = []
    for _ in range(600):
        if len(answers) >= count:
            break
        answers += pool.collect(0.5)
    return answers


class ShuffledPool(InProcessPool):
    """Answers in random order, in random portions; now and then an answer is late, or says it was issued twice."""

    def __init__(self, seed: int, scorer: FakeScorer | None = None) -> None:
        super().__init__(lambda: scorer or FakeScorer())
        self._random = random.Random(seed)
        self._held: list[Work] = []

    def submit(self, work: Work) -> None:
        self._held.append(work)

    def collect(self, timeout: float) -> list[Answer]:  # noqa: ARG002
        self._random.shuffle(self._held)
        portion = [self._held.pop() for _ in range(self._random.randint(0, len(self._held)))]
        return [Answer(self._scorer.answer(work), attempts=self._random.choice([1, 1, 2])) for work in portion]


class FailingPool(InProcessPool):
    """Loses its last scorer after so many answers."""

    def __init__(self, answers: int) -> None:
        super().__init__(FakeScorer)
        self._left = answers

    def collect(self, timeout: float) -> list[Answer]:
        if self._left == 0:
            raise PoolError("no actor is left after 7 deaths; last error: out of luck")
        self._left -= 1
        return super().collect(timeout)


class CountingPool:
    """The pool of one driver, and an account of its pairs beside that of the run."""

    def __init__(self, pool: Pool, told: Counter[int], asked: int, meanwhile: Callable[[], None] = lambda: None):
        """Nothing has been asked of it yet.

        Args:
            pool: does the work.
            told: how often each pair has been told; those of this driver are added.
            asked: number of the first pair that the driver may ask; from there on, nothing has been told that counts.
            meanwhile: is called before each wait.
        """
        self._pool, self._told, self._meanwhile = pool, told, meanwhile
        self._given = self._answered = 0
        for pair in [pair for pair in told if pair >= asked]:
            del told[pair]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def submit(self, work: Work) -> None:
        self._given += len(getattr(work, "asks", ()))
        self._pool.submit(work)

    def collect(self, timeout: float) -> list[Answer]:
        self._meanwhile()
        answers = self._pool.collect(timeout)
        pairs = [r.id for a in answers for r in getattr(a.result, "results", ())]
        self._told.update(pairs)
        self._answered += len(pairs)
        return answers

    def issued(self, config: Config, killed: bool) -> int:
        """Queries that were put out, as far as it can be known: one that was killed has recorded whole steps only."""
        size = config.optimizer.pairs_per_step
        return 2 * (self._answered // size * size if killed else self._given)
