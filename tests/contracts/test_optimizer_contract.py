"""What every method must keep, whatever it asks."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.asking import Stepper, answer, options_of, quadratic
from zip_ray.optimizers import METHODS, NONFINITE_STEPS, MethodOptions, OptimizerState
from zip_ray.protocol.messages import AskResult
from zip_ray.runs.checkpoint import load_checkpoint, save_checkpoint
from zip_ray.tuning.state import RunState

SETTINGS = {
    "gauss-newton": {"round_queries": 14},
    "zip": {"step_size": 0.05},
    "spsa": {"step_size": 0.05},
    "spsa-gc": {"step_size": 0.05},
    "one-sided": {"learning_rate": 0.05},
    "cma-es": {"population": 6, "fitness_batches": 2},
    "random-search": {"step_std": 0.2},
    "gradient": {"learning_rate": 0.1},
}
IN_ROUNDS = [name for name in SETTINGS if options_of(name).rounds]
STEPS = 200


def test_every_method_is_here() -> None:
    assert SETTINGS.keys() == METHODS.keys()


@pytest.fixture(params=SETTINGS)
def options(request: pytest.FixtureRequest) -> MethodOptions:
    return options_of(request.param, **SETTINGS[request.param])


def make(options: MethodOptions, state: OptimizerState | None = None) -> Stepper:
    stepper = Stepper(options, np.zeros(6), seed=3, schedule_steps=STEPS)
    stepper.state = state or stepper.state
    return stepper


def assert_same(one: OptimizerState, other: OptimizerState) -> None:
    """Bit for bit."""
    np.testing.assert_array_equal(one.w, other.w)
    assert (one.steps, one.nonfinite_streak) == (other.steps, other.nonfinite_streak)
    assert one.memory.keys() == other.memory.keys()
    for name, tensor in one.memory.items():
        np.testing.assert_array_equal(tensor, other.memory[name])


def spoilt(result: AskResult, bad: float) -> AskResult:
    return replace(result, losses=(bad, *result.losses[1:]))


def test_descends_a_quadratic(options: MethodOptions) -> None:
    stepper = make(options)
    for _ in range(STEPS):
        stepper.do_step()
    assert quadratic(stepper.state.w) < 0.05 * quadratic(np.zeros(6))


def test_ask_and_tell_depend_on_their_arguments_alone(options: MethodOptions) -> None:
    """Asked twice, told twice, from older states and by another instance: always the same, and no state is changed."""
    straight, other = make(options), make(options)
    states = [straight.state]
    for _ in range(4):
        straight.do_step()
        states.append(straight.state)
    for state, after in [*pairwise(states), (states[1], states[2]), (states[1], states[2])]:
        before = OptimizerState(state.w.copy(), state.steps, state.nonfinite_streak, dict(state.memory))
        for stepper in (straight, other):
            stepper.state = state
            first, second = stepper.ask_step(), stepper.ask_step()
            for one, same in zip(first, second, strict=True):
                np.testing.assert_array_equal(one.w, same.w)
                assert replace(one, w=same.w) == same
            stepper.tell(second, [answer(ask) for ask in second])
            assert_same(stepper.state, after)
        assert_same(state, before)


def test_continues_from_its_checkpoint_bit_for_bit(options: MethodOptions, tmp_path: Path) -> None:
    whole, first = make(options), make(options)
    for _ in range(8):
        whole.do_step()
    for _ in range(5):
        first.do_step()
    first.ask_step()  # lost with the driver
    save_checkpoint(tmp_path / "c", RunState(first.state))
    second = make(options, load_checkpoint(tmp_path / "c").optimizer)
    assert_same(second.state, first.state)
    for _ in range(3):
        second.do_step()
    assert_same(second.state, whole.state)


def test_a_resume_right_after_a_hopeless_step_is_no_other(options: MethodOptions) -> None:
    whole, first = make(options), make(options)
    for stepper in (whole, first):
        stepper.do_step()
        stepper.do_step(loss=lambda _: float("nan"))
    second = make(options, first.state)
    for stepper in (whole, second):
        stepper.do_step()
        stepper.do_step()
    assert_same(second.state, whole.state)


def test_asks_of_a_step_are_alike_and_cost_what_is_said(options: MethodOptions) -> None:
    stepper, batches = make(options), []
    for step in (1, 2, 3):
        asks = stepper.ask_step()
        assert sum(ask.queries for ask in asks) == options.queries_per_step
        assert {(ask.step, ask.version, type(ask)) for ask in asks} == {(step, step - 1, type(asks[0]))}
        assert [ask.batch for ask in asks] == [stepper.optimizer.batch(ask.index) for ask in asks]
        batches += sorted({ask.batch for ask in asks})
        stepper.tell(asks, [answer(ask) for ask in asks])
    assert batches == list(range(1, 3 * options.batches_per_step + 1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_losses_are_left_out(options: MethodOptions, bad: float) -> None:
    stepper = make(options)
    asks = stepper.ask_step()
    results = [answer(ask) for ask in asks]
    results[-1] = spoilt(results[-1], bad)
    report = stepper.tell(asks, results)
    assert report.nonfinite == 1
    assert np.isfinite(stepper.state.w).all()
    assert not stepper.optimizer.stop(stepper.state)
    if len(results) > 1:
        assert np.isfinite(report.loss)
        assert stepper.state.nonfinite_streak == 0


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    stepper = make(options_of("gradient"))
    report = stepper.tell(stepper.ask_step(), [AskResult((1.0,), 0.5, np.full(6, np.nan))])
    assert report.nonfinite == 1
    np.testing.assert_array_equal(stepper.state.w, np.zeros(6))


@pytest.mark.parametrize("method", ["one-sided", "random-search"])
def test_without_the_loss_at_w_a_step_moves_nothing(method: str) -> None:
    stepper = make(options_of(method))
    asks = stepper.ask_step()
    first, *rest = (answer(ask) for ask in asks)
    stepper.tell(asks, [spoilt(first, np.nan), *rest])
    assert (stepper.state.steps, stepper.state.nonfinite_streak) == (1, 1)
    np.testing.assert_array_equal(stepper.state.w, np.zeros(6))


def test_persistent_nonfinite_losses_end_it_with_a_reason(options: MethodOptions) -> None:
    stepper = make(options)
    start = stepper.state.w
    for _ in range(NONFINITE_STEPS):
        assert not stepper.optimizer.stop(stepper.state)
        assert stepper.do_step(loss=lambda _: float("nan")).nonfinite == options.asks_per_step
    assert "10 steps in a row: lower optimizer." in stepper.optimizer.stop(stepper.state)["nonfinite"]
    np.testing.assert_array_equal(stepper.state.w, start)


def test_one_finite_step_ends_the_streak(options: MethodOptions) -> None:
    stepper = make(options)
    for _ in range(NONFINITE_STEPS - 1):
        stepper.do_step(loss=lambda _: float("inf"))
    stepper.do_step()
    stepper.do_step(loss=lambda _: float("inf"))
    assert not stepper.optimizer.stop(stepper.state)


@settings(max_examples=60)
@given(method=st.sampled_from(IN_ROUNDS), rounds=st.lists(st.sets(st.integers(0, 13), max_size=7), max_size=4))
def test_a_part_of_a_round_makes_a_step(method: str, rounds: list[set[int]]) -> None:
    """Whatever is late, up to half of it: the same step again, finite, and the last whole round goes down."""
    stepper, twin = (make(options_of(method, **SETTINGS[method])) for _ in range(2))
    for late in rounds:
        asks = [ask for place, ask in enumerate(stepper.ask_step()) if place not in late]
        before = stepper.state
        for one in (stepper, twin):
            one.state = before
            assert one.tell(asks, [answer(ask) for ask in asks]).nonfinite == 0
        assert_same(twin.state, stepper.state)
        assert np.isfinite(stepper.state.w).all()
        assert (stepper.state.steps, stepper.state.nonfinite_streak) == (before.steps + 1, 0)
    for _ in range(20):
        stepper.do_step()
    assert quadratic(stepper.state.w) < quadratic(np.zeros(6))


@settings(max_examples=20)
@given(w=st.lists(st.floats(-5, 5), min_size=2, max_size=8), method=st.sampled_from(sorted(METHODS)))
def test_a_step_keeps_the_shape_and_leaves_its_input_alone(w: list[float], method: str) -> None:
    start = np.array(w)
    stepper = Stepper(options_of(method, **SETTINGS[method]), start, seed=1, schedule_steps=STEPS)
    stepper.do_step()
    np.testing.assert_array_equal(start, np.array(w))
    assert stepper.state.w.shape == start.shape
