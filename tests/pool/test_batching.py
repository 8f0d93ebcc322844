"""How many pairs share a pass where that is left to the program: over pools that say they have GPUs."""

from dataclasses import replace
from typing import Any

import pytest

from tests.support.fakes import FACTS, FakeScorer
from tests.support.loop import fresh, make_config
from zip_ray.pool.batching import asks_per_pass
from zip_ray.pool.contract import InProcessPool, Member
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Pass, Work
from zip_ray.tuning.events import Event, StepEvent
from zip_ray.tuning.loop import Tuning

GPU = "cuda (NVIDIA H100)"
ASYNC = {"mode": "async", "in_flight": 8}
AUTO = {"pairs_per_pass": "auto"}


class Gpus(InProcessPool):
    """A number of actors, each on a GPU by its own account; notes how many asks share each pass."""

    def __init__(self, actors: int) -> None:
        super().__init__(FakeScorer)
        self.actors, self.sizes = actors, list[int]()

    def facts(self, *_: Any) -> Facts:
        return replace(FACTS, device=GPU)

    def members(self) -> list[Member]:
        return [Member(number, "ready") for number in range(self.actors)] + [Member(99, "pending")]

    def submit(self, work: Work) -> None:
        if isinstance(work, Pass):
            self.sizes.append(len(work.asks))
        super().submit(work)


@pytest.mark.parametrize(
    ("sections", "device", "actors", "wanted"),
    [
        ({}, GPU, 1, 1),  # the bits of a synchronous run are those of any number of actors
        ({"model": AUTO}, GPU, 1, 5),
        ({"model": AUTO}, GPU, 2, 3),
        ({"model": AUTO}, GPU, 64, 1),
        ({"model": AUTO}, GPU, 0, 5),
        ({"model": AUTO}, "cpu (EPYC)", 1, 1),
        ({"optimizer": ASYNC}, GPU, 1, 4),
        ({"optimizer": ASYNC}, GPU, 2, 2),
        ({"optimizer": ASYNC}, GPU, 3, 1),
        ({"optimizer": ASYNC}, GPU, 64, 1),
        ({"optimizer": ASYNC}, "cpu (EPYC)", 1, 1),
        ({"optimizer": ASYNC, "model": {"pairs_per_pass": 7}}, GPU, 3, 7),
        ({"optimizer": ASYNC, "model": {"pairs_per_pass": 9}}, "cpu (EPYC)", 3, 8),
    ],
)
def test_pairs_of_a_pass(sections: dict, device: str, actors: int, wanted: int) -> None:
    assert asks_per_pass(make_config(**sections), device, actors) == wanted


@pytest.mark.parametrize(
    ("sections", "actors", "sizes"),
    [
        ({}, 2, {1}),
        ({"model": AUTO}, 1, {5}),
        ({"model": AUTO}, 2, {3, 2}),
        ({"optimizer": {**ASYNC, "pairs_per_step": 1}}, 1, {4}),
        ({"optimizer": {**ASYNC, "pairs_per_step": 1}}, 4, {1}),
    ],
)
def test_a_run_on_gpus_has_passes_of_that_size(sections: dict, actors: int, sizes: set[int]) -> None:
    pool = Gpus(actors)
    config = make_config(**sections, budget={"queries": 80})
    end = Tuning(config, pool, fresh(), lambda _: None, lambda _: None).run()
    assert end.state.account.charged == 80
    assert set(pool.sizes) == sizes


@pytest.mark.parametrize(
    ("optimizer", "before", "sizes", "after", "then"),
    [
        ({}, 1, [5], 4, [2, 2, 1]),
        ({}, 4, [2, 2, 1], 1, [5]),
        ({**ASYNC, "pairs_per_step": 1}, 1, [4, 4], 4, [1] * 4),
        ({**ASYNC, "pairs_per_step": 1}, 4, [1] * 8, 1, [4, 4]),
    ],
)
def test_passes_follow_the_actors(optimizer: dict, before: int, sizes: list[int], after: int, then: list[int]) -> None:
    pool = Gpus(before)

    def change(event: Event) -> None:
        if isinstance(event, StepEvent):
            pool.actors = after

    # The watch looks every two seconds: this clock goes on by one at each reading.
    clock = iter(range(10**6)).__next__
    config = make_config(optimizer=optimizer, model=AUTO, budget={"queries": 320})
    Tuning(config, pool, fresh(), change, lambda _: None, clock=clock).run()
    assert pool.sizes[: len(sizes)] == sizes
    assert pool.sizes[-len(then) :] == then
