"""SPSA and its variants: pairs out, one update for every K of them.

Sources: Spall 1992 (SPSA); Park et al., ICLR 2025 (ZIP) and its released code (spsa, spsa-gc).
"""

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from zip_ray.config.section import Count, Positive
from zip_ray.optimizers.base import MethodOptions, Move, Optimizer, OptimizerState, Told
from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.messages import Pair, Perturbation, PerturbationLaw
from zip_ray.protocol.perturbations import perturbation


class PairOptions(MethodOptions):
    """What the methods have in common that estimate the gradient from pairs."""

    queries_per_ask: ClassVar[int] = 2
    pairs_per_step: Count = 5
    """K: pairs averaged in one step, of 2 K queries."""
    step_size: Positive = 0.01
    """a, in a_k = a / (k + o)^alpha: the gain of update k. k = 1, 2, ..."""
    step_size_decay: Annotated[float, Field(ge=0, le=1)] = 0.4
    """alpha: how fast the step size falls."""
    step_size_offset: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """o: offset of the step size's counter."""
    perturbation: PerturbationLaw = "segmented-uniform"
    """Distribution of the entries of z. segmented-uniform = a random sign times U[0.5, 1]; random-sign = random
    signs."""
    perturbation_scale: Positive = 0.01
    """c, in c_k = c / k^gamma: half a pair's distance. Its two queries are at w + c_k z and w - c_k z."""
    perturbation_decay: Annotated[float, Field(ge=0, le=1)] = 0.1
    """gamma: how fast the perturbation scale falls."""

    @property
    def asks_per_step(self) -> int:
        """Pairs of one step."""
        return self.pairs_per_step

    @property
    def probe(self) -> tuple[PerturbationLaw, float]:
        """Law and scale of the method's own pairs at the start."""
        return self.perturbation, self.perturbation_scale


class SpsaOptions(PairOptions):
    """SPSA without clipping (Spall, 1992)."""

    method: Literal["spsa"] = "spsa"
    """SPSA without clipping."""


class ZipOptions(PairOptions):
    """ZIP: SPSA with clipping; the defaults are the published gains. Park et al., ICLR 2025."""

    method: Literal["zip"] = "zip"
    """SPSA with clipping."""
    clip_norm: Literal["intrinsic"] | Positive = "intrinsic"
    """Norm to clip at; intrinsic = sqrt(d). It is of the estimate of the gradient; d is the number of parameters."""


class SpsaGcOptions(PairOptions):
    """SPSA with momentum, as in the released code."""

    method: Literal["spsa-gc"] = "spsa-gc"
    """SPSA with momentum."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.8
    """b, in m <- b m + g; the update is g + b m."""


class Spsa(Optimizer):
    """Simultaneous perturbation stochastic approximation with K averaged pairs per step; no clipping.

    g_j = (L(w_j + c_j z_j) - L(w_j - c_j z_j)) / (2 c_j) / z_j elementwise, g = mean_j g_j, w <- w - a_k g, where w_j
    and c_j are those at which pair j was asked. The gains are a_k = a / (k + o)^alpha and c_k = c / k^gamma, k = 1, 2,
    ... (Spall, IEEE Trans. Aerospace and Electronic Systems, 1998).
    """

    Options: ClassVar[type[PairOptions]] = SpsaOptions
    remedy = "lower optimizer.step_size or optimizer.perturbation_scale"
    stall_remedy = (
        "raise optimizer.step_size and optimizer.perturbation_scale tenfold, or use optimizer.method gauss-newton, "
        "which needs no gains"
    )

    def __init__(self, options: PairOptions, seed: int, schedule_steps: int | None = None) -> None:
        """As `Optimizer`."""
        super().__init__(options, seed, schedule_steps)
        self._options = options

    def ask(self, state: OptimizerState, index: int) -> Pair:
        """The pair of that number, at the scale of the coming step."""
        o, step, batch = self._options, state.steps + 1, self.batch(index)
        return Pair(
            index=index,
            step=step,
            version=state.steps,
            w=state.w,
            batch=batch,
            scale=o.perturbation_scale / float(step**o.perturbation_decay),
            perturbation=Perturbation(o.perturbation, self._seed, batch, index % self.asks_per_step),
        )

    def _move(self, state: OptimizerState, told: Sequence[Told]) -> Move:
        o, k = self._options, state.steps + 1
        gradient = self._estimate(told)
        norm = math.sqrt(gradient.dot(gradient))
        direction, memory, clipped = self._direction(state, gradient, norm)
        step_size = o.step_size / float((k + o.step_size_offset) ** o.step_size_decay)
        return Move(state.w - step_size * direction, memory, norm, clipped)

    def _estimate(self, told: Sequence[Told]) -> Float64:
        """Mean of the pairs' estimates, shape (d,), summed in the order of their numbers."""
        total = np.zeros(told[0].ask.w.size)
        for pair, result in told:
            assert isinstance(pair, Pair)
            plus, minus = result.losses
            total += (plus - minus) / (2 * pair.scale) / perturbation(pair.perturbation, total.size)
        return total / len(told)

    def _direction(
        self,
        state: OptimizerState,  # noqa: ARG002
        gradient: Float64,
        norm: float,  # noqa: ARG002
    ) -> tuple[Float64, dict[str, Float64], bool]:
        """The update (subtracted times a_k), the new memory, and whether the estimate was clipped."""
        return gradient, {}, False


class Zip(Spsa):
    """ZIP: SPSA with clipping: if ||g|| >= t, g <- g t / ||g||, where t is sqrt(d) (intrinsic) or a given number.

    Park et al., ICLR 2025, section 4.3.
    """

    Options = ZipOptions

    def __init__(self, options: ZipOptions, seed: int, schedule_steps: int | None = None) -> None:
        """As `Optimizer`."""
        super().__init__(options, seed, schedule_steps)
        self._clip_norm = options.clip_norm

    def _direction(
        self,
        state: OptimizerState,  # noqa: ARG002
        gradient: Float64,
        norm: float,
    ) -> tuple[Float64, dict[str, Float64], bool]:
        threshold = math.sqrt(gradient.size) if self._clip_norm == "intrinsic" else self._clip_norm
        if norm < threshold:
            return gradient, {}, False
        return gradient * (threshold / norm), {}, True


class SpsaGc(Spsa):
    """The released code's momentum variant: m <- b m + g, and the update is g + b m."""

    Options = SpsaGcOptions

    def __init__(self, options: SpsaGcOptions, seed: int, schedule_steps: int | None = None) -> None:
        """As `Optimizer`."""
        super().__init__(options, seed, schedule_steps)
        self._momentum = options.momentum

    def _direction(
        self,
        state: OptimizerState,
        gradient: Float64,
        norm: float,  # noqa: ARG002
    ) -> tuple[Float64, dict[str, Float64], bool]:
        b = self._momentum
        momentum = b * state.memory.get("momentum", np.zeros_like(gradient)) + gradient
        return gradient + b * momentum, {"momentum": momentum}, False
