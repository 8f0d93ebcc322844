"""SPSA and its variants: pairs out, one update for every K of them.

Sources: Spall 1992 (SPSA); Park et al., ICLR 2025 (ZIP) and its released code (spsa, spsa-gc).
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from zip_ray.config.section import Count, Positive
from zip_ray.optimizers.base import MethodOptions, Move, Optimizer, Told
from zip_ray.optimizers.gains import Gains
from zip_ray.protocol.messages import Float64, Pair, PairResult, Perturbation, PerturbationLaw
from zip_ray.protocol.perturbations import perturbation


class PairOptions(MethodOptions):
    """What the methods have in common that estimate the gradient from pairs."""

    queries_per_ask: ClassVar[int] = 2
    pairs_per_step: Count = 5
    """K: pairs averaged in one step; a step costs 2 K queries."""
    step_size: Positive = 0.01
    """a, in a_k = a / (k + o)^alpha: the gain of the update, k = 1, 2, ..."""
    step_size_decay: Annotated[float, Field(ge=0, le=1)] = 0.4
    """alpha: how fast the step size falls."""
    step_size_offset: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """o: offset of the step size's counter."""
    perturbation: PerturbationLaw = "segmented-uniform"
    """Distribution of the entries of a perturbation: a random sign times U[0.5, 1], or random signs."""
    perturbation_scale: Positive = 0.01
    """c, in c_k = c / k^gamma: distance of the two queries of a pair."""
    perturbation_decay: Annotated[float, Field(ge=0, le=1)] = 0.1
    """gamma: how fast the perturbation scale falls."""

    @property
    def asks_per_step(self) -> int:
        """Pairs of one step."""
        return self.pairs_per_step


class SpsaOptions(PairOptions):
    """SPSA without clipping (Spall, 1992)."""

    method: Literal["spsa"] = "spsa"
    """SPSA without clipping."""


class ZipOptions(PairOptions):
    """ZIP: SPSA with intrinsic-dimensional clipping (Park et al., ICLR 2025); the defaults are the published gains."""

    method: Literal["zip"] = "zip"
    """SPSA with clipping."""
    clip_norm: Literal["intrinsic"] | Positive = "intrinsic"
    """Largest norm of the estimate; intrinsic = the square root of the number of parameters."""


class SpsaGcOptions(PairOptions):
    """SPSA with momentum, as in the released code."""

    method: Literal["spsa-gc"] = "spsa-gc"
    """SPSA with momentum."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.8
    """b, in m <- b m + g; the update is g + b m."""


class Spsa(Optimizer):
    """Simultaneous perturbation stochastic approximation with K averaged pairs a step; no clipping.

    g_j = (L(w_j + c_j z_j) - L(w_j - c_j z_j)) / (2 c_j) / z_j elementwise, g = mean_j g_j, w <- w - a_k g, where w_j
    and c_j are those at which pair j was asked.
    """

    remedy = "lower optimizer.step_size or optimizer.perturbation_scale"
    _config: PairOptions

    @cached_property
    def _gains(self) -> Gains:
        c = self._config
        return Gains(c.step_size, c.perturbation_scale, c.step_size_decay, c.perturbation_decay, c.step_size_offset)

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

    _config: ZipOptions

    def _direction(self, gradient: Float64, norm: float) -> tuple[Float64, dict[str, Float64], bool]:
        clip = self._config.clip_norm
        threshold = math.sqrt(gradient.size) if clip == "intrinsic" else clip
        if norm < threshold:
            return gradient, {}, False
        return gradient * (threshold / norm), {}, True


class SpsaGc(Spsa):
    """The released code's momentum variant: m <- b m + g, and the update is g + b m."""

    _config: SpsaGcOptions

    def _direction(self, gradient: Float64, norm: float) -> tuple[Float64, dict[str, Float64], bool]:  # noqa: ARG002
        b = self._config.momentum
        momentum = b * self._state.memory.get("momentum", np.zeros_like(gradient)) + gradient
        return gradient + b * momentum, {"momentum": momentum}, False
