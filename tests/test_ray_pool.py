"""The Ray pool under faults: killed actors and nodes, crash loops, exceptions, impossible requests."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from actors import RayPool
from actors.pool import DEATHS_PER_ACTOR, FAILURES_PER_WORK, IN_FLIGHT
from tests.fakes import FakeScorer, broken_build, dying_build, make_pair
from tests.test_pool_contract import drain
from zip_ray.config import ClusterConfig
from zip_ray.errors import InputError
from zip_ray.pool import PoolError


@pytest.fixture
def joined(ray_cluster: str) -> ClusterConfig:
    return ClusterConfig(address=ray_cluster, actors=2, start_timeout=60)


def results(answers: list) -> dict:
    return {answer.result.id: answer.result for answer in answers}


def test_work_of_a_killed_actor_is_answered_once(joined: ClusterConfig) -> None:
    pool = RayPool(partial(FakeScorer, delay=0.1), joined)
    try:
        pool.facts()
        pairs = [make_pair(i) for i in range(12)]
        for pair in pairs:
            pool.submit(pair)
        answers = drain(pool, 2)
        os.kill(pool.pids()[0], signal.SIGKILL)
        answers += drain(pool, 12 - len(answers))
        assert sorted(answer.result.id for answer in answers) == list(range(12))
        assert results(answers) == {pair.id: FakeScorer().answer(pair) for pair in pairs}
        again = sum(answer.attempts - 1 for answer in answers)
        assert 1 <= again <= IN_FLIGHT, "what the dead actor held, and no more, was issued again"
        assert pool.collect(0.5) == []
    finally:
        pool.close()


def test_a_dead_actor_is_replaced(joined: ClusterConfig) -> None:
    pool = RayPool(FakeScorer, joined.model_copy(update={"actors": 1}))
    try:
        pool.facts()
        before = pool.pids()
        os.kill(before[0], signal.SIGKILL)
        pool.submit(make_pair(0))
        assert len(drain(pool, 1)) == 1
        assert pool.pids()
        assert pool.pids() != before
    finally:
        pool.close()


def test_process_that_ends_itself_mid_work(joined: ClusterConfig, tmp_path: Path) -> None:
    pool = RayPool(partial(FakeScorer, die_at=(3, 4), marks=tmp_path), joined)
    try:
        for i in range(8):
            pool.submit(make_pair(i))
        assert sorted(results(drain(pool, 8))) == list(range(8))
    finally:
        pool.close()


def test_deaths_without_end_stop_the_pool_with_the_last_error(joined: ClusterConfig) -> None:
    pool = RayPool(partial(FakeScorer, die_at=(0,)), joined.model_copy(update={"actors": 1}))
    try:
        pool.submit(make_pair(0))
        with pytest.raises(PoolError, match=rf"no actor is left after {DEATHS_PER_ACTOR + 1} deaths.*ActorDiedError"):
            drain(pool, 1)
    finally:
        pool.close()


@pytest.mark.parametrize(("build", "error"), [(broken_build, "RuntimeError: no weights here"), (dying_build, "Died")])
def test_actors_that_never_start_are_given_up(joined: ClusterConfig, build, error: str) -> None:
    pool = RayPool(build, joined.model_copy(update={"actors": 1}))
    try:
        with pytest.raises(PoolError, match=error):
            pool.facts()
    finally:
        pool.close()


def test_an_exception_is_tried_again_and_then_named(joined: ClusterConfig, tmp_path: Path) -> None:
    pool = RayPool(partial(FakeScorer, raise_at=(1,), marks=tmp_path), joined)
    try:
        for i in range(3):
            pool.submit(make_pair(i))
        answers = drain(pool, 3)
        assert {answer.result.id: answer.attempts for answer in answers} == {0: 1, 1: 2, 2: 1}
    finally:
        pool.close()
    pool = RayPool(partial(FakeScorer, raise_at=(1,)), joined)
    try:
        pool.submit(make_pair(1))
        with pytest.raises(PoolError, match=f"work 1 failed {FAILURES_PER_WORK} times.*RuntimeError: fault at 1"):
            drain(pool, 1)
    finally:
        pool.close()


def test_least_busy_actor_gets_the_work(joined: ClusterConfig) -> None:
    pool = RayPool(partial(FakeScorer, delay=0.3), joined)
    try:
        pool.facts()
        while len(pool.pids()) < 2:
            pool.collect(0.1)
            pool._wait(0.5)
        for i in range(7):
            pool.submit(make_pair(i))
        assert [held for _, _, held in pool.describe()] == [IN_FLIGHT, IN_FLIGHT]
        assert len(drain(pool, 7)) == 7
    finally:
        pool.close()


def test_a_joined_cluster_lives_on(joined: ClusterConfig) -> None:
    RayPool(FakeScorer, joined).close()
    pool = RayPool(FakeScorer, joined)
    assert pool.facts().model == "fake"
    pool.close()


def test_killed_node() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 * 2**20})
    node = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    pool = RayPool(partial(FakeScorer, delay=0.2), ClusterConfig(address=cluster.address, actors=2))
    try:
        for i in range(12):
            pool.submit(make_pair(i))
        answers = drain(pool, 1)
        while len(pool.pids()) < 2:
            answers += pool.collect(0.5)
        cluster.remove_node(node, allow_graceful=False)
        answers += drain(pool, 12 - len(answers))
        assert sorted(answer.result.id for answer in answers) == list(range(12))
    finally:
        pool.close()
        cluster.shutdown()


def test_unreachable_cluster_is_named() -> None:
    with pytest.raises(
        InputError, match=r"cluster.address: no Ray cluster answers at '127.0.0.1:1' .*ray start --head"
    ):
        RayPool(FakeScorer, ClusterConfig(address="127.0.0.1:1"))
    assert not ray.is_initialized()


def test_local_cluster_refuses_what_it_cannot_hold_and_closes_behind_itself() -> None:
    with pytest.raises(InputError, match=r"cluster.gpus_per_actor: 64 is more than any node has \(\d+ GPU\)"):
        RayPool(FakeScorer, ClusterConfig(gpus_per_actor=64))
    assert not ray.is_initialized()
