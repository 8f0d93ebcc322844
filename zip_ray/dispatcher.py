"""Who does what: work to the member that will finish it first, copies of what is late, one answer for each id.

The rules of a pool without its transport: no Ray, no clock (`now` is given, in seconds), so that they can be tried on
thousands of simulated clusters. A member is whatever answers works in the order in which it was given them.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from statistics import median

from zip_ray.pool import PoolError
from zip_ray.work import Answer, Hosted, Pass, Result, Slice, Work

PREFETCH = 2
"""Works a member holds at once: the second hides the round trip."""
LATE = 4.0
"""Times the typical time after which a work is late, and a copy of it may go elsewhere."""
LATE_SECONDS = 0.2
"""Nothing is late before: round trips vary by so much."""
WINDOW = 51
"""Latest works of a kind whose median is the typical time."""
MEMORY = 0.3
"""Weight of the newest time in a member's own."""
FORGET = 10.0
"""Times its own pace that a member has been idle for after which it is tried again as if it were new."""
CANDIDATES = 16
"""Free members that are looked at for a work: where more are free, time to choose is what is short."""
SPEED_SECONDS = 0.05
"""For which the sum of the members' speeds is taken to stay as it is: looking at all of them for each work is slow."""
FAILURES_PER_WORK = 4
"""Failures or deaths of members over one piece of work after which the run is given up."""


@dataclass
class _Member:
    held: dict[int, Work] = field(default_factory=dict)
    """By id, in the order in which they will be done."""
    since: float = 0.0
    """When it began the first of them, or became idle."""
    pace: float | None = None
    """Seconds a pass, of late; None while unknown."""


