"""Which actors the Ray pool replaces, gives up and waits for: without Ray, in a time of its own."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from ray.exceptions import ActorUnschedulableError, OutOfMemoryError, RpcError, RuntimeEnvSetupError

from tests.support.fake_ray import FakeRay, FakeRef, NodeDied
from tests.support.fakes import FACTS, FakeScorer, numbered_pair, refused_build
from tests.support.pools import drain
from zip_ray.actors import RayPool
from zip_ray.actors.ray_pool import STARTS_PER_ACTOR
from zip_ray.pool.contract import PoolError
from zip_ray.pool.dispatcher import FAILURES_PER_WORK, PREFETCH
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Value, Work


def test_answers_that_come_while_it_waits_for_facts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch)
    pool = fake.pool(FakeScorer, actors=(2, 3))
    pool.facts()
    pool.submit([numbered_pair(number) for number in range(6)])
    fake.lose(*fake.actors[:2])
    answers = pool.collect(1.0)
    pool.facts()
    assert len(pool.pids()) >= 2
    answers += drain(pool, 6 - len(answers))
    assert sorted(answer.id for answer in answers) == list(range(6))
    assert pool.collect(1.0) == []


def test_a_driver_that_waits_for_facts_can_look_around(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = FakeRay(monkeypatch).pool(FakeScorer, actors=1)
    seen: list[str] = []
    assert pool.facts(lambda: seen.append(pool.members()[0].state)) == FACTS
    assert "pending" in seen


class FailingScorer(FakeScorer):
    """Has no memory for a pass."""

    def answer(self, work: Work) -> Value:
        raise RuntimeError(f"CUDA out of memory at {work.id}")


def builds(outcomes: str) -> Callable[[], FakeScorer]:
    """A build that goes as each letter says: s = it starts, x = it raises, f = it starts, and fails at each work; the
    last letter goes on for ever."""
    letters = itertools.chain(outcomes, itertools.repeat(outcomes[-1]))

    def build() -> FakeScorer:
        letter = next(letters)
        if letter == "x":
            raise RuntimeError("CUDA error: device busy")
        return FailingScorer() if letter == "f" else FakeScorer()

    return build


def proven(fake: FakeRay, build: Callable[[], FakeScorer], actors: int) -> RayPool:
    """A pool whose first actor has answered before the others are there."""
    places, fake.places = fake.places, 1
    pool = fake.pool(build, actors=actors)
    work(pool, 1000, 1)
    fake.places = places
    pool._tend()
    return pool


def work(pool: RayPool, first: int, count: int) -> None:
    """Have so many works done."""
    pool.submit([numbered_pair(number) for number in range(first, first + count)])
    assert len(drain(pool, count)) == count


def pass_time(fake: FakeRay, pool: RayPool, works: range) -> None:
    """A work every two seconds."""
    for number in works:
        work(pool, number, 1)
        fake.now += 2.0


def test_an_actor_that_never_starts_is_given_up_while_the_others_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeRay(monkeypatch)
    pool = proven(fake, builds("sx"), actors=2)
    pass_time(fake, pool, range(100))
    assert len(fake.actors) == 1 + STARTS_PER_ACTOR
    assert [(member.number, member.state) for member in pool.members()] == [(1, "ready"), (5, "given up")]
    assert "device busy" in pool.last_error()
    assert [r.getMessage() for r in caplog.records if "given up" in r.msg] == [
        f"1 actors are given up; last error: {pool.last_error()}"
    ]


def test_actors_that_were_given_up_are_tried_again_when_another_starts_or_a_node_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeRay(monkeypatch)
    failed = STARTS_PER_ACTOR * "x"
    pool = fake.pool(builds(f"sxx{failed}s{failed}s"), actors=2)
    pass_time(fake, pool, range(10))
    assert len(fake.actors) == 3 + STARTS_PER_ACTOR, "what failed before the first had answered is forgotten"
    fake.lose(fake.actors[0])
    pass_time(fake, pool, range(10, 20))
    assert len(fake.actors) == 4 + 2 * STARTS_PER_ACTOR, "a replacement that starts, and more trials for the other"
    assert len(pool.pids()) == 1
    fake.places += 1
    pass_time(fake, pool, range(20, 30))
    assert len(fake.actors) == 5 + 2 * STARTS_PER_ACTOR
    assert len(pool.pids()) == 2


def test_auto_asks_for_no_more_than_find_room_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """An actor that waits for a place that others hold would have an autoscaler add nodes without end."""
    fake = FakeRay(monkeypatch, places=5)
    fake.others = 2
    pool = fake.pool(FakeScorer, actors="auto")
    pass_time(fake, pool, range(10))
    assert [member.state for member in pool.members()] == ["ready"] * 3
    fake.lose(fake.actors[0])
    pass_time(fake, pool, range(10, 20))
    assert [member.state for member in pool.members()] == ["ready"] * 3
    fake.others = 0
    pass_time(fake, pool, range(20, 30))
    assert [member.state for member in pool.members()] == ["ready"] * 5
    fake.others = fake.places = 7
    alone = fake.pool(FakeScorer, actors="auto")
    pass_time(fake, alone, [])
    assert [member.state for member in alone.members()] == ["pending"], "what an autoscaler reads"


def test_actors_that_have_answered_and_die_are_replaced_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch)
    pool = fake.pool(FakeScorer, actors=1)
    for number in range(50):
        pass_time(fake, pool, range(number, number + 1))
        fake.lose(fake.actors[-1])
    assert len(fake.actors) == 50


@pytest.mark.parametrize(
    "death", [OutOfMemoryError("out of host memory"), RuntimeEnvSetupError("no pip"), ActorUnschedulableError("gone")]
)
def test_ends_that_ray_does_not_call_deaths_count_as_such(monkeypatch: pytest.MonkeyPatch, death: Exception) -> None:
    """Else a work that fills its host's memory would go from actor to actor for ever."""
    fake = FakeRay(monkeypatch)
    pool, get = fake.pool(FakeScorer, actors=2), fake.get

    def killed_at_work(ref: FakeRef, timeout: float) -> Any:
        if ref.method == "answer":
            raise death
        return get(ref, timeout)

    monkeypatch.setattr(fake, "get", killed_at_work)
    pool.submit([numbered_pair(7)])
    with pytest.raises(
        PoolError, match=f"work 7 failed {FAILURES_PER_WORK} times, last with: actor failed: {type(death).__name__}"
    ):
        drain(pool, 1)
    assert len(fake.actors) <= 2 + FAILURES_PER_WORK


