"""Work that fails is retried elsewhere, and a member with failures receives less work. In virtual time."""

import heapq

import pytest

from tests.support.dispatching import assigned, dispatcher, practised, value_of
from tests.support.fakes import numbered_evaluation, numbered_pair
from zip_ray.pool.dispatcher import FAILURES_PER_WORK, Dispatcher
from zip_ray.pool.pace import FIRST_SHARE
from zip_ray.protocol.messages import Answer, EvaluationResult, Failure, Work

FULL = Failure("OutOfMemoryError: CUDA out of memory")


def fails(made: Dispatcher, member: int, number: int, now: float = 0.0, failure: Failure = FULL) -> list[Answer]:
    """A member answers a call of one work with a failure."""
    return made.answered(member, number, [(failure, 0.001)], now)


def test_a_failed_work_goes_to_members_that_have_not_failed_at_it() -> None:
    made = dispatcher(members=3)
    made.submit(numbered_pair(0))
    tried = []
    for _ in range(3):
        ((member, _),) = assigned(made)
        tried.append(member)
        assert fails(made, member, 0) == []
    assert sorted(tried) == [0, 1, 2]
    ((member, _),) = assigned(made)
    assert fails(made, member, 0) == [Answer(0, FULL, FAILURES_PER_WORK)]
    assert not made.awaited


def test_it_does_not_wait_for_members_that_are_late() -> None:
    made = dispatcher(members=2)
    for number in (5, 6):
        made.submit(numbered_pair(number))
    assert assigned(made) == [(0, 5), (1, 6)]
    assert fails(made, 0, 5) == []
    assert assigned(made) == [(1, 5)], "the other has room for a second"
    made.submit(numbered_pair(0))
    assert assigned(made) == [(0, 0)]
    assert fails(made, 0, 0) == []
    assert assigned(made) == [], "the other is full"
    assert (0, 0) in assigned(made, now=99.0)


def test_a_fault_of_the_input_is_an_answer() -> None:
    made = dispatcher(members=2)
    made.submit(numbered_pair(0))
    ((member, _),) = assigned(made)
    no_image = Failure("no such image", is_input=True)
    assert fails(made, member, 0, failure=no_image) == [Answer(0, no_image, 1)]


def test_a_failure_does_not_overtake_a_copy_that_is_out() -> None:
    made = practised(1.0, 1.0, 1.0)
    made.submit(numbered_pair(0))
    ((first, _),) = assigned(made, now=3.0)
    ((second, _),) = assigned(made, now=20.0)
    assert fails(made, second, 0, now=20.01) == []
    assert assigned(made, now=20.01) == [], "the first is out yet"
    ((third, _),) = assigned(made, now=20.1)
    assert {first, second, third} == {0, 1, 2}, "and late yet"
    (late,) = made.answered(first, 0, [(value_of(0), 20.0)], 21.0)
    assert late.attempts == 3


@pytest.mark.parametrize("seconds", [0.002, 0.02, 0.05, 0.1, 0.3])
@pytest.mark.parametrize(("members", "broken"), [(2, 1), (4, 1), (8, 1), (8, 5)])
def test_members_that_fail_at_once_do_not_swallow_the_work(members: int, broken: int, seconds: float) -> None:
    """For example on full GPUs: failing is faster than any result, so a failing member is always free."""
    made, healthy = Dispatcher(300.0, 0.006), 0.1
    for member in range(members):
        made.join(member, 0.0)
    agenda: list[tuple[float, int, int, tuple[Work, ...]]] = []
    busy_until = [0.0] * members
    done, failures, now, submitted = 0, 0, 0.0, 64
    for number in range(submitted):
        made.submit(numbered_pair(number))
    while True:
        for member, call in made.assignments(now):
            took = (seconds if member < broken else healthy) * len(call)
            busy_until[member] = max(busy_until[member], now) + took
            heapq.heappush(agenda, (busy_until[member], member, call[0].id, call))
        if not agenda:
            break
        now, member, call_id, call = heapq.heappop(agenda)
        fails_here = member < broken
        failures += fails_here * len(call)
        values = [(FULL if fails_here else value_of(w.id), seconds if fails_here else healthy) for w in call]
        for one in made.answered(member, call_id, values, now):
            assert one.value is not FULL, f"work {one.id} was given up"
            done += 1
            if submitted < 400:
                made.submit(numbered_pair(submitted))
                submitted += 1
    assert done == submitted == 400
    assert failures < 0.2 * done
    assert now < 1.3 * (400 - broken) * healthy / (members - broken)


def test_a_member_that_fails_is_taken_for_slower_until_it_succeeds() -> None:
    made = practised(1.0)
    made.submit(numbered_pair(0))
    for now, expected in ((2.0, 2.0), (2.1, 4.0), (2.2, 8.0)):
        assert assigned(made, now) == [(0, 0)], "there is no other"
        fails(made, 0, 0, now)
        assert made._paces.expected(made._members[0], now) == expected
    assigned(made, now=2.3)
    made.answered(0, 0, [(value_of(0), 1.0)], 2.0)
    assert made._paces.expected(made._members[0], 2.0) == made.pace(0) == 1.0


def test_the_first_of_a_kind_has_a_deadline_too() -> None:
    """Its duration is not known yet and the answer timeout is long; a resumed run begins with a validation."""
    made = dispatcher(members=2, timeout=300.0)
    made.submit(numbered_evaluation(7))
    ((hung, _),) = assigned(made)
    assert assigned(made, now=FIRST_SHARE * 300.0 - 1) == []
    assert assigned(made, now=FIRST_SHARE * 300.0 + 1) == [(1 - hung, 7)]
    (first,) = made.answered(1 - hung, 7, [(EvaluationResult(1.0, 0.5, 4), 2.0)], 40.0)
    assert first.attempts == 2
