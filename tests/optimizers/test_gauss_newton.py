"""Gauss-Newton rounds on a small white box, against dense computations from its Jacobian."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax

from tests.support.asking import options_of
from zip_ray.optimizers import OptimizerState, Problem, StepReport
from zip_ray.optimizers.base import Told
from zip_ray.optimizers.gauss_newton import LEAST_DAMPING, MOST_DAMPING, OTHERS, PATIENCE, SPREAD, GaussNewton, _Damping
from zip_ray.protocol.messages import Ask, AskResult
from zip_ray.protocol.mini_batches import mini_batch

IMAGES, CLASSES, SIZE, UNIT, SEED = 30, 3, 5, 0.5, 7
LINEAR = np.random.default_rng(1).standard_normal((IMAGES, CLASSES, SIZE))
LABELS = np.random.default_rng(2).integers(0, CLASSES, IMAGES)
SOFT = softmax(np.random.default_rng(4).standard_normal((IMAGES, CLASSES)), axis=1)


class WhiteBox:
    """Rounds on linear scores: those of image i are LINEAR[i] @ w, the mini-batch is all images."""

    def __init__(
        self,
        round_queries: int = 20,
        kept: np.ndarray | None = None,
        targets: np.ndarray | None = None,
        **settings: object,
    ) -> None:
        options = options_of("gauss-newton", round_queries=round_queries, **settings)
        self.problem = Problem(LABELS, 128, SEED, UNIT, kept, targets)
        self.method = GaussNewton(options, SEED, problem=self.problem)  # type: ignore[arg-type]
        self.state = OptimizerState(np.full(SIZE, 0.1))

    def asks(self) -> list[Ask]:
        each = self.method.asks_per_step
        return [self.method.ask(self.state, self.state.steps * each + place) for place in range(each)]

    def answer(self, ask: Ask, linear: np.ndarray = LINEAR) -> AskResult:
        images = mini_batch(IMAGES, 128, SEED, ask.batch)
        scores, labels = linear[images] @ ask.w, LABELS[images]
        loss = float(-log_softmax(scores, axis=1)[np.arange(IMAGES), labels].mean())
        assert ask.scores is not None
        if (classes := ask.scores.classes) is not None:
            rest = scores.copy()
            np.put_along_axis(rest, classes, -np.inf, axis=1)
            chosen = np.take_along_axis(scores, classes, axis=1)
            scores = np.concatenate([chosen, logsumexp(rest, axis=1)[:, None]], axis=1)
        return AskResult((loss,), 0.5, None, scores[None].astype(np.float32))

    def round(self, bad: Sequence[int] = (), linear: np.ndarray = LINEAR, late: Sequence[int] = ()) -> StepReport:
        """A round; scores are NaN at the bad places, and late ones are missing."""
        asks = self.asks()
        results = [self.answer(ask, linear) for ask in asks]
        for place in bad:
            results[place] = AskResult((float("nan"),), 0.5, None, np.full_like(results[place].scores, np.nan))
        told = [Told(*one) for place, one in enumerate(zip(asks, results, strict=True)) if place not in late]
        self.state, report = self.method.tell(self.state, told)
        return report


def loss(w: np.ndarray) -> float:
    return float(-log_softmax(LINEAR @ w, axis=1)[np.arange(IMAGES), LABELS].mean())


def points_of(box: WhiteBox) -> np.ndarray:
    """The points of the coming round, without its centre."""
    return np.stack([ask.w for ask in box.asks()[1:]])


def metric(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """M with damping |a|^2 = damping delta^T M delta for the smallest a that gives a step delta: M = (U^T U)^-1."""
    offsets = points - centre
    u = offsets / np.linalg.norm(offsets, axis=1, keepdims=True) * UNIT * np.sqrt(SIZE)
    return np.asarray(np.linalg.inv(u.T @ u))


@pytest.mark.parametrize("directions", [12, 40])
def test_with_much_damping_it_is_the_damped_gauss_newton_step_of_the_dense_jacobian(directions: int) -> None:
    damping = 30.0
    box = WhiteBox(directions + 1, damping=damping, perturbation_scale=0.01)
    start = box.state.w
    m = metric(points_of(box), start)
    p = softmax(LINEAR @ start, axis=1)
    gradient = np.einsum("icd,ic->d", LINEAR, p - np.eye(CLASSES)[LABELS]) / IMAGES
    curvature = sum(j.T @ (np.diag(q) - np.outer(q, q)) @ j for j, q in zip(LINEAR, p, strict=True)) / IMAGES
    box.round()
    step = -np.linalg.solve(curvature + damping * m, gradient)
    np.testing.assert_allclose(box.state.w - start, step, rtol=0.02, atol=0.005 * np.linalg.norm(step))


@pytest.mark.parametrize("directions", [12, 40])
def test_with_little_damping_it_is_scipys_minimum(directions: int) -> None:
    box = WhiteBox(directions + 1)
    start = box.state.w
    m = metric(points_of(box), start)

    def damped(w: np.ndarray) -> float:
        return loss(w) + 0.03 / 2 * float((w - start) @ m @ (w - start))

    box.round()
    found = minimize(damped, start)
    np.testing.assert_allclose(box.state.w, found.x, atol=2e-3)


def test_it_goes_down_each_round_to_the_minimum() -> None:
    box = WhiteBox()
    losses = [loss(box.state.w)]
    for _ in range(12):
        box.round()
        losses.append(min(loss(w) for w in (box.state.w, *box.state.memory["others"])))
    assert all(after <= before + 1e-6 for before, after in itertools.pairwise(losses))
    assert losses[-1] == pytest.approx(minimize(loss, np.zeros(SIZE)).fun, abs=1e-4)


def test_the_damping_follows_the_best_candidate() -> None:
    box = WhiteBox()
    dampings = []
    for _ in range(8):
        box.round()
        dampings.append(box.state.memory["damping"][0])
    assert dampings[0] == 0.03
    steps = {round(b / a, 6) for a, b in itertools.pairwise(dampings) if b not in {LEAST_DAMPING, MOST_DAMPING}}
    assert steps <= {1.0, 1 / SPREAD, SPREAD}
    assert min(dampings) < 0.03  # the scores are linear: less is better


def test_it_goes_down_to_the_minimum_of_targets_that_are_not_certain() -> None:
    box = WhiteBox(targets=SOFT)
    for _ in range(12):
        box.round()

    def soft_loss(w: np.ndarray) -> float:
        return float(-(SOFT * log_softmax(LINEAR @ w, axis=1)).sum(axis=1).mean())

    assert soft_loss(box.state.w) == pytest.approx(minimize(soft_loss, np.zeros(SIZE)).fun, abs=1e-4)


def test_rounds_that_disagree_do_not_stop_the_steps() -> None:
    box, rng = WhiteBox(), np.random.default_rng(3)
    for _ in range(30):  # each round has its own scores, so the previous point keeps coming out best
        box.round(linear=rng.standard_normal(LINEAR.shape))
    before = box.state.w
    assert box.state.memory["damping"][0] <= MOST_DAMPING
    for _ in range(6):  # now the rounds agree
        box.round()
    assert loss(box.state.w) < loss(before) - 0.05


def test_the_bound_of_the_damping_is_raised_after_rounds_in_vain_alone() -> None:
    damping = _Damping(MOST_DAMPING, MOST_DAMPING)
    for best in [OTHERS] * (PATIENCE - 1) + [0] + [OTHERS] * (PATIENCE - 1):
        damping = damping.after(best)
        assert damping.value == MOST_DAMPING
    assert damping.after(OTHERS).value == SPREAD * MOST_DAMPING
    assert damping.after(1).value == MOST_DAMPING / SPREAD


def test_a_centre_without_scores_goes_back_to_the_point_before() -> None:
    """If the directions, which start from the centre, have no scores either."""
    box = WhiteBox()
    box.round()
    before, damping = box.state.memory["others"][2], box.state.memory["damping"][0]
    box.round(bad=[0, *range(4, 20)])
    np.testing.assert_array_equal(box.state.w, before)
    assert box.state.memory["damping"][0] == damping * SPREAD
    assert box.state.nonfinite_streak == 0
    box.round()
    assert loss(box.state.w) < loss(before)


@pytest.mark.parametrize(("bad", "late"), [([0], []), ([], [0])], ids=["not finite", "late"])
def test_for_a_centre_without_scores_the_mean_of_the_directions_stands_in(bad: list[int], late: list[int]) -> None:
    """In the first round, and in one whose candidates are all late: scipy's minimum around that mean."""
    box = WhiteBox(41)
    for others in ([], [1, 2, 3]):
        around = points_of(box)[len(others) :]
        middle = around.mean(axis=0)
        m = metric(around, middle)
        damping = box.state.memory.get("damping", np.array([0.03]))[0]
        box.round(bad=bad, late=[*late, *others])
        found = minimize(lambda w, x=middle, m=m, by=damping: loss(w) + by / 2 * float((w - x) @ m @ (w - x)), middle)
        np.testing.assert_allclose(box.state.w, found.x, atol=2e-3)
        np.testing.assert_allclose(box.state.memory["others"][2], middle)


