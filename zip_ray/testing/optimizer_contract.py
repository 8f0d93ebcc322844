"""The contract of every method."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from zip_ray.optimizers.base import NONFINITE_STEPS, Optimizer, OptimizerState
from zip_ray.runs.checkpoint import load_checkpoint, save_checkpoint
from zip_ray.testing.stepper import Stepper, answer, quadratic
from zip_ray.tuning.state import RunState


class OptimizerContract:
    """Tests of a method, stepping on a quadratic of six parameters from 0."""

    steps = 200
    """Steps within which the loss falls to a twentieth."""

    def make_optimizer(self) -> Optimizer:
        """The method with some settings and a seed; identical at each call."""
        raise NotImplementedError

    def stepper(self, state: OptimizerState | None = None) -> Stepper:
        """A stepper at the start, or at a given state."""
        stepper = Stepper(self.make_optimizer(), np.zeros(6))
        stepper.state = state or stepper.state
        return stepper

    def test_it_descends_a_quadratic(self) -> None:
        stepper = self.stepper()
        for _ in range(self.steps):
            stepper.do_step()
        assert quadratic(stepper.state.w) < 0.05 * quadratic(np.zeros(6))

    def test_ask_and_tell_depend_on_their_arguments_alone(self) -> None:
        """Asked and told twice, from older states and another instance: always the same result; no state changes."""
        straight, other = self.stepper(), self.stepper()
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

    def test_it_continues_from_its_checkpoint_bit_for_bit(self, tmp_path: Path) -> None:
        whole, first = self.stepper(), self.stepper()
        for _ in range(8):
            whole.do_step()
        for _ in range(5):
            first.do_step()
        first.ask_step()  # these asks are lost with the driver
        save_checkpoint(tmp_path / "c", RunState(first.state))
        second = self.stepper(load_checkpoint(tmp_path / "c").optimizer)
        assert_same(second.state, first.state)
        for _ in range(3):
            second.do_step()
        assert_same(second.state, whole.state)

    def test_a_resume_right_after_a_hopeless_step_is_no_other(self) -> None:
        whole, first = self.stepper(), self.stepper()
        for stepper in (whole, first):
            stepper.do_step()
            stepper.do_step(loss=lambda _: math.nan)
        second = self.stepper(first.state)
        for stepper in (whole, second):
            stepper.do_step()
            stepper.do_step()
        assert_same(second.state, whole.state)

    def test_asks_of_a_step_are_alike_and_cost_what_is_said(self) -> None:
        stepper, batches = self.stepper(), list[int]()
        for step in (1, 2, 3):
            asks = stepper.ask_step()
            assert sum(ask.queries for ask in asks) == stepper.optimizer.queries_per_step
            assert {(ask.step, ask.version, type(ask)) for ask in asks} == {(step, step - 1, type(asks[0]))}
            assert [ask.batch for ask in asks] == [stepper.optimizer.batch(ask.index) for ask in asks]
            batches += sorted({ask.batch for ask in asks})
            stepper.tell(asks, [answer(ask) for ask in asks])
        assert batches == list(range(1, 3 * stepper.optimizer.batches_per_step + 1))

    def test_losses_that_are_not_finite_are_left_out(self) -> None:
        for bad in (math.nan, math.inf, -math.inf):
            stepper = self.stepper()
            asks = stepper.ask_step()
            results = [answer(ask) for ask in asks]
            results[-1] = replace(results[-1], losses=(bad, *results[-1].losses[1:]))
            report = stepper.tell(asks, results)
            assert report.nonfinite == 1
            assert np.isfinite(stepper.state.w).all()
            assert not stepper.optimizer.stop(stepper.state)
            if len(results) > 1:
                assert np.isfinite(report.loss)
                assert stepper.state.nonfinite_streak == 0

    def test_many_steps_without_a_finite_loss_end_it_with_a_reason(self) -> None:
        stepper = self.stepper()
        start = stepper.state.w
        for _ in range(NONFINITE_STEPS):
            assert not stepper.optimizer.stop(stepper.state)
            assert stepper.do_step(loss=lambda _: math.nan).nonfinite == stepper.optimizer.asks_per_step
        assert stepper.optimizer.remedy in stepper.optimizer.stop(stepper.state)["nonfinite"]
        np.testing.assert_array_equal(stepper.state.w, start)

    def test_one_finite_step_ends_the_streak(self) -> None:
        stepper = self.stepper()
        for _ in range(NONFINITE_STEPS - 1):
            stepper.do_step(loss=lambda _: math.inf)
        stepper.do_step()
        stepper.do_step(loss=lambda _: math.inf)
        assert not stepper.optimizer.stop(stepper.state)

    def test_a_step_keeps_the_shape_and_leaves_its_input_alone(self) -> None:
        for size in (2, 3, 8):
            start = np.linspace(-5.0, 5.0, size, dtype=np.float64)
            stepper = Stepper(self.make_optimizer(), start)
            stepper.do_step()
            np.testing.assert_array_equal(start, np.linspace(-5.0, 5.0, size, dtype=np.float64))
            assert stepper.state.w.shape == start.shape


def assert_same(one: OptimizerState, other: OptimizerState) -> None:
    """Assert that two states are equal bit for bit."""
    np.testing.assert_array_equal(one.w, other.w)
    assert (one.steps, one.nonfinite_streak) == (other.steps, other.nonfinite_streak)
    assert one.memory.keys() == other.memory.keys()
    for name, tensor in one.memory.items():
        np.testing.assert_array_equal(tensor, other.memory[name])
