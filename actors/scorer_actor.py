"""The Ray actor that hosts one scorer."""

import os
import time
from collections.abc import Callable, Sequence

from zip_ray.pool.contract import ScorerLike
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Value, Work


class ScorerActor:
    """Gets its scorer in a method: of what goes wrong in `__init__` Ray tells the death, but not the exception."""

    def __init__(self) -> None:
        self._scorer: ScorerLike | None = None

    def arrive(self) -> None:
        """Nothing: an actor that has answered this has its place, and loads."""

    def load(self, build: Callable[[], ScorerLike]) -> tuple[Facts, int]:
        """Build the scorer; facts, and the process id. An actor that has answered this is ready."""
        self._scorer = build()
        return self._scorer.facts(), os.getpid()

    def answer(self, works: Sequence[Work]) -> list[tuple[Value, float]]:
        """Do works, and say how many seconds each took; doing them twice gives the same answers."""
        if self._scorer is None:
            raise RuntimeError("the pool gave work to an actor that has not loaded")
        answers, start = [], time.perf_counter()
        for work in works:
            value, end = self._scorer.answer(work), time.perf_counter()
            answers.append((value, end - start))
            start = end
        return answers
