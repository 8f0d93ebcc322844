"""Many runs on one pool: each gives what it gives alone, and one that fails takes nobody along."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.support.command_line import assert_same_run
from tests.support.fake_ray import FakeRay
from tests.support.fakes import FACTS, FakeScorer, make_pairs
from tests.support.pools import drain
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.contract import InProcessPool, PoolError
from zip_ray.pool.multi_scorer import KEPT, ScorerHost, scorer_key
from zip_ray.pool.shared import Channel, PoolHub
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Evaluation, EvaluationResult, Result, Work
from zip_ray.runs.lifecycle import tune
from zip_ray.scorer import scorer as scoring
from zip_ray.scorer.scorer import ScorerBuilder, build_scorer


def config(seed: int = 1, **sections: object) -> Config:
    return validate({"seed": seed, **sections}, "test")


class SeedScorer(FakeScorer):
    """Says which config it was built for: the seed is the loss of an evaluation."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        object.__setattr__(self, "config", config)
        if config.seed == 13:
            raise InputError("task.root: no such images: give another")

    def facts(self) -> Facts:
        return replace(FACTS, template=f"{self.config.seed} {{}}")

    def answer(self, work: Work) -> Result:
        if self.config.seed == 14:
            raise ZeroDivisionError("a fault of\nthis method")
        if self.config.seed == 15:
            raise RuntimeError("CUDA error: device-side assert")
        if isinstance(work, Evaluation):
            return EvaluationResult(work.id, float(self.config.seed), 0.5, 6)
        return super().answer(work)


@contextmanager
def hub_of(build: Callable[[Config], FakeScorer], *seeds: int) -> Iterator[PoolHub]:
    keys = [scorer_key(config(seed)) for seed in seeds]
    with (
        closing(InProcessPool(partial(ScorerHost, build, keys))) as pool,
        closing(PoolHub(pool)) as hub,
    ):
        yield hub


def evaluate(channel: Channel, identity: int = -1) -> float:
    channel.submit(Evaluation(identity, "test", "{}"))
    while True:
        for answer in channel.collect(5.0):
            assert answer.result.id == identity
            return answer.result.loss


def test_each_run_is_answered_by_its_own_scorer() -> None:
    seeds = range(1, 7)
    with hub_of(SeedScorer, *seeds) as hub, ThreadPoolExecutor(6) as threads:

        def work(seed: int) -> None:
            channel = hub.channel(config(seed))
            assert channel.facts().template == f"{seed} {{}}"
            for identity in range(-1, -40, -1):  # the same ids in every run
                assert evaluate(channel, identity) == seed

        list(threads.map(work, seeds))


def test_runs_that_differ_for_the_driver_alone_share_a_scorer() -> None:
    one = config(1, optimizer={"method": "zip"}, budget={"queries": 100})
    other = config(1, optimizer={"method": "spsa", "a": 0.5}, budget={"queries": 900}, output={"dir": "x"})
    assert scorer_key(one) == scorer_key(other)
    for section in ({"task": {"shots": 3}}, {"prompt": {"rank": 2}}, {"optimizer": {"loss": "focal"}}, {"seed": 2}):
        assert scorer_key(validate(section, "test")) != scorer_key(config(1))
    coarse, finer = (config(1, model={"precision": "tf32"}, optimizer={"c": c}) for c in (0.01, 0.02))
    assert scorer_key(coarse) != scorer_key(finer), "the precision is judged at the run's own c"
    fine = config(1, optimizer={"c": 0.02})
    assert scorer_key(fine) == scorer_key(config(1))


def test_who_waits_for_facts_can_look_around() -> None:
    looked = threading.Event()

    def build(one: Config) -> SeedScorer:
        assert looked.wait(60.0)
        return SeedScorer(one)

    with hub_of(build, 1) as hub:
        assert hub.channel(config(1)).facts(looked.set).template == "1 {}"


def test_a_host_keeps_the_last_scorers_only() -> None:
    built: list[int] = []

    def build(one: Config) -> SeedScorer:
        built.append(one.seed)
        return SeedScorer(one)

    with hub_of(build, 100) as hub:
        for seed in [*range(100, 100 + KEPT), 100, 100 + KEPT, 100, 101]:
            evaluate(hub.channel(config(seed)))
    assert built == [*range(100, 100 + KEPT), 100 + KEPT, 101]


def test_a_fault_of_one_run_is_raised_there_alone() -> None:
    with hub_of(SeedScorer, 1) as hub:
        good, poor, broken = (hub.channel(config(seed)) for seed in (1, 13, 14))
        with pytest.raises(InputError, match=r"^task.root: no such images: give another$"):
            poor.facts()
        with pytest.raises(PoolError, match=r"^ZeroDivisionError: a fault of this method$"):
            evaluate(broken)
        assert evaluate(good) == 1
        assert hub.error is None


