"""Asynchronous mode over fake scorers: what it shares with the synchronous one, staleness, budgets, faults."""

import itertools
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zip_ray.config.UNKNOWN import OptimizerConfig

from tests.support.fakes import FakeScorer
from tests.support.loop import fresh, make_config, tune, without_time
from tests.support.pools import FailingPool, ShuffledPool
from zip_ray.config.tree import Config
from zip_ray.optimizers import OptimizerState, make_optimizer, perturbation
from zip_ray.pool.contract import InProcessPool
from zip_ray.protocol.messages import Answer, Evaluation, EvaluationResult, Pair, PairResult, Pass, Work
from zip_ray.tuning.events import Event, StepEvent, ValidationEvent
from zip_ray.tuning.ledger import Account
from zip_ray.tuning.loop import Tuning

E = TypeVar("E", bound=Event)


def make_async(in_flight: int = 8, pairs: int = 1, **sections: Any) -> Config:
    optimizer = {"mode": "async", "in_flight": in_flight, "pairs_per_step": pairs, **sections.pop("optimizer", {})}
    return make_config(optimizer=optimizer, **sections)


def of_kind(events: list[Event], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def test_one_pair_in_flight_is_the_synchronous_run_bit_for_bit() -> None:
    alone, events = tune(make_async(in_flight=1))
    sync, sync_events = tune(make_config(optimizer={"pairs_per_step": 1}))
    np.testing.assert_array_equal(alone.state.optimizer.w, sync.state.optimizer.w)
    assert without_time(of_kind(events, StepEvent)) == without_time(of_kind(sync_events, StepEvent))


@pytest.mark.parametrize("pairs", [1, 3])
def test_an_update_equals_a_hand_written_one(pairs: int) -> None:
    """Out of order, of three versions of w: each estimate at its own w and c, one mean, one step size."""
    config = OptimizerConfig(mode="async", in_flight=9, pairs_per_step=pairs, method="spsa", a=0.5)
    optimizer = make_optimizer(config, OptimizerState(np.zeros(6)), seed=2)
    slope = np.arange(1.0, 7.0)
    w, steps, asked = np.zeros(6), 0, []
    for order in ([4, 0, 7], [1, 3, 8], [2, 2, 2]):
        while (pair := optimizer.ask()) is not None:
            assert (pair.version, pair.step) == (steps, steps + 1)
            assert pair.c == 0.01 / (steps + 1) ** 0.1
            np.testing.assert_allclose(pair.w, w, rtol=1e-12)
            asked.append(pair)
        told: list[Pair] = []
        for place in order:
            pair = asked.pop(place % len(asked))
            told.append(pair)
            z = perturbation(pair.perturbation, 6)
            optimizer.tell(
                PairResult(pair.id, plus=pair.c * float(slope @ z), minus=-pair.c * float(slope @ z), accuracy=1)
            )
            if len(told) == pairs:
                estimates = [float(slope @ z) / z for z in (perturbation(p.perturbation, 6) for p in told)]
                steps += 1
                w = w - 0.5 / (steps + 1) ** 0.4 * np.mean(estimates, axis=0)
                told = []
                np.testing.assert_allclose(optimizer.state.w, w, rtol=1e-12)


def test_staleness_is_that_of_the_queue() -> None:
    _, events = tune(make_async(in_flight=8))
    staleness = [event.staleness for event in of_kind(events, StepEvent)]
    assert staleness[:8] == list(range(8))
    assert set(staleness[8:]) == {7}


def test_too_stale_answers_are_charged_counted_and_not_used() -> None:
    outcome, events = tune(make_async(in_flight=8, optimizer={"max_staleness": 5}))
    assert outcome.state.dropped_results > 0
    assert outcome.state.account == Account(issued=300, completed=300, charged=300)
    assert outcome.state.optimizer.steps == 150 - outcome.state.dropped_results
    assert max(event.staleness for event in of_kind(events, StepEvent)) <= 5


@pytest.mark.parametrize(("in_flight", "pairs", "oldest"), [(40, 5, 1), (40, 5, 256), (8, 1, 2)])
def test_every_charged_pair_is_folded_dropped_or_left_over(in_flight: int, pairs: int, oldest: int) -> None:
    config = make_async(in_flight, pairs, optimizer={"max_staleness": oldest})
    tuning = Tuning(config, ShuffledPool(2), fresh(), lambda _: None, lambda _: None)
    state = tuning.run().state
    assert (state.dropped_results > 0) == (oldest < 256)
    folded, left = pairs * state.optimizer.steps, tuning._optimizer.waiting
    assert 2 * (folded + state.dropped_results + left) == state.account.charged


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    in_flight=st.integers(1, 40),
    pairs=st.integers(1, 6),
    together=st.integers(1, 4),
    budget=st.integers(12, 200),
    views=st.sampled_from([0, "fresh"]),
)
def test_every_answer_is_told_once_and_the_budget_holds(
    seed: int, in_flight: int, pairs: int, together: int, budget: int, views: object
) -> None:
    config = make_async(
        in_flight, pairs, budget={"queries": budget}, model={"pairs_per_pass": together}, task={"views": views}
    )
    most, out = 0, 0

    class Watched(ShuffledPool):
        def submit(self, work: Work) -> None:
            nonlocal most, out
            out += len(work.asks) if isinstance(work, Pass) else 0
            most = max(most, out)
            super().submit(work)

        def collect(self, timeout: float) -> list[Answer]:
            nonlocal out
            answers = super().collect(timeout)
            out -= sum(len(a.result.results) for a in answers if hasattr(a.result, "results"))
            return answers

    outcome, events = tune(config, Watched(seed))
    account = outcome.state.account
    assert list(outcome.reasons) == ["queries"]
    assert budget - 2 * pairs < account.charged <= budget
    assert account.charged == account.completed == 2 * pairs * outcome.state.optimizer.steps
    assert account.issued == account.completed + account.wasted
    assert most <= in_flight
    validations = [event.step for event in of_kind(events, ValidationEvent)]
    assert outcome.state.validated_step == outcome.state.optimizer.steps == max(validations)


