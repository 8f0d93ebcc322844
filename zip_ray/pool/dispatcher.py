"""Scheduling: work goes to the member expected to finish it first, overdue work is copied, each id gets one result.

The rules of a pool without its transport: no Ray, no clock (`now` is an argument, in seconds), so that they can be
tested on thousands of simulated clusters. A member processes calls in the order in which it receives them; a call has
one piece of work, or several passes that are short compared with the driver's time per call.
"""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from zip_ray.pool.contract import PoolError, require_new
from zip_ray.pool.pace import Load, Paces
from zip_ray.protocol.messages import Answer, Failure, Priority, Value, Work

PREFETCH = 2
"""Calls that a member holds at once: the second hides the round trip (docs/measurements/scaling.md)."""
MOST_TOGETHER = 16
"""Maximum of passes in a call: with a few hundred parameters each, they still travel inline."""
CANDIDATES = 16
"""Free members that are compared for a work: with hundreds of actors, comparing all costs more than it gains."""
LOOK_SECONDS = 0.05
"""Seconds between two passes over all members, for the sum of their speeds and overdue work: too slow per work."""
FAILURES_PER_WORK = 4
"""Failures of one piece of work, or losses of the members processing it, after which the run ends."""


@dataclass
class Awaited:
    """Submitted work that has not been answered."""

    work: Work
    copies: int = 0
    """How many of it wait or are held."""
    attempts: int = 0
    """How often it was sent."""
    failures: int = 0
    """How often it has failed, or the member at it was lost."""
    failed_by: set[int] = field(default_factory=set)
    """Members that have answered it with a failure."""


