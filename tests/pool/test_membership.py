"""Changes of a pool's members are reported immediately, everything else at intervals."""

from dataclasses import replace

from tests.support.fakes import FakeScorer
from zip_ray.pool.contract import Member
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.membership import PoolReport, PoolWatch


class ChangingPool(InProcessPool):
    """A pool whose members the test sets."""

    def __init__(self) -> None:
        super().__init__(FakeScorer)
        self.present = [Member(1, "pending"), Member(2, "pending")]

    def members(self) -> list[Member]:
        return self.present

    def last_error(self) -> str:
        return "actor 3: killed" if any(member.state == "given up" for member in self.present) else ""


def test_a_change_is_reported_at_the_next_look_and_the_rest_now_and_then() -> None:
    pool, told, now = ChangingPool(), list[PoolReport](), 0.0
    watch = PoolWatch(pool, told.append, lambda: now)

    def look(seconds: float) -> list[PoolReport]:
        nonlocal now
        now += seconds
        told.clear()
        watch.look()
        return list(told)

    assert look(0.0) == [PoolReport(ready=0, pending=2, given_up=0, last_error="")]
    pool.present = [Member(1, "ready", 2, 0.5), Member(4, "ready", 1, 0.25), Member(3, "given up")]
    assert look(1.0) == [], "it is not time to look"
    assert watch.ready == 0
    working = PoolReport(ready=2, pending=0, given_up=1, last_error="actor 3: killed", paces=(0.25, 0.5))
    assert look(2.0) == [working]
    assert watch.ready == 2
    pool.present[0] = Member(1, "ready", 2, 0.75)
    assert look(2.0) == [], "a speed alone is no news"
    assert look(50.0) == []
    assert look(10.0) == [replace(working, paces=(0.25, 0.75))]


def test_a_wait_for_work_is_reported_with_its_parts() -> None:
    told, times = list[PoolReport](), iter(range(0, 100, 3))
    watch = PoolWatch(ChangingPool(), told.append, lambda: float(next(times)))
    for done in (0, 0, 1, 2):
        watch.wait(done, 2)
    watch.look()
    assert [report.asked for report in told] == [(0, 2), (1, 2), (2, 2), None]
