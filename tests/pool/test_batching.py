"""The number of pairs that share a pass with `auto`: over pools that report GPUs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support.fakes import FACTS, FakeScorer
from tests.support.loop import fresh, make_config
from tests.support.pools import RecordingPool
from zip_ray.pool.batching import asks_per_pass
from zip_ray.pool.contract import Member
from zip_ray.pool.in_process import InProcessPool
from zip_ray.protocol.facts import Facts
from zip_ray.tuning.events import Event, StepEvent
from zip_ray.tuning.loop import Tuning

GPU = "cuda (NVIDIA H100)"
ASYNC = {"mode": "async", "in_flight": 8}
AUTO = {"pairs_per_pass": "auto"}


class GpuPool(InProcessPool):
    """A number of actors, each of which reports a GPU."""

    def __init__(self, actors: int) -> None:
        super().__init__(FakeScorer)
        self.actors = actors

    def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:  # noqa: ARG002
        return replace(FACTS, device=GPU)

    def members(self) -> list[Member]:
        return [Member(number, "ready") for number in range(self.actors)] + [Member(99, "pending")]


def pass_sizes(pool: RecordingPool) -> list[int]:
    return [len(one.asks) for one in pool.passes]


@pytest.mark.parametrize(
    ("execution", "device", "actors", "wanted"),
    [
        ({}, GPU, 1, 1),  # a synchronous run has the same bits for any number of actors
        (AUTO, GPU, 1, 5),
        (AUTO, GPU, 2, 3),
        (AUTO, GPU, 64, 1),
        (AUTO, GPU, 0, 5),
        (AUTO, "cpu (EPYC)", 1, 1),
        (ASYNC, GPU, 1, 1),
        ({**ASYNC, **AUTO}, GPU, 1, 4),
        ({**ASYNC, **AUTO}, GPU, 2, 2),
        ({**ASYNC, **AUTO}, GPU, 3, 1),
        ({**ASYNC, **AUTO}, GPU, 64, 1),
        ({**ASYNC, **AUTO}, "cpu (EPYC)", 1, 1),
        ({**ASYNC, "pairs_per_pass": 7}, GPU, 3, 7),
        ({**ASYNC, "pairs_per_pass": 9}, "cpu (EPYC)", 3, 8),
    ],
)
def test_pairs_of_a_pass(execution: dict[str, Any], device: str, actors: int, wanted: int) -> None:
    assert asks_per_pass(make_config(execution=execution), device, actors) == wanted


def test_a_round_that_may_close_early_is_shared_out_as_a_synchronous_one() -> None:
    sections = {"optimizer": {"method": "gauss-newton", "round_queries": 40}, "execution": {"mode": "async", **AUTO}}
    assert [asks_per_pass(make_config(**sections), GPU, actors) for actors in (1, 16, 64)] == [40, 3, 1]


@pytest.mark.parametrize(
    ("sections", "actors", "sizes"),
    [
        ({}, 2, {1}),
        ({"execution": AUTO}, 1, {5}),
        ({"execution": AUTO}, 2, {3, 2}),
        ({"execution": {**ASYNC, **AUTO}, "optimizer": {"pairs_per_step": 1}}, 1, {4}),
        ({"execution": {**ASYNC, **AUTO}, "optimizer": {"pairs_per_step": 1}}, 4, {1}),
    ],
)
def test_a_run_on_gpus_has_passes_of_that_size(sections: dict[str, Any], actors: int, sizes: set[int]) -> None:
    pool = RecordingPool(GpuPool(actors))
    config = make_config(**sections, budget={"queries": 80})
    end = Tuning(config, pool, fresh(), lambda _: None, lambda _: None).run()
    assert end.state.account.charged == 80
    assert set(pass_sizes(pool)) == sizes


@pytest.mark.parametrize(
    ("sections", "before", "sizes", "after", "then"),
    [
        ({"execution": AUTO}, 1, [5], 4, [2, 2, 1]),
        ({"execution": AUTO}, 4, [2, 2, 1], 1, [5]),
        ({"execution": {**ASYNC, **AUTO}, "optimizer": {"pairs_per_step": 1}}, 1, [4, 4], 4, [1] * 4),
        ({"execution": {**ASYNC, **AUTO}, "optimizer": {"pairs_per_step": 1}}, 4, [1] * 8, 1, [4, 4]),
    ],
)
def test_passes_follow_the_actors(
    sections: dict[str, Any], before: int, sizes: list[int], after: int, then: list[int]
) -> None:
    gpus = GpuPool(before)
    pool = RecordingPool(gpus)

    def change(event: Event) -> None:
        if isinstance(event, StepEvent):
            gpus.actors = after

    # The watch looks every two seconds; this clock advances by one second per reading.
    clock = iter(range(10**6)).__next__
    config = make_config(**sections, budget={"queries": 320})
    Tuning(config, pool, fresh(), change, lambda _: None, clock=clock).run()
    found = pass_sizes(pool)
    assert found[: len(sizes)] == sizes
    assert found[-len(then) :] == then
