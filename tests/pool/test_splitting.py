"""Sides and shards, put together, are the whole, bit for bit the same each time; and which are chosen."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from tests.support.fakes import FACTS, FakeScorer, make_pairs
from tests.support.loop import make_config, tune
from tests.support.pools import ShuffledPool
from tests.support.simulated import Faults, SimulatedPool
from zip_ray.errors import InputError
from zip_ray.pool.contract import InProcessPool, Member
from zip_ray.pool.splitting import Layout, SplitPool, Whole, choose, combine, shard_bounds
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Answer, Pass, Slice, SliceResult, Work

LAYOUTS = [Layout(sides, shards) for sides, shards in itertools.product((1, 2), (1, 2, 3))]
BY_IMAGES = [Layout(sides, shards, "images") for sides, shards in ((1, 1), (1, 2), (2, 3))]


@pytest.mark.parametrize("layout", [*LAYOUTS, *BY_IMAGES], ids=str)
@given(seed=st.integers(0, 10**6), classes=st.integers(3, 12), pairs=st.integers(1, 3))
def test_parts_give_the_dense_cross_entropy(layout: Layout, seed: int, classes: int, pairs: int) -> None:
    """Against log-sum-exp and arg-max over all classes at once, ties among the logits included."""
    draw = np.random.default_rng(seed)
    logits = np.round(draw.normal(0, 3, (pairs, 2, 5, classes)), 1)  # pair, side, image, class
    labels = draw.integers(0, classes, 5)
    work = Pass(tuple(make_pairs(k).asks[0] for k in range(pairs)))
    slices, parts = layout.slices(work), []
    for piece in slices:
        by_class = piece.over == "classes"
        bounds = shard_bounds(classes if by_class else 5, piece.shard, piece.shards)
        low, high = bounds if by_class else (0, classes)
        seen = np.arange(5) if by_class else np.arange(*bounds)
        block = logits[:, piece.sides][:, :, seen, low:high].reshape(-1, len(seen), high - low)
        own_class = labels[seen] - low
        here = (own_class >= 0) & (own_class < high - low)
        own = block[:, np.arange(len(seen)), np.clip(own_class, 0, high - low - 1)]
        maxima = block.max(axis=2)
        sums = np.exp(block - maxima[:, :, None]).sum(axis=2)
        right = here & (block.argmax(axis=2) == own_class)
        parts.append(SliceResult(piece.id, maxima, sums, np.where(here, own, -np.inf), right))
    whole = combine(slices, parts)
    loss = (logsumexp(logits, axis=3) - logits[:, :, np.arange(5), labels]).mean(axis=2)
    accuracy = (logits.argmax(axis=3) == labels).mean(axis=(1, 2))
    for pair, result in enumerate(whole.results):
        assert result.id == work.asks[pair].id
        np.testing.assert_allclose([result.plus, result.minus], loss[pair], rtol=1e-12)
        np.testing.assert_allclose(result.accuracy, accuracy[pair], rtol=1e-12)


@given(classes=st.integers(1, 1000), shards=st.integers(1, 16))
def test_shards_are_nearly_equal_runs(classes: int, shards: int) -> None:
    bounds = [shard_bounds(classes, shard, shards) for shard in range(shards)]
    sizes = np.diff(bounds)
    assert (bounds[0][0], bounds[-1][1]) == (0, classes)
    assert [first for first, _ in bounds[1:]] == [end for _, end in bounds[:-1]]
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("together", [1, 3])
def test_a_split_run_learns_the_same_and_is_the_same_in_any_order(layout: Layout, together: int) -> None:
    config = make_config(model={"parallel": (layout.sides, layout.shards), "pairs_per_pass": together})
    whole, _ = tune(make_config())
    runs = [tune(config, SplitPool(ShuffledPool(seed), config))[0] for seed in range(3)]
    np.testing.assert_allclose(runs[0].state.optimizer.w, whole.state.optimizer.w, rtol=1e-7)
    for run in runs:
        np.testing.assert_array_equal(run.state.optimizer.w, runs[0].state.optimizer.w)
        assert run.state.account.charged == 300
        assert run.state.account.issued == run.state.account.completed + run.state.account.wasted


def test_an_id_cannot_be_in_flight_twice() -> None:
    config = make_config(model={"parallel": (2, 1)})
    pool = SplitPool(InProcessPool(FakeScorer), config)
    pool.submit(make_pairs(1))
    with pytest.raises(ValueError, match="work 1 is in flight"):
        pool.submit(make_pairs(1))


def test_losses_that_are_no_number_stay_so() -> None:
    config = make_config(model={"parallel": (2, 2)}, budget={"queries": 200})
    outcome, _ = tune(config, SplitPool(InProcessPool(lambda: FakeScorer(nan_from=0)), config))
    assert list(outcome.reasons) == ["nonfinite"]


@pytest.mark.parametrize("synchronous", [True, False])
def test_few_actors_get_whole_passes(synchronous: bool) -> None:
    for actors in (1, 2, 5):
        assert choose(actors, 0.5, Whole("classes", 100), passes=5 * actors, synchronous=synchronous)[0] == Layout()


def test_more_actors_than_passes_get_sides_then_shards() -> None:
    assert choose(10, 0.5, Whole("classes", 100), passes=5, synchronous=True)[0] == Layout(2, 1)
    assert choose(40, 0.5, Whole("classes", 100), passes=5, synchronous=True)[0] == Layout(2, 4)
    assert choose(64, 0.5, Whole("classes", 100), passes=32, synchronous=False)[0] == Layout(2, 1)
    assert choose(64, 0.5, Whole("classes", 100), passes=64, synchronous=False)[0] == Layout()


def test_images_are_split_as_evenly_as_they_come() -> None:
    """Nothing is done again in every shard, so that more than two actors are of use to a single pair."""
    layout, rate = choose(8, 0.5, Whole("images", 128), passes=1, synchronous=True)
    assert (layout.over, layout.parts) == ("images", 8)
    assert rate == pytest.approx(8 / 0.5, rel=0.1)
    assert choose(8, 0.5, Whole("images", 20), passes=1, synchronous=True)[0].shards <= 2


@pytest.mark.parametrize(
    ("sections", "most"),
    [
        ({"model": {"parallel": (1, 3)}}, "3 shards of 2 classes: give at most 2"),
        ({"model": {"parallel": (1, 9)}, "prompt": {"space": "frame"}}, "9 shards of 8 images: give at most 8"),
    ],
)
def test_more_shards_than_there_is_to_share_are_refused(sections: dict, most: str) -> None:
    with pytest.raises(InputError, match=f"model.parallel: {most}"):
        SplitPool(InProcessPool(FakeScorer), make_config(**sections)).facts()
    fewer = sections | {"model": {"parallel": (2, 2)}}
    assert SplitPool(InProcessPool(FakeScorer), make_config(**fewer)).facts() == FACTS


def test_single_queries_have_no_sides_to_split() -> None:
    assert choose(8, 0.5, Whole("images", 128, sides=1), passes=1, synchronous=True)[0] == Layout(1, 8, "images")
    assert choose(12, 0.5, Whole("classes", 100, sides=1), passes=6, synchronous=True)[0] == Layout(1, 2)


def test_auto_splits_single_queries_for_all_actors() -> None:
    sent: list[Slice] = []

    class Watched(InProcessPool):
        def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:  # noqa: ARG002
            return replace(FACTS, classnames=tuple(map(str, range(100))))

        def members(self) -> list[Member]:
            return [Member(number, "ready", 0, 0.5) for number in range(12)]

        def submit(self, work: Work) -> None:
            sent.extend([work] if isinstance(work, Slice) else [])
            super().submit(work)

    config = make_config(optimizer={"method": "one-sided"}, model={"parallel": "auto"}, budget={"queries": 6})
    tune(config, SplitPool(Watched(FakeScorer), config))
    assert len(sent) == 12, "two slices of each of a step's six queries"


def test_short_work_and_few_classes_are_not_split() -> None:
    assert choose(64, 0.0005, Whole("classes", 100), passes=5, synchronous=True)[0] == Layout()
    assert choose(64, 0.5, Whole("classes", 5), passes=5, synchronous=True)[0].shards == 1


@given(
    actors=st.integers(1, 256),
    seconds=st.floats(1e-3, 10),
    over=st.sampled_from(["classes", "images"]),
    size=st.integers(2, 1000),
    passes=st.integers(1, 64),
    synchronous=st.booleans(),
)
def test_splitting_is_never_chosen_for_less(
    actors: int, seconds: float, over, size: int, passes: int, synchronous: bool
) -> None:
    layout, rate = choose(actors, seconds, Whole(over, size), passes, synchronous)
    _, alone = choose(1, seconds, Whole(over, size), passes, synchronous)
    assert rate >= 0.99 * alone
    assert rate <= actors / seconds
    assert layout.parts == 1 or actors > 1


def test_auto_chooses_again_when_actors_come(caplog: pytest.LogCaptureFixture) -> None:
    class Growing(InProcessPool):
        """One actor at first, ten later."""

        answered = asked_for_facts = 0

        def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:  # noqa: ARG002
            self.asked_for_facts += 1
            return FACTS

        def members(self) -> list[Member]:
            return [Member(k, "ready", 0, 0.5) for k in range(1 if self.answered < 40 else 10)]

        def collect(self, timeout: float):
            self.answered += 1
            return super().collect(timeout)

    config, pool = make_config(model={"parallel": "auto"}), Growing(FakeScorer)
    outcome, _ = tune(config, SplitPool(pool, config, clock=lambda: float(pool.answered)))
    assert pool.asked_for_facts == 1, "they may be long in coming"
    assert outcome.state.account.charged == 300
    assert [record.args[0:2] for record in caplog.records] == [(Layout(), 1), (Layout(2, 1), 10)]


def test_auto_chooses_again_when_the_speed_is_quite_another(caplog: pytest.LogCaptureFixture) -> None:
    config, pool = make_config(model={"parallel": "auto"}), StillPool([2.0] * 12)
    split = SplitPool(pool, config, clock=lambda: float(len(pool.submitted)))
    plans = []
    for number, pace in enumerate((2.0, 1.1, 0.9, 0.5, 0.4, 0.9)):
        pool.paces = [pace] * 12
        split.submit(make_pairs(number))
        plans.append(len(caplog.messages))
    assert plans == [1, 1, 2, 2, 3, 4]


@pytest.mark.parametrize("method", ["zip", "gradient"])
def test_an_asynchronous_pass_of_one_part_travels_as_it_is(method: str) -> None:
    """Actors come and go under way: whole or in parts, what was asked first has the lowest id."""

    class Changing(StillPool):
        def submit(self, work: Work) -> None:
            super().submit(work)
            self.paces = [0.5] * (40 if len(self.submitted) // 50 % 2 else 1)

    sections = {"optimizer": {"mode": "async", "method": method}, "model": {"parallel": "auto"}}
    config, pool = make_config(**sections), Changing([0.5])
    outcome, _ = tune(config, SplitPool(pool, config, clock=lambda: float(len(pool.submitted))))
    assert outcome.state.account.charged == 300
    works = [work for work in pool.submitted if isinstance(work, (Pass, Slice))]
    assert [work.id for work in works] == sorted({work.id for work in works})
    assert {type(work) for work in works} == ({Pass, Slice} if method == "zip" else {Pass})
    assert all(work.share < 1 for work in works if isinstance(work, Slice))


def test_the_actors_are_looked_at_now_and_then() -> None:
    config, pool = make_config(optimizer={"mode": "async"}, model={"parallel": "auto"}), StillPool([0.5])
    tune(config, SplitPool(pool, config, clock=lambda: len(pool.submitted) / 100))
    assert pool.looks <= 2 + 3, "the planner at 0, 0.5, 1 and 1.5 s, and the loop once"


class GrowingPool(SimulatedPool):
    """Six members more after a while, one at a time."""

    grown = False

    def collect(self, timeout: float) -> list[Answer]:
        if self.now > 20 and not self.grown:
            self.grown = True
            for turn in range(6):
                self._add(0.7 * turn)
        return super().collect(timeout)


class StillPool(InProcessPool):
    """Members of these paces, of a task of 10 classes."""

    now = 0.0

    def __init__(self, paces: list[float]) -> None:
        super().__init__(FakeScorer)
        self.paces, self.looks, self.submitted = paces, 0, list[Work]()

    def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:  # noqa: ARG002
        return replace(FACTS, classnames=tuple(map(str, range(10))))

    def members(self) -> list[Member]:
        self.looks += 1
        return [Member(number, "ready", 0, pace) for number, pace in enumerate(self.paces)]

    def submit(self, work: Work) -> None:
        self.submitted.append(work)
        super().submit(work)


def expected_rate(caplog: pytest.LogCaptureFixture, pool: SimulatedPool | StillPool, **sections: dict) -> float:
    """The queries a second of the last plan of a run."""
    config = make_config(model={"parallel": "auto", **sections.pop("model", {})}, **sections)
    caplog.clear()
    tune(config, SplitPool(pool, config, clock=lambda: pool.now))
    return float(caplog.records[-1].args[2])


def test_the_speed_under_one_layout_is_not_taken_for_that_under_another(caplog: pytest.LogCaptureFixture) -> None:
    """Ten actors at about a second a pass, of which eight have one of the two parts of four passes of two queries."""
    shape = {"optimizer": {"pairs_per_step": 4}}
    fresh = expected_rate(caplog, SimulatedPool(1, 10, Faults()), **shape)
    grown = expected_rate(caplog, GrowingPool(1, 4, Faults()), **shape)
    assert fresh == pytest.approx(8 / 0.5, rel=0.1)
    assert grown == pytest.approx(8 / 0.5, rel=0.1)


def test_unlike_actors_are_as_fast_as_the_sum_of_their_speeds(caplog: pytest.LogCaptureFixture) -> None:
    """Nine of 0.1 s and one of 1 s: 91 passes a second in all, of two queries each."""
    shape = {"optimizer": {"mode": "async", "in_flight": 40}, "budget": {"queries": 20}}
    assert expected_rate(caplog, StillPool([1.0, *[0.1] * 9]), **shape) == pytest.approx(2 * 91, rel=0.05)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"optimizer": {"mode": "async"}},
            "; 32 actors have nothing to do: raise optimizer.in_flight (now 8; see docs/staleness.md)",
        ),
        ({"optimizer": {"mode": "async", "in_flight": 64}}, ""),
        (
            {"optimizer": {"mode": "async"}, "model": {"pairs_per_pass": 8}},
            "; 60 actors have nothing to do: raise optimizer.in_flight (now 8; see docs/staleness.md), or lower "
            "model.pairs_per_pass (now 8)",
        ),
        ({"optimizer": {"pairs_per_step": 2}}, "; 56 actors have nothing to do: give cluster.actors fewer"),
    ],
)
def test_actors_that_have_nothing_to_do_are_told_of(
    caplog: pytest.LogCaptureFixture, sections: dict, said: str
) -> None:
    expected_rate(caplog, StillPool([0.05] * 64), budget={"queries": 20}, **sections)
    assert caplog.messages[-1].partition(" queries/s")[2] == said


def test_passes_that_are_not_full_count_for_what_they_hold(caplog: pytest.LogCaptureFixture) -> None:
    """Five pairs in passes of four: ten queries in two seconds."""
    shape = {"optimizer": {"pairs_per_step": 5}, "model": {"pairs_per_pass": 4}}
    assert expected_rate(caplog, SimulatedPool(1, 1, Faults()), **shape) == pytest.approx(10 / 2, rel=0.1)
