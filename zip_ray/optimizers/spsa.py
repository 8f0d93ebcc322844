"""SPSA and its variants: pairs out, one update for every K of them.

Sources: Spall 1992 (SPSA); Park et al., ICLR 2025 (ZIP) and its released code (spsa, spsa-gc).
"""

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from zip_ray.config.section import Count, Positive
from zip_ray.optimizers import calibration
from zip_ray.optimizers.base import MethodOptions, Move, Optimizer, OptimizerState, Told
from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.messages import Pair, Perturbation, PerturbationLaw
from zip_ray.protocol.perturbations import perturbation

PUBLISHED = 0.01
"""Both gains of ZIP's authors; taken where a calibration finds nothing to measure."""


class _Gains(NamedTuple):
    """The gains of a run."""

    step_size: float
    """a."""
    perturbation_scale: float
    """c."""
    steps: int = 0
    """Steps done before the first update: k counts from there."""


class PairOptions(MethodOptions):
    """What the methods have in common that estimate the gradient from pairs."""

    queries_per_ask: ClassVar[int] = 2
    pairs_per_step: Count = 5
    """K: pairs averaged in one step, of 2 K queries."""
    step_size: Positive | Literal["auto"] = 0.01
    """a, in a_k = a / (k + o)^alpha: the gain of update k. k = 1, 2, ... auto = the first update moves as far as a
    perturbation; 40 pairs before it measure the slopes."""
    step_size_decay: Annotated[float, Field(ge=0, le=1)] = 0.4
    """alpha: how fast the step size falls."""
    step_size_offset: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """o: offset of the step size's counter."""
    perturbation: PerturbationLaw = "segmented-uniform"
    """Distribution of the entries of z. segmented-uniform = a random sign times U[0.5, 1]; random-sign = random
    signs."""
    perturbation_scale: Positive | Literal["auto"] = 0.01
    """c, in c_k = c / k^gamma: half a pair's distance. Its two queries are at w + c_k z and w - c_k z. auto = the
    largest at which the loss is still nearly linear; 40 pairs before the first update measure it."""
    perturbation_decay: Annotated[float, Field(ge=0, le=1)] = 0.1
    """gamma: how fast the perturbation scale falls."""

    @property
    def asks_per_step(self) -> int:
        """Pairs of one step."""
        return self.pairs_per_step

    @property
    def probe(self) -> tuple[PerturbationLaw, float]:
        """Law and scale of the method's own pairs at the start."""
        return self.perturbation, PUBLISHED if self.perturbation_scale == "auto" else self.perturbation_scale

    @property
    def calibrates(self) -> bool:
        """Whether the run chooses gains by itself."""
        return "auto" in (self.step_size, self.perturbation_scale)


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
        "set optimizer.step_size and optimizer.perturbation_scale to auto, or use optimizer.method gauss-newton, which "
        "needs no gains"
    )

    def __init__(self, options: PairOptions, seed: int, schedule_steps: int | None = None) -> None:
        """As `Optimizer`."""
        super().__init__(options, seed, schedule_steps)
        self._options = options
        steps = -(-calibration.PAIRS // self.asks_per_step) if options.calibrates else 0
        self._ladder = steps * self.asks_per_step
        """Asks by which the gains are chosen: the first ones, all on one mini-batch."""

    def batch(self, index: int) -> int:
        return 1 if index < self._ladder else super().batch(index - self._ladder) + bool(self._ladder)

    def ask(self, state: OptimizerState, index: int) -> Pair:
        """The pair of that number, at the scale of the coming step; the first ones of a run that chooses its gains try
        scales."""
        o, batch, number = self._options, self.batch(index), index % self.asks_per_step
        if index < self._ladder:
            scale, number = calibration.place(index)
        elif (gains := self._gains(state)) is None:  # asynchronous: the last of the ladder are still in flight
            scale = PUBLISHED
        else:
            scale = gains.perturbation_scale / float((state.steps + 1 - gains.steps) ** o.perturbation_decay)
        return Pair(
            index=index,
            step=state.steps + 1,
            version=state.steps,
            w=state.w,
            batch=batch,
            scale=scale,
            perturbation=Perturbation(o.perturbation, self._seed, batch, number),
        )

    def chosen(self, state: OptimizerState) -> dict[str, float]:
        """The gains, where the run has chosen them."""
        gains = self._gains(state)
        if gains is None or not self._options.calibrates:
            return {}
        return {"step_size": gains.step_size, "perturbation_scale": gains.perturbation_scale}

    def _move(self, state: OptimizerState, told: Sequence[Told]) -> Move:
        if (gains := self._gains(state)) is None:
            return self._calibrate(state, told)
        o, k = self._options, state.steps + 1 - gains.steps
        gradient = self._estimate(told)
        norm = math.sqrt(gradient.dot(gradient))
        direction, memory, clipped = self._direction(state, gradient, norm)
        step_size = gains.step_size / float((k + o.step_size_offset) ** o.step_size_decay)
        if o.calibrates:
            memory["gains"] = np.array(gains)
        return Move(state.w - step_size * direction, memory, norm, clipped)

    def _gains(self, state: OptimizerState) -> _Gains | None:
        """The config's gains, or those the run found; None until it has found them."""
        o = self._options
        if o.step_size != "auto" and o.perturbation_scale != "auto":
            return _Gains(o.step_size, o.perturbation_scale)
        if (found := state.memory.get("gains")) is None:
            return None
        step_size, perturbation_scale, steps = found.tolist()
        return _Gains(step_size, perturbation_scale, int(steps))

    def _calibrate(self, state: OptimizerState, told: Sequence[Told]) -> Move:
        """Do not move, but record the pairs of the ladder; after the last pair, choose the gains."""
        before = state.memory.get("trials", np.empty((0, 4)))
        rows = [
            calibration.Trial(pair.scale, pair.perturbation.index, slope, one.result.loss)
            for one in told
            if one.ask.index < self._ladder
            for pair, slope in [_slope(one)]
        ]
        trials = np.concatenate([before, np.reshape(rows, (-1, 4))])
        steps = state.steps + 1
        if steps * self.asks_per_step < self._ladder:
            return Move(state.w, {"trials": trials})
        return Move(state.w, {"gains": np.array(self._choose(trials, state.w.size, steps))})

    def _choose(self, trials: Float64, size: int, steps: int) -> _Gains:
        o, found = self._options, calibration.slopes(calibration.Trial(*row) for row in trials.tolist())
        if found is None:
            step_size = PUBLISHED if o.step_size == "auto" else o.step_size
            return _Gains(step_size, PUBLISHED if o.perturbation_scale == "auto" else o.perturbation_scale, steps)
        scale = found.scale if o.perturbation_scale == "auto" else o.perturbation_scale
        if o.step_size != "auto":
            return _Gains(o.step_size, scale, steps)
        drawn = {number: self._drawn(number, size) for number in found.quotients}
        squares = [float(np.sum((slope / drawn[number]) ** 2)) for number, slope in found.quotients.items()]
        norm = math.sqrt(float(np.mean(squares)) / self.asks_per_step)  # norm of the mean of a step's estimates
        square = float(np.mean([z.dot(z) for z in drawn.values()]))
        distance = scale * math.sqrt(square)
        if found.curvature > 0:
            # The mean of K estimates g in random directions has |g|^2 = d |grad L|^2 / K and g^T H g = |g|^2 tr(H) / d,
            # so that the step a g lowers a quadratic most at a = K / tr(H).
            trace = found.curvature * size / square
            distance = min(distance, self.asks_per_step / trace * norm)
        first = (1 + o.step_size_offset) ** o.step_size_decay
        return _Gains(first * distance / self._reach(norm, size), scale, steps)

    def _drawn(self, number: int, size: int) -> Float64:
        """A direction of the ladder."""
        return perturbation(Perturbation(self._options.perturbation, self._seed, 1, number), size)

    def _reach(self, norm: float, size: int) -> float:  # noqa: ARG002 - a subclass clips by the size
        """How far an estimate of this norm moves d parameters in the end, at a step size of 1."""
        return norm

    def _estimate(self, told: Sequence[Told]) -> Float64:
        """Mean of the pairs' estimates, shape (d,), summed in the order of their numbers."""
        total = np.zeros(told[0].ask.w.size)
        for pair, slope in map(_slope, told):
            total += slope / perturbation(pair.perturbation, total.size)
        return total / len(told)

    def _direction(
        self,
        state: OptimizerState,  # noqa: ARG002
        gradient: Float64,
        norm: float,  # noqa: ARG002
    ) -> tuple[Float64, dict[str, Float64], bool]:
        """The update (subtracted times a_k), the new memory, and whether the estimate was clipped."""
        return gradient, {}, False


def _slope(told: Told) -> tuple[Pair, float]:
    """A pair and its difference quotient, (L(w + c z) - L(w - c z)) / (2 c)."""
    pair, (plus, minus) = told.ask, told.result.losses
    assert isinstance(pair, Pair)
    return pair, (plus - minus) / (2 * pair.scale)


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
        threshold = self._threshold(gradient.size)
        if norm < threshold:
            return gradient, {}, False
        return gradient * (threshold / norm), {}, True

    def _reach(self, norm: float, size: int) -> float:
        return min(norm, self._threshold(size))

    def _threshold(self, size: int) -> float:
        return math.sqrt(size) if self._clip_norm == "intrinsic" else self._clip_norm


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

    def _reach(self, norm: float, size: int) -> float:  # noqa: ARG002
        return norm / (1 - self._momentum)  # g + b m, summed over every m that contains g
