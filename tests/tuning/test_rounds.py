"""Rounds that close before all their results have arrived, over fake scorers: shares, late results, faults."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from tests.support.asking import PROBLEM
from tests.support.fakes import FakeScorer, accuracy
from tests.support.loop import make_config, of_kind, tune, without_time
from tests.support.pools import POOL_LOST, FailingPool, ReorderedPool, ShuffledPool
from tests.support.simulated import Faults, SimulatedPool
from zip_ray.config.tree import Config
from zip_ray.pool.contract import Pool
from zip_ray.protocol.messages import Evaluation, Pass, Work
from zip_ray.tuning.events import Event, StepEvent, ValidationEvent
from zip_ray.tuning.ledger import Account
from zip_ray.tuning.loop import Outcome

EACH = 14
"""Queries per round."""


def make_rounds(share: float | None = 0.8, **sections: Any) -> Config:
    """A run of twenty rounds by default, asynchronous if a share is given."""
    execution = {} if share is None else {"mode": "async", "round_share": share}
    method = {"method": "gauss-newton", "round_queries": EACH}
    own = {"execution": execution, "budget": {"queries": 20 * EACH}, "validation": {"every_queries": 1}}
    return make_config(optimizer=method, **{**own, **sections})


def run(config: Config, pool: Pool | None = None, **options: Any) -> tuple[Outcome, list[Event]]:
    return tune(config, pool, problem=PROBLEM, **options)


def used(outcome: Outcome, share: float) -> int:
    """Answers used by the steps, with one query per pass."""
    return math.ceil(share * EACH) * outcome.state.optimizer.steps


def test_with_all_of_the_round_it_is_the_synchronous_run_bit_for_bit() -> None:
    late, events = run(make_rounds(1.0))
    sync, sync_events = run(make_rounds(None))
    np.testing.assert_array_equal(late.state.optimizer.w, sync.state.optimizer.w)
    assert without_time(of_kind(events, StepEvent)) == without_time(of_kind(sync_events, StepEvent))


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_every_charged_answer_is_used_or_dropped_and_all_of_the_budget_is(seed: int, share: float) -> None:
    outcome, events = run(make_rounds(share), ShuffledPool(seed))
    account = outcome.state.account
    assert (account.charged, outcome.state.optimizer.steps) == (20 * EACH, 20)
    assert account.issued == account.completed + account.wasted
    assert used(outcome, share) + outcome.state.dropped_results == account.charged
    assert {event.staleness for event in of_kind(events, StepEvent)} == {0}
    assert outcome.state.accuracy > 0.6, "it learns"


def test_the_order_of_arrival_decides_and_nothing_else() -> None:
    first, again, other = (run(make_rounds(), ShuffledPool(seed))[0].state.optimizer.w for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_late_answer_of_a_round_long_gone_is_charged_and_dropped() -> None:
    """The first query, at the centre of the first round, is answered after everything else."""
    pool = ReorderedPool(lambda work: (isinstance(work.body, Pass) and work.body.asks[0].index == 0, work.id))
    outcome, events = run(make_rounds(), pool)
    assert outcome.state.account == Account(20 * EACH, 20 * EACH, 20 * EACH)
    steps = of_kind(events, StepEvent)
    assert steps[-1].queries < outcome.state.account.charged
    assert steps[-1].dropped < outcome.state.dropped_results
    assert used(outcome, 0.8) + outcome.state.dropped_results == 20 * EACH


def test_a_validation_does_not_hold_up_the_rounds() -> None:
    pool = ReorderedPool(lambda work: (isinstance(work.body, Evaluation), work.id))
    outcome, events = run(make_rounds(), pool)
    validations = of_kind(events, ValidationEvent)
    assert [event.step for event in validations] == list(range(21))
    assert events.index(validations[1]) > events.index(of_kind(events, StepEvent)[-1])
    assert outcome.state.account.charged == 20 * EACH


@pytest.mark.parametrize(("pace", "least"), [(10.0, 2.5), (1e9, 4.0)], ids=["slow", "dead"])
def test_a_slow_or_dead_actor_holds_no_round(pace: float, least: float) -> None:
    """One of 16 actors is slow, the others take 1 s per query; a synchronous round waits until it is found late."""

    def longest_round(share: float | None) -> float:
        pool = SimulatedPool(3, 16, Faults(), paces=lambda number: pace if number == 1 else 1.0)
        _, events = run(make_rounds(share), pool, clock=lambda: pool.now)
        seconds = [0.0, *(event.seconds for event in of_kind(events, StepEvent))]
        return max(after - before for before, after in itertools.pairwise(seconds))

    assert longest_round(0.8) < 2.5
    assert longest_round(None) > least


@pytest.mark.parametrize("seed", range(6))
def test_actors_that_fail_in_every_way_cost_nothing_but_waste(seed: int) -> None:
    faults = Faults(kill=0.1, kill_node=0.02, hang=0.05, slow=0.05, fail=0.1, until=60)
    pool = SimulatedPool(seed, 8, faults)
    outcome, _ = run(make_rounds(), pool, clock=lambda: pool.now)
    account = outcome.state.account
    assert list(outcome.reasons) == ["queries"]
    assert (account.charged, account.issued) == (20 * EACH, 20 * EACH + account.wasted)
    assert used(outcome, 0.8) + outcome.state.dropped_results == account.charged
    assert accuracy(outcome.state.optimizer.w) > 0.6, "it learns"


@pytest.mark.parametrize("bad", [(0,), (EACH,), tuple(range(EACH, 2 * EACH)), tuple(range(3, 20 * EACH, 5))], ids=str)
def test_scores_that_are_not_finite_are_answers_like_others(bad: tuple[int, ...]) -> None:
    outcome, _ = run(make_rounds(), ShuffledPool(1, FakeScorer(nan_at=bad)))
    assert outcome.state.account.charged == 20 * EACH
    assert outcome.state.nonfinite_results + outcome.state.dropped_results > 0
    assert accuracy(outcome.state.optimizer.w) > 0.6, "it learns"


@pytest.mark.parametrize("views", [0, "fresh"])
@pytest.mark.parametrize("after", [0, 1, 5, 12, 20])
def test_interrupted_and_resumed_keeps_the_account(after: int, views: int | str) -> None:
    config = make_rounds(task={"views": views})
    looks = itertools.count()
    first, _ = run(config, ShuffledPool(after), interrupted=lambda: next(looks) >= after)
    assert first.reasons == {"interrupted": "on request"}
    assert first.state.account.issued == first.state.account.completed + first.state.account.wasted
    rest, _ = run(config, ShuffledPool(after + 1), state=first.state)
    account = rest.state.account
    assert account.issued == account.charged + account.wasted
    assert 19 * EACH < account.charged <= 20 * EACH
    assert used(rest, 0.8) + rest.state.dropped_results == account.charged


def test_a_lost_pool_ends_the_run_with_its_state() -> None:
    outcome, _ = run(make_rounds(), FailingPool(answers=3 * EACH))
    assert outcome.reasons == {"pool": POOL_LOST}
    assert outcome.state.account.issued == outcome.state.account.completed + outcome.state.account.wasted


def test_a_budget_of_steps_is_kept_while_late_answers_are_out() -> None:
    def late(work: Work) -> tuple[bool, int]:
        return isinstance(work.body, Pass) and work.body.asks[0].index % EACH < 2, work.id

    config = make_rounds(budget={"queries": None, "steps": 7})
    outcome, _ = run(config, ReorderedPool(late))
    assert list(outcome.reasons) == ["steps"]
    assert (outcome.state.optimizer.steps, outcome.state.account.charged) == (7, 7 * EACH)
