"""Optimisers on a small quadratic: what the tests of methods share."""

from collections.abc import Callable, Sequence

import numpy as np

from tests.support.fakes import BATCH_SIZE, FACTS, SEED, two_scores
from zip_ray.config.tree import Config
from zip_ray.optimizers import MethodOptions, Optimizer, OptimizerState, Problem, StepReport, method_class
from zip_ray.optimizers.base import Told
from zip_ray.protocol.messages import Ask, AskResult, Gradient
from zip_ray.protocol.mini_batches import asked_images
from zip_ray.protocol.perturbations import points

PROBLEM = Problem(FACTS.labels, BATCH_SIZE, SEED, unit=0.5)
"""The images of a `FakeScorer`."""


def quadratic(w: np.ndarray) -> float:
    return float(0.5 * np.sum(np.arange(1, w.size + 1) * (w - 1) ** 2))


def options_of(method: str = "zip", **settings: object) -> MethodOptions:
    """The options of a method, as a config would read them."""
    return Config.model_validate({"optimizer": {"method": method, **settings}}).optimizer


def make_optimizer(options: MethodOptions, seed: int, schedule_steps: int | None = None) -> Optimizer:
    """The method of these options."""
    problem = [PROBLEM] if options.wants_scores else []
    made: Optimizer = method_class(options.method)(options, seed, schedule_steps, *problem)
    return made


def answer(ask: Ask, loss: Callable[[np.ndarray], float] = quadratic) -> AskResult:
    """The result of an ask; a gradient is that of the quadratic, whatever the loss. Scores have the loss as their
    cross-entropy."""
    gradient = np.arange(1, ask.w.size + 1) * (ask.w - 1) if isinstance(ask, Gradient) else None
    losses = tuple(loss(w) for w in points(ask))
    if ask.scores is None:
        return AskResult(losses, 0.5, gradient)
    labels = FACTS.labels[asked_images(ask, len(FACTS.labels), BATCH_SIZE, SEED)]
    return AskResult(losses, 0.5, gradient, two_scores(losses, labels))


class Stepper:
    """An optimiser stepped by hand, synchronously."""

    def __init__(self, options: MethodOptions, w: np.ndarray, seed: int, schedule_steps: int | None = None) -> None:
        self.optimizer = make_optimizer(options, seed, schedule_steps)
        self.state = OptimizerState(w)

    def ask_step(self) -> list[Ask]:
        """The asks of the coming step."""
        each = self.optimizer.asks_per_step
        return [self.optimizer.ask(self.state, self.state.steps * each + place) for place in range(each)]

    def tell(self, asks: Sequence[Ask], results: Sequence[AskResult]) -> StepReport:
        """Make the step of these results."""
        told = [Told(ask, result) for ask, result in zip(asks, results, strict=True)]
        self.state, report = self.optimizer.tell(self.state, told)
        return report

    def do_step(self, loss: Callable[[np.ndarray], float] = quadratic) -> StepReport:
        """A whole step."""
        asks = self.ask_step()
        return self.tell(asks, [answer(ask, loss) for ask in asks])
