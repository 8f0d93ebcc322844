"""Optimisers against closed forms and a hand-written dense ZIP step; what every method must keep."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zip_ray.config import OptimizerConfig
from zip_ray.optimizers import (
    METHODS,
    NONFINITE_STEPS,
    Gains,
    Optimizer,
    OptimizerState,
    StepReport,
    make_optimizer,
    perturbation,
)
from zip_ray.work import Pair, PairResult, Perturbation

PUBLISHED = OptimizerConfig()


def quadratic(w: np.ndarray) -> float:
    return float(0.5 * np.sum(np.arange(1, w.size + 1) * (w - 1) ** 2))


def answer(pair: Pair, loss=quadratic) -> PairResult:
    z = pair.c * perturbation(pair.perturbation, pair.w.size)
    return PairResult(pair.id, loss(pair.w + z), loss(pair.w - z), accuracy=0.5)


def ask_step(optimizer: Optimizer) -> list[Pair]:
    pairs = []
    while (pair := optimizer.ask()) is not None:
        pairs.append(pair)
    return pairs


def do_step(optimizer: Optimizer, order=None, loss=quadratic) -> StepReport:
    pairs = ask_step(optimizer)
    reports = [optimizer.tell(answer(pairs[i], loss)) for i in (order or range(len(pairs)))]
    assert all(report is None for report in reports[:-1])
    assert reports[-1] is not None
    return reports[-1]


def test_published_schedule_at_the_first_and_the_last_step() -> None:
    """a / (k + 1)^0.4 and c / k^0.1, worked out by hand: 2^0.4 = 1.3195079, 501^0.4 = 12.0208, 500^0.1 = 1.86170."""
    gains = Gains(a=0.01, c=0.01, alpha=0.4, gamma=0.1, offset=1.0)
    assert gains.step_size(1) == pytest.approx(0.0075786, rel=1e-4)
    assert gains.scale(1) == 0.01
    assert gains.step_size(500) == pytest.approx(0.01 / np.exp(0.4 * np.log(501)), rel=1e-12)
    assert gains.scale(500) == pytest.approx(0.01 / np.exp(0.1 * np.log(500)), rel=1e-12)


def test_defaults_are_the_published_setting() -> None:
    c = PUBLISHED
    assert (c.offset, c.c, c.a, c.alpha, c.gamma, c.pairs_per_step) == (1.0, 0.01, 0.01, 0.4, 0.1, 5)
    assert (c.method, c.perturbation) == ("zip", "segmented-uniform")


@pytest.mark.parametrize(("law", "second_moment"), [("segmented-uniform", 7 / 12), ("random-sign", 1.0)])
def test_perturbation_laws(law: str, second_moment: float) -> None:
    z = perturbation(Perturbation(law, 1, 2, 3), 200_000)
    assert np.abs(z).min() >= (0.5 if law == "segmented-uniform" else 1)
    assert np.abs(z).max() <= 1
    assert z.mean() == pytest.approx(0, abs=0.01)
    assert (z**2).mean() == pytest.approx(second_moment, rel=0.01)


@given(st.integers(0, 2**40), st.integers(1, 10**6), st.integers(0, 100))
def test_perturbation_depends_on_its_key_alone(seed: int, step: int, index: int) -> None:
    key = Perturbation("segmented-uniform", seed, step, index)
    np.testing.assert_array_equal(perturbation(key, 40), perturbation(key, 40))
    for other in (Perturbation(key.law, seed + 1, step, index), Perturbation(key.law, seed, step, index + 1)):
        assert (perturbation(other, 40) != perturbation(key, 40)).any()


@pytest.mark.parametrize("slope", [0.01, 1e4], ids=["unclipped", "clipped"])
def test_whole_zip_step_equals_a_dense_computation(slope: float) -> None:
    d, k_pairs = 30, 5
    w = np.random.default_rng(1).standard_normal(d)

    def loss(x: np.ndarray) -> float:
        return slope * quadratic(x)

    optimizer = make_optimizer(PUBLISHED, OptimizerState(w), seed=4)
    report = do_step(optimizer, loss=loss)

    gradient = np.zeros(d)
    for j in range(k_pairs):
        z = perturbation(Perturbation("segmented-uniform", 4, 1, j), d)
        gradient += (loss(w + 0.01 * z) - loss(w - 0.01 * z)) / (2 * 0.01) * (1 / z)
    gradient /= k_pairs
    norm = np.linalg.norm(gradient)
    clipped = gradient * np.sqrt(d) / norm if norm >= np.sqrt(d) else gradient
    np.testing.assert_allclose(optimizer.state.w, w - 0.01 / 2**0.4 * clipped, rtol=1e-12)
    assert report.gradient_norm == pytest.approx(norm)
    assert report.clipped == (norm >= np.sqrt(d)) == (slope > 1)


@pytest.mark.parametrize(("factor", "clipped"), [(1 - 1e-9, False), (1 + 1e-9, True)])
def test_clips_at_exactly_the_square_root_of_the_dimension(factor: float, clipped: bool) -> None:
    """With random signs, one pair and L linear along z, ||g|| = |slope| sqrt(d) with slope = difference / (2 c)."""
    config = OptimizerConfig(perturbation="random-sign", pairs_per_step=1)
    optimizer = make_optimizer(config, OptimizerState(np.zeros(16)), seed=1)
    pair = optimizer.ask()
    assert pair is not None
    report = optimizer.tell(PairResult(pair.id, plus=2 * pair.c * factor, minus=0.0, accuracy=1))
    assert report is not None
    assert report.clipped is clipped
    assert np.linalg.norm(optimizer.state.w) == pytest.approx(0.01 / 2**0.4 * 4, rel=1e-6)


def test_momentum_variant_follows_the_released_code() -> None:
    config = OptimizerConfig(method="spsa-gc", momentum=0.8)
    plain = make_optimizer(OptimizerConfig(method="spsa"), OptimizerState(np.zeros(3)), seed=2)
    heavy = make_optimizer(config, OptimizerState(np.zeros(3)), seed=2)

    def linear(x: np.ndarray) -> float:  # its estimates do not depend on where they are taken
        return float(x @ np.array([1.0, -2.0, 0.5]))

    w, m = np.zeros(3), np.zeros(3)
    for k in range(1, 6):
        before = plain.state.w
        do_step(plain, loss=linear)
        g = (before - plain.state.w) / (0.01 / (k + 1) ** 0.4)
        m = 0.8 * m + g
        w = w - 0.01 / (k + 1) ** 0.4 * (g + 0.8 * m)
        do_step(heavy, loss=linear)
        np.testing.assert_allclose(heavy.state.w, w, rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
class TestEveryMethod:
    def make(self, method: str, **config) -> Optimizer:
        return make_optimizer(OptimizerConfig(method=method, **config), OptimizerState(np.zeros(6)), seed=3)

    def test_descends_a_quadratic(self, method: str) -> None:
        optimizer = self.make(method, a=0.05)
        for _ in range(200):
            do_step(optimizer)
        assert quadratic(optimizer.state.w) < 0.05 * quadratic(np.zeros(6))

    @settings(max_examples=20)
    @given(order=st.permutations(range(5)))
    def test_order_of_arrival_does_not_matter(self, method: str, order: list[int]) -> None:
        straight, shuffled = self.make(method), self.make(method)
        for _ in range(3):
            assert do_step(straight) == do_step(shuffled, order)
        np.testing.assert_array_equal(straight.state.w, shuffled.state.w)

    def test_goes_on_from_its_state_bit_for_bit(self, method: str) -> None:
        whole, first = self.make(method), self.make(method)
        for _ in range(6):
            do_step(whole)
        for _ in range(3):
            do_step(first)
        second = make_optimizer(OptimizerConfig(method=method), first.state, seed=3)
        for _ in range(3):
            do_step(second)
        np.testing.assert_array_equal(second.state.w, whole.state.w)
        for name, tensor in whole.state.memory.items():
            np.testing.assert_array_equal(second.state.memory[name], tensor)

    def test_asks_each_pair_once_on_one_mini_batch(self, method: str) -> None:
        optimizer = self.make(method)
        do_step(optimizer)
        pairs = ask_step(optimizer)
        assert [pair.id for pair in pairs] == [5, 6, 7, 8, 9]
        assert {(pair.step, pair.batch, pair.version) for pair in pairs} == {(2, 2, 1)}
        assert optimizer.ask() is None

    def test_refuses_what_it_does_not_await(self, method: str) -> None:
        optimizer = self.make(method)
        pair = optimizer.ask()
        assert pair is not None
        optimizer.tell(answer(pair))
        for stranger in (answer(pair), PairResult(3, 1, 1, 1), PairResult(99, 1, 1, 1)):
            with pytest.raises(ValueError, match="not awaited"):
                optimizer.tell(stranger)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_nonfinite_pairs_are_left_out(self, method: str, bad: float) -> None:
        optimizer = self.make(method)
        pairs = ask_step(optimizer)
        results = [answer(pair) for pair in pairs]
        results[2] = PairResult(pairs[2].id, bad, 1.0, 0.0)
        report = [optimizer.tell(result) for result in results][-1]
        assert report is not None
        assert report.nonfinite == 1
        assert np.isfinite(optimizer.state.w).all()
        assert np.isfinite(report.loss)
        assert not optimizer.stop()

    def test_persistent_nonfinite_losses_end_it_with_a_reason(self, method: str) -> None:
        optimizer = self.make(method)
        start = optimizer.state.w
        for _ in range(NONFINITE_STEPS):
            assert not optimizer.stop()
            report = do_step(optimizer, loss=lambda _: float("nan"))
            assert report.nonfinite == 5
        assert "10 steps in a row" in optimizer.stop()["nonfinite"]
        np.testing.assert_array_equal(optimizer.state.w, start)

    def test_one_finite_step_ends_the_streak(self, method: str) -> None:
        optimizer = self.make(method)
        for _ in range(NONFINITE_STEPS - 1):
            do_step(optimizer, loss=lambda _: float("inf"))
        do_step(optimizer)
        do_step(optimizer, loss=lambda _: float("inf"))
        assert not optimizer.stop()
