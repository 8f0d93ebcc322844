"""The Ray pool under faults: killed actors and nodes, crash loops, exceptions, impossible requests."""

import itertools
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

from tests.support.fakes import FakeScorer, UnevenScorer, broken_build, dying_build, hanging_build, numbered_pair
from tests.support.paths import ROOT
from tests.support.processes import HANG_SECONDS, free_port, require_gone, wait_for
from tests.support.ray_cluster import add_node
from zip_ray.actors.cluster import connect
from zip_ray.actors.ray_pool import RayPool
from zip_ray.config.resources import ClusterConfig
from zip_ray.errors import InputError
from zip_ray.pool.contract import PoolError
from zip_ray.pool.dispatcher import FAILURES_PER_WORK, PREFETCH
from zip_ray.protocol.messages import Answer, Value
from zip_ray.testing.pool_contract import drain


@pytest.fixture
def joined(ray_cluster: str) -> ClusterConfig:
    """A cluster that keeps running after each pool that joins it; shared by the tests of this module in turn."""
    return ClusterConfig(address=ray_cluster, actors=2, start_timeout=HANG_SECONDS)


def values(answers: list[Answer]) -> dict[int, Value]:
    return {answer.id: answer.value for answer in answers}


def test_work_of_a_killed_actor_is_answered_once(joined: ClusterConfig) -> None:
    pool = RayPool(partial(FakeScorer, delay=0.1), joined)
    try:
        pool.facts()
        works = [numbered_pair(number) for number in range(12)]
        pool.submit(works)
        answers = drain(pool, 2)
        os.kill(pool.pids()[0], signal.SIGKILL)
        answers += drain(pool, 12 - len(answers))
        assert sorted(answer.id for answer in answers) == list(range(12))
        assert values(answers) == {work.id: FakeScorer().answer(work) for work in works}
        again = sum(answer.attempts - 1 for answer in answers)
        assert 1 <= again <= PREFETCH, "the lost actor's work, and no more, was issued again"
        assert pool.collect(0.5) == []
    finally:
        pool.close()


def test_a_dead_actor_is_replaced(joined: ClusterConfig) -> None:
    pool = RayPool(FakeScorer, joined.model_copy(update={"actors": 1}))
    try:
        pool.facts()
        before = pool.pids()
        os.kill(before[0], signal.SIGKILL)
        pool.submit([numbered_pair(0)])
        assert len(drain(pool, 1)) == 1
        assert pool.pids()
        assert pool.pids() != before
    finally:
        pool.close()


def test_process_that_ends_itself_mid_work(joined: ClusterConfig, tmp_path: Path) -> None:
    pool = RayPool(partial(FakeScorer, die_at=(3, 4), marks=tmp_path), joined)
    try:
        pool.submit([numbered_pair(number) for number in range(8)])
        assert sorted(values(drain(pool, 8))) == list(range(8))
    finally:
        pool.close()


def test_deaths_without_end_stop_the_pool_with_the_last_error(joined: ClusterConfig) -> None:
    pool = RayPool(partial(FakeScorer, die_at=(0,)), joined.model_copy(update={"actors": 1}))
    try:
        pool.submit([numbered_pair(0)])
        with pytest.raises(PoolError, match=rf"work 0 failed {FAILURES_PER_WORK} times.*actor lost: its process"):
            drain(pool, 1)
    finally:
        pool.close()


@pytest.mark.parametrize(
    ("build", "error"), [(broken_build, "RuntimeError: no weights here"), (dying_build, "actor lost: its process")]
)
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
        pool.submit([numbered_pair(number) for number in range(3)])
        attempts = {answer.id: answer.attempts for answer in drain(pool, 3)}
        assert attempts[1] == 2
        assert sorted(attempts) == [0, 1, 2]
        assert 3 in [member.number for member in pool.members()], "the actor that failed was replaced"
    finally:
        pool.close()
    pool = RayPool(partial(FakeScorer, raise_at=(1,)), joined)
    try:
        pool.submit([numbered_pair(1)])
        with pytest.raises(PoolError, match=f"work 1 failed {FAILURES_PER_WORK} times.*RuntimeError: fault at 1"):
            drain(pool, 1)
    finally:
        pool.close()


