"""The estimated speed of a member: from its latest times, from those of all, and from long idle periods."""

from collections.abc import Sequence

import pytest

from tests.support.dispatching import value_of
from tests.support.fakes import numbered_pair
from zip_ray.pool.pace import Load, Paces


def learn(paces: Paces, load: Load, times: Sequence[float]) -> None:
    """A member does one pass after another, each in the given number of seconds."""
    for seconds in times:
        paces.learn(load, [numbered_pair(0)], [(value_of(0), seconds)])


def test_the_typical_time_is_that_of_late_and_not_of_a_few() -> None:
    paces, anyone = Paces(100.0), Load()
    learn(paces, Load(), [1.0] * 200 + [0.1] * 10)
    assert paces.expected(anyone, 0.0) == 1.0
    learn(paces, Load(), [0.1] * 25)
    assert paces.expected(anyone, 0.0) == 0.1


def test_a_members_own_pace_follows_its_times_but_no_single_one() -> None:
    paces, load = Paces(100.0), Load()
    learn(paces, load, [1.0, 10.0])
    assert 2 < paces.expected(load, 0.0) < 5
    learn(paces, load, [10.0] * 5)
    assert paces.expected(load, 0.0) > 8


def test_what_has_been_idle_for_long_is_tried_as_if_it_were_new() -> None:
    paces, slow = Paces(100.0), Load(since=0.0)
    learn(paces, slow, [10.0])
    learn(paces, Load(), [1.0] * 5)
    assert paces.expected(slow, 50.0) == 10.0
    assert paces.expected(slow, 200.0) == 1.0


def test_a_pass_that_takes_no_time_has_a_pace() -> None:
    paces, load = Paces(100.0), Load()
    learn(paces, load, [0.0])
    assert paces.expected(load, 0.0) == pytest.approx(0.0, abs=1e-5)
    assert paces.expected(load, 0.0) > 0
