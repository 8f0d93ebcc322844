"""Many runs on one pool: each gets the result it gets alone, and a fault of one is raised only there."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.support.configs import zip_config
from tests.support.fake_ray import FakeRay
from tests.support.fakes import FakeScorer, evaluation_work, make_pair, pair_work
from tests.support.loop import without_time
from tests.support.pools import RecordingPool
from tests.support.processes import HANG_SECONDS
from tests.support.scorer_keys import BUGGY, NO_IMAGES, STUCK, KeyedScorer
from zip_ray.config.scorer_key import scorer_key
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.optimizers import OptimizerState
from zip_ray.pool.asking import accuracy_on_test, ask
from zip_ray.pool.contract import Pool, PoolError
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.multi_scorer import MultiScorer
from zip_ray.pool.shared import Channel, PoolHub
from zip_ray.prompts import make_space
from zip_ray.protocol.messages import (
    Answer,
    Crops,
    Encoding,
    EncodingResult,
    EvaluationResult,
    Pass,
    Priority,
    Slice,
    Value,
    Work,
    new_work,
)
from zip_ray.scorer import scorer as scoring
from zip_ray.scorer.building import ScorerBuilder
from zip_ray.scorer.scorer import ClipScorers, build_scorer
from zip_ray.testing.pool_contract import drain
from zip_ray.tuning.events import Event
from zip_ray.tuning.loop import Tuning
from zip_ray.tuning.state import RunState


@contextmanager
def hub_over(build: Callable[[str], FakeScorer], *keys: str) -> Iterator[PoolHub]:
    """A hub over an in-process pool with the scorers of these runs."""
    with closing(InProcessPool(partial(MultiScorer, build, keys))) as pool, closing(PoolHub(pool)) as hub:
        yield hub


def evaluate(channel: Channel) -> float:
    """The loss of an evaluation submitted alone."""
    work = evaluation_work()
    channel.submit([work])
    (answer,) = drain(channel, 1)
    assert answer.id == work.id
    assert isinstance(answer.value, EvaluationResult)
    return answer.value.loss


def test_each_run_is_answered_by_its_own_scorer() -> None:
    with hub_over(KeyedScorer, *"123456") as hub, ThreadPoolExecutor(6) as threads:

        def work(key: str) -> None:
            channel = hub.channel(key)
            assert channel.facts().template == f"{key} {{}}"
            for _ in range(40):
                assert evaluate(channel) == float(key)

        list(threads.map(work, "123456"))


def test_a_run_that_waits_for_its_facts_can_look_around() -> None:
    looked = threading.Event()

    def build(key: str) -> KeyedScorer:
        assert looked.wait(HANG_SECONDS)
        return KeyedScorer(key)

    with hub_over(build, "1") as hub:
        assert hub.channel("1").facts(looked.set).template == "1 {}"


def test_answers_that_come_before_the_facts_are_kept() -> None:
    with hub_over(KeyedScorer, "1") as hub:
        channel = hub.channel("1")
        works = [evaluation_work() for _ in range(3)]
        channel.submit(works)
        assert channel.facts().template == "1 {}"
        assert [answer.id for answer in drain(channel, 3)] == [work.id for work in works]


def test_a_fault_of_one_run_is_raised_there_alone() -> None:
    with hub_over(KeyedScorer, "1") as hub:
        good, poor, broken = (hub.channel(key) for key in ("1", NO_IMAGES, BUGGY))
        with pytest.raises(InputError, match=r"^task.root: no such images: give another$"):
            poor.facts()
        with pytest.raises(PoolError, match=r"^ZeroDivisionError: a fault of this method$"):
            evaluate(broken)
        assert evaluate(good) == 1
        assert hub.error is None


class FullAtFirst(KeyedScorer):
    """Runs out of memory in its first evaluations, as many as its key says."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        object.__setattr__(self, "failures", int(key))

    def answer(self, work: Work) -> Value:
        object.__setattr__(self, "failures", self.failures - 1)
        if self.failures >= 0:
            raise RuntimeError("out of memory")
        return super().answer(work)


