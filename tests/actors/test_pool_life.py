"""The Ray pool when actors are lost, fail to start or hang: fake Ray, virtual time. Rules: test_fleet."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from ray.exceptions import ActorUnschedulableError, OutOfMemoryError, RpcError, RuntimeEnvSetupError

from tests.support.fake_ray import FakeRay, FakeRef, NodeDied
from tests.support.fakes import FACTS, FakeScorer, numbered_pair, refused_build
from zip_ray.actors.fleet import STARTS_PER_ACTOR
from zip_ray.actors.ray_pool import RayPool
from zip_ray.pool.contract import PoolError
from zip_ray.pool.dispatcher import FAILURES_PER_WORK, PREFETCH
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Value, Work
from zip_ray.testing.pool_contract import drain

SECONDS = 2.0
"""Time that passes between two pieces of work in `work_on`."""


class FailingScorer(FakeScorer):
    """Runs out of memory in each pass."""

    def answer(self, work: Work) -> Value:
        raise RuntimeError(f"CUDA out of memory at {work.id}")


def builds(outcomes: str) -> Callable[[], FakeScorer]:
    """A build whose outcomes follow the letters: s starts, x raises, f starts but fails at every piece of work.
    The last letter repeats forever."""
    letters = itertools.chain(outcomes, itertools.repeat(outcomes[-1]))

    def build() -> FakeScorer:
        letter = next(letters)
        if letter == "x":
            raise RuntimeError("CUDA error: device busy")
        return FailingScorer() if letter == "f" else FakeScorer()

    return build


def work_through(pool: RayPool, numbers: Iterable[int]) -> None:
    """Process this work together."""
    works = [numbered_pair(number) for number in numbers]
    pool.submit(works)
    assert len(drain(pool, len(works))) == len(works)


def work_on(fake: FakeRay, pool: RayPool, numbers: Iterable[int]) -> None:
    """Process this work piece by piece, while time passes."""
    for number in numbers:
        work_through(pool, [number])
        fake.now += SECONDS


def proven_pool(fake: FakeRay, build: Callable[[], FakeScorer], actors: int) -> RayPool:
    """A pool whose first actor has returned a result before the others are placed."""
    places, fake.places = fake.places, 1
    pool = fake.pool(build, actors=actors)
    work_through(pool, [1000])
    fake.places = places
    pool._tend()  # the upcoming nodes are known before any start fails
    return pool


def states(pool: RayPool) -> list[str]:
    return [member.state for member in pool.members()]


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


def test_the_caller_is_called_while_it_waits_for_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = FakeRay(monkeypatch).pool(FakeScorer, actors=1)
    seen: list[str] = []
    assert pool.facts(lambda: seen.append(pool.members()[0].state)) == FACTS
    assert "pending" in seen


def test_an_actor_that_never_starts_is_given_up_while_the_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch)
    pool = proven_pool(fake, builds("sx"), actors=2)
    work_on(fake, pool, range(50))
    assert len(fake.actors) == 1 + STARTS_PER_ACTOR
    assert [(member.number, member.state) for member in pool.members()] == [(1, "ready"), (5, "given up")]
    assert pool.last_error() == "actor 5: scorer not built: RuntimeError: CUDA error: device busy"


def test_auto_follows_the_nodes_and_what_others_hold_there(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch, places=5)
    fake.others = 2
    pool = fake.pool(FakeScorer, actors="auto")
    work_on(fake, pool, range(10))
    assert states(pool) == ["ready"] * 3
    fake.lose(fake.actors[0])
    work_on(fake, pool, range(10, 20))
    assert states(pool) == ["ready"] * 3
    fake.others = 0
    work_on(fake, pool, range(20, 30))
    assert states(pool) == ["ready"] * 5
    fake.lose(*fake.actors, death=NodeDied())
    fake.places = 0
    pool.submit([numbered_pair(30)])
    assert pool.collect(10.0) == []
    assert states(pool) == ["pending"], "what an autoscaler reads"
    fake.places = 4
    assert len(drain(pool, 1)) == 1
    work_on(fake, pool, range(31, 40))
    assert states(pool) == ["ready"] * 4


@pytest.mark.parametrize(
    "death", [OutOfMemoryError("out of host memory"), RuntimeEnvSetupError("no pip"), ActorUnschedulableError("gone")]
)
def test_ends_that_ray_does_not_call_deaths_count_as_such(monkeypatch: pytest.MonkeyPatch, death: Exception) -> None:
    """Otherwise work that fills its host's memory would move from actor to actor forever."""
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
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeRay(monkeypatch)
    pool = fake.pool(builds("ssf"), actors=3)
    for first in range(0, 300, 6):
        work_through(pool, range(first, first + 6))
        fake.now += SECONDS
    assert len(fake.actors) == 2 + STARTS_PER_ACTOR
    assert states(pool) == ["ready", "ready", "given up"]
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


