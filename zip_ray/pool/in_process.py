"""The pool without Ray: one scorer inside the driver."""

import heapq
from collections.abc import Callable, Sequence

from zip_ray.pool.contract import Member, ScorerLike, require_new
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Answer, Priority, Work


class InProcessPool:
    """One scorer in the driver's own process; a work is done when it is collected."""

    def __init__(self, build: Callable[[], ScorerLike]) -> None:
        """Build the scorer."""
        self._scorer = build()
        self._waiting: list[tuple[Priority, int, Work]] = []
        """A heap."""

    def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:  # noqa: ARG002 - there is no wait
        return self._scorer.facts()

    def submit(self, works: Sequence[Work]) -> None:
        require_new(works, {work_id for _, work_id, _ in self._waiting})
        for work in works:
            heapq.heappush(self._waiting, (work.priority, work.id, work))

    def collect(self, timeout: float) -> list[Answer]:  # noqa: ARG002 - the work itself is the wait
        if not self._waiting:
            return []
        _, work_id, work = heapq.heappop(self._waiting)
        return [Answer(work_id, self._scorer.answer(work))]

    def members(self) -> list[Member]:
        return [Member(1, "ready", len(self._waiting))]

    def last_error(self) -> str:
        return ""

    def close(self) -> None:
        self._waiting.clear()