@pytest.mark.parametrize("late", [[0], [1, 2, 3], [0, 2], [3, 11, 19], list(range(10, 20)), [0, 1, 2, 3, 4]], ids=str)
def test_rounds_that_lack_a_few_answers_go_down_to_the_minimum(late: list[int]) -> None:
    box = WhiteBox(damping=0.003)
    for _ in range(12):
        assert box.round(late=late).nonfinite == 0
    assert loss(box.state.w) == pytest.approx(minimize(loss, np.zeros(SIZE)).fun, abs=2e-3)


def test_a_first_round_without_scores_moves_nothing() -> None:
    box = WhiteBox()
    start = box.state.w
    box.round(bad=range(20))
    np.testing.assert_array_equal(box.state.w, start)
    assert box.state.nonfinite_streak == 1


@pytest.mark.parametrize("bad", [[1], [2], [3], [1, 2, 3], [4], [7, 19]], ids=str)
def test_candidates_and_directions_without_scores_are_left_out(bad: list[int]) -> None:
    box = WhiteBox()
    box.round()
    before = loss(box.state.w)
    assert box.round(bad=bad).nonfinite == len(bad)
    assert loss(box.state.w) < before
    assert np.isfinite(box.state.memory["others"]).all()


def test_a_centre_alone_moves_nothing() -> None:
    box = WhiteBox()
    start = box.state.w
    box.round(bad=range(1, 20))
    np.testing.assert_array_equal(box.state.w, start)
    assert box.state.nonfinite_streak == 1


