"""Random search with normal steps around the best point so far (Matyas, Automation and Remote Control 26, 1965)."""

from typing import Literal

from zip_ray.config.section import Positive
from zip_ray.optimizers.base import Move
from zip_ray.optimizers.pivot import Pivot, PivotOptions
from zip_ray.protocol.messages import Float64


class RandomSearchOptions(PivotOptions):
    """Random search."""

    method: Literal["random-search"] = "random-search"
    """The best of some normal steps."""
    step_std: Positive = 0.3
    """sigma: standard deviation of the steps, in units of the parameters."""


class RandomSearch(Pivot):
    """Moves to the best of K points w + sigma z, z ~ N(0, I), where it is better than w on the same mini-batch."""

    remedy = "lower optimizer.step_std"
    _config: RandomSearchOptions

    def _shift(self, normal: Float64) -> Float64:
        return self._config.step_std * normal

    def _compare(self, pivot: float, losses: dict[int, float]) -> Move:
        best = min(losses, key=losses.__getitem__)
        w = self._state.w
        return Move(w + self._offset(best) if losses[best] < pivot else w, {})
