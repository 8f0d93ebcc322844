"""Sides and shards, put together, equal the whole, bit for bit the same each time."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from tests.support.fakes import FACTS, FakeScorer, make_pair, pair_work
from tests.support.loop import make_config, tune
from tests.support.pools import PacedPool, RecordingPool, ShuffledPool
from zip_ray.errors import InputError
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.split_planner import Partition
from zip_ray.pool.splitting import SplitPool, combine, slices, split_if_asked
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Encoding, Pass, Priority, ScoresWanted, Slice, Work, new_work
from zip_ray.protocol.shards import ShardStatistics, SliceResult, shard_bounds
from zip_ray.testing.pool_contract import drain

PARTITIONS = [Partition(sides, shards) for sides, shards in itertools.product((1, 2), (1, 2, 3))]
BY_IMAGES = [Partition(sides, shards, "images") for sides, shards in ((1, 1), (1, 2), (2, 3))]


@pytest.mark.parametrize("partition", [*PARTITIONS, *BY_IMAGES], ids=str)
@given(seed=st.integers(0, 10**6), classes=st.integers(3, 12), pairs=st.integers(1, 3))
def test_parts_give_the_dense_cross_entropy(partition: Partition, seed: int, classes: int, pairs: int) -> None:
    """Against log-sum-exp and arg-max over all classes at once, including ties among the logits."""
    draw = np.random.default_rng(seed)
    logits = np.round(draw.normal(0, 3, (pairs, 2, 5, classes)), 1)  # pair, side, image, class
    labels = draw.integers(0, classes, 5)
    parts, found = slices(Pass(tuple(make_pair(k) for k in range(pairs))), partition), []
    for part in parts:
        by_class = part.over == "classes"
        bounds = shard_bounds(classes if by_class else 5, part.shard, part.shards)
        low, high = bounds if by_class else (0, classes)
        seen = np.arange(5) if by_class else np.arange(*bounds)
        block = logits[:, part.sides][:, :, seen, low:high]
        own_class = labels[seen] - low
        here = (own_class >= 0) & (own_class < high - low)
        own = np.where(here, block[:, :, np.arange(len(seen)), np.clip(own_class, 0, high - low - 1)], -np.inf)
        maxima = block.max(axis=3)
        sums = np.exp(block - maxima[..., None]).sum(axis=3)
        right = here & (block.argmax(axis=3) == own_class)
        found.append(SliceResult(tuple(map(ShardStatistics, maxima, sums, own, right))))
    results = combine(parts, found, "cross-entropy")
    loss = (logsumexp(logits, axis=3) - logits[:, :, np.arange(5), labels]).mean(axis=2)
    accuracy = (logits.argmax(axis=3) == labels).mean(axis=(1, 2))
    assert len(results) == pairs
    for pair, result in enumerate(results):
        np.testing.assert_allclose(result.losses, loss[pair], rtol=1e-12)
        np.testing.assert_allclose(result.accuracy, accuracy[pair], rtol=1e-12)


@pytest.mark.parametrize("partition", [*PARTITIONS, *BY_IMAGES], ids=str)
@given(seed=st.integers(0, 10**6), classes=st.integers(3, 12), data=st.data())
def test_parts_give_the_scores_of_the_whole(partition: Partition, seed: int, classes: int, data: st.DataObject) -> None:
    """For asks that want all scores, chosen scores with the rest pooled, and none."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 9, (3, 2, 5, classes)).astype(np.float32)  # pair, side, image, class
    k = data.draw(st.integers(1, classes - 1))
    chosen = np.stack([draw.permutation(classes)[:k] for _ in range(5)]).astype(np.int32)
    wanted = (ScoresWanted(), ScoresWanted(chosen), None)
    asks = tuple(replace(make_pair(number), scores=one) for number, one in enumerate(wanted))
    parts, found = slices(Pass(asks), partition), []
    for part in parts:
        by_class = part.over == "classes"
        bounds = shard_bounds(classes if by_class else 5, part.shard, part.shards)
        low, high = bounds if by_class else (0, classes)
        seen = np.arange(5) if by_class else np.arange(*bounds)
        block = logits[:, part.sides][:, :, seen, low:high]
        here = (chosen[seen] >= low) & (chosen[seen] < high)
        own = np.take_along_axis(block[1].astype(float), np.clip(chosen[seen] - low, 0, high - low - 1)[None], axis=2)
        others = np.ones((len(seen), high - low), bool)
        for image, classes_of in enumerate(chosen[seen]):
            others[image, [one - low for one in classes_of if low <= one < high]] = False
        with np.errstate(divide="ignore"):
            rest = logsumexp(np.where(others, block[1].astype(float), -np.inf), axis=2)
        some = np.concatenate([np.where(here, own, -np.inf), rest[..., None]], axis=2)
        blank = np.zeros((len(part.sides), len(seen)))
        found.append(
            SliceResult(
                tuple(ShardStatistics(blank, blank + 1, blank, blank > 0, one) for one in (block[0], some, None))
            )
        )
    everything, some_of, nothing = (result.scores for result in combine(parts, found, "cross-entropy"))
    assert nothing is None
    np.testing.assert_array_equal(everything, logits[0])
    assert some_of is not None
    assert some_of.dtype == np.float32
    np.testing.assert_array_equal(some_of[..., :k], np.take_along_axis(logits[1], np.stack([chosen] * 2), axis=2))
    np.testing.assert_allclose(
        logsumexp(some_of.astype(float), axis=2), logsumexp(logits[1], axis=2), rtol=1e-5, atol=1e-5
    )


