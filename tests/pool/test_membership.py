"""Who is in a pool is told when it changes, and now and then."""

from zip_ray.pool.contract import InProcessPool, Member
from zip_ray.pool.membership import LOOK_SECONDS, TELL_SECONDS, PoolWatch


class Changing(InProcessPool):
    """Has the members that it is given."""

    def __init__(self) -> None:
        self.present = [Member(1, "pending"), Member(2, "pending")]

    def members(self) -> list[Member]:
        return self.present

    def last_error(self) -> str:
        return "actor 3: killed" if any(member.state == "given up" for member in self.present) else ""


def test_what_is_new_is_told_at_the_next_look_and_the_rest_now_and_then() -> None:
    pool, told, now = Changing(), list[dict[str, object]](), 0.0
    watch = PoolWatch(pool, told.append, lambda: now)

    def look(seconds: float) -> list[dict[str, object]]:
        nonlocal now
        now += seconds
        told.clear()
        watch.look()
        return list(told)

    waiting = {"ready": 0, "pending": 2, "given_up": 0, "last_error": "", "paces": ()}
    assert look(0.0) == [waiting]
    pool.present = [Member(1, "ready", 2, 0.5), Member(4, "ready", 1, 0.25), Member(3, "given up")]
    assert look(LOOK_SECONDS / 2) == [], "it is not time to look"
    working = {"ready": 2, "pending": 0, "given_up": 1, "last_error": "actor 3: killed", "paces": (0.25, 0.5)}
    assert look(LOOK_SECONDS) == [working]
    pool.present[0] = Member(1, "ready", 2, 0.75)
    assert look(LOOK_SECONDS) == [], "a speed alone is no news"
    assert look(TELL_SECONDS) == [{**working, "paces": (0.25, 0.75)}]