def test_a_failure_is_tried_on_every_actor_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay(monkeypatch)
    with (
        closing(fake.pool(partial(MultiScorer, FullAtFirst, ["1"]), actors=2)) as pool,
        closing(PoolHub(pool)) as hub,
    ):
        lucky, unlucky = hub.channel("1"), hub.channel("9")
        lucky.submit([evaluation_work()])
        (answer,) = drain(lucky, 1)
        assert isinstance(answer.value, EvaluationResult)
        assert (answer.value.loss, answer.attempts) == (1.0, 3)
        unlucky.submit([evaluation_work()])
        with pytest.raises(PoolError, match=r"^RuntimeError: out of memory$"):
            drain(unlucky, 1)
        assert len(fake.actors) == 2, "neither is at fault"


def test_what_would_spoil_the_process_ends_the_pool() -> None:
    with hub_over(KeyedScorer, "1") as hub:
        with pytest.raises(PoolError, match="CUDA error"):
            evaluate(hub.channel(STUCK))
        with pytest.raises(PoolError, match="CUDA error"):
            hub.channel("1").facts()


class LostPool(InProcessPool):
    """Is lost once three pieces of work are waiting, and processes none of them."""

    def __init__(self) -> None:
        super().__init__(FakeScorer)
        self._submitted = 0

    def submit(self, works: Sequence[Work]) -> None:
        self._submitted += len(works)

    def collect(self, timeout: float) -> list[Answer]:  # noqa: ARG002
        if self._submitted < 3:
            return []
        raise PoolError("no actor is left")


def test_the_end_of_a_pool_is_raised_in_every_run() -> None:
    hub = PoolHub(LostPool())
    with ThreadPoolExecutor(3) as threads:
        for wait in [threads.submit(evaluate, hub.channel(key)) for key in "123"]:
            with pytest.raises(PoolError, match="no actor is left"):
                wait.result(HANG_SECONDS)
    with pytest.raises(PoolError, match="no actor is left"):
        hub.channel("1").submit([pair_work(0)])
    hub.close()


def test_closing_the_hub_ends_the_waiting() -> None:
    class SilentPool(InProcessPool):
        def collect(self, timeout: float) -> list[Answer]:  # noqa: ARG002
            asked.set()
            return []

    asked = threading.Event()
    hub = PoolHub(SilentPool(FakeScorer))
    with ThreadPoolExecutor(1) as threads:
        wait = threads.submit(evaluate, hub.channel("1"))
        assert asked.wait(HANG_SECONDS)
        hub.close()
        with pytest.raises(PoolError, match="closed"):
            wait.result(HANG_SECONDS)


def test_a_closed_channel_leaves_the_pool_to_the_others() -> None:
    with hub_over(KeyedScorer, "1", "2") as hub:
        gone, stays = hub.channel("1"), hub.channel("2")
        gone.submit([pair_work(index) for index in range(5)])
        gone.close()
        assert gone.collect(0.0) == []
        assert evaluate(stays) == 2


def test_of_the_works_of_all_runs_the_lowest_priority_and_id_is_begun_first() -> None:
    """Evaluations come before queries, as in the pool of a single run; a run that is ahead is not starved."""
    begun: list[tuple[str, int]] = []
    gate = threading.Event()

    class GatedScorer(FakeScorer):
        """Waits until all work has been submitted, and records the order in which it begins work."""

        def answer(self, work: Work) -> Value:
            assert gate.wait(HANG_SECONDS)
            index = work.body.asks[0].index if isinstance(work.body, Pass | Slice) else -1
            begun.append((work.body.kind, index))
            return super().answer(work)

    with hub_over(lambda _: GatedScorer(), "1", "2") as hub:
        first, second = hub.channel("1"), hub.channel("2")
        plug = evaluation_work()
        first.submit([plug])  # the only work begun before the rest is submitted
        works = [
            (first, pair_work(900)),
            (second, pair_work(0)),
            (first, new_work(Crops(5), Priority.PREFETCH)),
            (first, pair_work(901)),
            (second, evaluation_work()),
        ]
        for channel, work in works:
            channel.submit([work])
        gate.set()
        assert len(drain(first, 4)) == 4
        assert len(drain(second, 2)) == 2
    assert begun == [("evaluation", -1), ("evaluation", -1), ("pass", 900), ("pass", 0), ("pass", 901), ("crops", -1)]


