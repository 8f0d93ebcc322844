"""BAR's one-sided estimator (Tsai, Chen, Ho, ICML 2020, section 3; settings as ZIP's authors ran it)."""

from typing import Literal

import numpy as np

from zip_ray.config.section import Count, Positive
from zip_ray.optimizers.base import Move, OptimizerState
from zip_ray.optimizers.pivot import Pivot, PivotOptions
from zip_ray.protocol.arrays import Float64

FINAL_SHARE = 0.01
"""Final share of the learning rate: 10.0 -> 0.1."""
POWER = 0.9


class OneSidedOptions(PivotOptions):
    """BAR's one-sided estimator."""

    method: Literal["one-sided"] = "one-sided"
    """BAR's estimator."""
    distance: Positive = 0.01
    """beta: distance of the points from the current one."""
    learning_rate: Positive = 10.0
    """Initial learning rate. It falls to a hundredth by a polynomial of power 0.9."""
    schedule_epochs: Count | Literal["budget"] = "budget"
    """Epochs of the learning rate's fall; budget = the whole run. An epoch is a pass over the whole mini-batches of the
    training images."""

    def schedule_steps(self, planned: int | None, steps_per_epoch: int) -> int | None:
        """Steps over which the learning rate falls."""
        return planned if self.schedule_epochs == "budget" else self.schedule_epochs * steps_per_epoch


class OneSided(Pivot):
    """g = mean_j d u_j (L(w + beta u_j) - L(w)) / beta with u_j uniform on the unit sphere, w <- w - l_k g.

    The learning rate falls polynomially over the schedule's T steps: l_k = l ((1 - e) (1 - k / T)^0.9 + e), e = 0.01,
    k = 1, 2, ..., T.
    """

    Options = OneSidedOptions
    remedy = "lower optimizer.learning_rate"

    def __init__(self, options: OneSidedOptions, seed: int, schedule_steps: int | None = None) -> None:
        """As `Optimizer`."""
        super().__init__(options, seed, schedule_steps)
        self._options = options

    def _shift(self, normal: Float64) -> Float64:
        return self._options.distance / np.linalg.norm(normal) * normal

    def _compare(self, state: OptimizerState, pivot: float, losses: dict[int, float]) -> Move:
        w, beta = state.w, self._options.distance
        total = np.zeros_like(w)
        for index, loss in losses.items():
            total += (loss - pivot) / beta**2 * self._offset(state, index)
        gradient = w.size * total / len(losses)
        return Move(w - self._rate(state) * gradient, gradient_norm=float(np.linalg.norm(gradient)))

    def _rate(self, state: OptimizerState) -> float:
        left = float((1 - self._progress(state.steps + 1)) ** POWER)
        return self._options.learning_rate * ((1 - FINAL_SHARE) * left + FINAL_SHARE)
