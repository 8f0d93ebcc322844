"""The built-in methods satisfy the contract."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.asking import Stepper, answer, make_optimizer, options_of, quadratic
from zip_ray.optimizers import METHODS, MethodOptions, Optimizer
from zip_ray.protocol.messages import AskResult
from zip_ray.testing import OptimizerContract
from zip_ray.testing.optimizer_contract import assert_same

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


def test_every_method_is_here() -> None:
    assert SETTINGS.keys() == METHODS.keys()


class TestBuiltIn(OptimizerContract):
    @pytest.fixture(autouse=True, params=SETTINGS)
    def one_of_them(self, request: pytest.FixtureRequest) -> None:
        self.options = options_of(request.param, **SETTINGS[request.param])

    def make_optimizer(self) -> Optimizer:
        return make_optimizer(self.options, seed=3, schedule_steps=self.steps)

    def test_its_options_say_what_a_step_costs(self) -> None:
        assert self.make_optimizer().queries_per_step == self.options.queries_per_step

    def test_what_to_do_about_losses_that_are_not_finite_names_an_option(self) -> None:
        assert self.make_optimizer().remedy.startswith("lower optimizer.")


def make(options: MethodOptions) -> Stepper:
    return Stepper(options, np.zeros(6), seed=3, schedule_steps=OptimizerContract.steps)


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
    stepper.tell(asks, [replace(first, losses=(np.nan,)), *rest])
    assert (stepper.state.steps, stepper.state.nonfinite_streak) == (1, 1)
    np.testing.assert_array_equal(stepper.state.w, np.zeros(6))


@settings(max_examples=60)
@given(method=st.sampled_from(IN_ROUNDS), rounds=st.lists(st.sets(st.integers(0, 13), max_size=7), max_size=4))
def test_a_part_of_a_round_makes_a_step(method: str, rounds: list[set[int]]) -> None:
    """With up to half of a round late, the step is reproducible and finite; the last whole round lowers the loss."""
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
    stepper = Stepper(options_of(method, **SETTINGS[method]), start, seed=1, schedule_steps=OptimizerContract.steps)
    stepper.do_step()
    np.testing.assert_array_equal(start, np.array(w))
    assert stepper.state.w.shape == start.shape