def test_chunks_are_not_split_by_images() -> None:
    chunk = replace(make_pair(0), chunk=2)
    assert [part.shards for part in slices(Pass((chunk,)), Partition(2, 3, "images"))] == [1, 1]
    assert len(slices(Pass((chunk,)), Partition(2, 3))) == 6
    assert len(slices(Pass((make_pair(0),)), Partition(2, 3, "images"))) == 6


class TenClasses(FakeScorer):
    """Of a task of 10 classes."""

    def facts(self) -> Facts:
        return replace(FACTS, classnames=tuple(map(str, range(10))))


@pytest.mark.parametrize("partition", PARTITIONS, ids=str)
@pytest.mark.parametrize("together", [1, 3])
def test_a_split_run_learns_the_same_and_is_the_same_in_any_order(partition: Partition, together: int) -> None:
    config = make_config(execution={"split": (partition.sides, partition.shards), "pairs_per_pass": together})
    whole, _ = tune(make_config())
    runs = [tune(config, SplitPool(ShuffledPool(seed, TenClasses()), config))[0] for seed in range(3)]
    np.testing.assert_allclose(runs[0].state.optimizer.w, whole.state.optimizer.w, rtol=1e-7)
    for run in runs:
        np.testing.assert_array_equal(run.state.optimizer.w, runs[0].state.optimizer.w)
        assert run.state.account.charged == 300
        assert run.state.account.issued == run.state.account.completed + run.state.account.wasted


def split_pool(split: tuple[int, int] = (2, 2), **sections: dict[str, Any]) -> tuple[RecordingPool, SplitPool]:
    """An in-process pool, and a pool that splits work for it."""
    inner = RecordingPool(InProcessPool(FakeScorer))
    return inner, SplitPool(inner, make_config(execution={"split": split}, **sections))


def test_a_pass_is_answered_under_its_own_id_when_its_last_part_is() -> None:
    inner, pool = split_pool((2, 1))
    works = [pair_work(0), pair_work(1)]
    pool.submit(works)
    assert [part.asks[0].index for part in inner.slices] == [0, 0, 1, 1]
    assert pool.collect(0.0) == [], "one of two parts"
    (first,) = pool.collect(0.0)
    assert first.id == works[0].id
    expected = FakeScorer().answer(works[0])
    assert isinstance(first.value, tuple)
    assert isinstance(expected, tuple)
    assert first.value[0].losses == pytest.approx(expected[0].losses)
    assert [answer.id for answer in drain(pool, 1)] == [works[1].id]


def test_parts_have_ids_of_their_own_and_the_rank_and_scorer_of_their_pass() -> None:
    inner, pool = split_pool()
    work = new_work(Pass((make_pair(0),)), Priority.PREFETCH, scorer="a run")
    pool.submit([work])
    assert len({part.id for part in inner.submitted} - {work.id}) == 4
    assert {(part.priority, part.scorer) for part in inner.submitted} == {(Priority.PREFETCH, "a run")}


def test_parts_are_begun_in_the_order_of_their_passes() -> None:
    inner, pool = split_pool((1, 2))
    pool.submit([pair_work(index) for index in range(3)])
    pool.submit([pair_work(index) for index in range(3, 6)])
    parts = [(work.id, work.body.asks[0].index) for work in inner.submitted if isinstance(work.body, Slice)]
    assert [index for _, index in sorted(parts)] == sorted([*range(6), *range(6)])


