"""Common part of one-sided estimates and random search: one query at w, K around it, all on one mini-batch."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from zip_ray.config.section import Count
from zip_ray.optimizers.base import MethodOptions, Move, Optimizer, OptimizerState, Told
from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.messages import Query
from zip_ray.protocol.random_keys import Stream, generator


class PivotOptions(MethodOptions):
    """What the methods have in common that query the current point and others around it."""

    compares: ClassVar[bool] = True
    points: Count = 5
    """Points around the current one, which is queried too: a step costs points + 1."""

    @property
    def asks_per_step(self) -> int:
        """Queries of one step."""
        return self.points + 1


class Pivot(Optimizer):
    """Asks w + s_j for j = 0 .. K, s_0 = 0. A step whose query at w is not finite moves nothing."""

    @abstractmethod
    def _shift(self, normal: Float64) -> Float64:
        """s_j, from standard normal numbers of shape (d,)."""

    @abstractmethod
    def _compare(self, state: OptimizerState, pivot: float, losses: dict[int, float]) -> Move:
        """The update that the losses at w and, by j, at the points around it make."""

    def ask(self, state: OptimizerState, index: int) -> Query:
        """The query at w, or at one of the points around it."""
        place, w = index % self.asks_per_step, state.w
        point = w + self._offset(state, place) if place else w
        return Query(index=index, step=state.steps + 1, version=state.steps, w=point, batch=self.batch(index))

    def _move(self, state: OptimizerState, told: Sequence[Told]) -> Move | None:
        losses = {one.ask.index % self.asks_per_step: one.result.loss for one in told}
        pivot = losses.pop(0, None)
        return self._compare(state, pivot, losses) if pivot is not None and losses else None

    def _offset(self, state: OptimizerState, place: int) -> Float64:
        rng = generator(self._seed, Stream.DIRECTION, state.steps + 1, place)
        return self._shift(rng.standard_normal(state.w.size))
