"""A dispatcher with members, and what it assigns to them."""

from tests.support.fakes import FakeScorer, numbered_pair
from zip_ray.pool.dispatcher import Dispatcher
from zip_ray.protocol.messages import Answer, Value


def dispatcher(members: int = 2, timeout: float = 100.0, call_seconds: float = 0.0) -> Dispatcher:
    """A dispatcher with members 0, 1, ... that joined at time 0."""
    made = Dispatcher(timeout, call_seconds)
    for number in range(members):
        made.join(number, 0.0)
    return made


def practised(*paces: float, call_seconds: float = 0.0) -> Dispatcher:
    """Members that have each done one pair, in the given number of seconds."""
    made = dispatcher(len(paces), call_seconds=call_seconds)
    for member in range(len(paces)):
        made.submit(numbered_pair(1000 + member))
    assert assigned(made) == [(member, 1000 + member) for member in range(len(paces))]
    for member, pace in enumerate(paces):
        answer(made, member, 1000 + member, pace, pace)
    return made


def assigned(made: Dispatcher, now: float = 0.0) -> list[tuple[int, int]]:
    """What is sent now: pairs of member and work id."""
    return [(member, work.id) for member, works in made.assignments(now) for work in works]


def calls(made: Dispatcher, now: float = 0.0) -> list[tuple[int, list[int]]]:
    """What is sent now: members, each with the ids of works in its call."""
    return [(member, [work.id for work in works]) for member, works in made.assignments(now)]


def answer(made: Dispatcher, member: int, number: int, seconds: float, now: float) -> list[Answer]:
    """Have a member answer a call of one pair that took this many seconds."""
    return made.answered(member, number, [(value_of(number), seconds)], now)


def value_of(number: int) -> Value:
    """The value of a numbered pair."""
    return FakeScorer().answer(numbered_pair(number))