def test_an_actor_that_loads_and_fails_at_each_work_is_given_up_while_the_others_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeRay(monkeypatch)
    pool = fake.pool(builds("ssf"), actors=3)
    for number in range(0, 300, 6):
        work(pool, number, 6)
        fake.now += 2.0
    assert len(fake.actors) == 2 + STARTS_PER_ACTOR
    assert [member.state for member in pool.members()] == ["ready", "ready", "given up"]
    assert [r.getMessage() for r in caplog.records if "given up" in r.msg] == [
        f"1 actors are given up; last error: {pool.last_error()}"
    ]
    assert "CUDA out of memory" in pool.last_error()


def test_a_node_that_dies_before_its_actors_have_answered_is_not_their_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch)
    pool = fake.pool(FakeScorer, actors=1)
    pool.submit([numbered_pair(0)])
    for number in range(1, 3 * STARTS_PER_ACTOR):
        while not pool.members() or pool.members()[0].held == 0:
            pool._wait(0.0)
        assert len(fake.actors) == number
        fake.lose(fake.actors[-1], death=NodeDied())
        pool._wait(0.0)
    assert len(drain(pool, 1)) == 1


@pytest.mark.parametrize("actors", [1, 2, 8])
def test_a_work_that_brings_down_every_actor_is_named(monkeypatch: pytest.MonkeyPatch, actors: int) -> None:
    fake = FakeRay(monkeypatch)
    pool = fake.pool(lambda: FakeScorer(raise_at=(3,)), actors=actors)
    pool.submit([numbered_pair(number) for number in range(8 * actors)])
    with pytest.raises(PoolError, match=f"^work 3 failed {FAILURES_PER_WORK} times, last with: .*fault at 3$"):
        drain(pool, 8 * actors)


def test_when_no_actor_starts_that_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, starts = FakeRay(monkeypatch), 3 * STARTS_PER_ACTOR
    with pytest.raises(PoolError, match=rf"^no actor is left after {starts} failed starts; last: actor \d+: .*busy$"):
        fake.pool(builds("x"), actors=3).facts()
    assert len(fake.actors) == starts


def test_auto_waits_for_a_node_when_the_last_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch, places=2)
    pool = fake.pool(builds("sxs"), actors="auto", start_timeout=60)
    pass_time(fake, pool, range(5))
    fake.lose(*fake.actors)
    fake.places = 0
    pool.submit([numbered_pair(5)])
    while fake.now < 1040:
        assert pool.collect(1.0) == []
    fake.places = 2
    assert len(drain(pool, 1)) == 1
    fake.lose(*fake.actors)
    fake.places = 0
    pool.submit([numbered_pair(6)])
    with pytest.raises(PoolError, match=r"^0 of at least 1 actors were ready for cluster.start_timeout = 60 s"):
        drain(pool, 1)


