"""Optimisers on a small quadratic: what the tests of methods share."""

import random

import numpy as np

from zip_ray.optimizers import Optimizer, StepReport, points
from zip_ray.protocol.messages import Ask, AskResult, Gradient, GradientResult, Pair, PairResult, QueryResult


def quadratic(w: np.ndarray) -> float:
    return float(0.5 * np.sum(np.arange(1, w.size + 1) * (w - 1) ** 2))


def answer(ask: Ask, loss=quadratic) -> AskResult:
    """A gradient is that of the quadratic, whatever the loss."""
    losses = [loss(w) for w in points(ask)]
    if isinstance(ask, Pair):
        return PairResult(ask.id, *losses, accuracy=0.5)
    if isinstance(ask, Gradient):
        return GradientResult(ask.id, *losses, 0.5, np.arange(1, ask.w.size + 1) * (ask.w - 1))
    return QueryResult(ask.id, *losses, accuracy=0.5)


def ask_step(optimizer: Optimizer) -> list[Ask]:
    asks = []
    while (ask := optimizer.ask()) is not None:
        asks.append(ask)
    return asks


def do_step(optimizer: Optimizer, loss=quadratic, shuffle: random.Random | None = None) -> StepReport:
    """A synchronous step, its answers in any order."""
    asks = ask_step(optimizer)
    if shuffle is not None:
        shuffle.shuffle(asks)
    reports = [optimizer.tell(answer(ask, loss)) for ask in asks]
    assert all(report is None for report in reports[:-1])
    assert reports[-1] is not None
    return reports[-1]
