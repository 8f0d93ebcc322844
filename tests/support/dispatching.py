"""A dispatcher with members, and what it assigns to them."""

from tests.support.fakes import FakeScorer, make_pairs
from zip_ray.pool.dispatcher import Dispatcher
from zip_ray.protocol.messages import Answer, Result


def result_of(number: int) -> Result:
    return FakeScorer().answer(make_pairs(number))


def dispatcher(members: int = 2, timeout: float = 100.0, call_seconds: float = 0.0) -> Dispatcher:
    made = Dispatcher(timeout, call_seconds)
    for number in range(members):
        made.join(number, 0.0)
    return made


def assigned(made: Dispatcher, now: float = 0.0) -> list[tuple[int, int]]:
    return [(member, work.id) for member, works in made.assignments(now) for work in works]


def calls(made: Dispatcher, now: float = 0.0) -> list[tuple[int, list[int]]]:
    return [(member, [work.id for work in works]) for member, works in made.assignments(now)]


def answer(made: Dispatcher, member: int, number: int, seconds: float, now: float) -> list[Answer]:
    """A member answers a call of one work."""
    return made.answered(member, [(result_of(number), seconds)], now)


def practised(*paces: float, call_seconds: float = 0.0) -> Dispatcher:
    """Members that have each done one work."""
    made = dispatcher(len(paces), call_seconds=call_seconds)
    for member in range(len(paces)):
        made.submit(make_pairs(1000 + member))
    assert assigned(made) == [(member, 1000 + member) for member in range(len(paces))]
    for member, pace in enumerate(paces):
        answer(made, member, 1000 + member, pace, pace)
    return made
