"""White box: gradient descent by backpropagation, an upper bound for the black-box methods."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from zip_ray.config.section import Positive
from zip_ray.optimizers.base import MethodOptions, Move, Optimizer, OptimizerState, Told
from zip_ray.protocol.messages import Gradient

DECAY, SQUARE_DECAY, EPSILON = 0.9, 0.999, 1e-8


class GradientOptions(MethodOptions):
    """Backpropagation, which needs white-box access: an upper bound, not a rival."""

    method: Literal["gradient"] = "gradient"
    """Backpropagation: an upper bound."""
    learning_rate: Positive = 0.002
    """Adam's. It falls to 0 over the whole run by a cosine."""

    def schedule_steps(self, planned: int | None, steps_per_epoch: int) -> int | None:  # noqa: ARG002
        """Steps over which the learning rate falls: all of the run."""
        return planned


class GradientDescent(Optimizer):
    """Adam (Kingma, Ba, ICLR 2015) with CoOp's cosine decay (Zhou et al., IJCV 2022).

    l_k = l (1 + cos(pi (k - 1) / T)) / 2 over the planned steps T. Adam rather than CoOp's SGD: gradients with respect
    to ZIP's factors and to a context differ in size by orders of magnitude, and Adam's step does not depend on it.
    """

    Options = GradientOptions
    remedy = "lower optimizer.learning_rate"

    def __init__(self, options: GradientOptions, seed: int, schedule_steps: int | None = None) -> None:
        """As `Optimizer`."""
        super().__init__(options, seed, schedule_steps)
        self._options = options

    def ask(self, state: OptimizerState, index: int) -> Gradient:
        """The gradient at w; one per step."""
        return Gradient(index=index, step=state.steps + 1, version=state.steps, w=state.w, batch=self.batch(index))

    def _move(self, state: OptimizerState, told: Sequence[Told]) -> Move:
        ((_, result),) = told
        g, w, memory = result.gradient, state.w, state.memory
        assert g is not None
        zero = np.zeros_like(w)
        mean = DECAY * memory.get("mean", zero) + (1 - DECAY) * g
        square = SQUARE_DECAY * memory.get("square", zero) + (1 - SQUARE_DECAY) * g**2
        moves = memory.get("moves", np.zeros(1)) + 1
        step = mean / (1 - DECAY**moves) / (np.sqrt(square / (1 - SQUARE_DECAY**moves)) + EPSILON)
        rate = self._options.learning_rate * (1 + np.cos(np.pi * self._progress(state.steps))) / 2
        memory = {"mean": mean, "square": square, "moves": moves}
        return Move(w - rate * step, memory, float(np.linalg.norm(g)))