def test_scores_that_nothing_changes_keep_the_centre() -> None:
    box = WhiteBox()
    start = box.state.w
    for _ in range(3):
        box.round(linear=0 * LINEAR)
        np.testing.assert_array_equal(box.state.w, start)
        assert box.state.nonfinite_streak == 0
    box.round()
    assert loss(box.state.w) < loss(start)


@pytest.mark.parametrize("targets", [None, SOFT])
def test_pooled_scores_of_one_class_are_those_of_that_class(targets: np.ndarray | None) -> None:
    """With all classes but one kept, the pool is the last class: the same step."""
    order = np.argsort(np.arange(CLASSES) != LABELS[:, None], axis=1, kind="stable")
    whole, pooled = WhiteBox(targets=targets), WhiteBox(kept=order[:, :-1], targets=targets)
    for box in (whole, pooled):
        box.round()
        box.round()
    np.testing.assert_allclose(pooled.state.w, whole.state.w, atol=1e-3)


def test_a_single_class_keeps_the_centre() -> None:
    problem = Problem(np.zeros(IMAGES, dtype=np.int64), 128, SEED, UNIT)
    method = GaussNewton(options_of("gauss-newton", round_queries=12), SEED, problem=problem)  # type: ignore[arg-type]
    state = OptimizerState(np.zeros(SIZE))
    asks = [method.ask(state, place) for place in range(12)]
    told = [Told(ask, AskResult((0.0,), 1.0, None, LINEAR[None, :, :1] @ ask.w)) for ask in asks]
    after, report = method.tell(state, told)
    np.testing.assert_array_equal(after.w, state.w)
    assert (report.nonfinite, after.nonfinite_streak) == (0, 0)


def test_the_first_direction_is_the_latest_step() -> None:
    box = WhiteBox()
    box.round()
    step, offset = box.state.memory["step"], box.asks()[4].w - box.state.w
    np.testing.assert_allclose(offset / np.linalg.norm(offset), step / np.linalg.norm(step))
    assert np.linalg.norm(offset) == pytest.approx(0.25 * UNIT * np.sqrt(SIZE))
