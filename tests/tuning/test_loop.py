"""The loop over a fake scorer: budgets, bitwise trajectories, interruption and resume, faults of losses."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from tests.support.fakes import FakeScorer, evaluation_work, pair_work
from tests.support.loop import fresh, make_config, of_kind, tune, without_time
from tests.support.pools import POOL_LOST, FailingPool, RecordingPool, ShuffledPool
from zip_ray.errors import InputError
from zip_ray.optimizers import OptimizerState
from zip_ray.pool.in_process import InProcessPool
from zip_ray.pool.splitting import SplitPool
from zip_ray.protocol.messages import Crops, Pass, Priority
from zip_ray.tuning.events import StepEvent, ValidationEvent
from zip_ray.tuning.ledger import Account
from zip_ray.tuning.loop import Tuning
from zip_ray.tuning.state import RunState


def test_uses_its_queries_and_no_more() -> None:
    outcome, events = tune(make_config(budget={"queries": 307}))
    assert outcome.finished
    assert outcome.reasons == {"queries": "300 of 307 queries used"}
    assert outcome.state.account == Account(issued=300, completed=300, charged=300, wasted=0)
    assert [event.queries for event in of_kind(events, StepEvent)] == list(range(10, 301, 10))
    assert [event.queries for event in of_kind(events, ValidationEvent)] == [0, 50, 100, 150, 200, 250, 300]


def test_learns_and_keeps_the_best_iterate() -> None:
    outcome, events = tune(make_config(optimizer={"step_size": 0.5}, budget={"queries": 2000}))
    accuracies = [event.accuracy for event in of_kind(events, ValidationEvent)]
    assert accuracies[-1] > accuracies[0] + 0.3
    assert outcome.state.best is not None
    assert outcome.state.best.accuracy == max(accuracies)
    assert outcome.state.accuracy == accuracies[-1]


@pytest.mark.parametrize("seed", range(8))
def test_order_of_arrival_does_not_matter(seed: int) -> None:
    straight, events = tune(make_config())
    shuffled, shuffled_events = tune(make_config(), ShuffledPool(seed))
    np.testing.assert_array_equal(shuffled.state.optimizer.w, straight.state.optimizer.w)
    assert without_time(shuffled_events) == without_time(events)
    account = shuffled.state.account
    assert account.charged == 300
    assert account.issued == account.completed + account.wasted


@pytest.mark.parametrize("together", [2, 5, 7])
def test_pairs_may_share_a_pass(together: int) -> None:
    pool = RecordingPool(ShuffledPool(3))
    outcome, events = tune(make_config(execution={"pairs_per_pass": together}), pool)
    straight, straight_events = tune(make_config())
    np.testing.assert_array_equal(outcome.state.optimizer.w, straight.state.optimizer.w)
    assert without_time(events) == without_time(straight_events)
    assert [len(one.asks) for one in pool.passes] == {2: [2, 2, 1], 5: [5], 7: [5]}[together] * 30


@pytest.mark.parametrize("seed", range(4))
def test_fresh_crops_reach_their_own_step(seed: int) -> None:
    straight, events = tune(make_config())
    # The fake's crops name their batch, and its loss depends on it: any mix-up would change the trajectory.
    fresh_crops, fresh_events = tune(make_config(task={"views": "fresh"}), ShuffledPool(seed))
    np.testing.assert_array_equal(fresh_crops.state.optimizer.w, straight.state.optimizer.w)
    assert without_time(fresh_events) == without_time(events)


def test_each_batch_of_fresh_crops_is_asked_once_and_ahead() -> None:
    pool = RecordingPool(InProcessPool(FakeScorer))
    tune(make_config(task={"views": "fresh"}, cluster={"actors": 3}), pool)
    crops = {body.batch: place for place, body in enumerate(pool.bodies) if isinstance(body, Crops)}
    steps = [(body.asks[0].step, place) for place, body in enumerate(pool.bodies) if isinstance(body, Pass)]
    assert list(crops) == list(range(1, 31)), "no batch beyond the budget"
    assert len(crops) == sum(isinstance(body, Crops) for body in pool.bodies)
    assert all(crops[5] < place for step, place in steps if step == 2), "before the pairs of step 2"


@pytest.mark.parametrize("seed", range(4))
def test_which_queries_share_a_pass_does_not_depend_on_the_crops_that_are_ready(seed: int) -> None:
    """Each individual is queried on two mini-batches, whose crops come in any order."""
    cma = {"method": "cma-es", "population": 6, "fitness_batches": 2}
    sections = {"optimizer": cma, "execution": {"pairs_per_pass": 4}, "budget": {"queries": 48}}
    pool = RecordingPool(ShuffledPool(seed))
    tune(make_config(**sections, task={"views": "fresh"}), pool)
    passes = [[ask.index for ask in one.asks] for one in pool.passes]
    assert [len(indices) for indices in passes] == [4, 2] * 8
    assert list(itertools.chain(*passes)) == list(range(48))


def test_a_validation_goes_before_queries_and_those_before_crops() -> None:
    pool = RecordingPool(InProcessPool(FakeScorer))
    tune(make_config(task={"views": "fresh"}), pool)
    priorities = {work.body.kind: work.priority for work in pool.submitted}
    assert priorities == {
        "evaluation": Priority.EVALUATION,
        "pass": Priority.QUERY,
        "crops": Priority.PREFETCH,
    }


def test_works_have_ids_of_their_own_in_the_order_of_asking() -> None:
    pool = RecordingPool(InProcessPool(FakeScorer))
    tune(make_config(task={"views": "fresh"}), pool)
    tune(make_config(), pool)
    ids = [work.id for work in pool.submitted]
    assert ids == sorted(set(ids)), "over runs too"


@pytest.mark.parametrize("after", [0, 1, 4, 5, 17, 23, 101])
def test_interrupted_and_resumed_is_bit_for_bit_the_same(after: int) -> None:
    whole, events = tune(make_config())
    looks = itertools.count()
    first, head = tune(make_config(), interrupted=lambda: next(looks) >= after)
    assert first.reasons == {"interrupted": "on request"}
    assert not first.finished
    assert first.state.account.charged == 10 * first.state.optimizer.steps
    rest, tail = tune(make_config(), state=first.state)
    np.testing.assert_array_equal(rest.state.optimizer.w, whole.state.optimizer.w)
    assert without_time(head + tail) == without_time(events)
    assert rest.state.account.charged == 300
    assert rest.state.account.issued == 300 + rest.state.account.wasted


@pytest.mark.parametrize(
    ("optimizer", "size"),
    [({"method": "cma-es", "population": 20, "initial_std": 0.3}, 100), ({"method": "one-sided"}, 150_000)],
)
def test_the_cores_of_the_driver_do_not_matter(optimizer: dict[str, Any], size: int) -> None:
    """numpy divides matrix products and long sums among threads unless it is limited to one."""
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            state = RunState(OptimizerState(np.zeros(size)))
            config = make_config(optimizer=optimizer, budget={"steps": 10})
            found.append(tune(config, state=state)[0].state.optimizer.w)
    np.testing.assert_array_equal(*found)


def test_a_validation_that_was_lost_with_its_driver_is_made_at_its_own_step() -> None:
    """The checkpoint of a step is written before the validation that is due at that step is answered."""
    saved: list[RunState] = []
    config = make_config(output={"checkpoint_every_steps": 5})
    _, events = tune(config)
    Tuning(config, InProcessPool(FakeScorer), fresh(), lambda _: None, saved.append).run()
    state = saved[0]
    assert (state.optimizer.steps, state.validated_step) == (5, 0)
    _, tail = tune(config, state=state)
    validations = of_kind(events, ValidationEvent)
    assert [event.step for event in of_kind(tail, ValidationEvent)] == [event.step for event in validations[1:]]


def test_lost_pool_ends_the_run_with_its_state() -> None:
    outcome, _ = tune(make_config(), FailingPool(answers=18))
    assert outcome.reasons == {"pool": POOL_LOST}
    assert outcome.state.optimizer.steps == 3  # one validation and 17 of 20 pairs had been answered
    rest, _ = tune(make_config(), state=outcome.state)
    np.testing.assert_array_equal(rest.state.optimizer.w, tune(make_config())[0].state.optimizer.w)


def test_a_larger_budget_continues_where_a_smaller_one_ended() -> None:
    half, _ = tune(make_config(budget={"queries": 150}))
    rest, _ = tune(make_config(), state=half.state)
    np.testing.assert_array_equal(rest.state.optimizer.w, tune(make_config())[0].state.optimizer.w)


def test_other_budgets() -> None:
    outcome, _ = tune(make_config(budget={"steps": 7}))
    assert (outcome.state.optimizer.steps, list(outcome.reasons)) == (7, ["steps"])
    outcome, _ = tune(make_config(budget={"target_accuracy": 0.4}, optimizer={"step_size": 0.5}))
    assert list(outcome.reasons) == ["target_accuracy"]
    assert outcome.state.accuracy >= 0.4
    assert outcome.state.account.charged < 300
    ticks = itertools.count()
    outcome, _ = tune(make_config(budget={"queries": None, "seconds": 20}), clock=lambda: float(next(ticks)))
    assert list(outcome.reasons) == ["seconds"]
    assert 0 < outcome.state.optimizer.steps < 20


def test_seconds_count_over_resumes() -> None:
    outcome, _ = tune(make_config(budget={"queries": None, "seconds": 5}), state=replace(fresh(), seconds=5.0))
    assert outcome.state.optimizer.steps == 0


def test_nan_losses_are_counted_and_end_the_run_when_they_persist() -> None:
    outcome, events = tune(make_config(), InProcessPool(lambda: FakeScorer(nan_from=12)))
    assert outcome.finished
    assert "10 steps in a row" in outcome.reasons["nonfinite"]
    assert outcome.state.optimizer.steps == 13  # three steps with finite pairs, ten without
    assert outcome.state.nonfinite_results == 3 + 50
    assert np.isfinite(outcome.state.optimizer.w).all()
    assert of_kind(events, StepEvent)[2].nonfinite == 3


def test_a_fault_of_input_goes_through_and_the_state_is_saved() -> None:
    saved: list[RunState] = []
    pool = InProcessPool(lambda: FakeScorer(input_error_at=8))
    tuning = Tuning(make_config(), pool, fresh(), lambda _: None, saved.append)
    with pytest.raises(InputError, match=r"images/cat.png"):
        tuning.run()
    assert saved[-1].optimizer.steps == 1
    assert saved[-1].account == Account(issued=20, completed=10, charged=10, wasted=10)
    rest, _ = tune(make_config(), state=saved[-1])
    np.testing.assert_array_equal(rest.state.optimizer.w, tune(make_config())[0].state.optimizer.w)


def test_every_pair_is_asked_once() -> None:
    pool = RecordingPool(InProcessPool(FakeScorer))
    tune(make_config(), pool)
    assert [pair.index for one in pool.passes for pair in one.asks] == list(range(150))


def test_answers_to_what_was_asked_before_the_run_are_let_go() -> None:
    """A pool may still hold work that its driver abandoned, such as interrupted zero-shot tests."""
    pool = InProcessPool(FakeScorer)
    pool.submit([evaluation_work(), pair_work(3)])
    outcome, events = tune(make_config(), pool)
    straight, straight_events = tune(make_config())
    assert without_time(events) == without_time(straight_events)
    assert outcome.state.account == straight.state.account


OTHER_METHODS = [
    {"method": "one-sided", "learning_rate": 0.5},
    {"method": "cma-es", "population": 6, "fitness_batches": 2},
    {"method": "random-search"},
    {"method": "gradient", "learning_rate": 0.1},
]


@pytest.mark.parametrize("batches", ["shared", "own"])
@pytest.mark.parametrize("incumbent", ["best", "last"])
def test_a_generation_that_the_budget_cuts_short_is_asked_too(batches: str, incumbent: str) -> None:
    """If an individual is deployed: 25 generations of 12 queries, and 7 more, on any pool, resumed or not."""
    optimizer = {"method": "cma-es", "population": 6, "fitness_batches": 2, "batches": batches, "incumbent": incumbent}
    sections: dict[str, Any] = {"optimizer": optimizer, "budget": {"queries": 307}, "task": {"views": "fresh"}}
    pool, config = RecordingPool(InProcessPool(FakeScorer)), make_config(**sections)
    outcome, events = tune(config, pool)
    assert outcome.state.account == Account(issued=307, completed=307, charged=307)
    assert outcome.state.optimizer.steps == of_kind(events, StepEvent)[-1].step == 26
    assert isinstance(events[-1], ValidationEvent)
    asked = [one.asks[0] for one in pool.passes]
    assert asked[-1].batch == {"shared": 52, "own": 307}[batches]
    if incumbent == "last":
        np.testing.assert_array_equal(outcome.state.optimizer.w, asked[-1].w)
    looks = itertools.count()
    first, head = tune(config, interrupted=lambda: next(looks) >= 100)
    assert 0 < first.state.optimizer.steps < 26
    rest, tail = tune(config, ShuffledPool(4), state=first.state)
    np.testing.assert_array_equal(rest.state.optimizer.w, outcome.state.optimizer.w)
    np.testing.assert_equal(without_time(head + tail), without_time(events))
    longer, _ = tune(make_config(**sections | {"budget": {"queries": 306}}))
    assert longer.state.account.charged == 306


@pytest.mark.parametrize("optimizer", OTHER_METHODS, ids=lambda one: one["method"])
class TestEveryOtherMethod:
    def test_keeps_its_budget_and_learns(self, optimizer: dict[str, Any]) -> None:
        config = make_config(optimizer=optimizer, budget={"queries": 307})
        outcome, events = tune(config)
        per_step = config.optimizer.queries_per_step
        whole = 307 // per_step * per_step
        assert outcome.state.account == Account(issued=whole, completed=whole, charged=whole)
        assert outcome.state.optimizer.steps == 307 // per_step
        assert isinstance(events[-1], ValidationEvent)
        assert outcome.state.accuracy > 0.5

    @pytest.mark.parametrize("execution", [{}, {"pairs_per_pass": 4}, {"split": [2, 2]}], ids=str)
    def test_order_of_arrival_crops_and_passes_do_not_matter(
        self, optimizer: dict[str, Any], execution: dict[str, Any]
    ) -> None:
        straight, events = tune(make_config(optimizer=optimizer))
        config = make_config(optimizer=optimizer, execution=execution, task={"views": "fresh"})
        shuffled, shuffled_events = tune(config, SplitPool(ShuffledPool(5), config))
        np.testing.assert_allclose(shuffled.state.optimizer.w, straight.state.optimizer.w, rtol=1e-9)
        assert [e.queries for e in shuffled_events] == [e.queries for e in events]

    def test_interrupted_and_resumed_is_bit_for_bit_the_same(self, optimizer: dict[str, Any]) -> None:
        whole, events = tune(make_config(optimizer=optimizer))
        looks = itertools.count()
        first, head = tune(make_config(optimizer=optimizer), interrupted=lambda: next(looks) >= 100)
        rest, tail = tune(make_config(optimizer=optimizer), state=first.state)
        assert 0 < first.state.optimizer.steps < whole.state.optimizer.steps
        np.testing.assert_array_equal(rest.state.optimizer.w, whole.state.optimizer.w)
        np.testing.assert_equal(without_time(head + tail), without_time(events))
        assert rest.state.account.charged == whole.state.account.charged
