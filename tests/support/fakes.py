"""Scorers without a model: a quadratic loss, with faults on request. numpy only, picklable."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zip_ray.errors import InputError
from zip_ray.optimizers import points
from zip_ray.protocol.messages import (
    Ask,
    AskResult,
    Crops,
    CropsResult,
    Encoding,
    EncodingResult,
    Evaluation,
    EvaluationResult,
    Gradient,
    GradientResult,
    Pair,
    PairResult,
    Pass,
    PassResult,
    Perturbation,
    Query,
    QueryResult,
    Result,
    Slice,
    SliceResult,
    Work,
)
from zip_ray.protocol.facts import Facts, ModelShape, Prompt
from zip_ray.protocol.arrays import Float64

SHAPE = ModelShape(np.zeros((2, 8), np.float32), 0.5, (8, 8), None)
FACTS = Facts(
    shape=SHAPE,
    classnames=("left", "right"),
    template="a photo of a {}.",
    templates=("a photo of a {}.",),
    suffix=".",
    images={"train": 8, "val": 4, "test": 6},
    model="fake",
    pretrained=None,
    weights_digest="0" * 64,
    preprocess={"size": 8},
    logit_scale=10.0,
    device="cpu",
    text_pass="shared prefix",
    precision="",
)


@dataclass(frozen=True)
class FakeScorer:
    """L(w) = mean (w - 1)^2 / 2 plus a little of the batch; accuracy grows as w nears 1."""

    delay: float = 0.0
    """Seconds an answer takes."""
    die_at: tuple[int, ...] = ()
    """Pair ids at which the process dies, once each (a file in `marks` remembers)."""
    marks: Path | None = None
    raise_at: tuple[int, ...] = ()
    """Ids at which an exception is raised, once each where `marks` is given, else always."""
    exhaust_at: tuple[int, ...] = ()
    """Ids at which there is not enough GPU memory, once each."""
    input_error_at: int | None = None
    nan_from: int | None = None
    """Pair id from which losses are NaN."""
    nan_at: tuple[int, ...] = ()
    """Pair ids whose losses are NaN."""

    def facts(self) -> Facts:
        return FACTS

    def answer(self, work: Work) -> Result:
        time.sleep(self.delay)
        if work.id in self.die_at and self._first(f"died-{work.id}"):
            os._exit(1)
        if work.id in self.raise_at and self._first(f"raised-{work.id}"):
            raise RuntimeError(f"fault at {work.id}")
        if work.id in self.exhaust_at and self._first(f"exhausted-{work.id}"):
            raise OutOfMemoryError(f"CUDA out of memory at {work.id}")
        if work.id == self.input_error_at:
            raise InputError("images/cat.png: unreadable image: replace it")
        if isinstance(work, Pass):
            return PassResult(tuple(self._judge(ask) for ask in work.asks))
        if isinstance(work, Slice):
            return self._slice(work)
        if isinstance(work, Evaluation):
            w = work.prompt if isinstance(work.prompt, np.ndarray) else np.zeros(4)
            return EvaluationResult(work.id, loss(w, 0), accuracy(w), FACTS.images[work.split])
        if isinstance(work, Crops):
            return CropsResult(work.id, work.batch, np.full((3, 2), work.batch, np.float32))
        assert isinstance(work, Encoding)
        return EncodingResult(work.id, Prompt(SHAPE.initial_context), np.eye(2, 8, dtype=np.float32))

    def _judge(self, ask: Ask) -> AskResult:
        match ask, self._losses(ask):
            case Pair(), (plus, minus):
                return PairResult(ask.id, plus, minus, accuracy(ask.w))
            case Query(), (value,):
                return QueryResult(ask.id, value, accuracy(ask.w))
            case Gradient(), (value,):
                slope = (ask.w - 1) / ask.w.size * (1 + 0.1 * np.sin(ask.batch))
                return GradientResult(ask.id, value, accuracy(ask.w), slope)
        raise AssertionError(ask)

    def _losses(self, ask: Ask) -> list[float]:
        bad = ask.id in self.nan_at or (self.nan_from is not None and ask.id >= self.nan_from)
        batch = ask.batch if ask.features is None else int(ask.features[0, 0])
        return [float("nan") if bad else loss(w, batch) for w in points(ask)]

    def _slice(self, work: Slice) -> SliceResult:
        """Of one image: every shard has an equal share of exp(loss), the first has the image's class, at 0."""
        losses = [self._losses(ask)[side] for ask in work.asks for side in work.sides]
        shape = (len(losses), 1)
        maxima = np.reshape(losses, shape) - np.log(work.shards)
        target = np.full(shape, 0.0 if work.shard == 0 else -np.inf)
        return SliceResult(work.id, maxima, np.ones(shape), target, np.full(shape, work.shard == 0))

    def _first(self, mark: str) -> bool:
        if self.marks is None:
            return True
        try:
            (self.marks / mark).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def loss(w: Float64, batch: int) -> float:
    return float(np.mean((w - 1) ** 2) / 2 * (1 + 0.1 * np.sin(batch)))


def accuracy(w: Float64) -> float:
    return float(np.clip(1 - np.mean(np.abs(w - 1)), 0, 1))


def make_pairs(number: int, step: int = 1, size: int = 6) -> Pass:
    """One pair, as it travels."""
    w = np.linspace(0, 1, size)
    return Pass((Pair(number, step, step - 1, w, 0.01, Perturbation("random-sign", 1, step, number), step),))


class OutOfMemoryError(RuntimeError):
    """As torch's, without torch."""


def uneven_build(scorer: FakeScorer, broken: int, slow: int) -> FakeScorer:
    """Of the actors of a run, the first `broken` do not start, and the next `slow` are ten times slower."""
    assert scorer.marks is not None
    turn = 0
    while not scorer._first(f"built-{turn}"):
        turn += 1
    if turn < broken:
        raise RuntimeError("CUDA error: device busy")
    return replace(scorer, delay=10 * scorer.delay) if turn < broken + slow else scorer


def broken_build() -> FakeScorer:
    raise RuntimeError("no weights here")


def refused_build() -> FakeScorer:
    raise InputError("model.name: 'nope' cannot be loaded: give another")


def dying_build() -> FakeScorer:
    os._exit(1)


class UnevenScorer(FakeScorer):
    """The first one built is slow, the others are not; an answer to a pair names the delay as its accuracy."""

    def __init__(self, marks: Path, slow: float) -> None:
        super().__init__(marks=marks)
        object.__setattr__(self, "delay", slow if self._first("built") else 0.0)

    def answer(self, work: Work) -> Result:
        result = super().answer(work)
        if not isinstance(result, PassResult):
            return result
        return PassResult(tuple(replace(one, accuracy=self.delay) for one in result.results))


def hanging_build(marks: Path) -> FakeScorer:
    """The first one is never done."""
    scorer = FakeScorer(marks=marks)
    if scorer._first("built"):
        time.sleep(3600)
    return scorer
