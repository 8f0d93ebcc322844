"""An optimiser stepped by hand on a small quadratic."""

from collections.abc import Callable, Sequence

import numpy as np

from zip_ray.optimizers.base import Optimizer, OptimizerState, Problem, StepReport, Told
from zip_ray.protocol.arrays import Float32, Float64, Int64
from zip_ray.protocol.messages import Ask, AskResult, Gradient
from zip_ray.protocol.mini_batches import asked_images
from zip_ray.protocol.perturbations import points

LABELS: Int64 = np.arange(8) % 2
"""Labels of eight images in two classes."""
BATCH_SIZE, SEED = 128, 1
PROBLEM = Problem(LABELS, BATCH_SIZE, SEED, unit=0.5)
"""Facts about them for a method on class scores."""


def quadratic(w: Float64) -> float:
    """L(w) = sum_i i (w_i - 1)^2 / 2, 0 at ones."""
    return float(0.5 * np.sum(np.arange(1, w.size + 1) * (w - 1) ** 2))


def two_scores(losses: Sequence[float], labels: Int64) -> Float32:
    """Logits of two classes whose cross-entropies are these losses, the own class at 0: (losses, images, 2)."""
    other = np.log(np.expm1(np.asarray(losses)))[:, None] * np.ones(len(labels))
    own = np.arange(2) == labels[:, None]
    return np.where(own, 0.0, other[..., None]).astype(np.float32)


def answer(ask: Ask, loss: Callable[[Float64], float] = quadratic) -> AskResult:
    """The result of an ask; a gradient is that of the quadratic, whatever the loss. Scores have the loss as their
    cross-entropy."""
    gradient = np.arange(1, ask.w.size + 1) * (ask.w - 1) if isinstance(ask, Gradient) else None
    losses = tuple(loss(w) for w in points(ask))
    if ask.scores is None:
        return AskResult(losses, 0.5, gradient)
    labels = LABELS[asked_images(ask, len(LABELS), BATCH_SIZE, SEED)]
    return AskResult(losses, 0.5, gradient, two_scores(losses, labels))


class Stepper:
    """An optimiser with its state, synchronously."""

    def __init__(self, optimizer: Optimizer, w: Float64) -> None:
        """Start at the parameters `w`, before the first step."""
        self.optimizer, self.state = optimizer, OptimizerState(w)

    def ask_step(self) -> list[Ask]:
        """The asks of the next step."""
        each = self.optimizer.asks_per_step
        return [self.optimizer.ask(self.state, self.state.steps * each + place) for place in range(each)]

    def tell(self, asks: Sequence[Ask], results: Sequence[AskResult]) -> StepReport:
        """Make the step that these results determine."""
        told = [Told(ask, result) for ask, result in zip(asks, results, strict=True)]
        self.state, report = self.optimizer.tell(self.state, told)
        return report

    def do_step(self, loss: Callable[[Float64], float] = quadratic) -> StepReport:
        """A whole step."""
        asks = self.ask_step()
        return self.tell(asks, [answer(ask, loss) for ask in asks])
