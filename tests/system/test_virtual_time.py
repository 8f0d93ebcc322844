"""The virtual-time pool of benchmarks/rounds.py: order, one result each, and its clock."""

import pytest

from benchmarks.curves import Look, mean_of, seconds_to
from benchmarks.virtual_time import Remembering, VirtualPool
from tests.support.fakes import FakeScorer, evaluation_work, pair_work
from zip_ray.pool.split_planner import Partition
from zip_ray.protocol.messages import Answer, Value, Work

SECONDS = 0.05


def collect_all(pool: VirtualPool, count: int) -> list[tuple[float, Answer]]:
    """The answers, each with its time of arrival."""
    found: list[tuple[float, Answer]] = []
    while len(found) < count:
        found += [(pool.now, answer) for answer in pool.collect(0.5)]
    return found


def test_a_lone_actor_takes_the_lowest_priority_then_id_one_after_another() -> None:
    pool = VirtualPool(FakeScorer(), 1, SECONDS)
    works = [pair_work(k) for k in range(3)]
    late = evaluation_work("val", "a photo of a {}.")
    pool.submit([works[0]])
    pool.submit([works[2], works[1], late])
    found = collect_all(pool, 4)
    assert [answer.id for _, answer in found] == [works[0].id, late.id, works[1].id, works[2].id]
    assert [at for at, _ in found] == pytest.approx([0.1, 0.15, 0.25, 0.35]), "a pair is two queries"


@pytest.mark.parametrize("actors", [1, 4, 16, 256])
def test_each_id_is_answered_once_in_as_many_waves_as_it_takes(actors: int) -> None:
    pool = VirtualPool(FakeScorer(), actors, SECONDS)
    works = [pair_work(k) for k in range(23)]
    pool.submit(works)
    found = collect_all(pool, 23)
    assert sorted(answer.id for _, answer in found) == [work.id for work in works]
    assert pool.now == pytest.approx(2 * SECONDS * -(-23 // actors))
    before = pool.now
    assert pool.collect(0.5) == []
    assert pool.clock() == pytest.approx(before + 0.5), "an empty wait lasts its time"


def test_a_pass_in_parts_is_done_when_the_last_part_is() -> None:
    for actors, waves in ((4, 1), (3, 2)):
        pool = VirtualPool(FakeScorer(), actors, SECONDS, Partition(sides=2, shards=2), repeated=0.5)
        pool.submit([pair_work(0)])
        ((at, _),) = collect_all(pool, 1)
        assert at == pytest.approx(waves * SECONDS * 0.75)


def test_a_known_id_is_refused() -> None:
    pool = VirtualPool(FakeScorer(), 2, SECONDS)
    work = pair_work(0)
    pool.submit([work])
    with pytest.raises(ValueError, match="in flight"):
        pool.submit([work])


def test_what_is_remembered_is_not_computed_again() -> None:
    class Counting(FakeScorer):
        computed = 0

        def answer(self, work: Work) -> Value:
            Counting.computed += 1
            return super().answer(work)

    scorer = Remembering(Counting())
    values = [scorer.answer(pair_work(k)) for k in (0, 1, 0)]
    assert values[0] == values[2] != values[1]
    assert Counting.computed == 2


def test_a_mean_curve_has_each_run_as_it_was_last_looked_at() -> None:
    one = [Look(0.0, 0, 0.2), Look(1.0, 10, 0.4)]
    other = [Look(0.5, 0, 0.4), Look(2.0, 10, 0.8)]
    mean = mean_of([one, other])
    assert [look.seconds for look in mean] == [0.0, 0.5, 1.0, 2.0]
    assert [look.accuracy for look in mean] == pytest.approx([0.3, 0.3, 0.4, 0.6])
    assert (seconds_to(0.39, mean), seconds_to(0.61, mean)) == (1.0, float("inf"))