def test_when_no_actor_starts_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, starts = FakeRay(monkeypatch), 3 * STARTS_PER_ACTOR
    with pytest.raises(PoolError, match=rf"^no actor is left after {starts} failed starts; last: actor \d+: .*busy$"):
        fake.pool(builds("x"), actors=3).facts()
    assert len(fake.actors) == starts


def test_when_too_few_are_ready_for_too_long_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch, places=0)
    pool = fake.pool(FakeScorer, actors="auto", start_timeout=60)
    with pytest.raises(PoolError, match=r"^0 of at least 1 actors were ready for cluster.start_timeout = 60 s"):
        pool.facts()
    assert fake.now == pytest.approx(1060.0, abs=2.0)


@pytest.mark.parametrize("fault", [ConnectionError("data client is gone"), RpcError("GCS does not answer")])
def test_a_lost_cluster_is_named_and_closing_is_quiet(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    fake = FakeRay(monkeypatch)
    pool = fake.pool(FakeScorer, actors=2)
    work_through(pool, [0, 1])
    pool.submit([numbered_pair(2)])
    fake.cluster_fault = fault
    lost = rf"^the Ray cluster is lost \(.*{fault}\): once one is up, `zip-ray resume RUN"
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
    assert len(drain(pool, 7)) == 7


def test_an_idle_actor_that_dies_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch)
    pool = fake.pool(FakeScorer, actors=3)
    work_on(fake, pool, range(3))
    idle = fake.actors[2]
    fake.lose(idle, death=NodeDied())
    work_on(fake, pool, range(3, 10))
    assert [member.number for member in pool.members()] == [1, 2, 4]


def test_without_an_actor_it_sleeps_between_two_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch, places=0)
    pool = fake.pool(FakeScorer, actors="auto")
    pool.submit([numbered_pair(0)])
    began, fake.looks = fake.now, 0
    assert pool.collect(10.0) == []
    assert fake.now - began == pytest.approx(10.0)
    assert fake.looks < 100


@dataclass(frozen=True)
class ElsewhereScorer(FakeScorer):
    """A scorer whose facts differ."""

    own: Facts = FACTS

    def facts(self) -> Facts:
        return self.own


def test_an_actor_with_other_files_is_given_up_and_the_run_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch)
    other = ElsewhereScorer(own=replace(FACTS, weights_digest="1" * 64))
    scorers = itertools.chain([FakeScorer()], itertools.repeat(other))
    pool = proven_pool(fake, lambda: next(scorers), actors=2)
    assert pool.facts() == FACTS
    work_on(fake, pool, range(20))
    assert len(fake.actors) == 1 + STARTS_PER_ACTOR
    assert "it has other weights than the first: put the same files on every node" in pool.last_error()


def test_an_actor_that_refuses_its_input_is_given_up_where_another_works(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch)
    turns = itertools.count()
    pool = proven_pool(fake, lambda: refused_build() if next(turns) else FakeScorer(), actors=2)
    work_on(fake, pool, range(20))
    assert len(fake.actors) == 1 + STARTS_PER_ACTOR
    assert "InputError: model.name: 'nope' cannot be loaded: give another" in pool.last_error()


def test_an_actor_that_hangs_while_it_loads_is_replaced_and_one_without_a_place_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeRay(monkeypatch, places=2)
    pool = fake.pool(FakeScorer, actors=3, start_timeout=60)
    hanging, waiting = fake.actors[1:]
    hanging.hangs = True
    work_on(fake, pool, range(25))
    assert not hanging.death
    work_on(fake, pool, range(25, 35))
    assert hanging.death
    assert pool.last_error() == "actor 2: not loaded within cluster.start_timeout = 60 s"
    assert states(pool) == ["ready", "ready", "pending"]
    work_on(fake, pool, range(35, 100))
    assert not waiting.death
    assert len(fake.actors) == 4
