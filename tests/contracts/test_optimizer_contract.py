"""What every method must keep, whatever it asks."""

import random
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zip_ray.config.UNKNOWN import SYNCHRONOUS, OptimizerConfig

from tests.support.asking import answer, ask_step, do_step, quadratic
from zip_ray.optimizers import METHODS, NONFINITE_STEPS, Optimizer, OptimizerState, make_optimizer
from zip_ray.protocol.messages import AskResult, GradientResult, PairResult, QueryResult
from zip_ray.runs.checkpoint import load_checkpoint, save_checkpoint
from zip_ray.tuning.state import RunState

SETTINGS = {
    "zip": {"a": 0.05},
    "spsa": {"a": 0.05},
    "spsa-gc": {"a": 0.05},
    "one-sided": {"learning_rate": 0.05},
    "cma-es": {"population": 6, "fitness_batches": 2},
    "random-search": {"sigma": 0.2},
    "gradient": {"learning_rate": 0.1},
}
STEPS = 200


def test_every_method_is_here() -> None:
    assert SETTINGS.keys() == METHODS.keys()


@pytest.fixture(params=SETTINGS)
def config(request: pytest.FixtureRequest) -> OptimizerConfig:
    return OptimizerConfig(method=request.param, **SETTINGS[request.param])


def make(config: OptimizerConfig, state: OptimizerState | None = None) -> Optimizer:
    return make_optimizer(config, state or OptimizerState(np.zeros(6)), seed=3, schedule_steps=STEPS)


def assert_same(one: OptimizerState, other: OptimizerState) -> None:
    """Bit for bit."""
    np.testing.assert_array_equal(one.w, other.w)
    assert replace(one, w=other.w, memory={}) == replace(other, memory={})
    assert one.memory.keys() == other.memory.keys()
    for name, tensor in one.memory.items():
        np.testing.assert_array_equal(tensor, other.memory[name])


def spoilt(result: AskResult, bad: float) -> AskResult:
    return replace(result, plus=bad) if isinstance(result, PairResult) else replace(result, loss=bad)


def test_descends_a_quadratic(config: OptimizerConfig) -> None:
    optimizer = make(config)
    for _ in range(STEPS):
        do_step(optimizer)
    assert quadratic(optimizer.state.w) < 0.05 * quadratic(np.zeros(6))


def test_order_of_arrival_does_not_matter(config: OptimizerConfig) -> None:
    straight, shuffled, shuffle = make(config), make(config), random.Random(1)
    for _ in range(6):
        np.testing.assert_equal(do_step(straight), do_step(shuffled, shuffle=shuffle))
    assert_same(straight.state, shuffled.state)


def test_goes_on_from_its_checkpoint_bit_for_bit(config: OptimizerConfig, tmp_path: Path) -> None:
    whole, first = make(config), make(config)
    for _ in range(8):
        do_step(whole)
    for _ in range(5):
        do_step(first)
    for ask in ask_step(first)[1:]:  # lost with the driver
        first.tell(answer(ask))
    save_checkpoint(tmp_path / "c", RunState(first.state))
    second = make(config, load_checkpoint(tmp_path / "c").optimizer)
    assert_same(second.state, first.state)
    for _ in range(3):
        do_step(second)
    assert_same(second.state, whole.state)


def test_a_resume_right_after_a_hopeless_step_is_no_other(config: OptimizerConfig) -> None:
    whole, first = make(config), make(config)
    for optimizer in (whole, first):
        do_step(optimizer)
        do_step(optimizer, loss=lambda _: float("nan"))
    second = make(config, first.state)
    for optimizer in (whole, second):
        do_step(optimizer)
        do_step(optimizer)
    assert_same(second.state, whole.state)


