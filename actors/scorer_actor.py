"""The Ray actor that hosts one scorer."""

import os
import time
from collections.abc import Callable, Sequence

from zip_ray.pool.contract import ScorerLike
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Value, Work


class ScorerActor:
    """Builds its scorer in a method: of an exception in `__init__` Ray reports only that the actor has failed."""

    def __init__(self, name: str) -> None:
        """Build nothing yet.

        Args:
            name: what Ray's dashboard and logs show.
        """
        self._name = name
        self._scorer: ScorerLike | None = None

    def __repr__(self) -> str:
        return self._name

    def arrive(self) -> None:
        """Do nothing. An actor that answers this call has been placed on a node, and is about to load."""

    def load(self, build: Callable[[], ScorerLike]) -> tuple[Facts, int]:
        """Build the scorer; returns its facts and the process id. An actor that has returned is ready."""
        self._scorer = build()
        return self._scorer.facts(), os.getpid()

    def answer(self, works: Sequence[Work]) -> list[tuple[Value, float]]:
        """The results of some work, each with the seconds it took. Repeating a call gives the same results."""
        if self._scorer is None:
            raise RuntimeError("the pool gave work to an actor that has not loaded")
        answers, start = [], time.perf_counter()
        for work in works:
            value, end = self._scorer.answer(work), time.perf_counter()
            answers.append((value, end - start))
            start = end
        return answers
