"""SPSA and its variants by ask and tell: pairs out, results in, one update when a step's results are all there.

Sources: Spall 1992 (SPSA); Park et al., ICLR 2025 (ZIP) and its released code (spsa, spsa-gc).
"""

from dataclasses import dataclass, field

import numpy as np

from zip_ray.config import OptimizerConfig
from zip_ray.optimizers.gains import Gains
from zip_ray.optimizers.perturbations import perturbation
from zip_ray.work import Float64, Pair, PairResult, Perturbation

NONFINITE_STEPS = 10
"""Steps in a row without one finite pair after which the run is hopeless."""


@dataclass(frozen=True)
class StepReport:
    """What one step did."""

    step: int
    loss: float
    """Mean loss of the finite pairs, both sides; NaN when there is none."""
    accuracy: float
    """Mean mini-batch accuracy of the finite pairs; NaN when there is none."""
    gradient_norm: float
    """Norm of the averaged estimate before clipping; NaN when no pair was finite."""
    clipped: bool
    nonfinite: int
    """Pairs left out because a loss was NaN or infinite."""


@dataclass(frozen=True)
class OptimizerState:
    """All that an optimiser is, between two steps."""

    w: Float64
    momentum: Float64
    """m of spsa-gc, shape (d,); zero elsewhere."""
    steps: int
    """Steps done."""
    nonfinite_streak: int
    """Steps in a row, up to now, without one finite pair."""


@dataclass
class _Step:
    asked: int = 0
    results: dict[int, PairResult] = field(default_factory=dict)


class Spsa:
    """Simultaneous perturbation stochastic approximation with K averaged pairs a step; no clipping.

    g_j = (L(w + c_k z_j) - L(w - c_k z_j)) / (2 c_k) / z_j elementwise, g = mean_j g_j, w <- w - a_k g.
    Results are folded in the order of their index, whatever the order of arrival, so that the trajectory does not
    depend on the pool, bit for bit.
    """

    def __init__(self, config: OptimizerConfig, state: OptimizerState, seed: int) -> None:
        self._config = config
        self._gains = Gains(config.a, config.c, config.alpha, config.gamma, config.offset)
        self._seed = seed
        self._state = state
        self._current = _Step()

    @property
    def state(self) -> OptimizerState:
        """The state after the last complete step; pairs in flight are not part of it."""
        return self._state

    @property
    def queries_per_step(self) -> int:
        """2 K."""
        return 2 * self._config.pairs_per_step

    def ask(self) -> Pair | None:
        """The next pair of the current step, or None while all its pairs are out."""
        if self._current.asked == self._config.pairs_per_step:
            return None
        index, step = self._current.asked, self._state.steps + 1
        self._current.asked += 1
        return Pair(
            id=self._state.steps * self._config.pairs_per_step + index,
            step=step,
            version=self._state.steps,
            w=self._state.w,
            c=self._gains.scale(step),
            perturbation=Perturbation(self._config.perturbation, self._seed, step, index),
            batch=step,
        )

    def tell(self, result: PairResult) -> StepReport | None:
        """Fold a result in; a report when it completed its step.

        Raises:
            ValueError: a result of another step, of a pair not asked, or told already.
        """
        index = result.id - self._state.steps * self._config.pairs_per_step
        if not 0 <= index < self._current.asked or index in self._current.results:
            raise ValueError(f"pair {result.id} is not awaited: not asked, of another step, or told already")
        self._current.results[index] = result
        if len(self._current.results) < self._config.pairs_per_step:
            return None
        return self._finish_step()

    def stop(self) -> dict[str, str]:
        """Reasons why going on is of no use; empty while there is none."""
        if self._state.nonfinite_streak >= NONFINITE_STEPS:
            return {
                "nonfinite": f"no loss was finite in {self._state.nonfinite_streak} steps in a row: "
                "lower optimizer.a or optimizer.c, or check the model with run.py doctor"
            }
        return {}

    def _finish_step(self) -> StepReport:
        results = self._current.results
        finite = {i: results[i] for i in sorted(results) if np.isfinite([results[i].plus, results[i].minus]).all()}
        self._current = _Step()
        state, step = self._state, self._state.steps + 1
        missing = self._config.pairs_per_step - len(finite)
        if not finite:
            self._state = OptimizerState(state.w, state.momentum, step, state.nonfinite_streak + 1)
            return StepReport(step, np.nan, np.nan, np.nan, clipped=False, nonfinite=missing)
        gradient = self._estimate(step, finite)
        direction, momentum, clipped = self._direction(gradient, state.momentum)
        self._state = OptimizerState(state.w - self._gains.step_size(step) * direction, momentum, step, 0)
        return StepReport(
            step=step,
            loss=float(np.mean([(r.plus + r.minus) / 2 for r in finite.values()])),
            accuracy=float(np.mean([r.accuracy for r in finite.values()])),
            gradient_norm=float(np.linalg.norm(gradient)),
            clipped=clipped,
            nonfinite=missing,
        )

    def _estimate(self, step: int, results: dict[int, PairResult]) -> Float64:
        """Mean of the pairs' estimates, shape (d,), summed in the order of the index."""
        c = self._gains.scale(step)
        total = np.zeros_like(self._state.w)
        for index, result in results.items():
            key = Perturbation(self._config.perturbation, self._seed, step, index)
            total += (result.plus - result.minus) / (2 * c) / perturbation(key, total.size)
        return total / len(results)

    def _direction(self, gradient: Float64, momentum: Float64) -> tuple[Float64, Float64, bool]:
        """What is subtracted (times a_k), the new momentum, and whether the estimate was clipped."""
        return gradient, momentum, False


class Zip(Spsa):
    """ZIP: SPSA with intrinsic-dimensional clipping: if ||g|| >= sqrt(d), g <- g sqrt(d) / ||g||."""

    def _direction(self, gradient: Float64, momentum: Float64) -> tuple[Float64, Float64, bool]:
        norm, threshold = float(np.linalg.norm(gradient)), float(np.sqrt(gradient.size))
        if norm < threshold:
            return gradient, momentum, False
        return gradient * (threshold / norm), momentum, True


class SpsaGc(Spsa):
    """The released code's momentum variant: m <- b m + g, and the update is g + b m."""

    def _direction(self, gradient: Float64, momentum: Float64) -> tuple[Float64, Float64, bool]:
        b = self._config.momentum
        momentum = b * momentum + gradient
        return gradient + b * momentum, momentum, False


METHODS: dict[str, type[Spsa]] = {"zip": Zip, "spsa": Spsa, "spsa-gc": SpsaGc}


def initial_state(w: Float64) -> OptimizerState:
    """The state before the first step, at parameters `w` of shape (d,)."""
    return OptimizerState(w, np.zeros_like(w), steps=0, nonfinite_streak=0)


def make_optimizer(config: OptimizerConfig, state: OptimizerState, seed: int) -> Spsa:
    """The configured method, going on from `state`."""
    return METHODS[config.method](config, state, seed)
