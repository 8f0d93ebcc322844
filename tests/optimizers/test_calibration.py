"""Gains that a run chooses itself (`auto`), against closed forms."""

import numpy as np
import pytest

from tests.support.asking import Stepper, make_optimizer, options_of
from zip_ray.optimizers import Optimizer, calibration
from zip_ray.optimizers.calibration import DIRECTIONS, PAIRS, SCALES, Trial, slopes
from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.messages import Perturbation
from zip_ray.protocol.perturbations import perturbation
from zip_ray.testing import OptimizerContract

AUTO = {"step_size": "auto", "perturbation_scale": "auto"}
SIZE = 40
SLOPE = np.random.default_rng(1).standard_normal(SIZE)


def linear(w: Float64) -> float:
    return float(SLOPE @ w)


def bowl(w: Float64) -> float:
    """Nearly linear in a small ball, bounded below."""
    return float(np.log(np.cosh(w - SLOPE)).sum())


def calibrated(method: str = "spsa", loss: object = bowl, size: int = SIZE, **settings: object) -> Stepper:
    """A stepper just before its first update with the chosen gains."""
    stepper = Stepper(options_of(method, **{**AUTO, **settings}), np.zeros(size), seed=7)
    while not stepper.optimizer.chosen(stepper.state):
        stepper.do_step(loss)
    return stepper


def chosen(stepper: Stepper) -> tuple[float, float]:
    found = stepper.optimizer.chosen(stepper.state)
    return found["step_size"], found["perturbation_scale"]


def trials(quotient: object, loss: object = lambda _: 1.0) -> list[Trial]:
    """A ladder whose quotients and losses are functions of the scale."""
    return [Trial(c, j, (j + 1) * quotient(c), loss(c)) for c in SCALES for j in range(DIRECTIONS)]