def test_asks_each_once_and_counts_its_queries(config: OptimizerConfig) -> None:
    optimizer, seen, batches = make(config), [], []
    for step in (1, 2, 3):
        left = optimizer.queries_per_step
        asks = []
        while True:
            assert optimizer.queries_to_ask == (left or optimizer.queries_per_step)
            batch = optimizer.next_batch
            ask = optimizer.ask()
            if ask is None:
                break
            left -= ask.queries
            assert (ask.step, ask.version, ask.batch) == (step, step - 1, batch)
            asks.append(ask)
        assert left == 0
        assert len({type(ask) for ask in asks}) == 1
        seen += [ask.id for ask in asks]
        batches += sorted({ask.batch for ask in asks})
        for ask in asks:
            optimizer.tell(answer(ask))
    assert seen == list(range(3 * config.asks_per_step))
    assert batches == list(range(1, 3 * config.batches_per_step + 1))


def test_refuses_what_it_does_not_await(config: OptimizerConfig) -> None:
    optimizer = make(config)
    ask = optimizer.ask()
    assert ask is not None
    optimizer.tell(answer(ask))
    for stranger in (answer(ask), QueryResult(99, 1, 1)):
        with pytest.raises(ValueError, match="not awaited"):
            optimizer.tell(stranger)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_losses_are_left_out(config: OptimizerConfig, bad: float) -> None:
    optimizer = make(config)
    results = [answer(ask) for ask in ask_step(optimizer)]
    results[-1] = spoilt(results[-1], bad)
    report = [optimizer.tell(result) for result in results][-1]
    assert report is not None
    assert report.nonfinite == 1
    assert np.isfinite(optimizer.state.w).all()
    assert not optimizer.stop()
    if len(results) > 1:
        assert np.isfinite(report.loss)
        assert optimizer.state.nonfinite_streak == 0


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    optimizer = make(OptimizerConfig(method="gradient"))
    ask = optimizer.ask()
    assert ask is not None
    report = optimizer.tell(GradientResult(ask.id, 1.0, 0.5, np.full(6, np.nan)))
    assert report is not None
    assert report.nonfinite == 1
    np.testing.assert_array_equal(optimizer.state.w, np.zeros(6))


@pytest.mark.parametrize("method", ["one-sided", "random-search"])
def test_without_the_loss_at_w_a_step_moves_nothing(method: str) -> None:
    optimizer = make(OptimizerConfig(method=method))
    first, *rest = (answer(ask) for ask in ask_step(optimizer))
    for result in (*rest, spoilt(first, np.nan)):
        optimizer.tell(result)
    assert (optimizer.state.steps, optimizer.state.nonfinite_streak) == (1, 1)
    np.testing.assert_array_equal(optimizer.state.w, np.zeros(6))


def test_persistent_nonfinite_losses_end_it_with_a_reason(config: OptimizerConfig) -> None:
    optimizer = make(config)
    start = optimizer.state.w
    for _ in range(NONFINITE_STEPS):
        assert not optimizer.stop()
        assert do_step(optimizer, loss=lambda _: float("nan")).nonfinite == config.asks_per_step
    assert "10 steps in a row: lower optimizer." in optimizer.stop()["nonfinite"]
    np.testing.assert_array_equal(optimizer.state.w, start)


def test_one_finite_step_ends_the_streak(config: OptimizerConfig) -> None:
    optimizer = make(config)
    for _ in range(NONFINITE_STEPS - 1):
        do_step(optimizer, loss=lambda _: float("inf"))
    do_step(optimizer)
    do_step(optimizer, loss=lambda _: float("inf"))
    assert not optimizer.stop()


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), in_flight=st.integers(1, 12), method=st.sampled_from(sorted(METHODS)))
def test_asynchronously_each_answer_counts_once(seed: int, in_flight: int, method: str) -> None:
    if method in SYNCHRONOUS:
        with pytest.raises(ValueError, match=f"{method} compares the queries of a step: set mode to sync"):
            OptimizerConfig(method=method, mode="async")
        return
    config = OptimizerConfig(method=method, mode="async", in_flight=in_flight, **SETTINGS[method])
    optimizer, draw, out = make(config), random.Random(seed), []
    for told in range(1, 41):
        out += list(islice(iter(optimizer.ask, None), None))
        assert len(out) == in_flight
        report = optimizer.tell(answer(out.pop(draw.randrange(len(out)))))
        assert (report is not None) == (told % config.asks_per_step == 0)
    assert optimizer.state.steps == 40 // config.asks_per_step