class Dispatcher:
    """The state of all work in flight."""

    def __init__(self, answer_timeout: float, call_seconds: float) -> None:
        """Start without members.

        Args:
            answer_timeout: seconds after which a member without a result is `hung`.
            call_seconds: of the driver's time that a call may take; passes share one where members are so many, or
                passes so short, that calls of one pass would take more.
        """
        self._call_seconds = call_seconds
        self._paces = Paces(answer_timeout)
        self._members: dict[int, Load] = {}
        self._idle: dict[int, None] = {}
        """Members without a call, the longest so first."""
        self._room: dict[int, None] = {}
        """Members with a call and room for another, the longest so first."""
        self._refused: dict[int, None] = {}
        """Members, idle or with room, that would finish too late whatever waits; compared again when that changes."""
        self._refused_soonest = float("inf")
        """Seconds in which the first of them would finish a work."""
        self._fastest, self._speed = 1.0, 1.0
        self._looked = float("-inf")
        self.awaited: dict[int, Awaited] = {}
        """Works submitted and not answered, by id."""
        self._waiting: list[tuple[Priority, int]] = []
        """A heap of the ids that wait; what is answered meanwhile stays until it is the first."""

    def submit(self, *works: Work) -> None:
        """Queue works.

        Raises:
            ValueError: an id is in flight already, or given twice; none of the works is queued.
        """
        require_new(works, self.awaited)
        for work in works:
            self.awaited[work.id] = Awaited(work, copies=1)
            heapq.heappush(self._waiting, (work.priority, work.id))

    def join(self, member: int, now: float) -> None:
        """A member is ready."""
        self._members[member] = Load(since=now)
        self._file(member)
        self._looked = float("-inf")

    def leave(self, member: int, reason: str, blameless: bool = False) -> None:
        """A member is lost, or never existed; its work is queued again.

        Args:
            member: its number.
            reason: the last error, in one line.
            blameless: its work was not the cause (for example, its node has failed), and does not count as failed.

        Raises:
            PoolError: that work has failed too often.
        """
        load = self._members.pop(member, None)
        self._file(member)
        self._looked = float("-inf")
        if load is None:
            return
        for identity in load.held & self.awaited.keys():
            self._lose_copy(self.awaited[identity])
        if blameless:
            return
        for work in next(iter(load.calls.values()), ()):
            if (awaited := self.awaited.get(work.id)) is not None:
                awaited.failures += 1
                if awaited.failures >= FAILURES_PER_WORK:
                    raise PoolError(f"work {work.id} failed {FAILURES_PER_WORK} times, last with: {reason}")

    def answered(self, member: int, call: int, values: Sequence[tuple[Value, float]], now: float) -> list[Answer]:
        """The new results of a call: without those that another member returned first, and work retried elsewhere.

        Args:
            member: that answers.
            call: id of the call's first work.
            values: answers to the works of the call in their order, each with the seconds that it took.
            now: the time.
        """
        load = self._members[member]
        works = load.calls.pop(call)
        load.since = now
        self._file(member)
        self._paces.learn(load, works, values)
        answers = []
        for work, (value, _) in zip(works, values, strict=True):
            load.held.discard(work.id)
            awaited = self.awaited.get(work.id)
            if awaited is None or (isinstance(value, Failure) and self._is_tried_again(awaited, member, value)):
                continue
            del self.awaited[work.id]
            answers.append(Answer(work.id, value, awaited.attempts))
        return answers

    def assignments(self, now: float) -> list[tuple[int, tuple[Work, ...]]]:
        """The calls to make to members now; counted as sent."""
        if now - self._looked >= LOOK_SECONDS:
            self._look(now)
        sent = []
        while (first := self._next()) is not None:
            member = self._choose(first, now)
            if member is None:
                break
            load = self._members[member]
            call = self._call(load, first, now)
            if not load.calls:
                load.since = now
            load.calls[call[0].id] = call
            for work in call:
                load.held.add(work.id)
            self._file(member)
            sent.append((member, call))
        return sent

    def hung(self, now: float) -> list[int]:
        """Members that have spent longer than the answer timeout on one piece of work."""
        return [number for number, load in self._members.items() if self._paces.is_hung(load, now)]

    def held(self, member: int) -> int:
        """Number of pieces of work a member holds."""
        return len(self._members[member].held)

    def pace(self, member: int) -> float | None:
        """Recent seconds per pass of a member; None while unknown."""
        return self._members[member].pace

    def _next(self) -> Awaited | None:
        """The first work that waits; copies that are no longer needed are dropped."""
        while self._waiting:
            if (first := self.awaited.get(self._waiting[0][1])) is not None:
                return first
            heapq.heappop(self._waiting)
        return None

    def _call(self, load: Load, first: Awaited, now: float) -> tuple[Work, ...]:
        """The first waiting work and, if it is a pass, the passes behind it up to this member's share.

        Work that has failed travels alone, to identify the work that fails.
        """
        heapq.heappop(self._waiting)
        first.attempts += 1
        call = [first.work]
        if self._waiting and first.work.body.kind == "pass" and not first.failures and load.pace is not None:
            most = self._together(load, first.work, now)
            while len(call) < most and (another := self._next()) is not None:
                if another.work.body.kind != "pass" or another.failures or another.work.id in load.held:
                    break
                heapq.heappop(self._waiting)
                another.attempts += 1
                call.append(another.work)
        return tuple(call)

    def _together(self, load: Load, work: Work, now: float) -> int:
        """Passes, or slices like this, in a call: as many as let the driver serve all members, and leave each its part
        of the work."""
        seconds = self._paces.expected(load, now) * work.body.share
        long_enough = len(self._members) * self._call_seconds / seconds
        return max(1, int(min(long_enough, len(self.awaited) / len(self._members), MOST_TOGETHER)))

    def _choose(self, first: Awaited, now: float) -> int | None:
        """The member that would finish the work first; None if it is better to wait for one that is full.

        A slow member gets work only if the others could not finish all of it earlier.
        """
        # The fastest, were it full, would do it as its third; all together will be through by the second.
        enough = max((PREFETCH + 1) * self._fastest, len(self.awaited) / self._speed)
        is_new = first.copies == 1 and not first.failures  # held by no member, and not refused to any
        if not is_new or self._refused_soonest <= enough:
            self._reconsider()
        paces, free, refused = self._paces, chain(self._idle, self._room), list[int]()
        chosen, least = None, self._refused_soonest
        while chosen is None and (candidates := list(islice(free, CANDIDATES))):
            best, soonest = None, float("inf")
            for number in candidates:
                load = self._members[number]
                if first.work.id in load.held or (first.failures and not self._may_retry(number, first, now)):
                    continue
                finish = (len(load.held) + 1) * paces.expected(load, now)
                if finish < soonest and not (load.calls and paces.is_late(load, now)):
                    best, soonest = number, finish
            if best is not None and soonest <= enough:
                chosen = best
            else:
                refused, least = refused + candidates, min(least, soonest)
        if is_new:
            self._refuse(refused, least)
        return chosen

    def _refuse(self, members: Sequence[int], soonest: float) -> None:
        """Offer members no new work until it is worth their while, or what they can do changes."""
        for member in members:
            self._idle.pop(member, None)
            self._room.pop(member, None)
            self._refused[member] = None
        self._refused_soonest = soonest

    def _reconsider(self) -> None:
        """Offer work again to members that were passed over."""
        for member in list(self._refused):
            self._file(member)
        self._refused_soonest = float("inf")

    def _file(self, member: int) -> None:
        """Note what a member can take now. Idle members come first: a second call on one of them would wait while
        another member has nothing to do."""
        for group in (self._idle, self._room, self._refused):
            group.pop(member, None)
        load = self._members.get(member)
        if load is not None and len(load.calls) < PREFETCH:
            (self._room if load.calls else self._idle)[member] = None

    def _may_retry(self, member: int, waits: Awaited, now: float) -> bool:
        """Whether a member may retry failed work: not if it failed there itself while other members have not."""
        if member not in waits.failed_by:
            return True
        others = (load for number, load in self._members.items() if number not in waits.failed_by)
        return all(self._paces.is_late(load, now) for load in others)

    def _look(self, now: float) -> None:
        """Measure speeds, and queue copies of overdue work."""
        self._looked = now
        self._reconsider()
        paces = [
            self._paces.expected(load, now) for load in self._members.values() if not self._paces.is_late(load, now)
        ]
        if paces:
            self._fastest, self._speed = min(paces), sum([1 / pace for pace in paces])
        if self.awaited:
            self._copy_late(now)

    def _copy_late(self, now: float) -> None:
        """Queue another copy of work that only late members hold, if an idle member could take it.

        While other work waits, no member is idle: then any with a free call qualifies, and members count as late only
        by their own pace. A copy of a slow member's work would delay the waiting work.
        """
        busy = self._next() is not None
        free = (self._members[number] for number in chain(self._idle, self._room))
        if not any((busy or not load.calls) and not self._paces.is_late(load, now) for load in free):
            return
        late = [load for load in self._members.values() if self._paces.is_late(load, now, by_own_pace=busy)]
        held = Counter(identity for load in late for identity in load.held & self.awaited.keys())
        for identity, copies in held.items():
            awaited = self.awaited[identity]
            if copies == awaited.copies:  # otherwise a copy is waiting, or held by a member that is on time
                awaited.copies += 1
                heapq.heappush(self._waiting, (awaited.work.priority, identity))

    def _is_tried_again(self, awaited: Awaited, member: int, failure: Failure) -> bool:
        """Whether failed work may succeed on another member."""
        if failure.is_input:
            return False
        awaited.failures += 1
        awaited.failed_by.add(member)
        if awaited.failures >= FAILURES_PER_WORK:
            return False
        self._lose_copy(awaited)
        return True

    def _lose_copy(self, awaited: Awaited) -> None:
        """Remove one copy of unfinished work; queue it again if it was the last."""
        awaited.copies -= 1
        if awaited.copies == 0:
            awaited.copies = 1
            heapq.heappush(self._waiting, (awaited.work.priority, awaited.work.id))
