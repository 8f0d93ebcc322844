"""Asynchronous mode over fake scorers: agreement with synchronous mode, staleness, budgets, faults."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fakes import FakeScorer
from tests.support.loop import make_config, of_kind, tune, without_time
from tests.support.pools import POOL_LOST, FailingPool, ReorderedPool, ShuffledPool
from zip_ray.config.tree import Config
from zip_ray.protocol.messages import Answer, Evaluation, EvaluationResult, Pass, Value, Work
from zip_ray.tuning.events import StepEvent, ValidationEvent
from zip_ray.tuning.ledger import Account


def make_async(in_flight: int = 8, pairs: int = 1, **sections: Any) -> Config:
    execution = {"mode": "async", "in_flight": in_flight, **sections.pop("execution", {})}
    optimizer = {"pairs_per_step": pairs, **sections.pop("optimizer", {})}
    return make_config(execution=execution, optimizer=optimizer, **sections)


def test_one_pair_in_flight_is_the_synchronous_run_bit_for_bit() -> None:
    alone, events = tune(make_async(in_flight=1))
    sync, sync_events = tune(make_config(optimizer={"pairs_per_step": 1}))
    np.testing.assert_array_equal(alone.state.optimizer.w, sync.state.optimizer.w)
    assert without_time(of_kind(events, StepEvent)) == without_time(of_kind(sync_events, StepEvent))


def test_staleness_is_that_of_the_queue() -> None:
    _, events = tune(make_async(in_flight=8))
    staleness = [event.staleness for event in of_kind(events, StepEvent)]
    assert staleness[:8] == list(range(8))
    assert set(staleness[8:]) == {7}


def test_results_that_are_too_stale_are_charged_counted_and_not_used() -> None:
    outcome, events = tune(make_async(in_flight=8, execution={"max_staleness": 5}))
    assert outcome.state.dropped_results > 0
    assert outcome.state.account == Account(issued=300, completed=300, charged=300)
    assert outcome.state.optimizer.steps == 150 - outcome.state.dropped_results
    steps = of_kind(events, StepEvent)
    assert max(event.staleness for event in steps) <= 5
    assert [event.dropped for event in steps] == sorted(event.dropped for event in steps)
    assert 0 < steps[-1].dropped <= outcome.state.dropped_results


@pytest.mark.parametrize(("in_flight", "pairs", "oldest"), [(40, 5, 1), (40, 5, 256), (8, 1, 2)])
def test_every_charged_pair_is_used_dropped_or_left_over(in_flight: int, pairs: int, oldest: int) -> None:
    state = tune(make_async(in_flight, pairs, execution={"max_staleness": oldest}), ShuffledPool(2))[0].state
    assert (state.dropped_results > 0) == (oldest < 256)
    left_over = state.account.charged // 2 - pairs * state.optimizer.steps - state.dropped_results
    assert 0 <= left_over < pairs


class CrowdedPool(ShuffledPool):
    """Records the largest number of asks in flight."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.most = self._out = 0

    def submit(self, works: Sequence[Work]) -> None:
        self._out += sum(len(work.body.asks) for work in works if isinstance(work.body, Pass))
        self.most = max(self.most, self._out)
        super().submit(works)

    def collect(self, timeout: float) -> list[Answer]:
        answers = super().collect(timeout)
        self._out -= sum(len(answer.value) for answer in answers if isinstance(answer.value, tuple))
        return answers


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    in_flight=st.integers(1, 40),
    pairs=st.integers(1, 6),
    together=st.integers(1, 4),
    budget=st.integers(12, 200),
    views=st.sampled_from([0, "fresh"]),
)
def test_every_answer_is_used_once_and_the_budget_holds(
    seed: int, in_flight: int, pairs: int, together: int, budget: int, views: object
) -> None:
    execution = {"pairs_per_pass": together}
    config = make_async(in_flight, pairs, budget={"queries": budget}, execution=execution, task={"views": views})
    pool = CrowdedPool(seed)
    outcome, events = tune(config, pool)
    account = outcome.state.account
    assert list(outcome.reasons) == ["queries"]
    assert budget - 2 * pairs < account.charged <= budget
    assert account.charged == account.completed == 2 * pairs * outcome.state.optimizer.steps
    assert account.issued == account.completed + account.wasted
    assert pool.most <= in_flight
    validations = [event.step for event in of_kind(events, ValidationEvent)]
    assert outcome.state.validated_step == outcome.state.optimizer.steps == max(validations)


