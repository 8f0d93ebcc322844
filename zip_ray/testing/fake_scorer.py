"""A scorer without a model: a quadratic loss, with faults on request. numpy only; actors import it by name."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zip_ray.errors import InputError
from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.facts import ClipFacts, Facts, ModelShape, Prompt, Split
from zip_ray.protocol.messages import (
    Ask,
    AskResult,
    Crops,
    CropsResult,
    Encoding,
    EncodingResult,
    Evaluation,
    EvaluationResult,
    FactsRequest,
    Features,
    Gradient,
    Pair,
    Pass,
    Perturbation,
    Priority,
    Slice,
    TemplateQuery,
    Value,
    Work,
    new_work,
)
from zip_ray.protocol.mini_batches import asked_images
from zip_ray.protocol.perturbations import points
from zip_ray.protocol.shards import ShardStatistics, SliceResult, shard_bounds
from zip_ray.testing.stepper import BATCH_SIZE, LABELS, SEED, two_scores

SHAPE = ModelShape(np.zeros((2, 8), np.float32), 0.5, (8, 8), None)
FACTS = Facts(
    shape=SHAPE,
    classnames=("left", "right"),
    template="a photo of a {}.",
    templates=("a photo of a {}.",),
    suffix=".",
    images={"train": 8, "val": 4, "test": 6},
    device="cpu",
    labels=LABELS,
    val_labels=np.arange(4) % 2,
    weights_digest="0" * 64,
    clip=ClipFacts("fake", None, {"size": 8}, 10.0, text_pass="shared prefix", precision=""),
)


@dataclass(frozen=True)
class FakeScorer:
    """L(w) = mean (w - 1)^2 / 2 plus a little of the batch; accuracy grows as w nears 1."""

    delay: float = 0.0
    """Seconds an answer takes."""
    die_at: tuple[int, ...] = ()
    """Numbers of asks at which the process exits, once each (recorded by a file in `marks`)."""
    marks: Path | None = None
    raise_at: tuple[int, ...] = ()
    """Numbers of asks at which an exception is raised, once each where `marks` is given, else always."""
    exhaust_at: tuple[int, ...] = ()
    """Numbers of asks at which there is not enough GPU memory, once each."""
    input_error_at: int | None = None
    """Number of the ask at which the input is at fault."""
    nan_from: int | None = None
    """Number of the ask from which losses are NaN."""
    nan_at: tuple[int, ...] = ()
    """Numbers of asks whose losses are NaN."""

    def facts(self) -> Facts:
        return FACTS

    def answer(self, work: Work) -> Value:
        time.sleep(self.delay)
        body = work.body
        self._fail_if_told(body.asks[0].index if isinstance(body, Pass | Slice) else -1)
        match body:
            case Pass(asks):
                return tuple(self._judge(ask) for ask in asks)
            case Slice():
                return self._slice(body)
            case Evaluation(split, prompt):
                w = prompt if isinstance(prompt, np.ndarray) else np.zeros(4)
                labels = np.arange(FACTS.images[split]) % 2
                scores = two_scores([loss(w, 0)], labels)[0] if body.scores else None
                return EvaluationResult(loss(w, 0), accuracy(w), len(labels), scores)
            case Crops(batch):
                return CropsResult(np.full((3, 2), batch, np.float32))
            case Encoding():
                return EncodingResult(Prompt(SHAPE.initial_context), np.eye(2, 8, dtype=np.float32))
            case FactsRequest():
                return FACTS
            case Features():
                raise ValueError("without a model there are no image features")

    def _fail_if_told(self, index: int) -> None:
        if index in self.die_at and self._first(f"died-{index}"):
            os._exit(1)
        if index in self.raise_at and self._first(f"raised-{index}"):
            raise RuntimeError(f"fault at {index}")
        if index in self.exhaust_at and self._first(f"exhausted-{index}"):
            raise OutOfMemoryError(f"CUDA out of memory at {index}")
        if index == self.input_error_at:
            raise InputError("images/cat.png: unreadable image: replace it")

    def _judge(self, ask: Ask) -> AskResult:
        slope = (ask.w - 1) / ask.w.size * (1 + 0.1 * np.sin(ask.batch)) if isinstance(ask, Gradient) else None
        losses = self._losses(ask)
        return AskResult(tuple(losses), accuracy(_points(ask)[0]), slope, self._scores(ask, losses))

    def _losses(self, ask: Ask) -> list[float]:
        bad = ask.index in self.nan_at or (self.nan_from is not None and ask.index >= self.nan_from)
        batch = ask.batch if ask.features is None else int(ask.features[0, 0])
        batch = batch if ask.chunk is None else 0
        return [float("nan") if bad else loss(w, batch) for w in _points(ask)]

    def _scores(self, ask: Ask, losses: Sequence[float]) -> Float32 | None:
        """Scores of two classes; with chosen classes, of the image's own class and of the rest."""
        if ask.scores is None:
            return None
        labels = FACTS.labels[asked_images(ask, len(FACTS.labels), BATCH_SIZE, SEED)]
        return two_scores(losses, labels if ask.scores.classes is None else np.zeros_like(labels))

    def _slice(self, part: Slice) -> SliceResult:
        """Statistics of one image: every shard has an equal share of exp(loss), the first the image's class, at 0.

        Scores are those of two classes, and there are at most two shards, where they are wanted.
        """
        return SliceResult(tuple(self._shard(ask, part) for ask in part.asks))

    def _shard(self, ask: Ask, part: Slice) -> ShardStatistics:
        losses = [self._losses(ask)[side] for side in part.sides]
        shape = (len(losses), 1)
        maxima = np.reshape(losses, shape) - np.log(part.shards)
        target = np.full(shape, 0.0 if part.shard == 0 else -np.inf)
        scores: Float32 | Float64 | None = self._scores(ask, losses)
        if scores is not None and ask.scores is not None:
            first, end = shard_bounds(2, part.shard, part.shards)
            if ask.scores.classes is None:
                scores = scores[..., first:end]
            else:  # the own class in one shard, the other in the other
                labels = FACTS.labels[asked_images(ask, len(FACTS.labels), BATCH_SIZE, SEED)]
                here = [(first <= number) & (number < end) for number in (labels, 1 - labels)]
                scores = np.where(np.stack(here, axis=-1), scores.astype(np.float64), -np.inf)
        return ShardStatistics(maxima, np.ones(shape), target, np.full(shape, part.shard == 0), scores)

    def _first(self, mark: str) -> bool:
        if self.marks is None:
            return True
        try:
            (self.marks / mark).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def _points(ask: Ask) -> tuple[Float64, ...]:
    """The points of an ask; a template counts as the point 0."""
    return (np.zeros(4),) if isinstance(ask, TemplateQuery) else points(ask)


def loss(w: Float64, batch: int) -> float:
    return float(np.mean((w - 1) ** 2) / 2 * (1 + 0.1 * np.sin(batch)))


def accuracy(w: Float64) -> float:
    return float(np.clip(1 - np.mean(np.abs(w - 1)), 0, 1))


def make_pair(index: int, step: int = 1, size: int = 6) -> Pair:
    """Pair number `index`."""
    return Pair(
        index=index,
        step=step,
        version=step - 1,
        w=np.linspace(0.0, 1.0, size, dtype=np.float64),
        batch=step,
        scale=0.01,
        perturbation=Perturbation("random-sign", 1, step, index),
    )


def pair_work(index: int, step: int = 1, size: int = 6) -> Work:
    """A pass of pair `index`, with a new id."""
    return new_work(Pass((make_pair(index, step, size),)), Priority.QUERY)


def evaluation_work(split: Split = "val", prompt: str = "a photo of a {}.") -> Work:
    """An evaluation with a new id."""
    return new_work(Evaluation(split, prompt), Priority.EVALUATION)


class OutOfMemoryError(RuntimeError):
    """Stands in for torch's error of that name, without torch."""


def refused_build() -> FakeScorer:
    raise InputError("model.name: 'nope' cannot be loaded: give another")