def all_ready(pool: RayPool) -> None:
    while any(member.state != "ready" for member in pool.members()):
        pool._wait(0.5)


def test_work_waits_in_the_pool_and_not_behind_a_slow_actor(joined: ClusterConfig, tmp_path: Path) -> None:
    pool = RayPool(partial(UnevenScorer, tmp_path, slow=20.0), joined)
    try:
        all_ready(pool)
        pool.submit([numbered_pair(0)])
        pool.submit([numbered_pair(1)])
        assert [member.held for member in pool.members()] == [1, 1], "the second goes to the idle actor"
        pool.submit([numbered_pair(number) for number in range(2, 20)])
        assert [member.held for member in pool.members()] == [PREFETCH, PREFETCH]
        slow = [number for number, value in values(drain(pool, 20)).items() if value[0].accuracy == 20.0]
        assert slow == [], "the fast actor took all that waited, and copies of what the slow one held"
    finally:
        pool.close()


def test_an_actor_that_hangs_while_it_loads_is_replaced(joined: ClusterConfig, tmp_path: Path) -> None:
    pool = RayPool(partial(hanging_build, tmp_path), joined)
    try:
        pool.facts()
        pool._fleet.cluster = joined.model_copy(update={"start_timeout": 1})
        while not pool.last_error():
            pool._wait(0.5)
        pool._fleet.cluster = joined  # the next one may take its time
        all_ready(pool)
        assert "not loaded within cluster.start_timeout = 1 s" in pool.last_error()
    finally:
        pool.close()


def test_killed_node(cluster: Cluster) -> None:
    node = add_node(cluster, num_cpus=4)
    # Four CPUs per actor: one actor on each node.
    pool = RayPool(partial(FakeScorer, delay=0.2), ClusterConfig(address=cluster.address, actors=2, cpus_per_actor=4))
    try:
        all_ready(pool)
        pool.submit([numbered_pair(number) for number in range(12)])
        answers = drain(pool, 1)
        cluster.remove_node(node, allow_graceful=False)
        answers += drain(pool, 12 - len(answers))
        assert sorted(answer.id for answer in answers) == list(range(12))
        assert max(answer.attempts for answer in answers) == 2
        extra = itertools.count(12)

        def waits_for_a_node() -> bool:
            pool.submit([numbered_pair(next(extra))])
            drain(pool, 1)
            return sorted(member.state for member in pool.members()) == ["pending", "ready"]

        wait_for(waits_for_a_node)  # duplicates of its work were answered before the loss of the node was detected
    finally:
        pool.close()


def test_no_actor_for_too_long_is_an_end_with_the_numbers(joined: ClusterConfig) -> None:
    cluster = joined.model_copy(update={"cpus_per_actor": 64, "start_timeout": 1})
    pool = RayPool(FakeScorer, cluster)
    try:
        text = (
            r"cluster.cpus_per_actor: an actor needs 64 CPU and 0 GPU on one node; there are nodes of 4 CPU and 0 GPU"
        )
        with pytest.raises(InputError, match=text):
            pool.facts()
    finally:
        pool.close()


FOREIGN_DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])  # of this process only: Ray gives workers the script's and the working directory
from tests.support.ray_cluster import add_node
from zip_ray.actors.ray_pool import RayPool
from zip_ray.config.resources import ClusterConfig
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Evaluation, EvaluationResult, Priority, new_work

class Scorer:
    def facts(self):
        return Facts(None, (), "", (), "", {}, "shipped", None, None)
    def answer(self, work):
        return EvaluationResult(0.5, 1.0, 7)

pool = RayPool(Scorer, ClusterConfig(address=sys.argv[2], actors=1))
pool.submit([new_work(Evaluation("val", "a {}."), Priority.EVALUATION) for _ in range(5)])
answers = []
while len(answers) < 5:
    answers += pool.collect(1.0)
