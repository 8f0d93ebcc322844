"""What every pool guarantees: each submitted id is answered exactly once, the lowest (priority, id) comes first, and
faults of input are named."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.configs import zip_config
from tests.support.fakes import (
    BATCH_SIZE,
    FACTS,
    SEED,
    FakeScorer,
    build_when_told,
    make_pair,
    pair_work,
)
from tests.support.scoring import template_query
from zip_ray.actors.ray_pool import RayPool
from zip_ray.config.resources import ClusterConfig
from zip_ray.pool.contract import Pool, ScorerLike
from zip_ray.pool.dispatcher import PREFETCH
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.multi_scorer import MultiScorer
from zip_ray.pool.shared import Channel, PoolHub
from zip_ray.pool.splitting import SplitPool
from zip_ray.protocol.messages import (
    AskResult,
    Pass,
    Priority,
    ScoresWanted,
    new_work,
)
from zip_ray.protocol.mini_batches import mini_batch
from zip_ray.testing import PoolContract
from zip_ray.testing.pool_contract import DiaryScorer, begins, diary, drain, numbered_question

Opener = Callable[[Callable[[], ScorerLike]], Pool]


KINDS = ["in-process", "ray", "split in-process", "channel in-process"]
ALL_KINDS = [*KINDS, "split ray", "channel ray"]
"""Splitting and channels rely on the contract of the pool beneath them, so two of their tests suffice over Ray."""


def make_opener(kind: str, request: pytest.FixtureRequest, actors: int = 2) -> Opener:
    """Opens pools of this kind; split: 2 sides and 2 class shards; channel: one of a hub over the pool."""
    address = request.getfixturevalue("ray_cluster") if kind.endswith("ray") else None

    def opener(build: Callable[[], ScorerLike]) -> Pool:
        if "channel" in kind:
            build = partial(MultiScorer, partial(whatever_key, build), ["a run"])
        pool: Pool = RayPool(build, ClusterConfig(address=address, actors=actors)) if address else InProcessPool(build)
        if "channel" in kind:
            return LoneChannel(pool)
        return SplitPool(pool, zip_config({"execution": {"split": [2, 2]}}, "test")) if "split" in kind else pool

    return opener


def whatever_key(build: Callable[[], ScorerLike], _: str) -> ScorerLike:
    return build()


class LoneChannel(Channel):
    """A channel that also closes its hub and the pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._own_hub = pool, PoolHub(pool)
        super().__init__(self._own_hub, "a run")

    def close(self) -> None:
        super().close()
        self._own_hub.close()
        self._pool.close()


@pytest.fixture(params=ALL_KINDS)
def open_any(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens a pool of each kind; those with actors have two scorers."""
    yield from closing_all(make_opener(request.param, request))


def closing_all(make: Opener) -> Iterator[Opener]:
    """An opener whose pools are closed at the end."""
    pools: list[Pool] = []

    def opener(build: Callable[[], ScorerLike]) -> Pool:
        pools.append(make(build))
        return pools[-1]

    yield opener
    for pool in pools:
        pool.close()


class TestEveryKind(PoolContract):
    @pytest.fixture(autouse=True, params=KINDS)
    def kind(self, request: pytest.FixtureRequest) -> None:
        self.open = partial(make_opener, request.param, request)

    def make_pool(self, build: Callable[[], ScorerLike], scorers: int) -> Pool:
        return self.open(actors=scorers)(build)


def test_scores_come_back_whole(open_any: Opener) -> None:
    """All scores and chosen ones, for pairs and for templates, beside asks without scores."""
    pool = open_any(FakeScorer)
    own = FACTS.labels[mini_batch(8, BATCH_SIZE, SEED, 1)][:, None].astype(np.int32)
    wanted = ScoresWanted(), ScoresWanted(own), None
    pairs = tuple(replace(make_pair(index), scores=one) for index, one in enumerate(wanted))
    works = [new_work(Pass(asks), Priority.QUERY) for asks in (pairs, (template_query("a {}.", chunk=0),))]
    pool.submit(works)
    answers = {answer.id: answer.value for answer in drain(pool, 2)}
    for work in works:
        value, expected = answers[work.id], FakeScorer().answer(work)
        assert isinstance(value, tuple)
        assert isinstance(expected, tuple)
        for found, one in zip(value, expected, strict=True):
            assert isinstance(found, AskResult)
            assert isinstance(one, AskResult)
            np.testing.assert_array_equal(found.scores, one.scores)
            assert found.losses == pytest.approx(one.losses, rel=1e-12)


@pytest.mark.parametrize(("kind", "held"), [("in-process", 0), ("ray", PREFETCH)])
def test_nothing_is_begun_before_what_ranks_lower_but_what_is_held(
    kind: str, held: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Ids are submitted in any order; an actor first finishes the work it already holds."""
    pool = make_opener(kind, request, actors=1)(partial(DiaryScorer, delay=0.05, marks=tmp_path))
    try:
        pool.facts()
        works = [make(number) for number in range(6) for make in (pair_work, numbered_question)]
        random.Random(2).shuffle(works)
        pool.submit(works[:6])
        count = len(drain(pool, 1))
        pool.submit(works[6:])
        assert len(drain(pool, 12 - count)) == 12 - count
    finally:
        pool.close()
    first = begins(works[:6])[: count + held]
    assert diary(tmp_path) == first + [name for name in begins(works) if name not in first]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_any_schedule_of_submitting_and_collecting(kind: str, request: pytest.FixtureRequest) -> None:
    """Each move submits that many pieces of work (positive) or collects, waiting up to -move hundredths of a second."""
    pool = make_opener(kind, request)(FakeScorer)

    @settings(max_examples=15, deadline=None, database=None)
    @given(st.lists(st.integers(-3, 7), max_size=12))
    def check(schedule: list[int]) -> None:
        submitted, answers = list[int](), []
        for move in schedule:
            works = [pair_work(index) for index in range(move)]
            submitted += [work.id for work in works]
            pool.submit(works)
            if move <= 0:
                answers += pool.collect(-move / 100)
        answers += drain(pool, len(submitted) - len(answers))
        assert sorted(answer.id for answer in answers) == submitted
        assert pool.collect(0.0) == []

    try:
        check()
    finally:
        pool.close()


def test_collecting_does_not_wait_longer_than_asked(ray_cluster: str, tmp_path: Path) -> None:
    pool = RayPool(partial(build_when_told, tmp_path), ClusterConfig(address=ray_cluster, actors=1))
    try:
        pool.submit([pair_work(0)])
        assert pool.collect(0.0) == []
        assert pool.collect(0.3) == []
        assert pool.members()[0].state in ("pending", "loading"), "it came back before the actor was there"
        (tmp_path / "build").touch()
        assert len(drain(pool, 1)) == 1
    finally:
        pool.close()
