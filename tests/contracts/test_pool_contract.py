"""What every pool keeps: each submitted id answered exactly once, the lowest (priority, id) first, faults of input
named."""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
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
    evaluation_work,
    make_pair,
    pair_work,
    refused_build,
)
from tests.support.pools import drain
from tests.support.scoring import template_query
from zip_ray.actors.ray_pool import RayPool
from zip_ray.config.resources import ClusterConfig
from zip_ray.errors import InputError
from zip_ray.pool.asking import ask
from zip_ray.pool.contract import Pool, ScorerLike
from zip_ray.pool.dispatcher import PREFETCH
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.multi_scorer import MultiScorer
from zip_ray.pool.shared import Channel, PoolHub
from zip_ray.pool.splitting import SplitPool
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import (
    AskResult,
    Crops,
    CropsResult,
    Encoding,
    EncodingResult,
    Evaluation,
    EvaluationResult,
    FactsRequest,
    Pass,
    Priority,
    ScoresWanted,
    Slice,
    Value,
    Work,
    new_work,
)
from zip_ray.protocol.mini_batches import mini_batch

Opener = Callable[[Callable[[], ScorerLike]], Pool]


KINDS = ["in-process", "ray", "split in-process", "channel in-process"]
ALL_KINDS = [*KINDS, "split ray", "channel ray"]
"""Splitting and channels know nothing of the pool below: over Ray they are tried where order and faults come together.
"""


def make_opener(kind: str, request: pytest.FixtureRequest, actors: int = 2) -> Opener:
    """What opens a pool of that kind; split = 2 sides and 2 class shards, channel = of a hub over the pool."""
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
    """A channel that closes hub and pool with itself."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._own_hub = pool, PoolHub(pool)
        super().__init__(self._own_hub, "a run")

    def close(self) -> None:
        super().close()
        self._own_hub.close()
        self._pool.close()


@pytest.fixture(params=KINDS)
def open_pool(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens a pool with one scorer, not of those kinds that are combinations."""
    yield from closing_all(make_opener(request.param, request, actors=1))


