"""Which member of a pool gets a piece of work."""

from unittest.mock import Mock

from tests.support.dispatching import assigned, dispatcher, practised, value_of
from tests.support.fakes import numbered_pair
from tests.support.simulated import Faults, SimulatedPool
from zip_ray.pool.dispatcher import CANDIDATES, PREFETCH


def test_work_is_spread_before_it_is_stacked() -> None:
    made = dispatcher(members=3)
    for number in range(10):
        made.submit(numbered_pair(number))
    sent = assigned(made)
    assert [work for _, work in sent] == list(range(3 * PREFETCH))
    assert [member for member, _ in sent[:3]] == [0, 1, 2]
    assert all(made.held(member) == PREFETCH for member in range(3))
    assert len(made.awaited) == 10


def test_of_many_members_few_are_compared_for_a_work() -> None:
    """With hundreds of actors, comparing all would cost the driver more than it gains."""
    made = dispatcher(members=200)
    made.submit(numbered_pair(1))
    assert len(assigned(made)) == 1, "all have been looked at"
    made._paces.expected = Mock(wraps=made._paces.expected)
    made.submit(numbered_pair(0))
    assert len(assigned(made)) == 1
    assert made._paces.expected.call_count <= 20


def test_a_round_as_wide_as_the_pool_gives_each_member_one_piece_of_work() -> None:
    """Even with more members than are compared for one piece of work; otherwise half of them would queue a second piece
    while the others have none."""
    made = practised(*[1.0] * 4 * CANDIDATES)
    for number in range(4 * CANDIDATES):
        made.submit(numbered_pair(number))
    assert sorted(member for member, _ in assigned(made, 2.0)) == list(range(4 * CANDIDATES))


def test_a_slow_member_is_left_out_while_the_others_would_be_done_before_it() -> None:
    made = practised(1.0, 1.0, 10.0)
    for number in range(3):
        made.submit(numbered_pair(number))
    now = 10.0
    assert {member for member, _ in assigned(made, now)} == {0, 1}
    for number in range(3, 60):
        made.submit(numbered_pair(number))
    assert 2 in {member for member, _ in assigned(made, now)}


def test_members_that_are_too_slow_are_not_compared_again_for_each_work() -> None:
    made = practised(1.0, 8.0, 8.0)
    for number in range(2 * PREFETCH):
        made.submit(numbered_pair(number))
    assert assigned(made, 8.0) == [(0, 0), (0, 1)], "the fast member will finish the others sooner than a slow one"
    made._paces.expected = Mock(wraps=made._paces.expected)
    made.answered(0, 0, [(value_of(0), 1.0)], 8.0)
    assert assigned(made, 8.0) == [(0, 2)]
    assert made._paces.expected.call_count <= 2


def test_a_member_that_was_too_slow_gets_work_once_there_is_enough_for_all() -> None:
    made = practised(1.0, 8.0)
    for number in range(4):
        made.submit(numbered_pair(number))
    assert {member for member, _ in assigned(made, 8.0)} == {0}
    for number in range(4, 100):
        made.submit(numbered_pair(number))
    assert {member for member, _ in assigned(made, 8.0)} == {1}


def test_one_member_in_ten_that_is_ten_times_slower_costs_little() -> None:
    """Under full load the members reach at least 95% of the sum of their speeds, with little duplicate work."""
    pool = SimulatedPool(1, 20, Faults(), paces=lambda number: 10.0 if number % 10 == 0 else 1.0)
    pool.submit([numbered_pair(number) for number in range(80)])
    number, again, start = 80, 0, 60.0
    while pool.now < start + 200:
        for one in pool.collect(1.0):
            pool.submit([numbered_pair(number)])
            number += 1
            again += one.attempts - 1
    rate = sum(time >= start for time, _ in pool.done) / 200
    assert rate >= 0.95 * (18 + 2 / 10)
    assert again <= 0.002 * number
