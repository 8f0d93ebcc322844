"""Who does what: work to the member that will finish it first, copies of what is late, one answer for each id.

The rules of a pool without its transport: no Ray, no clock (`now` is given, in seconds), so that they can be tried on
thousands of simulated clusters. A member is whatever answers calls in the order in which it was given them; a call is
one work, or several passes that are short beside what a call costs the driver.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from zip_ray.pool.contract import PoolError
from zip_ray.pool.pace import Hands, Paces, has_failed, is_pass, share
from zip_ray.protocol.messages import Answer, Result, Work

PREFETCH = 2
"""Calls a member holds at once: the second hides the round trip."""
MOST_TOGETHER = 16
"""Passes in a call: with a few hundred parameters each, they still travel inline."""
CANDIDATES = 16
"""Free members that are looked at for a work: where more are free, time to choose is what is short."""
LOOK_SECONDS = 0.05
"""Between two looks at all members, for the sum of their speeds and for who is late: for each work it is slow."""
FAILURES_PER_WORK = 4
"""Failures or deaths of members over one piece of work after which the run is given up."""


@dataclass
class _Awaited:
    """A work that was submitted and is not answered."""

    work: Work
    copies: int = 0
    """How often it is waiting or held."""
    attempts: int = 0
    """How often it was sent."""
    failures: int = 0
    """How often it has failed, or whoever was at it."""
    failed_by: set[int] = field(default_factory=set)
    """Who has answered it with a failure."""

    @property
    def is_given_up(self) -> bool:
        """Whether it has failed too often to be tried again."""
        return self.failures >= FAILURES_PER_WORK


class Dispatcher:
    """The state of all work that is in flight."""

    def __init__(self, answer_timeout: float, call_seconds: float) -> None:
        """Nobody is there yet.

        Args:
            answer_timeout: seconds after which a member that has not answered is `hung`.
            call_seconds: of the driver's time that a call may take; passes share one where members are so many, or
                passes so short, that calls of one pass would take more.
        """
        self._call_seconds = call_seconds
        self._paces = Paces(answer_timeout)
        self._members: dict[int, Hands] = {}
        self._free: dict[int, None] = {}
        """Members that hold fewer calls than they may, the longest so first."""
        self._fastest, self._speed, self._speed_at = 1.0, 1.0, float("-inf")
        self._late_at = float("-inf")
        self._waiting: list[int] = []
        """A heap of ids; those that are no longer awaited stay until they are its first."""
        self._awaited: dict[int, _Awaited] = {}

    @property
    def outstanding(self) -> int:
        """Works submitted and not answered."""
        return len(self._awaited)

    def submit(self, work: Work) -> None:
        """Queue a piece of work.

        Raises:
            ValueError: its id is in flight already.
        """
        if work.id in self._awaited:
            raise ValueError(f"work {work.id} is in flight already")
        self._awaited[work.id] = _Awaited(work)
        self._queue(work.id)

    def join(self, member: int, now: float) -> None:
        """A member is ready."""
        self._members[member] = Hands(since=now)
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
        who = self._members.pop(member, Hands())
        self._free.pop(member, None)
        self._speed_at = float("-inf")
        for call in who.calls.values():
            for work in self._still_awaited(call):
                self._lose_copy(work.id)
        if not blameless:
            for work in self._still_awaited(next(iter(who.calls.values()), ())):
                awaited = self._awaited[work.id]
                awaited.failures += 1
                if awaited.is_given_up:
                    raise PoolError(f"work {work.id} failed {FAILURES_PER_WORK} times, last with: {reason}")

    def answered(self, member: int, results: Sequence[tuple[Result, float]], now: float) -> list[Answer]:
        """Take in the answer to a call; without what another member answered first, and what will be tried elsewhere.

        Args:
            member: who answers.
            results: to the works of the call in their order, each with the seconds that the member worked on it.
            now: the time.
        """
        who = self._members[member]
        call = who.calls.pop(results[0][0].id)
        self._free[member] = None
        who.since = now
        self._paces.learn(who, call, results)
        answers = []
        for work, (result, _) in zip(call, results, strict=True):
            if not self._is_awaited(work):
                continue
            awaited = self._awaited[work.id]
            if has_failed(result):
                awaited.failures += 1
                awaited.failed_by.add(member)
                if not awaited.is_given_up:
                    self._lose_copy(work.id)
                    continue
            del self._awaited[work.id]
            answers.append(Answer(result, awaited.attempts))
        return answers

    def assignments(self, now: float) -> list[tuple[int, tuple[Work, ...]]]:
        """The calls that are to be made to whom now; counted as sent."""
        self._copy_late(now)
        sent = []
        while (first := self._next()) is not None:
            member = self._choose(first, now)
            if member is None:
                break
            who = self._members[member]
            call = self._call(who, now)
            if not who.calls:
                who.since = now
            who.calls[call[0].id] = call
            if len(who.calls) == PREFETCH:
                del self._free[member]
            sent.append((member, call))
        return sent

    def hung(self, now: float) -> list[int]:
        """Members that have been at one work for longer than the answer timeout."""
        return [number for number, who in self._members.items() if self._paces.is_hung(who, now)]

    def held(self, member: int) -> int:
        """Works that a member holds."""
        return self._members[member].load

    def pace(self, member: int) -> float | None:
        """Seconds a pass of a member, of late; None while unknown."""
        return self._members[member].pace

    def _next(self) -> _Awaited | None:
        """The first of those that wait; copies that are no longer needed are let go."""
        while self._waiting:
            if (first := self._awaited.get(self._waiting[0])) is not None:
                return first
            heapq.heappop(self._waiting)
        return None

    def _call(self, who: Hands, now: float) -> tuple[Work, ...]:
        """The first of those that wait, and passes behind it up to this member's share, if it is one.

        What has failed travels alone, so that it is known who fails.
        """
        first = self._take_first()
        call = [first.work]
        if is_pass(first.work) and not first.failures:
            most = self._together(who, first.work, now)
            while len(call) < most and (another := self._next()) is not None:
                if not is_pass(another.work) or another.failures or self._holds(who, another):
                    break
                call.append(self._take_first().work)
        return tuple(call)

    def _take_first(self) -> _Awaited:
        first = self._awaited[heapq.heappop(self._waiting)]
        first.attempts += 1
        return first

    def _together(self, who: Hands, work: Work, now: float) -> int:
        """Passes, or slices like this, in a call to this member: as many as let the driver serve all, and leave each
        its part of the work."""
        if who.pace is None:
            return 1
        seconds = self._paces.expected(who, now) * share(work)
        long_enough = len(self._members) * self._call_seconds / seconds
        return max(1, int(min(long_enough, len(self._awaited) / len(self._members), MOST_TOGETHER)))

    def _choose(self, waits: _Awaited, now: float) -> int | None:
        """Who would finish a work first; None where it is worth waiting for one that is full.

        A slow member gets work only where the others could not have done all of it before.
        """
        self._measure_speed(now)
        free = iter(self._free)
        while candidates := list(islice(free, CANDIDATES)):
            able = [
                ((who.load + 1) * self._paces.expected(who, now), number)
                for number, who in ((number, self._members[number]) for number in candidates)
                if self._may_take(number, waits, now) and not self._paces.is_late(who, now)
            ]
            if able:
                finish, number = min(able)
                # The fastest, were it full, would do it as its third; all together will be through by `cleared`.
                cleared = len(self._awaited) / self._speed
                if finish <= max((PREFETCH + 1) * self._fastest, cleared):
                    return number
        return None

    def _measure_speed(self, now: float) -> None:
        """Passes a second of all members that are not late, and the pace of the fastest, as of late."""
        if now - self._speed_at < LOOK_SECONDS:
            return
        in_time = (who for who in self._members.values() if not self._paces.is_late(who, now))
        paces = [self._paces.expected(who, now) for who in in_time]
        if paces:
            self._fastest, self._speed, self._speed_at = min(paces), sum(1 / pace for pace in paces), now

    def _copy_late(self, now: float) -> None:
        """Queue another copy of what only those hold who are late, where somebody idle could take it.

        While other work waits, nobody is idle: then whoever has a free call is asked, and only those count as late who
        are so by their own pace. Of a slow member's work, a copy would take time that is wanted for what waits.
        """
        if now - self._late_at < LOOK_SECONDS:
            return
        busy = self._next() is not None
        free = (self._members[number] for number in self._free)
        if not any((busy or not who.calls) and not self._paces.is_late(who, now) for who in free):
            return
        self._late_at = now
        late = [who for who in self._members.values() if self._paces.is_late(who, now, by_own_pace=busy)]
        calls = (call for who in late for call in who.calls.values())
        held = Counter(work.id for call in calls for work in self._still_awaited(call))
        for identity, copies in held.items():
            if copies == self._awaited[identity].copies:  # else one waits, or is with somebody who is in time
                self._queue(identity)

    def _may_take(self, member: int, waits: _Awaited, now: float) -> bool:
        """Whether a member can be given what waits: not what it holds, nor what it has failed at while there are others
        who have not, and are not late."""
        if self._holds(self._members[member], waits):
            return False
        others = (who for number, who in self._members.items() if number not in waits.failed_by)
        return member not in waits.failed_by or all(self._paces.is_late(who, now) for who in others)

    def _holds(self, who: Hands, waits: _Awaited) -> bool:
        """Whether a member has been given what waits, which none has where it is the only copy; or has, as the first of
        a call, what had its id before."""
        identity = waits.work.id
        return identity in who.calls or (waits.copies > 1 and identity in who.held)

    def _still_awaited(self, call: Iterable[Work]) -> list[Work]:
        return [work for work in call if self._is_awaited(work)]

    def _is_awaited(self, work: Work) -> bool:
        """Whether it has no answer yet: a copy may outlive its answer, and another work have the id by then."""
        awaited = self._awaited.get(work.id)
        return awaited is not None and awaited.work is work

    def _queue(self, identity: int) -> None:
        self._awaited[identity].copies += 1
        heapq.heappush(self._waiting, identity)

    def _lose_copy(self, identity: int) -> None:
        """One copy less of a work that is not done; the last is queued again."""
        self._awaited[identity].copies -= 1
        if self._awaited[identity].copies == 0:
            self._queue(identity)