class FullAtFirst(SeedScorer):
    """Has no memory for its first evaluations."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        object.__setattr__(self, "fails", config.seed)

    def answer(self, work: Work) -> Result:
        object.__setattr__(self, "fails", self.fails - 1)
        if self.fails >= 0:
            raise RuntimeError("out of memory")
        return super().answer(work)


def test_a_failure_is_tried_on_every_actor_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch)
    with (
        closing(fake.pool(partial(ScorerHost, FullAtFirst, [scorer_key(config(1))]), actors=2)) as pool,
        closing(PoolHub(pool)) as hub,
    ):
        lucky, unlucky = hub.channel(config(1)), hub.channel(config(9))
        lucky.submit(Evaluation(-1, "val", "a {}."))
        (answer,) = drain(lucky, 1)
        assert (answer.result.loss, answer.attempts) == (1.0, 3)
        unlucky.submit(Evaluation(-1, "val", "a {}."))
        with pytest.raises(PoolError, match=r"^RuntimeError: out of memory$"):
            drain(unlucky, 1)
        assert len(fake.actors) == 2, "neither is at fault"


def test_what_would_spoil_the_process_is_left_to_the_pool() -> None:
    with hub_of(SeedScorer, 1) as hub:
        with pytest.raises(PoolError, match="CUDA error"):
            evaluate(hub.channel(config(15)))
        with pytest.raises(PoolError, match="CUDA error"):
            hub.channel(config(1)).facts()


def test_the_facts_of_a_host_are_those_of_the_first_run_that_can_be_scored() -> None:
    keys = [scorer_key(config(seed)) for seed in (13, 4, 5)]
    assert ScorerHost(SeedScorer, keys).facts().template == "4 {}"
    with pytest.raises(InputError, match="no such images"):
        ScorerHost(SeedScorer, keys[:1]).facts()


def test_a_pool_that_dies_is_told_to_every_run() -> None:
    class Dying(InProcessPool):
        def collect(self, timeout: float) -> list:  # noqa: ARG002
            if len(self._queue) < 3:
                return []
            raise PoolError("no actor is left")

    hub = PoolHub(Dying(partial(ScorerHost, SeedScorer, [])))
    with ThreadPoolExecutor(3) as threads:
        waits = [threads.submit(evaluate, hub.channel(config(seed))) for seed in (1, 2, 3)]
        for wait in waits:
            with pytest.raises(PoolError, match="no actor is left"):
                wait.result(10)
    with pytest.raises(PoolError, match="no actor is left"):
        hub.channel(config(1)).submit(make_pairs(0))
    hub.close()


def test_closing_the_hub_ends_the_waiting() -> None:
    class Silent(InProcessPool):
        def collect(self, timeout: float) -> list:  # noqa: ARG002
            asked.set()
            return []

    asked = threading.Event()
    hub = PoolHub(Silent(partial(ScorerHost, SeedScorer, [])))
    with ThreadPoolExecutor(1) as threads:
        wait = threads.submit(evaluate, hub.channel(config(1)))
        assert asked.wait(10)
        hub.close()
        with pytest.raises(PoolError, match="closed"):
            wait.result(10)


def test_a_closed_channel_leaves_the_pool_to_the_others() -> None:
    with hub_of(SeedScorer, 1, 2) as hub:
        gone, stays = hub.channel(config(1)), hub.channel(config(2))
        for number in range(5):
            gone.submit(make_pairs(number))
        gone.close()
        assert gone.collect(0.0) == []
        assert evaluate(stays) == 2


def test_work_of_all_runs_goes_out_in_the_order_of_asking_within_its_rank() -> None:
    """Evaluations before queries, as in a pool of one run's own; a run that is ahead does not starve."""
    seen: list[int] = []

    class Watching(InProcessPool):
        def submit(self, work: Work) -> None:
            seen.append(work.id)
            super().submit(work)

    hub = PoolHub(Watching(partial(ScorerHost, SeedScorer, [])))
    one, other = hub.channel(config(1)), hub.channel(config(2))
    for channel, number in ((one, 900), (other, 0), (one, 901)):
        channel.submit(make_pairs(number))
    other.submit(Evaluation(-1, "val", "{}"))
    one.submit(make_pairs(2**40 + 5))
    for channel, count in ((one, 3), (other, 2)):
        while count:
            count -= len(channel.collect(5.0))
    hub.close()
    first, second, third, evaluation, crops = seen
    assert evaluation < first < second < third < crops


SMALL = {
    "task": {"shots": 2, "batch_size": 20},
    "prompt": {"init": "template", "intrinsic_dim": 60},
    "optimizer": {"pairs_per_step": 2},
    "budget": {"queries": 40},
    "validation": {"every_queries": 20},
    "cluster": {"pool": "in-process"},
    "tracking": {"enabled": False},
}


def test_two_runs_on_one_pool_give_bit_for_bit_what_they_give_alone(tmp_path: Path) -> None:
    def configs(place: str) -> list[Config]:
        return [config(seed, **{**SMALL, "output": {"dir": str(tmp_path / place / str(seed))}}) for seed in (1, 2)]

    for one in configs("alone"):
        tune(one, lambda c: InProcessPool(partial(build_scorer, c)), lambda: False)
    keys = [scorer_key(one) for one in configs("together")]
    with (
        closing(PoolHub(InProcessPool(partial(ScorerHost, ScorerBuilder(), keys)))) as hub,
        ThreadPoolExecutor(2) as t,
    ):
        list(t.map(lambda one: tune(one, hub.channel, lambda: False), configs("together")))
    for seed in "12":
        assert_same_run(tmp_path / "together" / seed, tmp_path / "alone" / seed)
    tensors = [load_file(tmp_path / "alone" / seed / "tuned_prompt.safetensors") for seed in "12"]
    assert not np.array_equal(tensors[0]["parameters"], tensors[1]["parameters"])


def test_the_frozen_model_is_loaded_once_for_many_scorers(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = scoring.load_clip
    monkeypatch.setattr(scoring, "load_clip", lambda *args: loaded.append(args) or load(*args))
    build = ScorerBuilder()
    for seed in (1, 2):
        build(config(seed, **SMALL))
    assert len(loaded) == 1
    build(config(1, **{**SMALL, "model": {"pairs_per_pass": 2}}))
    assert len(loaded) == 2