class TestChosenGains(OptimizerContract):
    @pytest.fixture(autouse=True, params=["zip", "spsa", "spsa-gc"])
    def one_of_them(self, request: pytest.FixtureRequest) -> None:
        self.method = request.param

    def make_optimizer(self) -> Optimizer:
        return make_optimizer(options_of(self.method, **AUTO), seed=3)

    def test_asks_of_a_step_are_alike_and_cost_what_is_said(self) -> None:
        """The whole ladder uses one mini-batch, so its quotients differ only by the scale."""
        stepper, batches = self.stepper(), []
        for _ in range(10):
            asks = stepper.ask_step()
            assert [ask.batch for ask in asks] == [stepper.optimizer.batch(ask.index) for ask in asks]
            batches += sorted({ask.batch for ask in asks})
            stepper.do_step()
        assert batches == [1] * (PAIRS // 5) + [2, 3]


def test_the_scale_is_the_largest_at_which_the_loss_is_nearly_linear() -> None:
    """Quotients 1 + 4 c^2, disturbed by rounding of 1e-5 / c: the last rung that changes by less than half is 0.316."""
    found = slopes(trials(lambda c: 1 + 4 * c**2 + 1e-5 / c))
    assert found is not None
    assert found.scale == pytest.approx(0.1 * np.sqrt(10))
    assert found.quotients == pytest.approx({j: j + 1.0 for j in range(DIRECTIONS)}, rel=0.01)


def test_curvature_is_that_of_the_losses() -> None:
    """Losses 1 + 6 c^2 / 2 along every direction have the second derivative 6."""
    found = slopes(trials(lambda _: 1.0, lambda c: 1 + 3 * c**2))
    assert found is not None
    assert found.curvature == pytest.approx(6)


@pytest.mark.parametrize("lost", [range(0, PAIRS, 3), range(1, PAIRS, 3), range(DIRECTIONS)])
def test_a_ladder_with_gaps_is_read_where_it_has_rungs(lost: range) -> None:
    whole = trials(lambda c: 1 + 4 * c**2)
    found = slopes(trial for place, trial in enumerate(whole) if place not in lost)
    assert found is not None
    assert found.scale in SCALES


@pytest.mark.parametrize("loss", [lambda _: 1.0, lambda _: np.nan])
def test_where_nothing_can_be_measured_the_published_gains_are_taken(loss: object) -> None:
    """A constant loss; one that is finite only after the ladder."""
    stepper = Stepper(options_of("zip", **AUTO), np.zeros(SIZE), seed=7)
    for _ in range(PAIRS // 5):
        stepper.do_step(loss)
    stepper.do_step(bowl)
    assert chosen(stepper) == (0.01, 0.01)


def test_the_first_updates_are_as_long_as_a_perturbation() -> None:
    """A linear loss has no curvature; ZIP clips its steep slope, so that the length does not depend on the draw."""
    stepper = calibrated("zip", lambda w: 1e6 * linear(w))
    _, scale = chosen(stepper)
    assert scale == SCALES[-1]
    directions = [perturbation(Perturbation("segmented-uniform", 7, 1, j), SIZE) for j in range(DIRECTIONS)]
    length = scale * np.sqrt(np.mean([z @ z for z in directions]))
    stepper.do_step(lambda w: 1e6 * linear(w))
    assert np.linalg.norm(stepper.state.w) == pytest.approx(length, rel=1e-9)


def test_they_are_no_longer_than_suits_a_quadratic() -> None:
    """Its quotients are exact at any scale; K / tr(H) is the step that lowers it most."""
    stepper = calibrated("spsa", lambda w: 3 * float(w @ w) + linear(w), perturbation="random-sign")
    step_size, _ = chosen(stepper)
    assert step_size / 2**0.4 == pytest.approx(5 / (6 * SIZE), rel=1e-3)


@pytest.mark.parametrize("method", ["spsa", "spsa-gc"])
def test_the_unit_of_the_parameters_does_not_matter(method: str) -> None:
    """Ten times the unit: ten times the scale, and a hundred times the step size."""
    step_size, scale = chosen(calibrated(method, lambda w: bowl(100 * w)))
    larger = chosen(calibrated(method, lambda w: bowl(10 * w)))
    assert larger == (pytest.approx(100 * step_size, rel=0.01), pytest.approx(10 * scale))


def test_momentum_counts_for_the_length() -> None:
    plain, scale = chosen(calibrated("spsa", linear))
    assert chosen(calibrated("spsa-gc", linear, momentum=0.8)) == (pytest.approx(plain / 5), scale)


@pytest.mark.parametrize("pairs", [1, 3, 5, 64])
def test_what_it_costs(pairs: int) -> None:
    """Whole steps of at least forty pairs, in which the parameters stay, and after which k counts from 1."""
    stepper = calibrated(pairs_per_step=pairs)
    assert stepper.state.steps == -(-PAIRS // pairs)
    np.testing.assert_array_equal(stepper.state.w, np.zeros(SIZE))
    _, scale = chosen(stepper)
    assert {pair.scale for pair in stepper.ask_step()} == {scale}


@pytest.mark.parametrize("given", ["step_size", "perturbation_scale"])
@pytest.mark.parametrize("loss", [bowl, lambda _: 1.0])
def test_a_gain_that_is_given_is_kept(given: str, loss: object) -> None:
    """Even if there is nothing to measure."""
    kept = calibrated(loss=loss, **{given: 0.02})
    assert kept.optimizer.chosen(kept.state)[given] == 0.02
    other = ({"step_size", "perturbation_scale"} - {given}).pop()
    assert kept.optimizer.chosen(kept.state)[other] != 0.02


def test_given_gains_are_not_told_as_chosen() -> None:
    stepper = Stepper(options_of("zip"), np.zeros(SIZE), seed=7)
    stepper.do_step(bowl)
    assert stepper.optimizer.chosen(stepper.state) == {}


def test_pairs_that_are_asked_before_the_ladder_is_read_are_ordinary_ones() -> None:
    """In asynchronous mode some are: they use the published scale and their own directions."""
    stepper = Stepper(options_of("zip", **AUTO), np.zeros(SIZE), seed=7)
    early = stepper.optimizer.ask(stepper.state, PAIRS + 1)
    assert (early.scale, early.batch, early.perturbation.index) == (0.01, 2, 1)
    assert calibration.place(PAIRS - 1) == (SCALES[-1], DIRECTIONS - 1)
