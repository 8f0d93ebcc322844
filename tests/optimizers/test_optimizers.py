"""Optimisers against closed forms and a hand-written dense ZIP step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.asking import Stepper, answer, options_of, quadratic
from zip_ray.optimizers.spsa import ZipOptions
from zip_ray.protocol.messages import Ask, AskResult, Perturbation
from zip_ray.protocol.perturbations import perturbation
from zip_ray.protocol.random_keys import Stream, generator


def test_published_schedule_at_the_first_and_the_last_step() -> None:
    """a / (k + 1)^0.4 and c / k^0.1, worked out by hand: 2^0.4 = 1.3195079, 501^0.4 = 12.0208, 500^0.1 = 1.86170."""

    def gains(k: int) -> tuple[float, float]:
        """a_k and c_k, from a step of two parameters that is not clipped: its estimate is the loss's slope, (1, 1)."""
        stepper = Stepper(options_of(pairs_per_step=1, clip_norm=1e6), np.zeros(1), seed=1)
        stepper.state = stepper.state._replace(steps=k - 1)
        ((pair,), before) = stepper.ask_step(), stepper.state.w
        stepper.do_step(loss=lambda w: float(w.sum()))
        return float((before - stepper.state.w)[0]), pair.scale

    assert gains(1) == (pytest.approx(0.0075786, rel=1e-4), 0.01)
    step_size, scale = 0.01 / np.exp(0.4 * np.log(501)), 0.01 / np.exp(0.1 * np.log(500))
    assert gains(500) == (pytest.approx(step_size, rel=1e-6), pytest.approx(scale, rel=1e-12))


def test_defaults_are_the_published_setting() -> None:
    o = ZipOptions()
    assert (o.step_size, o.step_size_decay, o.step_size_offset) == (0.01, 0.4, 1.0)
    assert (o.perturbation, o.perturbation_scale, o.perturbation_decay) == ("segmented-uniform", 0.01, 0.1)
    assert (o.pairs_per_step, o.clip_norm) == (5, "intrinsic")


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


@pytest.mark.parametrize(("method", "slope"), [("zip", 0.01), ("zip", 1e4), ("spsa", 1e4)])
def test_whole_step_equals_a_dense_computation(method: str, slope: float) -> None:
    """SPSA takes the same step as ZIP, without clipping."""
    d, k_pairs = 30, 5
    w = np.random.default_rng(1).standard_normal(d)

    def loss(x: np.ndarray) -> float:
        return slope * quadratic(x)

    stepper = Stepper(options_of(method), w, seed=4)
    report = stepper.do_step(loss)

    gradient = np.zeros(d)
    for j in range(k_pairs):
        z = perturbation(Perturbation("segmented-uniform", 4, 1, j), d)
        gradient += (loss(w + 0.01 * z) - loss(w - 0.01 * z)) / (2 * 0.01) * (1 / z)
    gradient /= k_pairs
    norm = np.linalg.norm(gradient)
    clipped = method == "zip" and norm >= np.sqrt(d)
    applied = gradient * np.sqrt(d) / norm if clipped else gradient
    np.testing.assert_allclose(stepper.state.w, w - 0.01 / 2**0.4 * applied, rtol=1e-12)
    assert report.gradient_norm == pytest.approx(norm)
    assert (norm >= np.sqrt(d)) == (slope > 1)
    assert report.clipped == clipped


@pytest.mark.parametrize(("factor", "clipped"), [(1 - 1e-9, False), (1 + 1e-9, True)])
def test_clips_at_exactly_the_square_root_of_the_dimension(factor: float, clipped: bool) -> None:
    """With random signs, one pair and L linear along z, ||g|| = |slope| sqrt(d) with slope = difference / (2 c)."""
    stepper = Stepper(options_of(perturbation="random-sign", pairs_per_step=1), np.zeros(16), seed=1)
    (pair,) = stepper.ask_step()
    report = stepper.tell([pair], [AskResult((2 * pair.scale * factor, 0.0), 1.0)])
    assert report.clipped is clipped
    assert np.linalg.norm(stepper.state.w) == pytest.approx(0.01 / 2**0.4 * 4, rel=1e-6)


