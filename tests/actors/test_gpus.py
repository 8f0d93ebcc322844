"""Actors on nodes with GPUs, whole or shared, which Ray schedules by the declared numbers alone."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.support.fakes import FACTS, FakeScorer, numbered_pair
from tests.support.processes import HANG_SECONDS
from tests.support.ray_cluster import add_node
from tests.support.simulated import Faults, SimulatedPool
from zip_ray.actors.cluster import free_places, places
from zip_ray.actors.ray_pool import RayPool
from zip_ray.config.resources import ClusterConfig
from zip_ray.protocol.facts import Facts
from zip_ray.testing.pool_contract import drain


@pytest.fixture(scope="module")
def gpus(cluster: Cluster) -> Iterator[str]:
    """A head without GPUs, a node with one and a node with two; both nodes have three CPUs."""
    nodes = [add_node(cluster, num_cpus=3, num_gpus=count) for count in (1, 2)]
    yield str(cluster.address)
    for node in nodes:
        cluster.remove_node(node)


@dataclass(frozen=True)
class Placed(FakeScorer):
    """Records where its actor is: the node, and the GPUs visible to it."""

    def facts(self) -> Facts:
        assert self.marks is not None
        where = [ray.get_runtime_context().get_node_id(), os.environ.get("CUDA_VISIBLE_DEVICES")]
        (self.marks / str(os.getpid())).write_text(json.dumps(where))
        return FACTS


@pytest.mark.parametrize(
    ("cpus", "gpus", "room"),
    [
        (1, 0, 64),
        (1.5, 0, 42),
        (0, 0, 2),
        (0, 1, 80),
        (2, 1, 32),
        (0, 0.33, 240),  # the remainders of several GPUs do not add up to a place
        (0, 1 / 3, 240),
        (0, 3, 26),
    ],
)
def test_room_on_two_nodes(monkeypatch: pytest.MonkeyPatch, cpus: float, gpus: float, room: int) -> None:
    node = {"Alive": True, "Resources": {"CPU": 32.0, "GPU": 40.0}}
    monkeypatch.setattr("ray.nodes", lambda: [node, node, {**node, "Alive": False}])
    assert places(ClusterConfig(cpus_per_actor=cpus, gpus_per_actor=gpus)) == room


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "room"),
    [
        # A GPU on a node without a free CPU and CPUs on a node without a GPU: enough in sum, but no place.
        ([{"GPU": 1.0}, {"CPU": 8.0}], 1, 1, 0),
        ([{"GPU": 1.0, "CPU": 1.0}, {"CPU": 8.0}], 1, 1, 1),
        ([{"GPU": 1.0, "CPU": 8.0}, {"GPU": 2.0, "CPU": 8.0}], 1, 0.5, 6),
        ([{"CPU": 3.0}, {"CPU": 2.0}, {}], 1, 0, 5),
        ([{"CPU": 300.0}], 1, 0, 99),
        ([{}], 0, 0, 99),
    ],
)
def test_room_beside_others(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], cpus: float, gpus: float, room: int
) -> None:
    monkeypatch.setattr("zip_ray.actors.cluster.available_resources_per_node", lambda: dict(enumerate(nodes)))
    assert free_places(ClusterConfig(cpus_per_actor=cpus, gpus_per_actor=gpus), 99) == room


@pytest.mark.parametrize(
    ("share", "on_each"),
    [
        # Where each share of a GPU goes: actors on each GPU, by node.
        (1 / 3, [[3], [3]]),
        (1, [[1], [1, 1]]),
        (2, [[1]]),
        ("auto", [[1], [1, 1]]),
    ],
)
def test_actors_fill_the_gpus_that_are_there(
    gpus: str, tmp_path: Path, share: float | Literal["auto"], on_each: list
) -> None:
    config = ClusterConfig(address=gpus, gpus_per_actor=share, start_timeout=HANG_SECONDS)
    pool = RayPool(lambda: Placed(marks=tmp_path), config)
    try:
        wanted = sum(map(sum, on_each))
        share = 1 if share == "auto" else share
        assert places(config.settled(3)) == wanted
        while len(pool.pids()) < wanted:
            pool.facts()
            pool._wait(0.5)
        assert len(pool.members()) == wanted, "no actor is asked for that there is no room for"
        found: dict[str, Counter[str]] = {}
        for path in tmp_path.iterdir():
            node, seen = json.loads(path.read_text())
            assert len(seen.split(",")) == max(1, share), (
                "as many GPUs as it has been given, a part of one counts as one"
            )
            found.setdefault(node, Counter())[seen] += 1
        assert sorted(sum(seen.values()) for seen in found.values()) == sorted(map(sum, on_each))
        if share >= 1:
            assert all(set(seen.values()) == {1} for seen in found.values()), "none shares a whole GPU"
        pool.submit([numbered_pair(0)])
        assert drain(pool, 1)
    finally:
        pool.close()


def test_without_gpus_there_are_two_actors_unless_it_is_said() -> None:
    assert ClusterConfig().settled(0) == ClusterConfig(actors=2, gpus_per_actor=0)
    assert ClusterConfig().settled(8) == ClusterConfig(actors="auto", gpus_per_actor=1)
    asked = ClusterConfig(actors=(1, 4), gpus_per_actor=0)
    assert asked.settled(8) == asked


def test_unlike_gpus_are_given_work_by_their_speed() -> None:
    """Among fast actors, one has half the speed and one a tenth: with enough work, each does its share."""
    paces = {1: 1.0, 2: 1.0, 3: 2.0, 4: 10.0}
    pool = SimulatedPool(1, len(paces), Faults(), paces=paces.__getitem__)
    pool.submit([numbered_pair(number) for number in range(40)])
    submitted, start, seconds = 40, 60.0, 1000
    while pool.now < start + seconds:
        for _ in pool.collect(1.0):
            pool.submit([numbered_pair(submitted)])
            submitted += 1
    did = Counter(member for time, member in pool.done if time >= start)
    for member, pace in paces.items():
        assert did[member] == pytest.approx(seconds / pace, rel=0.05), member
