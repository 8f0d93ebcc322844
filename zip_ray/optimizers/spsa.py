"""SPSA and its variants by ask and tell: pairs out, results in, one update for every K results.

Sources: Spall 1992 (SPSA); Park et al., ICLR 2025 (ZIP) and its released code (spsa, spsa-gc).
"""

from dataclasses import dataclass, replace

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
    staleness: float
    """Mean, over the pairs, of the updates made since each was asked; 0 in synchronous mode."""
    dropped: int
    """Answers since the step before that were too stale to be used."""


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
    asked: int
    """Pairs asked, which is the number of the next; asynchronously some of them are still out."""


class Spsa:
    """Simultaneous perturbation stochastic approximation with K averaged pairs a step; no clipping.

    g_j = (L(w_j + c_j z_j) - L(w_j - c_j z_j)) / (2 c_j) / z_j elementwise, g = mean_j g_j, w <- w - a_k g, where w_j
    and c_j are those at which pair j was asked. Synchronously that is this step, and `ask` waits for it to end: the
    trajectory does not depend on the pool, bit for bit. Asynchronously up to `in_flight` pairs are out, and an update
    takes the first K answers. In both modes an update folds its results in the order of their number.
    """

    def __init__(self, config: OptimizerConfig, state: OptimizerState, seed: int) -> None:
        self._config = config
        self._gains = Gains(config.a, config.c, config.alpha, config.gamma, config.offset)
        self._seed = seed
        self._state = state
        # Pairs that were out when the state was saved are lost; numbers go on with the next mini-batch.
        self._asked = -(-state.asked // config.pairs_per_step) * config.pairs_per_step
        self._out: dict[int, Pair] = {}
        self._told: list[tuple[Pair, PairResult]] = []
        self._dropped = 0

    @property
    def state(self) -> OptimizerState:
        """The state after the latest update; pairs in flight are not part of it."""
        return self._state

    @property
    def queries_per_step(self) -> int:
        """2 K."""
        return 2 * self._config.pairs_per_step

    @property
    def queries_to_ask(self) -> int:
        """Queries that must still be asked to make the next K pairs whole."""
        return self.queries_per_step - 2 * (self._asked % self._config.pairs_per_step)

    @property
    def next_batch(self) -> int:
        """Key of the mini-batch of the pair that `ask` gives next: K pairs share one."""
        return self._asked // self._config.pairs_per_step + 1

    def ask(self) -> Pair | None:
        """The next pair, or None while as many are out as may be."""
        if not self._may_ask():
            return None
        number, index = self._asked, self._asked % self._config.pairs_per_step
        step = self._state.steps + 1
        self._out[number] = Pair(
            id=number,
            step=step,
            version=self._state.steps,
            w=self._state.w,
            c=self._gains.scale(step),
            perturbation=Perturbation(self._config.perturbation, self._seed, self.next_batch, index),
            batch=self.next_batch,
        )
        self._asked += 1
        return self._out[number]

    def tell(self, result: PairResult) -> StepReport | None:
        """Fold a result in; a report when it completed an update.

        Raises:
            ValueError: a result of a pair not asked, or told already.
        """
        pair = self._out.pop(result.id, None)
        if pair is None:
            raise ValueError(f"pair {result.id} is not awaited: not asked, or told already")
        if self._staleness(pair) > self._config.max_staleness:
            self._dropped += 1
            return None
        self._told.append((pair, result))
        if len(self._told) < self._config.pairs_per_step:
            return None
        return self._update()

    def stop(self) -> dict[str, str]:
        """Reasons why going on is of no use; empty while there is none."""
        if self._state.nonfinite_streak >= NONFINITE_STEPS:
            return {
                "nonfinite": f"no loss was finite in {self._state.nonfinite_streak} steps in a row: "
                "lower optimizer.a or optimizer.c, or check the model with run.py doctor"
            }
        return {}

    def _may_ask(self) -> bool:
        if self._config.mode == "async":
            return len(self._out) < self._config.in_flight
        return self._asked < (self._state.steps + 1) * self._config.pairs_per_step

    def _staleness(self, pair: Pair) -> int:
        return self._state.steps - pair.version

    def _update(self) -> StepReport:
        told = sorted(self._told, key=lambda one: one[0].id)
        finite = [(pair, result) for pair, result in told if np.isfinite([result.plus, result.minus]).all()]
        staleness = float(np.mean([self._staleness(pair) for pair, _ in told]))
        dropped = self._dropped
        self._told, self._dropped = [], 0
        state = replace(self._state, steps=self._state.steps + 1, asked=self._asked)
        step, missing = state.steps, len(told) - len(finite)
        if not finite:
            self._state = replace(state, nonfinite_streak=state.nonfinite_streak + 1)
            return StepReport(step, np.nan, np.nan, np.nan, False, missing, staleness, dropped)
        gradient = self._estimate(finite)
        direction, momentum, clipped = self._direction(gradient, state.momentum)
        w = state.w - self._gains.step_size(step) * direction
        self._state = replace(state, w=w, momentum=momentum, nonfinite_streak=0)
        return StepReport(
            step=step,
            loss=float(np.mean([(r.plus + r.minus) / 2 for _, r in finite])),
            accuracy=float(np.mean([r.accuracy for _, r in finite])),
            gradient_norm=float(np.linalg.norm(gradient)),
            clipped=clipped,
            nonfinite=missing,
            staleness=staleness,
            dropped=dropped,
        )

    def _estimate(self, results: list[tuple[Pair, PairResult]]) -> Float64:
        """Mean of the pairs' estimates, shape (d,), summed in the order of their numbers."""
        total = np.zeros_like(self._state.w)
        for pair, result in results:
            total += (result.plus - result.minus) / (2 * pair.c) / perturbation(pair.perturbation, total.size)
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
    return OptimizerState(w, np.zeros_like(w), steps=0, nonfinite_streak=0, asked=0)


def make_optimizer(config: OptimizerConfig, state: OptimizerState, seed: int) -> Spsa:
    """The configured method, going on from `state`."""
    return METHODS[config.method](config, state, seed)
