"""The scheduling rules of the pool without its transport, in virtual time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.dispatching import answer, assigned, calls, dispatcher, practised, value_of
from tests.support.fakes import FakeScorer, make_pair, numbered_evaluation, numbered_pair
from tests.support.simulated import Faults, SimulatedPool
from zip_ray.pool.contract import PoolError
from zip_ray.pool.dispatcher import FAILURES_PER_WORK, MOST_TOGETHER, PREFETCH
from zip_ray.pool.pace import LATE, LATE_SECONDS
from zip_ray.pool.split_planner import Partition
from zip_ray.pool.splitting import slices
from zip_ray.protocol.messages import Crops, EvaluationResult, Pass, Priority, Work


@given(st.permutations(range(9)))
def test_of_what_waits_the_lowest_priority_and_id_is_sent_first(order: list[int]) -> None:
    made, kinds = dispatcher(members=1), list(Priority)
    for number in order:
        priority = kinds[number % 3]
        made.submit(Work(number, priority, Crops(number)))
    sent = []
    while works := [work for _, work in assigned(made)]:
        sent += works
        for number in works:
            made.answered(0, number, [(value_of(number), 1.0)], 1.0)
    assert sent == [0, 3, 6, 1, 4, 7, 2, 5, 8]


def test_work_that_comes_later_goes_before_what_waits_if_it_is_more_urgent() -> None:
    made = dispatcher(members=1)
    for number in range(5):
        made.submit(numbered_pair(number))
    assert assigned(made) == [(0, 0), (0, 1)]
    made.submit(numbered_evaluation(77))
    assert assigned(made) == [], "the member is full"
    answer(made, 0, 0, 1.0, 1.0)
    assert assigned(made, 1.0) == [(0, 77)]


def test_lost_work_goes_before_new() -> None:
    made = dispatcher(members=1)
    for number in (3, 1, 2, 4):
        made.submit(numbered_pair(number))
    assert assigned(made) == [(0, 1), (0, 2)]
    made.leave(0, "killed")
    made.join(7, 1.0)
    assert assigned(made, 1.0) == [(7, 1), (7, 2)]


def test_an_id_cannot_be_in_flight_twice() -> None:
    made = dispatcher()
    made.submit(numbered_pair(1))
    with pytest.raises(ValueError, match="work 1 is in flight"):
        made.submit(numbered_pair(1))


def test_late_work_goes_to_an_idle_member_and_the_first_answer_counts() -> None:
    made = dispatcher(members=2)
    made.submit(numbered_pair(1))
    made.submit(numbered_pair(2))
    assert assigned(made) == [(0, 1), (1, 2)]
    answer(made, 1, 2, 1.0, 1.0)
    assert assigned(made, LATE * 1.0) == []
    assert assigned(made, LATE * 1.0 + 0.1) == [(1, 1)]
    (first,) = answer(made, 1, 1, 1.0, 5.5)
    assert first.attempts == 2
    assert not made.awaited
    assert answer(made, 0, 1, 9.0, 9.0) == []
    assert assigned(made, 10.0) == []


def test_late_work_is_copied_once() -> None:
    made = dispatcher(members=3)
    made.submit(numbered_pair(1))
    made.submit(numbered_pair(2))
    assert assigned(made) == [(0, 1), (1, 2)]
    answer(made, 1, 2, 1.0, 1.0)
    (copy,) = assigned(made, 6.0)
    assert copy[1] == 1
    assert assigned(made, 6.1) == []


def test_a_copy_that_is_late_too_is_copied_again() -> None:
    """A node that has stopped responding may hold both."""
    made = dispatcher(members=4)
    for number in range(4):
        made.submit(numbered_pair(number))
    assert assigned(made) == [(number, number) for number in range(4)]
    for member in (1, 2, 3):
        answer(made, member, member, 1.0, 1.0)
    assert assigned(made, 6.0) == [(1, 0)]
    assert assigned(made, 6.0 + LATE * 0.9) == []
    assert assigned(made, 6.1 + LATE) == [(2, 0)]
    assert assigned(made, 6.2 + LATE) == []
    assert [one.attempts for one in answer(made, 2, 0, 1.0, 7.0 + LATE)] == [3]
    assert [answer(made, member, 0, 9.0, 20.0) for member in (0, 1)] == [[], []]


def test_late_work_goes_before_what_waits() -> None:
    made = practised(1.0, 1.0)
    for number in range(8):
        made.submit(numbered_pair(number))
    assert assigned(made, 1.0) == [(0, 0), (1, 1), (0, 2), (1, 3)]
    answer(made, 1, 1, 1.0, 2.0)
    assert assigned(made, 2.0) == [(1, 4)]
    answer(made, 1, 3, 1.0, 1.0 + LATE)
    assert assigned(made, 1.0 + LATE) == [(1, 5)]
    answer(made, 1, 4, 1.0, 1.1 + LATE)
    assert assigned(made, 1.1 + LATE) == [(1, 0)]
    answer(made, 1, 5, 1.0, 2.1 + LATE)
    assert assigned(made, 2.1 + LATE) == [(1, 2)]


def test_while_other_work_waits_a_slow_member_is_late_by_its_own_pace() -> None:
    made = practised(1.0, 10.0)
    made.submit(numbered_pair(2000))
    assert assigned(made, 10.0) == [(0, 2000)]
    answer(made, 0, 2000, 1.0, 11.0)  # 1 s is typical
    for number in range(60):
        made.submit(numbered_pair(number))
    now = 11.0
    assert assigned(made, now) == [(0, 0), (0, 1), (1, 2), (1, 3)]
    answer(made, 0, 0, 1.0, now + 2 * LATE)
    assert assigned(made, now + 2 * LATE) == [(0, 4)]
    answer(made, 0, 1, 1.0, now + 10 * LATE + 1)
    assert assigned(made, now + 10 * LATE + 1) == [(0, 2)], "a copy"


def test_where_all_members_are_late_the_driver_was_and_nothing_is_copied() -> None:
    made = practised(1.0, 1.0, 1.0)
    for number in range(5):
        made.submit(numbered_pair(number))
    assert len(assigned(made, 1.0)) == 5
    made.submit(numbered_pair(5))
    made.submit(numbered_pair(6))
    assert assigned(made, 2.0 + LATE) == []
    for member, number in enumerate(range(3)):
        answer(made, member, number, 1.0, 2.0 + LATE)
    assert [work for _, work in assigned(made, 2.0 + LATE)] == [5, 6], "each once"


def test_the_answer_to_a_copy_that_comes_too_late_is_dropped() -> None:
    made = dispatcher(members=2)
    made.submit(numbered_pair(1))
    made.submit(numbered_pair(2))
    assert assigned(made) == [(0, 1), (1, 2)]
    answer(made, 1, 2, 1.0, 1.0)
    assert assigned(made, 6.0) == [(1, 1)]
    answer(made, 1, 1, 1.0, 7.0)
    made.submit(numbered_pair(3))
    assert assigned(made, 7.0) == [(1, 3)]
    assert answer(made, 0, 1, 9.0, 9.0) == []
    assert made.held(0) == 0
    assert [(one.id, one.attempts) for one in answer(made, 1, 3, 1.0, 9.0)] == [(3, 1)]
    assert not made.awaited


def test_quick_work_is_not_late_within_a_round_trip() -> None:
    made = dispatcher(members=2)
    made.submit(numbered_pair(1))
    made.submit(numbered_pair(2))
    assigned(made)
    answer(made, 1, 2, 0.001, 0.001)
    assert assigned(made, LATE_SECONDS * 0.7) == []
    assert assigned(made, LATE_SECONDS * 1.1) == [(1, 1)]


def test_a_member_that_has_not_answered_within_the_timeout_is_hung() -> None:
    made = dispatcher(members=2, timeout=5.0)
    made.submit(numbered_pair(1))
    assigned(made, now=10.0)
    assert made.hung(15.0) == []
    assert made.hung(15.1) == [0]
    made.leave(0, "hung")
    assert assigned(made, 15.1) == [(1, 1)]


def test_the_timeout_starts_anew_with_each_work() -> None:
    made = dispatcher(members=1, timeout=5.0)
    made.submit(numbered_pair(1))
    made.submit(numbered_pair(2))
    assigned(made)
    answer(made, 0, 1, 4.0, 4.0)
    assert made.hung(8.9) == []
    assert made.hung(9.1) == [0]


def test_work_that_fails_again_and_again_ends_the_run_and_names_the_error() -> None:
    made = dispatcher(members=FAILURES_PER_WORK)
    made.submit(numbered_pair(1))
    for member in range(FAILURES_PER_WORK - 1):
        assert assigned(made) == [(member, 1)]
        made.leave(member, "CUDA error")
    assigned(made)
    with pytest.raises(PoolError, match=f"work 1 failed {FAILURES_PER_WORK} times, last with: CUDA error"):
        made.leave(FAILURES_PER_WORK - 1, "CUDA error")


def test_only_the_work_at_hand_is_blamed_and_none_where_a_node_died() -> None:
    made = dispatcher(members=1)
    made.submit(numbered_pair(1))
    made.submit(numbered_pair(2))
    for turn in range(3 * FAILURES_PER_WORK):
        assert assigned(made) == [(turn, 1), (turn, 2)]
        made.leave(turn, "node died", blameless=True)
        made.join(turn + 1, 0.0)
    for _ in range(FAILURES_PER_WORK - 1):
        turn += 1
        assigned(made)
        made.leave(turn, "raised")
        made.join(turn + 1, 0.0)
    assigned(made)
    answer(made, turn + 1, 1, 1.0, 1.0)
    made.leave(turn + 1, "raised")  # the first failure over work 2
    assert len(made.awaited) == 1


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    members=st.integers(1, 12),
    works=st.integers(1, 60),
    call_seconds=st.sampled_from([0.0, 0.5, 5.0]),
)
def test_each_work_is_answered_once_whatever_fails(seed: int, members: int, works: int, call_seconds: float) -> None:
    faults = Faults(kill=0.02, kill_node=0.02, hang=0.02, slow=0.02, fail=0.02, until=60.0)
    pool = SimulatedPool(seed, members, faults, call_seconds=call_seconds)
    pool.submit([numbered_pair(number) for number in range(works)])
    seen: list[int] = []
    while len(seen) < works:
        assert pool.now < 10_000
        seen += [answer.id for answer in pool.collect(1.0)]
    assert sorted(seen) == list(range(works))


def test_what_a_hung_member_holds_is_answered_elsewhere_while_all_are_busy() -> None:
    pool = SimulatedPool(1, 4, Faults())
    pool.submit([numbered_pair(number) for number in range(16)])
    number, held = 16, set[int]()
    while pool.now < 40:
        for one in pool.collect(1.0):
            held.discard(one.id)
            pool.submit([numbered_pair(number)])
            number += 1
        if pool.now > 10 and not pool._workers[1].hung:
            pool._workers[1].hung = True
            held = {work.id for call in pool._workers[1].queue for work in call}
            assert len(held) == PREFETCH
    assert not held
    assert 1 in pool._workers, "before the timeout"


def test_the_pace_is_that_of_passes() -> None:
    made = practised(2.0)
    assert made.pace(0) == 2.0
    made.submit(numbered_evaluation(1))
    assert assigned(made, 2.0) == [(0, 1)]
    made.answered(0, 1, [(EvaluationResult(1.0, 0.5, 4), 9.0)], 11.0)
    assert made.pace(0) == 2.0


def slice_works(first: int, passes: int, scorer: str = "") -> list[Work]:
    """The four slices of each pass of one pair, numbered from `first`."""
    parts = [part for index in range(passes) for part in slices(Pass((make_pair(index),)), Partition(2, 2))]
    return [Work(first + place, Priority.QUERY, part, scorer) for place, part in enumerate(parts)]


def test_slices_count_for_their_share_of_a_pass() -> None:
    """When one partition follows another, pace and lateness are still those of whole passes."""
    made = dispatcher(members=2, call_seconds=0.02)
    first, second = slice_works(1, passes=1, scorer="a run")[:2]
    made.submit(first)
    made.submit(second)
    assert assigned(made) == [(0, 1), (1, 2)]
    made.answered(0, 1, [(FakeScorer().answer(first), 0.25)], 0.25)
    assert made.pace(0) == 1.0
    assert assigned(made, LATE * 0.25) == []
    assert assigned(made, LATE * 0.25 + 0.1) == [(0, 2)], "a copy"
    made = practised(0.04, call_seconds=0.04)
    for work in slice_works(1, passes=3):
        made.submit(work)
    assert [len(works) for _, works in calls(made, 1.0)] == [4, 4], "as long as a pass"


def test_short_passes_share_a_call_as_far_as_there_is_work_for_all() -> None:
    made = practised(0.01, 0.01, call_seconds=0.02)  # two members: a call should last 0.04 s
    for number in range(3):
        made.submit(numbered_pair(number))
    assert calls(made, 1.0) == [(0, [0]), (1, [1]), (0, [2])], "while works are few they are spread"
    made = practised(0.01, 0.01, call_seconds=0.02)
    for number in range(100):
        made.submit(numbered_pair(number))
    sent = calls(made, 1.0)
    assert [works for _, works in sent] == [list(range(4 * k, 4 * k + 4)) for k in range(2 * PREFETCH)]
    assert made.held(0) == made.held(1) == 4 * PREFETCH
    made = practised(1e-6, call_seconds=0.02)
    for number in range(100):
        made.submit(numbered_pair(number))
    assert [len(works) for _, works in calls(made, 1.0)] == [MOST_TOGETHER] * PREFETCH


def test_the_answers_of_a_call_come_together_and_each_counts_once() -> None:
    made = practised(0.01, call_seconds=0.04)
    for number in range(4):
        made.submit(numbered_pair(number))
    assert calls(made, 1.0) == [(0, [0, 1, 2, 3])]
    made.join(1, 1.0)
    assert calls(made, 1.0 + LATE_SECONDS * 0.7) == []
    assert calls(made, 1.0 + LATE_SECONDS * 1.1) == [(1, [number]) for number in range(PREFETCH)], "copies: it is late"
    assert [one.id for one in answer(made, 1, 0, 0.01, 1.3)] == [0]
    answers = made.answered(0, 0, [(value_of(number), 0.01) for number in range(4)], 1.4)
    assert [(one.id, one.attempts) for one in answers] == [(1, 2), (2, 1), (3, 1)]
    assert not made.awaited


def test_slow_members_and_long_works_travel_alone() -> None:
    made = practised(0.01, 0.1, call_seconds=0.02)
    made.submit(numbered_evaluation(200))
    for number in range(100):
        made.submit(numbered_pair(number))
    sent = calls(made, 1.0)
    assert sent[0] == (0, [200])
    assert {len(works) for member, works in sent[1:] if member == 0} == {4}
    assert {len(works) for member, works in sent if member == 1} == {1}


def test_works_that_shared_a_call_that_failed_are_sent_alone() -> None:
    """Work that crashes its members ends the run; work that shared its first call is still completed."""
    made = practised(0.01, call_seconds=0.04)
    for number in range(4):
        made.submit(numbered_pair(number))
    assert calls(made, 1.0) == [(0, [0, 1, 2, 3])]
    made.leave(0, "raised")
    for turn in range(1, FAILURES_PER_WORK):
        made.join(turn, 1.0)
        sent = calls(made, 1.0)
        assert all(len(works) == 1 for _, works in sent)
        while sent[0][1] != [2]:
            answer(made, turn, sent[0][1][0], 0.01, 1.0)
            sent = sent[1:] + calls(made, 1.0)
        if turn < FAILURES_PER_WORK - 1:
            made.leave(turn, "raised")
    with pytest.raises(PoolError, match=f"work 2 failed {FAILURES_PER_WORK} times, last with: raised"):
        made.leave(turn, "raised")