def test_works_keep_their_ids_on_the_way_and_carry_the_key_of_their_run() -> None:
    inner = RecordingPool(InProcessPool(partial(MultiScorer, KeyedScorer, [])))
    hub = PoolHub(inner)
    works = [new_work(Pass((make_pair(index),)), Priority.QUERY) for index in range(2)]
    for key, work in zip("12", works, strict=True):
        channel = hub.channel(key)
        channel.submit([work])
        assert [answer.id for answer in drain(channel, 1)] == [work.id]
    hub.close()
    assert [(work.id, work.body, work.scorer) for work in inner.submitted] == [
        (work.id, work.body, key) for key, work in zip("12", works, strict=True)
    ]


SMALL: dict[str, Any] = {
    "task": {"shots": 2, "batch_size": 20},
    "prompt": {"init": "template", "intrinsic_dimension": 60},
    "optimizer": {"pairs_per_step": 2},
    "budget": {"queries": 40},
    "validation": {"every_queries": 20},
    "cluster": {"pool": "in-process"},
    "tracking": {"enabled": False},
}


def small_config(seed: int) -> Config:
    return zip_config({"seed": seed, **SMALL}, "test")


def all_of_a_run(config: Config, pool: Pool) -> tuple[list[object], list[np.ndarray]]:
    """Everything a run yields, from the zero-shot test to the tuned prompt: figures and events, and tensors."""
    facts = pool.facts()
    events: list[Event] = []
    state = RunState(OptimizerState(make_space(config.prompt, facts.shape, config.seed).initial()))
    plain = accuracy_on_test(pool, facts.template, facts.images["test"])
    w = Tuning(config, pool, state, events.append, lambda _: None).run().state.optimizer.w
    tuned = accuracy_on_test(pool, w, facts.images["test"])
    encoding = ask(pool, Encoding(w), EncodingResult)
    assert encoding.prompt.context is not None
    return [plain, tuned, *without_time(events)], [w, encoding.prompt.context, encoding.text_features]


def test_two_runs_on_one_pool_give_bit_for_bit_what_they_give_alone() -> None:
    configs = [small_config(seed) for seed in (1, 2)]
    alone = [all_of_a_run(one, InProcessPool(partial(build_scorer, one))) for one in configs]
    keys = [scorer_key(one) for one in configs]
    with (
        closing(PoolHub(InProcessPool(partial(MultiScorer, ScorerBuilder().of_key, keys)))) as hub,
        ThreadPoolExecutor(2) as threads,
    ):
        together = list(threads.map(lambda one: all_of_a_run(one, hub.channel(scorer_key(one))), configs))
    for (figures, tensors), (expected_figures, expected_tensors) in zip(together, alone, strict=True):
        assert figures == expected_figures
        for tensor, expected in zip(tensors, expected_tensors, strict=True):
            np.testing.assert_array_equal(tensor, expected)
    assert not np.array_equal(alone[0][1][0], alone[1][1][0])


def test_the_frozen_model_is_loaded_once_for_many_scorers(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = scoring.load_clip
    monkeypatch.setattr(scoring, "load_clip", lambda *args: loaded.append(args) or load(*args))
    build = ClipScorers()
    for seed in (1, 2):
        build(small_config(seed))
    assert len(loaded) == 1
    build(zip_config({**SMALL, "model": {"precision": "bf16"}}, "test"))
    assert len(loaded) == 2