print(pool.facts().device, sorted((answer.id, answer.attempts) for answer in answers))
pool.close()
"""


@pytest.mark.parametrize("road", ["address", "client_address"])
def test_code_is_shipped_to_a_joined_cluster(cluster: Cluster, tmp_path: Path, road: str) -> None:
    script = tmp_path / "driver.py"
    script.write_text(FOREIGN_DRIVER)
    command = [sys.executable, str(script), str(ROOT), getattr(cluster, road)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HANG_SECONDS)
    told = run.stdout.splitlines()[-1:]  # Ray may report nodes that earlier tests removed from the cluster
    assert told == ["shipped [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]"], run.stdout + run.stderr


def test_unreachable_cluster_is_named() -> None:
    address = f"127.0.0.1:{free_port()}"
    for given in (address, f"ray://{address}"):
        with pytest.raises(InputError, match=rf"cluster.address: no Ray .* at '{given}' .*ray start --head"):
            RayPool(FakeScorer, ClusterConfig(address=given))
    assert not ray.is_initialized()


def test_a_port_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zip_ray.actors.address.CONNECT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match=rf"cluster.address: no Ray cluster answers at '{address}'"):
            RayPool(FakeScorer, ClusterConfig(address=address))


def test_addresses_of_another_kind(cluster: Cluster) -> None:
    with pytest.raises(InputError, match=r"^cluster.address: 'head-node' is not an address: give auto, HOST:PORT or"):
        connect(ClusterConfig(address="head-node"))
    with pytest.raises(
        InputError, match=rf"^cluster.address: 'ray://{cluster.address}' has the wrong form .* write it without ray://$"
    ):
        connect(ClusterConfig(address=f"ray://{cluster.address}"))
    client = cluster.client_address.removeprefix("ray://")
    with pytest.raises(InputError, match=rf"write it as ray://{client}, if it is a Ray client server$"):
        connect(ClusterConfig(address=client))


def test_a_cluster_that_is_up_but_refuses_is_told_apart(ray_cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise SystemExit(1)  # what ray.init does after minutes of trying

    monkeypatch.setattr("ray.init", refuse)
    with pytest.raises(
        InputError, match=r"^cluster.address: .* is running but cannot be joined \(1\): use its versions"
    ):
        connect(ClusterConfig(address=ray_cluster))


def test_local_cluster_answers_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_worker_niceness")
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    pool = RayPool(FakeScorer, ClusterConfig(actors=2))
    pool.submit([numbered_pair(0)])
    assert [answer.attempts for answer in drain(pool, 1)] == [1]
    started = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    assert started
    assert {psutil.Process(pid).nice() for pid in pool.pids()} == {psutil.Process().nice()}
    pool.close()
    assert not ray.is_initialized()
    _, alive = psutil.wait_procs(started, timeout=HANG_SECONDS)
    assert not alive


def test_a_ray_that_is_initialised_already_is_used_and_left_as_it_is(ray_cluster: str) -> None:
    ray.init(address=ray_cluster, log_to_driver=False)
    try:
        with closing(RayPool(FakeScorer, ClusterConfig(actors=1))) as pool:
            pool.submit([numbered_pair(0)])
            assert [answer.attempts for answer in drain(pool, 1)] == [1]
            pids = set(pool.pids())
        assert ray.is_initialized()
        require_gone(pids)
    finally:
        ray.shutdown()


def test_what_a_local_cluster_can_never_hold_is_refused(joined: ClusterConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken_for_local(cluster: ClusterConfig, _: object) -> str:
        connect(cluster)
        return "started"

    monkeypatch.setattr("zip_ray.actors.ray_pool.connect", taken_for_local)
    with pytest.raises(InputError, match=r"cluster.gpus_per_actor: an actor needs 1 CPU and 64 GPU on one node; there"):
        RayPool(FakeScorer, joined.model_copy(update={"gpus_per_actor": 64}))
    assert not ray.is_initialized()
