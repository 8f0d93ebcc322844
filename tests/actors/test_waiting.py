"""The reason an actor waits for a place, in words; and what Ray shows of actors, on a real cluster."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import ray
from ray._private.state import actors

from tests.support.fake_ray import FakeRay
from tests.support.fakes import FakeScorer
from tests.support.processes import wait_for
from zip_ray.actors.ray_pool import WAIT_SECONDS, RayPool
from zip_ray.actors.scorer_actor import ScorerActor
from zip_ray.actors.waiting import waiting_text
from zip_ray.config.resources import ClusterConfig
from zip_ray.pool.contract import Member
from zip_ray.pool.membership import PoolReport, PoolWatch

GPU = {"CPU": 1.0, "GPU": 1.0}
TOTAL = {"CPU": 8.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("need", "free", "holders", "text"),
    [
        (
            GPU,
            {"CPU": 5.0},
            {"Trainer": {"CPU": 2.0, "GPU": 2.0}, "Loader": {"CPU": 1.0}},
            "waiting for 1 CPU and 1 GPU on one node: 5 of 8 CPU and 0 of 2 GPU free, held by "
            "Trainer (2 CPU and 2 GPU), Loader (1 CPU)",
        ),
        (
            {"CPU": 2.0},
            {"CPU": 0.5, "GPU": 2.0},
            {"zip-ray/first": {"CPU": 4.0}, "Idle": {}},
            "waiting for 2 CPU on one node: 0.5 of 8 CPU free, held by zip-ray/first (4 CPU), "
            "others or starting actors (3.5 CPU)",
        ),
        (
            GPU,
            {"CPU": 8.0},
            {},
            "waiting for 1 CPU and 1 GPU on one node: 8 of 8 CPU and 0 of 2 GPU free, held by "
            "others or starting actors (2 GPU)",
        ),
    ],
    ids=["GPUs", "CPUs, tasks", "Ray client"],
)
def test_who_holds_what_is_missing(need: Any, free: Any, holders: Any, text: str) -> None:
    assert waiting_text(need, TOTAL, free, holders) == text


def test_only_the_largest_holders_are_named() -> None:
    held = {f"A{k}": {"GPU": float(k)} for k in range(1, 8)}
    said = waiting_text({"GPU": 1.0}, {"GPU": 28.0}, {}, held)
    assert said.endswith("held by A7 (7 GPU), A6 (6 GPU), A5 (5 GPU), A4 (4 GPU), others or starting actors (6 GPU)")


def test_loading_differs_from_waiting_which_has_a_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch, places=1)
    pool, told = fake.pool(FakeScorer, actors=2), list[PoolReport]()
    fake.actors[0].hangs = True
    watch = PoolWatch(pool, told.append, fake.monotonic)
    begin = fake.now
    while fake.now < begin + 5 * WAIT_SECONDS:
        watch.look()
        pool._wait(1.0)
    assert pool.members() == [Member(1, "loading"), Member(2, "pending", waits=fake.waits)]
    assert [(report.loading, report.pending, report.waits) for report in told] == [
        (0, 2, ""),
        (1, 1, ""),
        (1, 1, fake.waits),
    ], "each change once"
    fake.places = 2
    while pool.members()[1].state != "ready":
        pool._wait(1.0)
    assert pool.members()[1].waits == ""


def test_ray_shows_the_name_of_an_actor() -> None:
    """Ray's dashboard and logs show the actor's `repr`."""
    assert repr(ScorerActor("zip-ray/run/actor-1")) == "zip-ray/run/actor-1"


class Holder:
    """Holds CPUs."""


@pytest.fixture
def joined(ray_cluster: str) -> Iterator[str]:
    ray.init(address=ray_cluster, namespace="one for all", logging_level="ERROR", log_to_driver=False)
    yield ray_cluster
    ray.shutdown()


@pytest.mark.usefixtures("joined")
def test_actors_have_names_and_say_what_they_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of the same name share a Ray namespace; another program holds all but two CPUs."""
    monkeypatch.setattr("zip_ray.actors.ray_pool.WAIT_SECONDS", 0.5)
    holder = ray.remote(Holder).options(num_cpus=2).remote()
    config = ClusterConfig(actors=1)
    with (
        closing(RayPool(FakeScorer, config, run="run")) as first,
        closing(RayPool(FakeScorer, config, run="run")) as two,
    ):
        first.facts()
        two.facts()
        with closing(RayPool(FakeScorer, config, run="late")) as late:

            def waits() -> str:
                late._wait(0.2)
                return late.members()[0].waits

            holders = "Holder (2 CPU), zip-ray/run (2 CPU)"  # once the actors of earlier tests are gone
            wait_for(lambda: waits() == f"waiting for 1 CPU on one node: 0 of 4 CPU free, held by {holders}")
            job = ray.get_runtime_context().get_job_id()
            alive = [a["Name"] for a in actors(actor_state_name="ALIVE").values() if a["JobID"] == job]
            assert sorted(alive) == ["", "zip-ray/run/actor-1", "zip-ray/run/actor-1"]
            ray.kill(holder)