def test_momentum_variant_follows_the_released_code() -> None:
    plain = Stepper(options_of("spsa"), np.zeros(3), seed=2)
    heavy = Stepper(options_of("spsa-gc", momentum=0.8), np.zeros(3), seed=2)

    def linear(x: np.ndarray) -> float:  # the estimates do not depend on where they are taken
        return float(x @ np.array([1.0, -2.0, 0.5]))

    w, m = np.zeros(3), np.zeros(3)
    for k in range(1, 6):
        before = plain.state.w
        plain.do_step(linear)
        g = (before - plain.state.w) / (0.01 / (k + 1) ** 0.4)
        m = 0.8 * m + g
        w = w - 0.01 / (k + 1) ** 0.4 * (g + 0.8 * m)
        heavy.do_step(linear)
        np.testing.assert_allclose(heavy.state.w, w, rtol=1e-9)


def test_a_fixed_threshold_clips_there() -> None:
    start = np.zeros(6)
    free, clipped = (Stepper(options_of(**kind), start, seed=1) for kind in ({"method": "spsa"}, {"clip_norm": 0.25}))
    report = clipped.do_step()
    free.do_step()
    assert report.clipped
    np.testing.assert_allclose(clipped.state.w, 0.25 / report.gradient_norm * free.state.w, rtol=1e-12)
    assert not Stepper(options_of(clip_norm=1e3), start, seed=1).do_step().clipped


def normals(seed: int, step: int, index: int, size: int) -> np.ndarray:
    return generator(seed, Stream.DIRECTION, step, index).standard_normal(size)


def test_one_sided_steps_equal_a_dense_computation() -> None:
    """BAR: d u (L(w + beta u) - L(w)) / beta averaged, the rate falling to 0.005 at step 8 by a power of 0.9."""
    w = np.random.default_rng(1).standard_normal(6)
    optimizer = Stepper(options_of("one-sided", points=3, distance=0.1, learning_rate=0.5), w, seed=4, schedule_steps=8)
    for step in (1, 2, 3):
        gradient = np.zeros(6)
        for index in (1, 2, 3):
            z = normals(4, step, index, 6)
            u = z / np.linalg.norm(z)
            gradient += 6 * u * (quadratic(w + 0.1 * u) - quadratic(w)) / 0.1 / 3
        report = optimizer.do_step()
        w = w - ((0.5 - 0.005) * (1 - step / 8) ** 0.9 + 0.005) * gradient  # released: the first step counts
        np.testing.assert_allclose(optimizer.state.w, w, rtol=1e-9)
        assert report.gradient_norm == pytest.approx(np.linalg.norm(gradient))


def test_random_search_moves_to_the_best_point_if_it_is_better() -> None:
    optimizer = Stepper(options_of("random-search", step_std=0.4), np.zeros(6), seed=2)
    w, stayed = np.zeros(6), 0
    for step in range(1, 30):
        best = min((w + 0.4 * normals(2, step, index, 6) for index in range(1, 6)), key=quadratic)
        stayed += quadratic(best) >= quadratic(w)
        w = best if quadratic(best) < quadratic(w) else w
        optimizer.do_step()
        np.testing.assert_allclose(optimizer.state.w, w, rtol=1e-12)
    assert 0 < stayed < 29


def test_gradient_descent_is_adam_on_a_cosine() -> None:
    optimizer = Stepper(options_of("gradient", learning_rate=0.1), np.zeros(6), seed=1, schedule_steps=10)
    w, mean, square = np.zeros(6), np.zeros(6), np.zeros(6)
    for k in range(1, 11):
        g = np.arange(1, 7) * (w - 1)
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
        adam = (mean / (1 - 0.9**k)) / (np.sqrt(square / (1 - 0.999**k)) + 1e-8)
        w = w - 0.1 * 0.5 * (1 + np.cos(np.pi * (k - 1) / 10)) * adam
        optimizer.do_step()
        np.testing.assert_allclose(optimizer.state.w, w, rtol=1e-9)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_the_mean_of_cma_es_is_the_weighted_one_of_the_better_half(covariance: str) -> None:
    """m <- sum_i w_i x_(i), w_i proportional to ln((P + 1) / 2) - ln i over the best P / 2 (Hansen 2016)."""
    options = options_of("cma-es", population=8, fitness_batches=2, covariance=covariance)
    optimizer = Stepper(options, np.zeros(6), seed=3)
    weights = np.log(4.5) - np.log(np.arange(1, 5))
    for generation in range(5):
        asks = optimizer.ask_step()
        assert [ask.batch for ask in asks] == [2 * generation + 1] * 8 + [2 * generation + 2] * 8
        for first, second in zip(asks[:8], asks[8:], strict=True):
            np.testing.assert_array_equal(first.w, second.w)
        order = np.argsort([quadratic(ask.w) for ask in asks[:8]])[:4]
        losses = [quadratic(ask.w) + (100 if ask.batch % 2 else -100) for ask in asks]
        optimizer.tell(asks, [AskResult((loss,), 0.5) for loss in losses])  # the batches differ, their mean does not
        mean = weights / weights.sum() @ np.stack([asks[i].w for i in order])
        np.testing.assert_allclose(optimizer.state.w, mean, rtol=1e-9)


