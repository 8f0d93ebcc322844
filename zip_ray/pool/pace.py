"""The speeds of the members of a pool, and which are late, estimated from the times of past work."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from zip_ray.protocol.messages import Failure, Value, Work

LATE = 4.0
"""Times the typical time after which a work is late, and a copy of it may go elsewhere.

Measured in docs/measurements/stragglers.md.
"""
LATE_SECONDS = 0.2
"""Seconds before which no work is late: round trips vary by as much."""
FIRST_SHARE = 0.1
"""Share of the answer timeout after which the first work of a kind is late: its typical time is not known yet."""
WINDOW = 51
"""Latest works of a kind whose median is the typical time."""
MEMORY = 0.3
"""Weight of the newest time in a member's own pace."""
FORGET = 10.0
"""Times its own pace that a member has been idle for after which it is tried again as if it were new."""
SLOWER = 2.0
"""Times slower that a member is taken to be for each of its latest answers that were failures in a row."""
TINY = 1e-6
"""Seconds; no pass takes less."""


@dataclass
class Load:
    """Pending work of a member, and its speed."""

    since: float = 0.0
    """When it began the first of its calls, or became idle."""
    calls: dict[int, tuple[Work, ...]] = field(default_factory=dict)
    """By the id of the first work in each, in the order in which they are done."""
    held: set[int] = field(default_factory=set)
    """Ids of the works in its calls."""
    pace: float | None = None
    """Recent seconds per pass; None while unknown."""
    failures: int = 0
    """Latest answers in a row that were failures."""


class Paces:
    """Typical times of all members together."""

    def __init__(self, answer_timeout: float) -> None:
        """Start without measurements.

        Args:
            answer_timeout: seconds after which a member without a result counts as hung.
        """
        self._answer_timeout = answer_timeout
        self._times: dict[str, deque[float]] = {}
        self._typical: dict[str, float] = {}
        """Median seconds by kind of work, of a whole pass."""

    def learn(self, load: Load, call: Sequence[Work], values: Sequence[tuple[Value, float]]) -> None:
        """Update the estimates with the seconds of a call's results. A failure only lowers the member's speed."""
        for work, (value, seconds) in zip(call, values, strict=True):
            if isinstance(value, Failure) and not value.is_input:
                load.failures += 1
                continue
            load.failures = 0
            kind, seconds = work.body.kind, seconds / work.body.share
            self._times.setdefault(kind, deque(maxlen=WINDOW)).append(seconds)
            if kind == "pass":
                load.pace = seconds if load.pace is None else MEMORY * seconds + (1 - MEMORY) * load.pace
        kind = call[0].body.kind
        if kind in self._times:
            self._typical[kind] = median(self._times[kind])

    def expected(self, load: Load, now: float) -> float:
        """Seconds that a pass will take a member."""
        anyone = self._typical.get("pass", 1.0) or TINY
        pace = (anyone if load.pace is None else load.pace or TINY) * SLOWER**load.failures
        is_forgotten = not load.calls and now - load.since > FORGET * pace
        return anyone if is_forgotten else pace

    def is_late(self, load: Load, now: float, by_own_pace: bool = False) -> bool:
        """Whether a member has been at its first call for too long, for any member or for one of its pace."""
        if not load.calls or now - load.since <= LATE_SECONDS:
            return False
        call = next(iter(load.calls.values()))
        typical = self._typical.get(call[0].body.kind)
        if typical is None:
            return now - load.since > FIRST_SHARE * self._answer_timeout
        if by_own_pace:
            typical *= max(1.0, self.expected(load, now) / (self._typical.get("pass", 1.0) or TINY))
        return now - load.since > LATE * typical * sum(work.body.share for work in call)

    def is_hung(self, load: Load, now: float) -> bool:
        """Whether a member has been at one call for longer than the answer timeout."""
        return bool(load.calls) and now - load.since > self._answer_timeout
