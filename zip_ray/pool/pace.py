"""How fast the members of a pool are, and who is late: from the times that works have taken."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from zip_ray.protocol.messages import Failure, Hosted, HostedResult, Pass, Result, Slice, Work

LATE = 4.0
"""Times the typical time after which a work is late, and a copy of it may go elsewhere."""
LATE_SECONDS = 0.2
"""Nothing is late before: round trips vary by so much."""
FIRST_SHARE = 0.1
"""Of the answer timeout, after which the first work of a kind is late: how long it takes is not known yet."""
WINDOW = 51
"""Latest works of a kind whose median is the typical time."""
MEMORY = 0.3
"""Weight of the newest time in a member's own."""
FORGET = 10.0
"""Times its own pace that a member has been idle for after which it is tried again as if it were new."""
SLOWER = 2.0
"""Times slower that a member is taken to be for each of its latest answers that were failures, one after another."""


@dataclass
class Hands:
    """What a member has in its hands, and how fast it has been."""

    calls: dict[int, tuple[Work, ...]] = field(default_factory=dict)
    """By the id of the first work in each, in the order in which they will be done."""
    since: float = 0.0
    """When it began the first of them, or became idle."""
    pace: float | None = None
    """Seconds a pass, of late; None while unknown."""
    failures: int = 0
    """Answers in a row, up to now, that were failures."""

    @property
    def held(self) -> list[int]:
        """Ids of all that it has been given and not answered."""
        return [work.id for call in self.calls.values() for work in call]

    @property
    def load(self) -> int:
        """How many these are."""
        return sum(map(len, self.calls.values()))


class Paces:
    """What is known of times, of all members together."""

    def __init__(self, answer_timeout: float) -> None:
        """Nothing is known.

        Args:
            answer_timeout: seconds after which a member that has not answered is taken for hung.
        """
        self._answer_timeout = answer_timeout
        self._times: dict[type, deque[float]] = {}
        self._typical: dict[type, float] = {}

    def learn(self, who: Hands, call: Sequence[Work], results: Sequence[tuple[Result, float]]) -> None:
        """From the answers to a call, each with its seconds. Of failures these tell nothing, but that others are to be
        preferred for the time being."""
        for work, (result, seconds) in zip(call, results, strict=True):
            if has_failed(result):
                who.failures += 1
                continue
            kind, seconds = _kind(work), seconds / share(work)
            who.failures = 0
            self._times.setdefault(kind, deque(maxlen=WINDOW)).append(seconds)
            if kind is Pass:
                who.pace = seconds if who.pace is None else MEMORY * seconds + (1 - MEMORY) * who.pace
        for kind in {_kind(work) for work in call} & self._times.keys():
            self._typical[kind] = median(self._times[kind])

    def expected(self, who: Hands, now: float) -> float:
        """Seconds that a pass will take a member."""
        pace = self._of_anyone if who.pace is None else max(who.pace, 1e-6)
        pace *= SLOWER**who.failures
        is_forgotten = not who.calls and now - who.since > FORGET * pace
        return self._of_anyone if is_forgotten else pace

    def is_late(self, who: Hands, now: float, by_own_pace: bool = False) -> bool:
        """Whether a member has been at its first call for too long, for any member or for one of its pace."""
        if not who.calls or now - who.since <= LATE_SECONDS:
            return False
        call = next(iter(who.calls.values()))
        typical = self._typical.get(_kind(call[0]))
        if typical is None:
            return now - who.since > FIRST_SHARE * self._answer_timeout
        if by_own_pace:
            typical *= max(1.0, self.expected(who, now) / self._of_anyone)
        return now - who.since > LATE * typical * sum(map(share, call))

    def is_hung(self, who: Hands, now: float) -> bool:
        """Whether a member has been at one call for longer than the answer timeout."""
        return bool(who.calls) and now - who.since > self._answer_timeout

    @property
    def _of_anyone(self) -> float:
        """Seconds a pass of whoever does it."""
        return max(self._typical.get(Pass, 1.0), 1e-6)


def is_pass(work: Work) -> bool:
    """Whether it is one of those that are many and alike: they may share a call, and their time is a member's pace."""
    return _kind(work) is Pass


def share(work: Work) -> float:
    """How much of a work of its kind it is: a slice of its pass."""
    bare = _bare(work)
    return bare.share if isinstance(bare, Slice) else 1.0


def has_failed(result: Result) -> bool:
    """Whether a work came to nothing where it was done, and may come to something elsewhere."""
    found = result.result if isinstance(result, HostedResult) else None
    return isinstance(found, Failure) and not found.is_input


def _kind(work: Work) -> type:
    """Works of a kind take about as long; a slice its share of a pass."""
    kind = type(_bare(work))
    return Pass if kind is Slice else kind


def _bare(work: Work) -> Work | None:
    return work.work if isinstance(work, Hosted) else work