def test_attempts_are_those_of_the_part_that_was_issued_most_often() -> None:
    config = make_config(execution={"split": (2, 2)})
    found = []
    for seed in range(20):
        pool = SplitPool(ShuffledPool(seed), config)
        pool.submit([pair_work(0)])
        (answer,) = drain(pool, 1)
        found.append(answer.attempts)
    assert set(found) == {1, 2}, "of four parts, each of which has been issued once or twice"
    assert found.count(2) > found.count(1)


def test_an_id_cannot_be_in_flight_twice() -> None:
    _, pool = split_pool((2, 1))
    work = pair_work(1)
    pool.submit([work])
    with pytest.raises(ValueError, match=f"work {work.id} is in flight"):
        pool.submit([work])


@pytest.mark.parametrize("method", ["zip", "gradient"])
def test_what_has_no_parts_travels_as_it_is(method: str) -> None:
    inner, pool = split_pool((1, 2), optimizer={"method": method})
    encoding = new_work(Encoding(np.zeros(6)), Priority.EVALUATION)
    pool.submit([encoding])
    tune(make_config(optimizer={"method": method}, budget={"queries": 50}), pool)
    assert inner.submitted[0] is encoding
    assert bool(inner.slices) == (method == "zip")
    assert bool(inner.passes) == (method == "gradient")


def test_losses_that_are_not_finite_stay_so() -> None:
    config = make_config(execution={"split": (2, 2)}, budget={"queries": 200})
    outcome, _ = tune(config, SplitPool(InProcessPool(lambda: FakeScorer(nan_from=0)), config))
    assert list(outcome.reasons) == ["nonfinite"]


def test_a_pool_is_split_where_that_is_asked_for() -> None:
    pool = InProcessPool(FakeScorer)
    assert split_if_asked(pool, make_config()) is pool
    assert isinstance(split_if_asked(pool, make_config(execution={"split": (1, 2)})), SplitPool)
    assert isinstance(split_if_asked(pool, make_config(execution={"split": "auto"})), SplitPool)


@pytest.mark.parametrize(
    ("sections", "most"),
    [
        ({"execution": {"split": (1, 3)}}, "3 shards of 2 classes: give at most 2"),
        ({"execution": {"split": (1, 9)}, "prompt": {"space": "frame"}}, "9 shards of 8 images: give at most 8"),
    ],
)
def test_more_shards_than_there_is_to_share_are_refused(sections: dict[str, Any], most: str) -> None:
    with pytest.raises(InputError, match=f"execution.split: {most}"):
        SplitPool(InProcessPool(FakeScorer), make_config(**sections)).facts()
    fewer = sections | {"execution": {"split": (2, 2)}}
    assert SplitPool(InProcessPool(FakeScorer), make_config(**fewer)).facts() == FACTS


@pytest.mark.parametrize("method", ["zip", "gradient"])
def test_an_asynchronous_pass_of_one_part_travels_as_it_is(method: str) -> None:
    """Actors come and go during the run; whole or in parts, earlier work has the lower id."""

    class ComingAndGoing(PacedPool):
        submissions = 0

        def submit(self, works: Sequence[Work]) -> None:
            super().submit(works)
            self.submissions += 1
            self.paces = [0.5] * (40 if self.submissions // 50 % 2 else 1)

    sections = {"optimizer": {"method": method}, "execution": {"mode": "async", "split": "auto"}}
    config, actors = make_config(**sections), ComingAndGoing([0.5])
    pool = RecordingPool(actors)
    outcome, _ = tune(config, SplitPool(pool, config, clock=lambda: float(actors.submissions)))
    assert outcome.state.account.charged == 300
    works = [work for work in pool.submitted if isinstance(work.body, Pass | Slice)]
    assert [work.id for work in works] == sorted({work.id for work in works})
    assert {type(work.body) for work in works} == ({Pass, Slice} if method == "zip" else {Pass})
    assert all(part.share < 1 for part in pool.slices)


def test_all_passes_of_a_submission_are_split_alike() -> None:
    """Otherwise a split pass would get a higher id than a whole pass that was requested after it."""
    config, actors = make_config(execution={"mode": "async", "split": "auto"}), PacedPool([0.5])
    pool, clock = RecordingPool(actors), itertools.count()

    def actors_come() -> float:
        """A clock that advances one second per reading, while actors come and go."""
        actors.paces = [0.5] * (40 if actors.looks % 2 else 1)
        return float(next(clock))

    split = SplitPool(pool, config, actors_come)
    for first in range(0, 40, 4):
        split.submit([pair_work(index) for index in range(first, first + 4)])
    works = sorted(pool.submitted, key=lambda work: work.id)
    order = [work.body.asks[0].index for work in works if isinstance(work.body, Pass | Slice)]
    assert order == sorted(order)
    assert pool.passes
    assert pool.slices
