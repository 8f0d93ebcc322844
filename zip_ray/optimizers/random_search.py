"""Random search with normal steps around the best point so far (Matyas, Automation and Remote Control 26, 1965)."""

from typing import Literal

from zip_ray.config.section import Positive
from zip_ray.optimizers.base import Move, OptimizerState
from zip_ray.optimizers.pivot import Pivot, PivotOptions
from zip_ray.protocol.arrays import Float64


class RandomSearchOptions(PivotOptions):
    """Random search."""

    method: Literal["random-search"] = "random-search"
    """The best of some normal steps."""
    step_std: Positive = 0.3
    """sigma: standard deviation of the steps."""


class RandomSearch(Pivot):
    """Moves to the best of K points w + sigma z, z ~ N(0, I), if it is better than w on the same mini-batch."""

    Options = RandomSearchOptions
    remedy = "lower optimizer.step_std"

    def __init__(self, options: RandomSearchOptions, seed: int, schedule_steps: int | None = None) -> None:
        """As `Optimizer`."""
        super().__init__(options, seed, schedule_steps)
        self._options = options

    def _shift(self, normal: Float64) -> Float64:
        return self._options.step_std * normal

    def _compare(self, state: OptimizerState, pivot: float, losses: dict[int, float]) -> Move:
        best = min(losses, key=losses.__getitem__)
        return Move(state.w + self._offset(state, best) if losses[best] < pivot else state.w)
