"""SPSA and its variants: pairs out, one update for every K of them.

Sources: Spall 1992 (SPSA); Park et al., ICLR 2025 (ZIP) and its released code (spsa, spsa-gc).
"""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from zip_ray.optimizers.base import Move, Optimizer, Told
from zip_ray.optimizers.gains import Gains
from zip_ray.protocol.messages import Float64, Pair, PairResult, Perturbation
from zip_ray.protocol.perturbations import perturbation


class Spsa(Optimizer):
    """Simultaneous perturbation stochastic approximation with K averaged pairs a step; no clipping.

    g_j = (L(w_j + c_j z_j) - L(w_j - c_j z_j)) / (2 c_j) / z_j elementwise, g = mean_j g_j, w <- w - a_k g, where w_j
    and c_j are those at which pair j was asked.
    """

    remedy = "lower optimizer.a or optimizer.c"

    @cached_property
    def _gains(self) -> Gains:
        c = self._config
        return Gains(c.a, c.c, c.alpha, c.gamma, c.offset)

    def _make(self, number: int, index: int) -> Pair:
        step = self._state.steps + 1
        return Pair(
            id=number,
            step=step,
            version=self._state.steps,
            w=self._state.w,
            c=self._gains.scale(step),
            perturbation=Perturbation(self._config.perturbation, self._seed, self.next_batch, index),
            batch=self.next_batch,
        )

    def _move(self, told: Sequence[Told]) -> Move:
        gradient = self._estimate(told)
        norm = math.sqrt(gradient.dot(gradient))
        direction, memory, clipped = self._direction(gradient, norm)
        w = self._state.w - self._gains.step_size(self._state.steps + 1) * direction
        return Move(w, memory, norm, clipped)

    def _estimate(self, told: Sequence[Told]) -> Float64:
        """Mean of the pairs' estimates, shape (d,), summed in the order of their numbers."""
        total = np.zeros(self._state.w.size)
        for pair, result in told:
            assert isinstance(pair, Pair)
            assert isinstance(result, PairResult)
            total += (result.plus - result.minus) / (2 * pair.c) / perturbation(pair.perturbation, total.size)
        return total / len(told)

    def _direction(self, gradient: Float64, norm: float) -> tuple[Float64, dict[str, Float64], bool]:  # noqa: ARG002
        """What is subtracted (times a_k), what to remember, and whether the estimate was clipped."""
        return gradient, {}, False


class Zip(Spsa):
    """ZIP: SPSA with clipping: if ||g|| >= t, g <- g t / ||g||, where t is sqrt(d) (intrinsic) or a given number."""

    def _direction(self, gradient: Float64, norm: float) -> tuple[Float64, dict[str, Float64], bool]:
        clip = self._config.clip
        threshold = math.sqrt(gradient.size) if clip == "intrinsic" else clip
        if norm < threshold:
            return gradient, {}, False
        return gradient * (threshold / norm), {}, True


class SpsaGc(Spsa):
    """The released code's momentum variant: m <- b m + g, and the update is g + b m."""

    def _direction(self, gradient: Float64, norm: float) -> tuple[Float64, dict[str, Float64], bool]:  # noqa: ARG002
        b = self._config.momentum
        momentum = b * self._state.memory.get("momentum", np.zeros_like(gradient)) + gradient
        return gradient + b * momentum, {"momentum": momentum}, False