@pytest.fixture(params=ALL_KINDS)
def open_any(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens a pool with two scorers where it has actors."""
    yield from closing_all(make_opener(request.param, request))


@pytest.fixture(params=ALL_KINDS)
def open_lone(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens a pool with one scorer."""
    yield from closing_all(make_opener(request.param, request, actors=1))


def closing_all(make: Opener) -> Iterator[Opener]:
    """An opener whose pools are closed in the end."""
    pools: list[Pool] = []

    def opener(build: Callable[[], ScorerLike]) -> Pool:
        pools.append(make(build))
        return pools[-1]

    yield opener
    for pool in pools:
        pool.close()


def test_each_id_is_answered_exactly_once(open_any: Opener) -> None:
    pool = open_any(FakeScorer)
    works = {work.id: work for work in (pair_work(index, step=1 + index // 5) for index in range(23))}
    ids = list(works)
    pool.submit([works[identity] for identity in ids[:13]])
    answers = drain(pool, 5)
    pool.submit([works[identity] for identity in ids[13:]])
    assert pool.facts().template == FACTS.template, "asked with work in flight"
    answers += drain(pool, 23 - len(answers))
    assert sorted(answer.id for answer in answers) == ids
    assert pool.collect(0.1) == []
    for answer in answers:
        assert answer.attempts == 1
        value, expected = answer.value, FakeScorer().answer(works[answer.id])
        assert isinstance(value, tuple)
        assert isinstance(expected, tuple)
        assert value[0].losses == pytest.approx(expected[0].losses, rel=1e-12)


def test_a_pass_is_answered_in_the_order_of_its_asks(open_pool: Opener) -> None:
    pool = open_pool(FakeScorer)
    work = new_work(Pass((make_pair(7), make_pair(2), make_pair(5))), Priority.QUERY)
    pool.submit([work])
    (answer,) = drain(pool, 1)
    expected = FakeScorer().answer(work)
    assert isinstance(answer.value, tuple)
    assert isinstance(expected, tuple)
    for result, alone in zip(answer.value, expected, strict=True):
        assert result.losses == pytest.approx(alone.losses, rel=1e-12)


def test_answers_every_kind_of_work(open_pool: Opener) -> None:
    pool = open_pool(FakeScorer)
    works = [
        pair_work(0),
        evaluation_work("test", "a drawing of a {}."),
        new_work(Encoding(np.zeros(6)), Priority.EVALUATION),
        new_work(Crops(3), Priority.PREFETCH),
    ]
    pool.submit(works)
    values = {answer.id: answer.value for answer in drain(pool, 4)}
    passed, evaluated, encoded, cropped = (values[work.id] for work in works)
    assert isinstance(passed, tuple)
    assert isinstance(evaluated, EvaluationResult)
    assert evaluated.images == 6
    assert isinstance(encoded, EncodingResult)
    assert encoded.text_features.shape == (2, 8)
    assert isinstance(cropped, CropsResult)
    assert cropped.features.shape == (3, 2)


def test_scores_come_back_whole(open_any: Opener) -> None:
    """All and chosen ones, of pairs and of templates, beside asks that want none."""
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


def test_facts_of_a_start_and_scores_of_an_evaluation_are_answers(open_any: Opener) -> None:
    pool = open_any(FakeScorer)
    assert ask(pool, FactsRequest("a {}."), Facts).template == FACTS.template
    found = ask(pool, Evaluation("test", np.zeros(6), scores=True), EvaluationResult)
    assert found.scores is not None
    assert found.scores.shape == (6, 2)


@dataclass(frozen=True)
class DiaryScorer(FakeScorer):
    """Writes down what it begins, in a file: several parts of one pass in a row are one."""

    def answer(self, work: Work) -> Value:
        assert self.marks is not None
        with (self.marks / "diary").open("a") as file:
            print(name_of(work), file=file)
        return super().answer(work)


def name_of(work: Work) -> str:
    """What it is, and which."""
    match work.body:
        case Pass(asks) | Slice(asks):
            return f"pass {asks[0].index}"
        case Crops(batch):
            return f"crops {batch}"
        case Evaluation(_, prompt):
            return f"evaluation {prompt}"
    return work.body.kind


def diary(marks: Path) -> list[str]:
    """What was begun, in order."""
    lines = (marks / "diary").read_text().splitlines()
    return [line for place, line in enumerate(lines) if place == 0 or line != lines[place - 1]]


def begins(works: Iterable[Work]) -> list[str]:
    """In which order works that wait are to be begun."""
    return [name_of(work) for work in sorted(works, key=lambda work: (work.priority, work.id))]


def crops_work(batch: int) -> Work:
    return new_work(Crops(batch), Priority.PREFETCH)


def numbered_question(number: int) -> Work:
    return evaluation_work(prompt=f"question {number}: {{}}")


def test_of_what_waits_the_lowest_priority_and_id_is_begun_first(open_lone: Opener, tmp_path: Path) -> None:
    pool = open_lone(partial(DiaryScorer, delay=0.02, marks=tmp_path))
    pool.facts()
    works = [make(number) for number in range(4) for make in (pair_work, crops_work, numbered_question)]
    pool.submit(works)
    assert len(drain(pool, len(works))) == len(works)
    assert diary(tmp_path) == begins(works)


def test_what_is_urgent_is_begun_before_what_waits(open_lone: Opener, tmp_path: Path) -> None:
    pool = open_lone(partial(DiaryScorer, delay=0.05, marks=tmp_path))
    pool.facts()
    pool.submit([pair_work(number) for number in range(20)])
    answers = drain(pool, 1)
    urgent = evaluation_work()
    pool.submit([urgent])
    answers += drain(pool, 21 - len(answers))
    assert len(answers) == 21
    assert diary(tmp_path)[-1] != name_of(urgent)


@pytest.mark.parametrize(("kind", "held"), [("in-process", 0), ("ray", PREFETCH)])
def test_nothing_is_begun_before_what_ranks_lower_but_what_is_held(
    kind: str, held: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Ids in any order; an actor goes through the works that it holds already."""
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


def test_an_id_cannot_be_in_flight_twice(open_pool: Opener) -> None:
    pool = open_pool(partial(FakeScorer, delay=0.05))
    works = [pair_work(index) for index in range(8)]
    pool.submit(works)
    with pytest.raises(ValueError, match=f"work {works[7].id} is in flight already"):
        pool.submit([works[7]])
    assert sorted(answer.id for answer in drain(pool, 8)) == [work.id for work in works]


def test_of_works_that_are_refused_none_is_taken(open_pool: Opener) -> None:
    """One that is given twice, or is in flight, among others that are not."""
    pool = open_pool(partial(FakeScorer, delay=0.05))
    first, other, evaluation = pair_work(0), pair_work(1), evaluation_work()
    with pytest.raises(ValueError, match=f"work {other.id} is in flight already"):
        pool.submit([first, other, other])
    assert pool.collect(0.0) == []
    pool.submit([first, evaluation])
    with pytest.raises(ValueError, match=f"work {evaluation.id} is in flight already"):
        pool.submit([other, evaluation])
    pool.submit([other])
    assert sorted(answer.id for answer in drain(pool, 3)) == sorted([first.id, other.id, evaluation.id])
    assert pool.collect(0.0) == []


def test_facts_are_those_of_the_scorer(open_pool: Opener) -> None:
    facts = open_pool(FakeScorer).facts()
    assert (facts.classnames, facts.template, facts.images) == (FACTS.classnames, FACTS.template, FACTS.images)


def test_nothing_outstanding_is_an_empty_collection(open_pool: Opener) -> None:
    assert open_pool(FakeScorer).collect(5.0) == []


def test_a_refusal_while_building_reaches_the_user(open_pool: Opener) -> None:
    with pytest.raises(InputError, match=r"^model.name: 'nope' cannot be loaded: give another$"):
        open_pool(refused_build).facts()


def test_a_refusal_while_working_reaches_the_user(open_any: Opener) -> None:
    pool = open_any(partial(FakeScorer, input_error_at=1))
    pool.submit([pair_work(index) for index in range(3)])
    with pytest.raises(InputError, match=r"^images/cat.png: unreadable image: replace it$"):
        drain(pool, 3)


def test_closing_twice_is_harmless(open_pool: Opener) -> None:
    pool = open_pool(FakeScorer)
    pool.facts()
    pool.close()
    pool.close()


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_any_schedule_of_submitting_and_collecting(kind: str, request: pytest.FixtureRequest) -> None:
    """A number of works submitted (positive), or a collection that may wait for so many hundredths (not positive)."""
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
        assert pool.members()[0].state == "pending", "it came back before the actor was there"
        (tmp_path / "build").touch()
        assert len(drain(pool, 1)) == 1
    finally:
        pool.close()
