"""Gauss-Newton on class scores, in random subspaces, one wait per round.

Random subspaces: Cartis and Roberts, Mathematical Programming 199, 2023. A generalised Gauss-Newton step for a convex
loss: Schraudolph, Neural Computation 14, 2002. Damping: Levenberg and Marquardt (More, 1978).
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from zip_ray.config.section import Positive
from zip_ray.optimizers.base import MethodOptions, Move, Optimizer, OptimizerState, Problem, Told
from zip_ray.optimizers.score_model import ScoreModel, cross_entropy, damped_steps
from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.messages import Query, ScoresWanted
from zip_ray.protocol.random_keys import Stream, generator, random_signs

SPREAD = 4.0
"""Factor between the dampings of two candidates, and from round to round. It falls as fast as it rises, so that a
mini-batch on which the previous point happens to be the best does not stop the steps for good."""
LEAST_DAMPING, MOST_DAMPING = 1e-5, 1.0
"""Largest damping: up to here, steps that fit only their own mini-batch still add up; beyond it they vanish."""
PATIENCE = 12
"""Consecutive rounds without gain after which the largest damping is raised: the scores are then nonlinear, rather than
the mini-batches different."""
OTHERS = 3
"""Points that a round tries beside the centre: with a smaller and a larger damping, and the previous point."""
LEAST_ROUND = 1 + OTHERS + 8
"""Queries of the smallest round: fewer than eight directions give too little information about the scores."""


class GaussNewtonOptions(MethodOptions):
    """Gauss-Newton steps on class scores."""

    compares: ClassVar[bool] = True
    rounds: ClassVar[bool] = True
    wants_scores: ClassVar[bool] = True
    brings: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "prompt": {"space": "context", "init": "auto"},
            "readout": "auto",
            "validation": {"every_queries": 1, "deploy": "lowest-loss"},
        }
    )
    method: Literal["gauss-newton"] = "gauss-newton"
    """Gauss-Newton steps on class scores, in random subspaces."""
    loss: Literal["cross-entropy"] = "cross-entropy"
    """Loss that the steps lower."""
    round_queries: Annotated[int, Field(ge=LEAST_ROUND)] | Literal["auto"] = "auto"
    """Queries of a round, all in flight at once. auto = as many as the actors can process at a time, at least 52 and at
    most 128; fewer if the budget is smaller, or divides into equal rounds that way."""
    perturbation_scale: Positive = 0.25
    """c: length of the steps by which the change of the scores is measured; 1 moves each number of the context by one
    standard deviation of the model's token embeddings."""
    damping: Positive = 0.03
    """lambda: damping of the first round. Later rounds use that of the best candidate."""

    @property
    def asks_per_step(self) -> int:
        """Queries of a round; for auto, which is made a number before the run begins, the fewest."""
        return LEAST_ROUND if self.round_queries == "auto" else self.round_queries


class _Point(NamedTuple):
    """A point that a round queried."""

    w: Float64
    """Shape (d,)."""
    scores: Float32
    """Shape (n, C)."""


class _Damping(NamedTuple):
    """lambda after the previous rounds."""

    value: float
    most: float
    failures: int = 0
    """Consecutive rounds in which the previous point was the best."""

    def after(self, best: int) -> "_Damping":
        """The damping of the next round, given the best point's place in this one."""
        failures, most = self.failures + 1 if best == OTHERS else 0, self.most
        if failures == PATIENCE:
            failures, most = 0, SPREAD * most
        return _Damping(min(max(self.value * _FOLLOWED.get(best, 1.0), LEAST_DAMPING), most), most, failures)


