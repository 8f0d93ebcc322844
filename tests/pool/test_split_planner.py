"""The choice of the partition: by the number of actors, their speed, and the parts of a pass."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.asking import PROBLEM
from tests.support.fakes import FACTS, FakeScorer
from tests.support.loop import make_config, tune
from tests.support.pools import PacedPool, RecordingPool
from tests.support.simulated import Faults, SimulatedPool
from zip_ray.pool.contract import Member
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.split_planner import Partition, SplitPlanner, Whole, choose
from zip_ray.pool.splitting import SplitPool
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import Answer

TEN_CLASSES = replace(FACTS, classnames=tuple(map(str, range(10))))


@pytest.mark.parametrize("synchronous", [True, False])
def test_few_actors_get_whole_passes(synchronous: bool) -> None:
    for actors in (1, 2, 5):
        assert choose(actors, 0.5, Whole("classes", 100), passes=5 * actors, synchronous=synchronous)[0] == Partition()


def test_more_actors_than_passes_get_sides_then_shards() -> None:
    assert choose(10, 0.5, Whole("classes", 100), passes=5, synchronous=True)[0] == Partition(2, 1)
    assert choose(40, 0.5, Whole("classes", 100), passes=5, synchronous=True)[0] == Partition(2, 4)
    assert choose(64, 0.5, Whole("classes", 100), passes=32, synchronous=False)[0] == Partition(2, 1)
    assert choose(64, 0.5, Whole("classes", 100), passes=64, synchronous=False)[0] == Partition()


def test_images_are_split_as_evenly_as_they_come() -> None:
    """Shards of the images repeat no work, so more than two actors are of use to a single pair."""
    partition, rate = choose(8, 0.5, Whole("images", 128), passes=1, synchronous=True)
    assert (partition.over, partition.parts) == ("images", 8)
    assert rate == pytest.approx(8 / 0.5, rel=0.1)
    assert choose(8, 0.5, Whole("images", 20), passes=1, synchronous=True)[0].shards <= 2


def test_single_queries_have_no_sides_to_split() -> None:
    assert choose(8, 0.5, Whole("images", 128, sides=1), passes=1, synchronous=True)[0] == Partition(1, 8, "images")
    assert choose(12, 0.5, Whole("classes", 100, sides=1), passes=6, synchronous=True)[0] == Partition(1, 2)


def test_what_a_part_costs_counts() -> None:
    """Its round trip, and the prefix that every shard of the classes repeats."""
    assert choose(1, 0.002, Whole("classes", 100), passes=1, synchronous=True)[1] == pytest.approx(250, rel=0.1)
    partition, rate = choose(2, 0.5, Whole("classes", 8, sides=1), passes=1, synchronous=True)
    assert partition == Partition(1, 2)
    assert rate == pytest.approx(3.3, rel=0.05)


def test_a_finer_partition_must_be_worth_it() -> None:
    """Five shards would be only 4% faster than two sides of two shards; seven are 11% faster, and worth it."""
    assert choose(5, 0.5, Whole("images", 64), passes=6, synchronous=True)[0] == Partition(2, 2, "images")
    assert choose(7, 0.5, Whole("images", 64), passes=1, synchronous=True)[0] == Partition(1, 7, "images")


def test_short_work_and_few_classes_are_not_split() -> None:
    assert choose(64, 0.0005, Whole("classes", 100), passes=5, synchronous=True)[0] == Partition()
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
    actors: int, seconds: float, over: Literal["classes", "images"], size: int, passes: int, synchronous: bool
) -> None:
    partition, rate = choose(actors, seconds, Whole(over, size), passes, synchronous)
    _, alone = choose(1, seconds, Whole(over, size), passes, synchronous)
    assert rate >= 0.99 * alone
    assert rate <= actors / seconds
    assert partition.parts == 1 or actors > 1


def test_auto_splits_single_queries_for_all_actors() -> None:
    config = make_config(optimizer={"method": "one-sided"}, execution={"split": "auto"}, budget={"queries": 6})
    pool = RecordingPool(PacedPool([0.5] * 12, classes=100))
    tune(config, SplitPool(pool, config))
    assert len(pool.slices) == 12, "two slices of each of a step's six queries"


def test_auto_chooses_again_when_actors_come(caplog: pytest.LogCaptureFixture) -> None:
    class JoinedLater(InProcessPool):
        """First one actor, later ten."""

        answered = asked_for_facts = 0

        def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:  # noqa: ARG002
            self.asked_for_facts += 1
            return FACTS

        def members(self) -> list[Member]:
            return [Member(k, "ready", 0, 0.5) for k in range(1 if self.answered < 40 else 10)]

        def collect(self, timeout: float) -> list[Answer]:
            self.answered += 1
            return super().collect(timeout)

    config, pool = make_config(execution={"split": "auto"}), JoinedLater(FakeScorer)
    outcome, _ = tune(config, SplitPool(pool, config, clock=lambda: float(pool.answered)))
    assert pool.asked_for_facts == 1, "they may be long in coming"
    assert outcome.state.account.charged == 300
    assert [record.args[0:2] for record in caplog.records] == [(Partition(), 1), (Partition(2, 1), 10)]


def test_a_planner_chooses_again_when_the_speed_is_quite_another(caplog: pytest.LogCaptureFixture) -> None:
    config, pool, now = make_config(execution={"split": "auto"}), PacedPool([2.0] * 12), 0.0
    planner = SplitPlanner(config, TEN_CLASSES, lambda: now)
    plans = []
    for pace in (2.0, 1.1, 0.9, 0.5, 0.4, 0.9):
        pool.paces = [pace] * 12
        planner.look(pool.members)
        plans.append(len(caplog.messages))
        now += 1.0
    assert plans == [1, 1, 2, 2, 3, 4]


def test_until_a_speed_is_known_passes_are_whole(caplog: pytest.LogCaptureFixture) -> None:
    planner = SplitPlanner(make_config(execution={"split": "auto"}), TEN_CLASSES, lambda: 0.0)
    planner.look(lambda: [Member(number, "ready") for number in range(12)])
    assert planner.partition == Partition()
    assert not caplog.messages


def test_the_actors_are_looked_at_now_and_then() -> None:
    config, pool = make_config(execution={"mode": "async", "split": "auto"}), PacedPool([0.5])
    recording = RecordingPool(pool)
    tune(config, SplitPool(recording, config, clock=lambda: len(recording.submitted) / 100))
    assert pool.looks <= 2 + 3, "the planner at 0, 0.5, 1 and 1.5 s, and the loop once"


class GrowingPool(SimulatedPool):
    """After a while six more members join, one at a time."""

    grown = False

    def collect(self, timeout: float) -> list[Answer]:
        if self.now > 20 and not self.grown:
            self.grown = True
            for turn in range(6):
                self._add(0.7 * turn)
        return super().collect(timeout)


def expected_rate(
    caplog: pytest.LogCaptureFixture, pool: SimulatedPool | PacedPool, **sections: dict[str, Any]
) -> float:
    """The queries per second that the last plan of a run expects."""
    execution = {"split": "auto", **sections.pop("execution", {})}
    config = make_config(execution=execution, **sections)
    caplog.clear()
    tune(
        config,
        SplitPool(pool, config, clock=lambda: pool.now),
        problem=PROBLEM if config.optimizer.wants_scores else None,
    )
    assert isinstance(caplog.records[-1].args, tuple)
    rate = caplog.records[-1].args[2]
    assert isinstance(rate, float)
    return rate


def test_the_speed_under_one_partition_is_not_taken_for_that_under_another(caplog: pytest.LogCaptureFixture) -> None:
    """Ten actors at about a second per pass; eight of them each have one of two parts of four passes of two queries."""
    four_pairs = {"optimizer": {"pairs_per_step": 4}}
    fresh = expected_rate(caplog, SimulatedPool(1, 10, Faults()), **four_pairs)
    grown = expected_rate(caplog, GrowingPool(1, 4, Faults()), **four_pairs)
    assert fresh == pytest.approx(8 / 0.5, rel=0.1)
    assert grown == pytest.approx(8 / 0.5, rel=0.1)


def test_unlike_actors_are_as_fast_as_the_sum_of_their_speeds(caplog: pytest.LogCaptureFixture) -> None:
    """Nine of 0.1 s and one of 1 s: 91 passes of two queries per second in all."""
    sections = {"execution": {"mode": "async", "in_flight": 40}, "budget": {"queries": 20}}
    assert expected_rate(caplog, PacedPool([1.0, *[0.1] * 9]), **sections) == pytest.approx(2 * 91, rel=0.05)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"execution": {"mode": "async"}},
            "; 32 actors are idle: raise execution.in_flight (now 8; see docs/measurements/staleness.md)",
        ),
        ({"execution": {"mode": "async", "in_flight": 64}}, ""),
        (
            {"execution": {"mode": "async", "pairs_per_pass": 8}},
            "; 60 actors are idle: raise execution.in_flight (now 8; see docs/measurements/staleness.md), or "
            "lower execution.pairs_per_pass (now 8)",
        ),
        ({"optimizer": {"pairs_per_step": 2}}, "; 56 actors are idle: lower cluster.actors"),
    ],
)
def test_actors_that_have_nothing_to_do_are_reported(
    caplog: pytest.LogCaptureFixture, sections: dict[str, Any], said: str
) -> None:
    expected_rate(caplog, PacedPool([0.05] * 64), budget={"queries": 20}, **sections)
    assert caplog.messages[-1].partition(" queries per second")[2] == said


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_rounds_that_leave_actors_idle_are_reported(caplog: pytest.LogCaptureFixture, mode: str) -> None:
    sections = {"optimizer": {"method": "gauss-newton", "round_queries": 40}, "execution": {"mode": mode}}
    rate = expected_rate(caplog, PacedPool([0.05] * 64), budget={"queries": 40}, **sections)
    assert rate == pytest.approx(40 / 0.05, rel=0.1), "awaited together"
    said = caplog.messages[-1].partition(" queries per second")[2]
    assert said == "; 24 actors are idle: raise optimizer.round_queries (now 40)"


def test_passes_that_are_not_full_count_for_what_they_hold(caplog: pytest.LogCaptureFixture) -> None:
    """Five pairs in passes of four: ten queries in two seconds."""
    sections = {"optimizer": {"pairs_per_step": 5}, "execution": {"pairs_per_pass": 4}}
    assert expected_rate(caplog, SimulatedPool(1, 1, Faults()), **sections) == pytest.approx(10 / 2, rel=0.1)