def test_validation_does_not_hold_up_the_pairs() -> None:
    class SlowValidation(InProcessPool):
        """A validation comes in only when nothing else is left to do."""

        def collect(self, timeout: float) -> list[Answer]:
            for _ in range(len(self._queue)):
                if isinstance(self._queue[0], Evaluation) and any(isinstance(w, Pass) for w in self._queue):
                    self._queue.rotate(-1)
            return super().collect(timeout)

    outcome, events = tune(make_async(), SlowValidation(FakeScorer))
    assert outcome.state.account.charged == 300
    validations = of_kind(events, ValidationEvent)
    assert [event.step for event in validations] == [0, 25, 50, 75, 100, 125, 150]
    assert events.index(validations[1]) > events.index(of_kind(events, StepEvent)[-1])
    # Each is of the parameters at the step that it names, however late it comes.
    straight = of_kind(tune(make_async())[1], ValidationEvent)
    assert without_time(validations) == without_time(straight)


def test_of_equally_good_iterates_the_earliest_is_the_best_whichever_is_judged_first() -> None:
    class LastFirst(InProcessPool):
        """All else comes before validations, and of those the last before the first; all find the same."""

        def collect(self, timeout: float) -> list[Answer]:  # noqa: ARG002
            work = min(self._queue, key=lambda one: (isinstance(one, Evaluation), one.id))
            self._queue.remove(work)
            result = self._scorer.answer(work)
            return [Answer(replace(result, accuracy=0.5) if isinstance(result, EvaluationResult) else result)]

    outcome, events = tune(make_async(), LastFirst(FakeScorer))
    assert [event.step for event in of_kind(events, ValidationEvent)] == [150, 125, 100, 75, 50, 25, 0]
    assert outcome.state.best is not None
    assert outcome.state.best.step == 0


@pytest.mark.parametrize("views", [0, "fresh"])
@pytest.mark.parametrize("after", [0, 1, 5, 17, 60])
def test_interrupted_and_resumed_keeps_the_account(after: int, views: int | str) -> None:
    config = make_async(task={"views": views})  # with crops, of mini-batches that lie behind those given up
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
    assert outcome.reasons == {"pool": "no actor is left after 7 deaths; last error: out of luck"}
    assert outcome.state.optimizer.steps == 17
    assert outcome.state.account.wasted == 2 * 8


@pytest.mark.parametrize(("pairs", "oldest"), [(1, 100), (3, 100), (3, 1)])
def test_a_budget_of_steps_is_kept_and_nothing_is_asked_beyond_it(pairs: int, oldest: int) -> None:
    config = make_async(8, pairs, optimizer={"max_staleness": oldest}, budget={"queries": None, "steps": 10})
    state = tune(config, ShuffledPool(3))[0].state
    assert state.optimizer.steps == 10
    assert (state.dropped_results > 0) == (oldest == 1)
    if not state.dropped_results:
        assert state.account.charged == 2 * 10 * pairs


def test_target_accuracy_ends_it_though_a_later_validation_is_worse() -> None:
    outcome, _ = tune(make_async(budget={"target_accuracy": 0.4}, optimizer={"a": 0.5}))
    assert list(outcome.reasons) == ["target_accuracy"]
    assert outcome.state.best is not None
    assert outcome.state.best.accuracy >= 0.4
    assert outcome.state.account.charged < 300


def test_learns() -> None:
    outcome, _ = tune(make_async(in_flight=16, optimizer={"a": 0.2}, budget={"queries": 2000}))
    assert outcome.state.accuracy > 0.6


def test_a_fresh_state_has_asked_nothing() -> None:
    assert fresh().optimizer.asked == 0