class GaussNewton(Optimizer):
    """A round, all on one mini-batch, asks for the scores L at the centre x, at x + c s z_k along random directions
    z_k of entries +1 or -1, and at the other candidates of the line search.

    The scores at x + s sum_k a_k z_k are modelled as L + sum_k a_k D_k, D_k = (L(x + c s z_k) - L(x)) / c; the offsets
    of the other candidates are directions too, so that the way back to a better one is open. The best point of the
    round is where the next step begins: it minimises the model's cross-entropy plus lambda / 2 |a|^2. With lambda as it
    is the minimum is the next centre; with lambda / 4 and 4 lambda there are two more candidates, and the point that
    the step begins from is the third. lambda follows the best of them.

    A round may be incomplete: a point whose scores are late or not finite is one row less. If that point is the centre,
    the mean of the points along the directions replaces it, with the mean of their scores: it is close to the centre,
    and the model, linear between the points, is the same.

    The state's `w` is the centre, which has not been queried yet; validation evaluates it.
    """

    Options = GaussNewtonOptions
    remedy = "lower optimizer.perturbation_scale"
    stall_remedy = "raise optimizer.perturbation_scale, or choose a larger model"

    def __init__(
        self, options: GaussNewtonOptions, seed: int, schedule_steps: int | None = None, problem: Problem | None = None
    ) -> None:
        """As `Optimizer`; `problem` is needed."""
        super().__init__(options, seed, schedule_steps, problem)
        assert problem is not None
        self._options, self._problem = options, problem
        self._wanted: dict[int, ScoresWanted] = {}
        """The scores that the latest round asks for, by its mini-batch."""

    def ask(self, state: OptimizerState, index: int) -> Query:
        """The query at the centre (place 0 in the round), at another candidate, or along a direction."""
        batch = self.batch(index)
        if batch not in self._wanted:
            self._wanted = {batch: self._problem.wanted(batch)}
        return Query(
            index=index,
            step=state.steps + 1,
            version=state.steps,
            w=state.w + self._offset(state, index % self.asks_per_step),
            batch=batch,
            scores=self._wanted[batch],
        )

    def _offset(self, state: OptimizerState, place: int) -> Float64:
        """Offset of a place in the round from its centre, shape (d,)."""
        others = state.memory.get("others", ())
        if place == 0:
            return np.zeros_like(state.w)
        if place <= len(others):
            return np.asarray(others[place - 1] - state.w)
        return self._options.perturbation_scale * self._direction(state, place)

    def _direction(self, state: OptimizerState, place: int) -> Float64:
        """s z of a place: the first is along the latest step, the others are drawn."""
        size, unit = state.w.size, self._problem.unit
        latest = state.memory.get("step")
        if latest is not None and place == 1 + len(state.memory["others"]) and (length := np.linalg.norm(latest)):
            return np.asarray(latest / length * unit * np.sqrt(size))
        return unit * random_signs(generator(self._seed, Stream.DIRECTION, state.steps + 1, place), size)

    def _move(self, state: OptimizerState, told: Sequence[Told]) -> Move | None:
        found = {
            ask.index % self.asks_per_step: _Point(ask.w, result.scores[0])
            for ask, result in told
            if result.scores is not None
        }
        tried = len(state.memory.get("others", ()))
        if 0 not in found:
            around = [point for place, point in sorted(found.items()) if place > tried]
            if not around:
                return self._back(state, found)
            found[0] = _Point(
                np.stack([point.w for point in around]).mean(axis=0),
                np.stack([point.scores for point in around]).mean(axis=0),
            )
        targets = self._problem.targets_of(told[0].ask.batch, found[0].scores.shape[1])
        losses = {place: cross_entropy(found[place].scores, targets) for place in sorted(found) if place <= tried}
        best = min(losses, key=lambda place: losses[place])
        others = [point for place, point in sorted(found.items()) if place != 0]
        if not others:
            return None
        offsets = np.stack([point.w for point in others]) - found[0].w
        # Offsets of one length, so that one damping suits all; an offset of length 0 is left out.
        lengths = np.linalg.norm(offsets, axis=1) / (self._problem.unit * np.sqrt(state.w.size))
        if not lengths.any():
            return None
        scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        changes: Float32 = np.stack([point.scores for point in others]) - found[0].scores
        secants = changes * scale[:, None, None].astype(np.float32)
        model = ScoreModel(found[best].scores.astype(np.float64), secants, targets)
        damping = self._damping(state).after(best)
        dampings = [damping.value / SPREAD, damping.value, damping.value * SPREAD]
        smaller, middle, larger = (np.stack(damped_steps(model, dampings)) * scale) @ offsets
        origin = found[best].w
        memory = {
            "others": np.stack([origin + smaller, origin + larger, origin]),
            "step": middle,
            "damping": np.array(damping),
        }
        return Move(origin + middle, memory)

    def _back(self, state: OptimizerState, found: Mapping[int, object]) -> Move | None:
        """To a candidate that has scores, with more damping, where neither the centre nor a direction has."""
        others = state.memory.get("others", ())
        for place in range(len(others), 0, -1):  # the previous point comes last, and is the safest
            if place in found:
                damping = np.array(self._damping(state).after(OTHERS))
                return Move(others[place - 1], {"others": np.empty((0, state.w.size)), "damping": damping})
        return None

    def _damping(self, state: OptimizerState) -> _Damping:
        if (kept := state.memory.get("damping")) is None:
            first = self._options.damping
            return _Damping(first, max(MOST_DAMPING, first))
        value, most, failures = kept.tolist()
        return _Damping(value, most, int(failures))


_FOLLOWED = {1: 1 / SPREAD, 2: SPREAD, 3: SPREAD}
"""Factor of the damping if this place in the round was the best."""
