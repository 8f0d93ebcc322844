"""Scorers without a model, beside the one of `zip_ray.testing`: those that are slow, hang, or are never built."""

import os
import time
from dataclasses import replace
from pathlib import Path

from zip_ray.protocol.messages import Evaluation, Pass, Priority, Value, Work
from zip_ray.testing.fake_scorer import (
    FACTS,
    SHAPE,
    FakeScorer,
    OutOfMemoryError,
    accuracy,
    evaluation_work,
    loss,
    make_pair,
    pair_work,
    refused_build,
)
from zip_ray.testing.stepper import BATCH_SIZE, LABELS, SEED, two_scores

__all__ = [
    "BATCH_SIZE",
    "FACTS",
    "LABELS",
    "SEED",
    "SHAPE",
    "FakeScorer",
    "OutOfMemoryError",
    "accuracy",
    "evaluation_work",
    "loss",
    "make_pair",
    "pair_work",
    "refused_build",
    "two_scores",
]


def numbered_pair(number: int) -> Work:
    """Pair number `number`, whose work has that id: not for pools that number works themselves."""
    return Work(number, Priority.QUERY, Pass((make_pair(number),)))


def numbered_evaluation(number: int) -> Work:
    """An evaluation with this id: not for pools that number works themselves."""
    return Work(number, Priority.EVALUATION, Evaluation("val", "a photo of a {}."))


def uneven_build(scorer: FakeScorer, broken: int, slow: int) -> FakeScorer:
    """Of a run's actors, the first `broken` fail to start, and the next `slow` are ten times slower."""
    assert scorer.marks is not None
    turn = 0
    while not scorer._first(f"built-{turn}"):
        turn += 1
    if turn < broken:
        raise RuntimeError("CUDA error: device busy")
    return replace(scorer, delay=10 * scorer.delay) if turn < broken + slow else scorer


def broken_build() -> FakeScorer:
    raise RuntimeError("no weights here")


def dying_build() -> FakeScorer:
    os._exit(1)


class UnevenScorer(FakeScorer):
    """The first scorer built is slow; an answer to a pair reports its delay as accuracy."""

    def __init__(self, marks: Path, slow: float) -> None:
        super().__init__(marks=marks)
        object.__setattr__(self, "delay", slow if self._first("built") else 0.0)

    def answer(self, work: Work) -> Value:
        value = super().answer(work)
        if not isinstance(work.body, Pass):
            return value
        return tuple(replace(one, accuracy=self.delay) for one in value)


def hanging_build(marks: Path) -> FakeScorer:
    """The first build never finishes."""
    scorer = FakeScorer(marks=marks)
    if scorer._first("built"):
        time.sleep(3600)
    return scorer


def build_when_told(marks: Path) -> FakeScorer:
    """Waits for a file named `build` in the folder."""
    while not (marks / "build").exists():
        time.sleep(0.05)
    return FakeScorer()
