"""The Ray actor that hosts one scorer."""

import os
import time
from collections.abc import Callable

from zip_ray.pool import ScorerLike
from zip_ray.work import Facts, Result, Work


class ScorerActor:
    """Gets its scorer in a method: of what goes wrong in `__init__` Ray tells the death, but not the exception."""

    def __init__(self) -> None:
        self._scorer: ScorerLike | None = None

    def load(self, build: Callable[[], ScorerLike]) -> tuple[Facts, int]:
        """Build the scorer; facts, and the process id. An actor that has answered this is ready."""
        self._scorer = build()
        return self._scorer.facts(), os.getpid()

    def answer(self, work: Work) -> tuple[Result, float]:
        """Do a piece of work, and say how many seconds it took; doing it twice gives the same answer."""
        if self._scorer is None:
            raise RuntimeError("the pool gave work to an actor that has not loaded")
        start = time.perf_counter()
        return self._scorer.answer(work), time.perf_counter() - start