def test_auto_asks_for_one_actor_where_there_is_no_place_and_for_more_when_a_node_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeRay(monkeypatch, places=0)
    pool = fake.pool(FakeScorer, actors="auto")
    for _ in range(100):
        assert pool.collect(1.0) == []
        fake.now += 1.0
    assert [member.state for member in pool.members()] == ["pending"]
    fake.places = 4
    pass_time(fake, pool, range(5))
    assert [member.state for member in pool.members()] == ["ready"] * 4
    assert len(fake.actors) == 4


@pytest.mark.parametrize("fault", [ConnectionError("data client is gone"), RpcError("GCS does not answer")])
def test_a_lost_cluster_is_named_and_closing_is_quiet(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    fake = FakeRay(monkeypatch)
    pool = fake.pool(FakeScorer, actors=2)
    work(pool, 0, 2)
    pool.submit([numbered_pair(2)])
    fake.cluster_fault = fault
    lost = rf"^the Ray cluster is lost \(.*{fault}\): once one is up, `zip-ray resume"
    with pytest.raises(PoolError, match=lost):
        pool.collect(1.0)
    with pytest.raises(PoolError, match=lost):
        pool.submit([numbered_pair(3)])
    pool.close()
    pool.close()


def test_what_is_submitted_is_sent_at_once_as_far_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch)
    pool = fake.pool(FakeScorer, actors=(2, 2))
    pool.submit([numbered_pair(0)])
    assert [member.held for member in pool.members()] == [0, 0], "none is ready"
    pool.facts()
    pool.submit([numbered_pair(number) for number in range(1, 7)])
    assert [member.held for member in pool.members()] == [PREFETCH, PREFETCH]
    pool.facts()  # answers are taken in meanwhile, and what waits takes their place
    assert len(drain(pool, 7)) == 7


def test_an_idle_actor_that_dies_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch)
    pool = fake.pool(FakeScorer, actors=3)
    pass_time(fake, pool, range(3))
    idle = fake.actors[2]
    fake.lose(idle, death=NodeDied())
    pass_time(fake, pool, range(3, 10))
    assert [member.number for member in pool.members()] == [1, 2, 4]


def test_without_an_actor_it_looks_again_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch, places=0)
    pool = fake.pool(FakeScorer, actors="auto")
    pool.submit([numbered_pair(0)])
    began, fake.looks = fake.now, 0
    assert pool.collect(10.0) == []
    assert fake.now - began == pytest.approx(10.0)
    assert fake.looks < 100, "it sleeps in between"


@dataclass(frozen=True)
class ElsewhereScorer(FakeScorer):
    """With facts of its own."""

    own: Facts = FACTS

    def facts(self) -> Facts:
        return self.own


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("weights_digest", "1" * 64, "it has other weights than the first: put the same files on every node"),
        ("classnames", ("left", "middle"), "it has other class names than the first: "),
        ("images", {"train": 8, "val": 4, "test": 7}, "it has other images than the first: "),
    ],
)
def test_an_actor_with_other_files_is_given_up_and_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, field: str, value: object, told: str
) -> None:
    fake = FakeRay(monkeypatch)
    other = ElsewhereScorer(own=replace(FACTS, **{field: value}))
    scorers = itertools.chain([FakeScorer()], itertools.repeat(other))
    pool = proven(fake, lambda: next(scorers), actors=2)
    assert pool.facts() == FACTS
    pass_time(fake, pool, range(20))
    assert len(fake.actors) == 1 + STARTS_PER_ACTOR
    assert told in pool.last_error()


def test_an_actor_that_refuses_its_input_is_given_up_where_another_works(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch)
    turns = itertools.count()
    pool = proven(fake, lambda: refused_build() if next(turns) else FakeScorer(), actors=2)
    pass_time(fake, pool, range(20))
    assert len(fake.actors) == 1 + STARTS_PER_ACTOR
    assert "InputError: model.name: 'nope' cannot be loaded: give another" in pool.last_error()


def test_an_actor_that_hangs_while_it_loads_is_replaced_and_one_without_a_place_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeRay(monkeypatch, places=2)
    pool = fake.pool(FakeScorer, actors=3, start_timeout=60)
    hanging, waiting = fake.actors[1:]
    hanging.hangs = True
    pass_time(fake, pool, range(25))
    assert not hanging.death
    pass_time(fake, pool, range(25, 35))
    assert hanging.death
    assert pool.last_error() == "actor 2: not loaded within cluster.start_timeout = 60 s"
    assert [member.state for member in pool.members()] == ["ready", "ready", "pending"]
    pass_time(fake, pool, range(35, 100))
    assert not waiting.death
    assert len(fake.actors) == 4