def test_a_validation_does_not_hold_up_the_pairs() -> None:
    """The validation is answered only when nothing else is left to do."""
    pool = ReorderedPool(lambda work: (isinstance(work.body, Evaluation), work.id))
    outcome, events = tune(make_async(), pool)
    assert outcome.state.account.charged == 300
    validations = of_kind(events, ValidationEvent)
    assert [event.step for event in validations] == [0, 25, 50, 75, 100, 125, 150]
    assert events.index(validations[1]) > events.index(of_kind(events, StepEvent)[-1])
    # Each validates the parameters of the step it names, however late it arrives.
    straight = of_kind(tune(make_async())[1], ValidationEvent)
    assert without_time(validations) == without_time(straight)


class IndifferentScorer(FakeScorer):
    """Finds all parameters equally good."""

    def answer(self, work: Work) -> Value:
        value = super().answer(work)
        return replace(value, accuracy=0.5) if isinstance(value, EvaluationResult) else value


def test_of_equally_good_iterates_the_earliest_is_the_best_whichever_is_answered_first() -> None:
    """Validations are answered after everything else, the last one first."""

    def last_first(work: Work) -> tuple[bool, int]:
        is_validation = isinstance(work.body, Evaluation)
        return is_validation, -work.id if is_validation else work.id

    outcome, events = tune(make_async(), ReorderedPool(last_first, IndifferentScorer()))
    assert [event.step for event in of_kind(events, ValidationEvent)] == [150, 125, 100, 75, 50, 25, 0]
    assert outcome.state.best is not None
    assert outcome.state.best.step == 0
    assert outcome.state.validated_step == 150


@pytest.mark.parametrize("views", [0, "fresh"])
@pytest.mark.parametrize("after", [0, 1, 5, 17, 60])
def test_interrupted_and_resumed_keeps_the_account(after: int, views: int | str) -> None:
    config = make_async(task={"views": views})  # with crops, of mini-batches beyond those that were given up
    looks = itertools.count()
    first, _ = tune(config, interrupted=lambda: next(looks) >= after)
    assert first.reasons == {"interrupted": "on request"}
    assert first.state.account.issued == first.state.account.completed + first.state.account.wasted
    rest, _ = tune(config, state=first.state)
    account = rest.state.account
    assert (account.charged, account.issued) == (300, 300 + account.wasted)
    assert rest.state.optimizer.steps == 150


def test_lost_pool_ends_the_run_with_its_state() -> None:
    outcome, _ = tune(make_async(), FailingPool(answers=18))
    assert outcome.reasons == {"pool": POOL_LOST}
    assert outcome.state.optimizer.steps == 17
    assert outcome.state.account.wasted == 2 * 8


@pytest.mark.parametrize(("pairs", "oldest"), [(1, 100), (3, 100), (3, 1)])
def test_a_budget_of_steps_is_kept_and_nothing_is_asked_beyond_it(pairs: int, oldest: int) -> None:
    config = make_async(8, pairs, execution={"max_staleness": oldest}, budget={"queries": None, "steps": 10})
    state = tune(config, ShuffledPool(3))[0].state
    assert state.optimizer.steps == 10
    assert (state.dropped_results > 0) == (oldest == 1)
    if not state.dropped_results:
        assert state.account.charged == 2 * 10 * pairs


def test_target_accuracy_ends_it_though_a_later_validation_is_worse() -> None:
    outcome, _ = tune(make_async(budget={"target_accuracy": 0.4}, optimizer={"step_size": 0.5}))
    assert list(outcome.reasons) == ["target_accuracy"]
    assert outcome.state.best is not None
    assert outcome.state.best.accuracy >= 0.4
    assert outcome.state.account.charged < 300


def test_learns() -> None:
    outcome, _ = tune(make_async(in_flight=16, optimizer={"step_size": 0.2}, budget={"queries": 2000}))
    assert outcome.state.accuracy > 0.6
