"""The pool as the tuning loop sees it, and the in-process one (no Ray): one scorer inside the driver."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Answer, Result, Work


class PoolError(Exception):
    """No scorer is left to answer; the message names the last error. State is saved and the run can be resumed."""


class ScorerLike(Protocol):
    """What a pool needs of a scorer."""

    def facts(self) -> Facts: ...

    def answer(self, work: Work) -> Result: ...


@dataclass(frozen=True)
class Member:
    """A scorer of a pool, as a person sees it."""

    number: int
    state: Literal["pending", "ready", "given up"]
    """given up = the pool does without one, after too many that failed; the number is that of the last of them."""
    held: int = 0
    """Works it has been given and not answered."""
    pace: float | None = None
    """Seconds a pass, of late; None while unknown."""


class Pool(Protocol):
    """A set of scorers: submit work, collect answers in any order."""

    def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:
        """Facts of model and task. Waits for the first scorer to be ready; answers that come in the wait are kept.

        Args:
            meanwhile: is called now and then during the wait.

        Raises:
            InputError: the model or the task cannot be used as configured.
            PoolError: no scorer came up.
        """

    def submit(self, work: Work) -> None:
        """Queue work. Never blocks; the id must not be in flight."""

    def collect(self, timeout: float) -> list[Answer]:
        """All answers that are ready, in any order, each id once; waits up to `timeout` seconds for the first.

        Raises:
            InputError: a scorer found that the input cannot be used (an unreadable image, say).
            PoolError: no scorer is left.
        """

    def members(self) -> list[Member]:
        """Who is there, and who is on the way."""

    def last_error(self) -> str:
        """Why the member lost last was lost; empty while none has been."""

    def close(self) -> None:
        """Free actors, processes and memory. May be called twice."""


class InProcessPool:
    """One scorer in the driver's own process; work is done when it is collected."""

    def __init__(self, build: Callable[[], ScorerLike]) -> None:
        self._scorer = build()
        self._queue: deque[Work] = deque()

    def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:  # noqa: ARG002 - no wait
        return self._scorer.facts()

    def submit(self, work: Work) -> None:
        self._queue.append(work)

    def collect(self, timeout: float) -> list[Answer]:  # noqa: ARG002 - the work itself is the wait
        return [Answer(self._scorer.answer(self._queue.popleft()))] if self._queue else []

    def members(self) -> list[Member]:
        return [Member(1, "ready", len(self._queue))]

    def last_error(self) -> str:
        return ""

    def close(self) -> None:
        self._queue.clear()
