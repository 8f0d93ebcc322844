"""Who does what: work to the member that will finish it first, copies of what is late, one answer for each id.

The rules of a pool without its transport: no Ray, no clock (`now` is given, in seconds), so that they can be tried on
thousands of simulated clusters. A member is whatever answers calls in the order in which it was given them; a call is
one work, or several passes that are short beside what a call costs the driver.
"""

import heapq
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import median

from zip_ray.pool import PoolError
from zip_ray.work import Answer, Failure, Hosted, HostedResult, Pass, Result, Slice, Work

PREFETCH = 2
"""Calls a member holds at once: the second hides the round trip."""
MOST_TOGETHER = 16
"""Passes in a call: with a few hundred parameters each, they still travel inline."""
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
CANDIDATES = 16
"""Free members that are looked at for a work: where more are free, time to choose is what is short."""
LOOK_SECONDS = 0.05
"""Between two looks at all members, for the sum of their speeds and for who is late: for each work it is slow."""
FAILURES_PER_WORK = 4
"""Failures or deaths of members over one piece of work after which the run is given up."""
SLOWER = 2.0
"""Times slower that a member is taken to be for each of its latest answers that were failures, one after another."""


@dataclass
class _Member:
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


class Dispatcher:
    """The state of all work that is in flight."""

    def __init__(self, answer_timeout: float, call_seconds: float) -> None:
        """Nobody is there yet.

        Args:
            answer_timeout: seconds after which a member that has not answered is `hung`.
            call_seconds: of the driver's time that a call may take; passes share one where members are so many, or
                passes so short, that calls of one pass would take more.
        """
        self._answer_timeout, self._call_seconds = answer_timeout, call_seconds
        self._members: dict[int, _Member] = {}
        self._free: dict[int, None] = {}
        """Members that hold fewer calls than they may, the longest so first."""
        self._fastest, self._speed, self._speed_at = 1.0, 1.0, float("-inf")
        self._late_at = float("-inf")
        self._waiting: list[int] = []
        self._works: dict[int, Work] = {}
        """Submitted and not answered."""
        self._copies: dict[int, int] = {}
        """How often each of them is waiting or held."""
        self._attempts: dict[int, int] = {}
        self._failures: dict[int, int] = {}
        self._failed_by: dict[int, set[int]] = {}
        """Who has answered a work with a failure."""
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
        who = self._members.pop(member, _Member())
        self._free.pop(member, None)
        self._speed_at = float("-inf")
        for call in who.calls.values():
            for work in filter(self._is_awaited, call):
                self._lose_copy(work.id)
        if not blameless:
            for work in filter(self._is_awaited, next(iter(who.calls.values()), ())):
                self._blame(work.id, reason)

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
        answers = []
        for work, (result, seconds) in zip(call, results, strict=True):
            failed = _has_failed(result)
            who.failures = who.failures + 1 if failed else 0
            if not failed:  # else the time tells nothing of its speed
                self._learn(who, work, seconds)
            if self._is_awaited(work) and not (failed and self._may_try_again(work.id, member)):
                answers.append(Answer(result, self._done(work.id)))
        for kind in {_kind(work) for work in call} & self._times.keys():
            self._typical[kind] = median(self._times[kind])
        return answers

    def assignments(self, now: float) -> list[tuple[int, tuple[Work, ...]]]:
        """The calls that are to be made to whom now; counted as sent."""
        self._copy_late(now)
        sent = []
        while (identity := self._next()) is not None:
            member = self._choose(identity, now)
            if member is None:
                break
            who = self._members[member]
            call = self._call(who, now)
            if not who.calls:
                who.since = now
            who.calls[identity] = call
            if len(who.calls) == PREFETCH:
                del self._free[member]
            sent.append((member, call))
        return sent

    def hung(self, now: float) -> list[int]:
        """Members that have been at one work for longer than the answer timeout."""
        return [number for number, m in self._members.items() if m.calls and now - m.since > self._answer_timeout]

    def held(self, member: int) -> int:
        """Works that a member holds."""
        return self._members[member].load

    def pace(self, member: int) -> float | None:
        """Seconds a pass of a member, of late; None while unknown."""
        return self._members[member].pace

    def _next(self) -> int | None:
        """The first of those that wait; copies that are no longer needed are let go."""
        while self._waiting and self._waiting[0] not in self._works:
            heapq.heappop(self._waiting)
        return self._waiting[0] if self._waiting else None

    def _call(self, who: _Member, now: float) -> tuple[Work, ...]:
        """The first of those that wait, and passes behind it up to this member's share, if it is one."""
        call = [self._take_first()]
        if _is_pass(call[0]) and call[0].id not in self._failures:
            most = self._together(who, call[0], now)
            while len(call) < most and (identity := self._next()) is not None:
                work = self._works[identity]
                if not _is_pass(work) or self._holds(who, identity) or identity in self._failures:
                    break
                call.append(self._take_first())
        return tuple(call)

    def _take_first(self) -> Work:
        identity = heapq.heappop(self._waiting)
        self._attempts[identity] += 1
        return self._works[identity]

    def _together(self, who: _Member, work: Work, now: float) -> int:
        """Passes, or slices like this, in a call to this member: as many as let the driver serve all, and leave each
        its part of the work."""
        if who.pace is None:
            return 1
        seconds = self._expected_pace(who, now) * _share(work)
        long_enough = len(self._members) * self._call_seconds / seconds
        return max(1, int(min(long_enough, len(self._works) / len(self._members), MOST_TOGETHER)))

    def _choose(self, identity: int, now: float) -> int | None:
        """Who would finish a work first; None where it is worth waiting for one that is full.

        A slow member gets work only where the others could not have done all of it before.
        """
        self._measure_speed(now)
        free = iter(self._free)
        while candidates := list(islice(free, CANDIDATES)):
            able = [
                ((who.load + 1) * self._expected_pace(who, now), number)
                for number, who in ((number, self._members[number]) for number in candidates)
                if self._may_take(number, identity, now) and not self._is_late(who, now)
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
        if now - self._speed_at < LOOK_SECONDS:
            return
        paces = [self._expected_pace(who, now) for who in self._members.values() if not self._is_late(who, now)]
        if paces:
            self._fastest, self._speed, self._speed_at = min(paces), sum(1 / pace for pace in paces), now

    def _expected_pace(self, who: _Member, now: float) -> float:
        pace = self._typical_pace if who.pace is None else max(who.pace, 1e-6)
        pace *= SLOWER**who.failures
        is_forgotten = not who.calls and now - who.since > FORGET * pace
        return self._typical_pace if is_forgotten else pace

    @property
    def _typical_pace(self) -> float:
        """Seconds a pass of whoever does it."""
        return max(self._typical.get(Pass, 1.0), 1e-6)

    def _copy_late(self, now: float) -> None:
        """Queue another copy of what only those hold who are late, where somebody idle could take it.

        While other work waits, nobody is idle: then whoever has a free call is asked, and only those count as late who
        are so by their own pace. Of a slow member's work, a copy would take time that is wanted for what waits.
        """
        if now - self._late_at < LOOK_SECONDS:
            return
        busy = self._next() is not None
        free = (self._members[number] for number in self._free)
        if not any((busy or not who.calls) and not self._is_late(who, now) for who in free):
            return
        self._late_at = now
        late = [who for who in self._members.values() if self._is_late(who, now, by_own_pace=busy)]
        calls = (call for who in late for call in who.calls.values())
        held = Counter(work.id for call in calls for work in filter(self._is_awaited, call))
        for identity, copies in held.items():
            if copies == self._copies[identity]:  # else one waits, or is with somebody who is in time
                self._queue(identity)

    def _may_take(self, member: int, identity: int, now: float) -> bool:
        """Whether a member can be given what waits: not what it holds, nor what it has failed at while there are others
        who have not, and are not late."""
        if self._holds(self._members[member], identity):
            return False
        failed_by = self._failed_by.get(identity, set())
        others = (who for number, who in self._members.items() if number not in failed_by)
        return member not in failed_by or all(self._is_late(who, now) for who in others)

    def _holds(self, who: _Member, identity: int) -> bool:
        """Whether a member has been given what waits, which none has where it is the only copy; or has, as the first of
        a call, what had its id before."""
        return identity in who.calls or (self._copies[identity] > 1 and identity in who.held)

    def _is_late(self, who: _Member, now: float, by_own_pace: bool = False) -> bool:
        """Whether it has been at its first call for too long, for any member or for one of its pace."""
        if not who.calls or now - who.since <= LATE_SECONDS:
            return False
        call = next(iter(who.calls.values()))
        typical = self._typical.get(_kind(call[0]))
        if typical is None:
            return now - who.since > FIRST_SHARE * self._answer_timeout
        if by_own_pace:
            typical *= max(1.0, self._expected_pace(who, now) / self._typical_pace)
        return now - who.since > LATE * typical * sum(map(_share, call))

    def _learn(self, who: _Member, work: Work, seconds: float) -> None:
        """The times of a kind of work, and the pace of who did it; of slices, those of the whole pass."""
        kind, seconds = _kind(work), seconds / _share(work)
        self._times.setdefault(kind, deque(maxlen=WINDOW)).append(seconds)
        if kind is Pass:
            who.pace = seconds if who.pace is None else MEMORY * seconds + (1 - MEMORY) * who.pace

    def _is_awaited(self, work: Work) -> bool:
        """Whether it has no answer yet: a copy may outlive its answer, and another work have the id by then."""
        return self._works.get(work.id) is work

    def _done(self, identity: int) -> int:
        """Forget a work that has been answered; how often it was sent."""
        del self._works[identity], self._copies[identity]
        self._failures.pop(identity, None)
        self._failed_by.pop(identity, None)
        return self._attempts.pop(identity)

    def _blame(self, identity: int, reason: str) -> None:
        """Count a failure over a work that is not done; it travels alone from then on, so that it is known who fails.

        Raises:
            PoolError: it has failed too often.
        """
        self._failures[identity] = self._failures.get(identity, 0) + 1
        if self._failures[identity] >= FAILURES_PER_WORK:
            raise PoolError(f"work {identity} failed {FAILURES_PER_WORK} times, last with: {reason}")

    def _may_try_again(self, identity: int, member: int) -> bool:
        """Count a failure that came as an answer; whether another copy is out, or has been queued for others."""
        self._failures[identity] = self._failures.get(identity, 0) + 1
        self._failed_by.setdefault(identity, set()).add(member)
        if self._failures[identity] >= FAILURES_PER_WORK:
            return False
        self._lose_copy(identity)
        return True

    def _queue(self, identity: int) -> None:
        self._copies[identity] += 1
        heapq.heappush(self._waiting, identity)

    def _lose_copy(self, identity: int) -> None:
        """One copy less of a work that is not done; the last is queued again."""
        self._copies[identity] -= 1
        if self._copies[identity] == 0:
            self._queue(identity)


def _is_pass(work: Work) -> bool:
    """Whether it is one of those that are many and alike: they may share a call, and their time is a member's pace."""
    return _kind(work) is Pass


def _has_failed(result: Result) -> bool:
    """Whether a work came to nothing where it was done, and may come to something elsewhere."""
    found = result.result if isinstance(result, HostedResult) else None
    return isinstance(found, Failure) and not found.is_input


def _kind(work: Work) -> type:
    """Works of a kind take about as long; a slice its share of a pass."""
    kind = type(_bare(work))
    return Pass if kind is Slice else kind


def _share(work: Work) -> float:
    """How much of a work of its kind it is."""
    bare = _bare(work)
    return bare.share if isinstance(bare, Slice) else 1.0


def _bare(work: Work) -> Work | None:
    return work.work if isinstance(work, Hosted) else work