class Dispatcher:
    """The state of all work that is in flight."""

    def __init__(self, answer_timeout: float) -> None:
        """Nobody is there yet.

        Args:
            answer_timeout: seconds after which a member that has not answered is `hung`.
        """
        self._answer_timeout = answer_timeout
        self._members: dict[int, _Member] = {}
        self._free: dict[int, None] = {}
        """Members that hold fewer works than they may, the longest so first."""
        self._fastest, self._speed, self._speed_at = 1.0, 1.0, float("-inf")
        self._waiting: list[int] = []
        self._works: dict[int, Work] = {}
        """Submitted and not answered."""
        self._copies: dict[int, int] = {}
        """How often each of them is waiting or held."""
        self._attempts: dict[int, int] = {}
        self._failures: dict[int, int] = {}
        self._times: dict[type, deque[float]] = {}
        self._typical: dict[type, float] = {}

    @property
    def outstanding(self) -> int:
        """Works submitted and not answered."""
        return len(self._works)

    def submit(self, work: Work) -> None:
        """Queue a piece of work.

        Raises:
            ValueError: its id is in flight already.
        """
        if work.id in self._works:
            raise ValueError(f"work {work.id} is in flight already")
        self._works[work.id] = work
        self._copies[work.id] = self._attempts[work.id] = 0
        self._queue(work.id)

    def join(self, member: int, now: float) -> None:
        """A member is ready."""
        self._members[member] = _Member(since=now)
        self._free[member] = None
        self._speed_at = float("-inf")

    def leave(self, member: int, reason: str, blameless: bool = False) -> None:
        """A member is lost, or was never there; what it held is queued again.

        Args:
            member: who.
            reason: the last error, in one line.
            blameless: what it was at had no part in it (its node has died, say), and does not count as failed.

        Raises:
            PoolError: that work has failed too often.
        """
        held = self._members.pop(member, _Member()).held
        self._free.pop(member, None)
        self._speed_at = float("-inf")
        for identity in held:
            self._lose_copy(identity)
        at_work = next((identity for identity in held if identity in self._works), None)
        if at_work is not None and not blameless:
            self._failures[at_work] = self._failures.get(at_work, 0) + 1
            if self._failures[at_work] >= FAILURES_PER_WORK:
                raise PoolError(f"work {at_work} failed {FAILURES_PER_WORK} times, last with: {reason}")

    def answered(self, member: int, result: Result, seconds: float, now: float) -> Answer | None:
        """Take in an answer; None for one that another member gave first.

        Args:
            member: who answers.
            result: the answer.
            seconds: how long the member worked on it.
            now: the time.
        """
        who = self._members[member]
        work = who.held.pop(result.id)
        self._free[member] = None
        who.since = now
        kind = _kind(work)
        times = self._times.setdefault(kind, deque(maxlen=WINDOW))
        times.append(seconds)
        self._typical[kind] = median(times)
        if kind in (Pass, Slice):
            who.pace = seconds if who.pace is None else MEMORY * seconds + (1 - MEMORY) * who.pace
        if result.id not in self._works:
            return None
        del self._works[result.id], self._copies[result.id]
        self._failures.pop(result.id, None)
        return Answer(result, self._attempts.pop(result.id))

    def assignments(self, now: float) -> list[tuple[int, Work]]:
        """What is to be sent to whom now; counted as sent."""
        self._copy_late(now)
        sent = []
        while self._waiting:
            identity = self._waiting[0]
            if identity not in self._works:  # a copy that is no longer needed
                heapq.heappop(self._waiting)
                continue
            member = self._choose(identity, now)
            if member is None:
                break
            heapq.heappop(self._waiting)
            who = self._members[member]
            if not who.held:
                who.since = now
            who.held[identity] = self._works[identity]
            if len(who.held) == PREFETCH:
                del self._free[member]
            self._attempts[identity] += 1
            sent.append((member, self._works[identity]))
        return sent

    def hung(self, now: float) -> list[int]:
        """Members that have been at one work for longer than the answer timeout."""
        return [number for number, m in self._members.items() if m.held and now - m.since > self._answer_timeout]

    def held(self, member: int) -> int:
        """Works that a member holds."""
        return len(self._members[member].held)

    def pace(self, member: int) -> float | None:
        """Seconds a pass of a member, of late; None while unknown."""
        return self._members[member].pace

    def _choose(self, identity: int, now: float) -> int | None:
        """Who would finish a work first; None where it is worth waiting for one that is full.

        A slow member gets work only where the others could not have done all of it before.
        """
        self._measure_speed(now)
        free = iter(self._free)
        while candidates := list(islice(free, CANDIDATES)):
            able = [
                ((len(who.held) + 1) * self._expected_pace(who, now), number)
                for number, who in ((number, self._members[number]) for number in candidates)
                if identity not in who.held and not self._is_late(who, now)
            ]
            if able:
                finish, number = min(able)
                # The fastest, were it full, would do it as its third; all together will be through by `cleared`.
                cleared = len(self._works) / self._speed
                if finish <= max((PREFETCH + 1) * self._fastest, cleared):
                    return number
        return None

    def _measure_speed(self, now: float) -> None:
        """Passes a second of all members that are not late, and the pace of the fastest, as of late."""
        if now - self._speed_at < SPEED_SECONDS:
            return
        paces = [self._expected_pace(who, now) for who in self._members.values() if not self._is_late(who, now)]
        if paces:
            self._fastest, self._speed, self._speed_at = min(paces), sum(1 / pace for pace in paces), now

    def _expected_pace(self, who: _Member, now: float) -> float:
        if who.pace is None or (not who.held and now - who.since > FORGET * who.pace):
            return max(self._typical.get(Pass, self._typical.get(Slice, 1.0)), 1e-6)
        return max(who.pace, 1e-6)

    def _copy_late(self, now: float) -> None:
        """Queue a second copy of what is held by those who are late, where somebody idle could take it."""
        if self._waiting or not any(not who.held for who in self._members.values()):
            return
        for who in self._members.values():
            if self._is_late(who, now):
                for identity in who.held:
                    if identity in self._works and self._copies[identity] == 1:
                        self._queue(identity)

    def _is_late(self, who: _Member, now: float) -> bool:
        if not who.held:
            return False
        typical = self._typical.get(_kind(next(iter(who.held.values()))))
        return typical is not None and now - who.since > max(LATE_SECONDS, LATE * typical)

    def _queue(self, identity: int) -> None:
        self._copies[identity] += 1
        heapq.heappush(self._waiting, identity)

    def _lose_copy(self, identity: int) -> None:
        """One copy less of a work that may be done; the last is queued again."""
        if identity in self._works:
            self._copies[identity] -= 1
            if self._copies[identity] == 0:
                self._queue(identity)


def _kind(work: Work) -> type:
    """Works of a kind take about as long."""
    return type(work.work if isinstance(work, Hosted) else work)
