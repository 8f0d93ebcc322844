"""What every pool keeps: each submitted id answered exactly once, in whatever order, and faults of input named."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fakes import FACTS, FakeScorer, make_pairs, refused_build
from tests.support.pools import drain
from zip_ray.actors import RayPool
from zip_ray.config.reading import validate
from zip_ray.config.resources import ClusterConfig
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.contract import InProcessPool, Pool, ScorerLike
from zip_ray.pool.multi_scorer import ScorerHost, scorer_key
from zip_ray.pool.shared import Channel, PoolHub
from zip_ray.pool.splitting import SplitPool
from zip_ray.protocol.messages import Encoding, Evaluation, EvaluationResult, PassResult

Opener = Callable[[Callable[[], ScorerLike]], Pool]


KINDS = ["in-process", "ray", "split in-process", "split ray", "channel in-process", "channel ray"]


def make_opener(kind: str, request: pytest.FixtureRequest) -> Opener:
    """What opens a pool of that kind; split = 2 sides and 2 class shards, channel = of a hub over the pool."""
    address = request.getfixturevalue("ray_cluster") if kind.endswith("ray") else None

    def opener(build: Callable[[], ScorerLike]) -> Pool:
        if "channel" in kind:
            build = partial(ScorerHost, partial(whatever_config, build), [scorer_key(Config())])
        pool: Pool = RayPool(build, ClusterConfig(address=address, actors=2)) if address else InProcessPool(build)
        if "channel" in kind:
            return LoneChannel(pool)
        return SplitPool(pool, validate({"model": {"parallel": [2, 2]}}, "test")) if "split" in kind else pool

    return opener


def whatever_config(build: Callable[[], ScorerLike], _: Config) -> ScorerLike:
    return build()


class LoneChannel(Channel):
    """A channel that closes hub and pool with itself."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._own_hub = pool, PoolHub(pool)
        super().__init__(self._own_hub, scorer_key(Config()))

    def close(self) -> None:
        super().close()
        self._own_hub.close()
        self._pool.close()


@pytest.fixture(params=KINDS)
def open_pool(request: pytest.FixtureRequest) -> Iterator[Opener]:
    pools: list[Pool] = []
    make = make_opener(request.param, request)

    def opener(build: Callable[[], ScorerLike]) -> Pool:
        pools.append(make(build))
        return pools[-1]

    yield opener
    for pool in pools:
        pool.close()


def test_each_id_is_answered_exactly_once(open_pool: Opener) -> None:
    pool = open_pool(FakeScorer)
    pairs = [make_pairs(i, step=1 + i // 5) for i in range(23)]
    for pair in pairs[:13]:
        pool.submit(pair)
    answers = drain(pool, 5)
    for pair in pairs[13:]:
        pool.submit(pair)
    assert pool.facts().template == FACTS.template, "asked with work in flight"
    answers += drain(pool, 23 - len(answers))
    assert sorted(answer.result.id for answer in answers) == list(range(23))
    assert pool.collect(0.1) == []
    for answer in answers:
        assert answer.attempts == 1
        assert isinstance(answer.result, PassResult)
        ((result,), (expected,)) = answer.result.results, FakeScorer().answer(pairs[answer.result.id]).results
        assert (result.plus, result.minus) == pytest.approx((expected.plus, expected.minus), rel=1e-12)


def test_answers_every_kind_of_work(open_pool: Opener) -> None:
    pool = open_pool(FakeScorer)
    pool.submit(make_pairs(0))
    pool.submit(Evaluation(-1, "test", "a drawing of a {}."))
    pool.submit(Encoding(-2, make_pairs(0).asks[0].w))
    results = {answer.result.id: answer.result for answer in drain(pool, 3)}
    assert isinstance(results[0], PassResult)
    assert isinstance(results[-1], EvaluationResult)
    assert results[-1].images == 6
    assert results[-2].text_features.shape == (2, 8)


def test_facts_are_those_of_the_scorer(open_pool: Opener) -> None:
    facts = open_pool(FakeScorer).facts()
    assert (facts.classnames, facts.template, facts.images) == (FACTS.classnames, FACTS.template, FACTS.images)


def test_nothing_outstanding_is_an_empty_collection(open_pool: Opener) -> None:
    assert open_pool(FakeScorer).collect(5.0) == []


def test_a_refusal_while_building_reaches_the_user(open_pool: Opener) -> None:
    with pytest.raises(InputError, match=r"^model.name: 'nope' cannot be loaded: give another$"):
        open_pool(refused_build).facts()


def test_a_refusal_while_working_reaches_the_user(open_pool: Opener) -> None:
    pool = open_pool(partial(FakeScorer, input_error_at=1))
    for i in range(3):
        pool.submit(make_pairs(i))
    with pytest.raises(InputError, match=r"^images/cat.png: unreadable image: replace it$"):
        drain(pool, 3)


def test_closing_twice_is_harmless(open_pool: Opener) -> None:
    pool = open_pool(FakeScorer)
    pool.facts()
    pool.close()
    pool.close()


@pytest.mark.parametrize("kind", KINDS)
def test_any_schedule_of_submitting_and_collecting(kind: str, request: pytest.FixtureRequest) -> None:
    """A number of works submitted (positive), or a collection that may wait for so many hundredths (not positive)."""
    pool = make_opener(kind, request)(FakeScorer)

    @settings(max_examples=15, deadline=None, database=None)
    @given(st.lists(st.integers(-3, 7), max_size=12))
    def check(schedule: list[int]) -> None:
        submitted, answers = 0, []
        for move in schedule:
            for _ in range(move):
                pool.submit(make_pairs(submitted))
                submitted += 1
            if move <= 0:
                answers += pool.collect(-move / 100)
        answers += drain(pool, submitted - len(answers))
        assert sorted(answer.result.id for answer in answers) == list(range(submitted))
        assert pool.collect(0.0) == []

    try:
        check()
    finally:
        pool.close()


def test_collecting_does_not_wait_longer_than_asked(ray_cluster: str) -> None:
    pool = RayPool(partial(FakeScorer, delay=1.0), ClusterConfig(address=ray_cluster, actors=1))
    try:
        pool.submit(make_pairs(0))
        assert pool.collect(0.0) == []
        assert pool.members()[0].state == "pending", "it came back before the actor was there"
        assert len(drain(pool, 1)) == 1
    finally:
        pool.close()