def noise(ask: Ask) -> float:
    """A loss that depends on the mini-batch: an individual looks better on some mini-batches than on others."""
    return quadratic(ask.w) + 3 * float(np.sin(7.0 * ask.batch))


@pytest.mark.parametrize("batches", ["shared", "own"])
def test_the_best_individual_of_cma_es_has_the_lowest_running_mean_of_all_generations(batches: str) -> None:
    """As in BPT-VLM's release: over the first, the first two, ... mini-batches of its epoch; also after a resume."""
    options = options_of("cma-es", population=6, fitness_batches=3, incumbent="best", batches=batches)
    optimizer = Stepper(options, np.zeros(6), seed=3)
    seen: list[tuple[float, list[float]]] = []
    for _ in range(6):
        asks = optimizer.ask_step()
        by_individual: dict[tuple[float, ...], list[float]] = {}
        for ask in asks:
            by_individual.setdefault(tuple(ask.w), []).append(noise(ask))
        assert [len(losses) for losses in by_individual.values()] == [3] * 6
        seen += [(np.mean(losses[:k]), list(w)) for w, losses in by_individual.items() for k in (1, 2, 3)]
        optimizer.tell(asks, [AskResult((noise(ask),), 0.5) for ask in asks])
        assert list(optimizer.state.w) == min(seen)[1]
        resumed = Stepper(options, np.zeros(6), seed=3)
        resumed.state, optimizer = optimizer.state, resumed
    assert len({tuple(w) for _, w in seen}) == 36


def test_individuals_of_cma_es_may_have_mini_batches_of_their_own() -> None:
    """Each individual has its own epoch, one after another; the search goes where shared mini-batches would lead it."""
    settings = {"population": 6, "fitness_batches": 3}
    own = Stepper(options_of("cma-es", batches="own", **settings), np.zeros(6), seed=3)
    shared = Stepper(options_of("cma-es", **settings), np.zeros(6), seed=3)
    for generation in range(4):
        asks, others = own.ask_step(), shared.ask_step()
        assert [ask.batch for ask in asks] == list(range(18 * generation + 1, 18 * generation + 19))
        for place, ask in enumerate(asks):
            np.testing.assert_array_equal(ask.w, others[place // 3].w)
        for stepper, of_step in ((own, asks), (shared, others)):
            stepper.tell(of_step, [answer(ask) for ask in of_step])
        np.testing.assert_allclose(own.state.w, shared.state.w, rtol=1e-9)


@pytest.mark.parametrize("batches", ["shared", "own"])
def test_the_last_individual_of_cma_es_is_the_one_asked_last(batches: str) -> None:
    stepper = Stepper(options_of("cma-es", population=6, incumbent="last", batches=batches), np.zeros(6), seed=3)
    for _ in range(3):
        asks = stepper.ask_step()
        stepper.tell(asks, [answer(ask) for ask in asks])
        np.testing.assert_array_equal(stepper.state.w, asks[-1].w)


def test_cma_es_starts_with_sigma_and_leaves_the_global_generator_alone() -> None:
    before = np.random.get_state()[1].copy()
    stepper = Stepper(options_of("cma-es", population=200, initial_std=0.7), np.ones(20), seed=1)
    points = np.stack([ask.w for ask in stepper.ask_step()])
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert points.mean() == pytest.approx(1, abs=0.05)
    assert points.std() == pytest.approx(0.7, rel=0.05)
