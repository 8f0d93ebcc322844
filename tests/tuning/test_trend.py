"""A run whose loss does not move says so, once; any other says nothing."""

import numpy as np
import pytest

from tests.support.fakes import FakeScorer
from tests.support.loop import Halt, make_config, of_kind, tune, without_time
from zip_ray.pool.in_process import InProcessPool
from zip_ray.tuning.events import StallEvent, StepEvent
from zip_ray.tuning.trend import Trend, judged_after

BUDGET = {"queries": 800}


def trend_of(losses: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Trend:
    trend = Trend()
    for step, loss in enumerate(losses, start=1):
        trend = trend.after(step, float(loss))
    return trend


def test_change_and_error_are_those_of_ordinary_least_squares() -> None:
    losses = 2 - 0.01 * np.arange(30) + 0.1 * np.random.default_rng(1).standard_normal(30)
    (slope, _), covariance = np.polyfit(np.arange(30), losses, 1, cov=True)
    trend = trend_of(losses)
    assert trend.change == pytest.approx(29 * slope, rel=1e-12)
    assert trend.error == pytest.approx(29 * np.sqrt(covariance[0, 0]), rel=1e-12)


@pytest.mark.parametrize(
    ("fall", "noise", "moved"), [(0.00006, 0.0, False), (0.02, 0.0, True), (0.02, 0.1, False), (0.5, 0.1, True)]
)
def test_moves_where_the_change_is_above_noise_and_a_thousandth(fall: float, noise: float, moved: bool) -> None:
    alternating = noise * np.resize([1.0, -1.0, -1.0, 1.0], 48)
    assert trend_of(1.94 - np.linspace(0, fall, 48) + alternating).moved is moved


def test_a_loss_that_is_not_finite_is_left_out() -> None:
    assert Trend().after(1, 2.0).after(2, float("nan")) == Trend().after(1, 2.0)


def test_judged_after_500_queries_and_20_steps() -> None:
    assert [judged_after(queries) for queries in (2, 10, 52, 128)] == [250, 50, 20, 20]


def test_says_once_that_the_loss_does_not_move_and_what_to_do() -> None:
    _, events = tune(make_config(optimizer={"step_size": 1e-9}, budget=BUDGET))
    (stall,) = of_kind(events, StallEvent)
    assert (stall.step, stall.queries, stall.steps) == (50, 500, 50)
    losses = np.array([step.loss for step in of_kind(events, StepEvent)[:50]])
    assert stall.change == pytest.approx(49 * np.polyfit(np.arange(50), losses, 1)[0], abs=1e-12)
    assert "optimizer.step_size" in stall.remedy
    assert "gauss-newton" in stall.remedy


def test_a_run_that_moves_says_nothing() -> None:
    _, events = tune(make_config(optimizer={"step_size": 0.5}, budget=BUDGET))
    assert not of_kind(events, StallEvent)


@pytest.mark.parametrize("looks", [100, 300])
def test_a_resumed_run_says_it_at_the_same_step_and_not_again(looks: int) -> None:
    config = make_config(optimizer={"step_size": 1e-9}, budget=BUDGET)
    _, whole = tune(config)
    cut, before = tune(config, interrupted=Halt([looks]))
    assert not cut.finished
    _, after = tune(config, InProcessPool(FakeScorer), cut.state)
    stalls = without_time([*of_kind(before, StallEvent), *of_kind(after, StallEvent)])
    assert stalls == without_time(of_kind(whole, StallEvent))
    assert len(stalls) == 1
