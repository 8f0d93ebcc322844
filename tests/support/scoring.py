"""Hand-made asks of a scorer at given parameters, and their results."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from scipy.special import logsumexp

from zip_ray.config.tree import Config
from zip_ray.pool.contract import ScorerLike
from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.facts import Prompt, Split
from zip_ray.protocol.messages import (
    Ask,
    AskResult,
    Body,
    Encoding,
    EncodingResult,
    Evaluation,
    EvaluationResult,
    Gradient,
    Pair,
    Pass,
    Perturbation,
    Priority,
    Query,
    ScoresWanted,
    Slice,
    TemplateQuery,
    Value,
    new_work,
)
from zip_ray.protocol.mini_batches import asked_images
from zip_ray.protocol.shards import SliceResult

V = TypeVar("V", bound=Value)


def pair_at(w: Float64, index: int = 0, batch: int = 1, scale: float = 0.01, features: Float32 | None = None) -> Pair:
    """Pair number `index`, with random signs, on a mini-batch."""
    key = Perturbation("random-sign", 1, 1, index)
    return Pair(index=index, step=1, version=0, w=w, batch=batch, scale=scale, perturbation=key, features=features)


def query_at(w: Float64, index: int = 0, batch: int = 1, chunk: int | None = None) -> Query:
    """Query number `index`, on a mini-batch or a chunk."""
    return Query(index=index, step=1, version=0, w=w, batch=batch, chunk=chunk)


def template_query(template: str, batch: int = 1, chunk: int | None = None) -> TemplateQuery:
    """A query at a sentence, with all scores."""
    ask = TemplateQuery(index=0, step=1, version=0, w=np.empty(0), batch=batch, chunk=chunk, template=template)
    return replace(ask, scores=ScoresWanted())


def gradient_at(w: Float64, batch: int = 1) -> Gradient:
    """A gradient on a mini-batch."""
    return Gradient(index=0, step=1, version=0, w=w, batch=batch)


def value_of(scorer: ScorerLike, body: Body, kind: type[V]) -> V:
    """A scorer's answer, which must be of the given type."""
    value = scorer.answer(new_work(body, Priority.QUERY))
    assert isinstance(value, kind)
    return value


def score(scorer: ScorerLike, *asks: Ask) -> tuple[AskResult, ...]:
    """The results of asks in one pass."""
    results: tuple[AskResult, ...] = value_of(scorer, Pass(asks), tuple)
    assert len(results) == len(asks)
    return results


def answer_slices(scorer: ScorerLike, parts: Sequence[Slice]) -> list[SliceResult]:
    """A scorer's answers to slices."""
    return [value_of(scorer, part, SliceResult) for part in parts]


def evaluate(scorer: ScorerLike, split: Split, prompt: Float64 | str | Prompt) -> EvaluationResult:
    """Loss and accuracy on a split."""
    return value_of(scorer, Evaluation(split, prompt), EvaluationResult)


def encode(scorer: ScorerLike, w: Float64) -> EncodingResult:
    """The prompt at these parameters, and its text features."""
    return value_of(scorer, Encoding(w), EncodingResult)


def wanting(ask: Ask, classes: np.ndarray | None = None) -> Ask:
    """The ask with all scores, or with those of chosen classes."""
    return replace(ask, scores=ScoresWanted(classes))


def scores_of(result: AskResult) -> np.ndarray:
    """The scores, which must be present and in the form in which they are sent."""
    assert result.scores is not None
    assert result.scores.dtype == np.float32
    assert result.scores.flags.c_contiguous
    return result.scores


def labels_of(config: Config, scorer: ScorerLike, ask: Ask) -> np.ndarray:
    """Classes of the images an ask covers, from the facts."""
    labels = scorer.facts().labels
    return labels[asked_images(ask, len(labels), config.task.batch_size, config.seed)]


def chosen_with(labels: np.ndarray, k: int, seed: int = 3) -> np.ndarray:
    """The image's own class and k - 1 others, in any order."""
    rng = np.random.default_rng(seed)
    others = [rng.permutation(np.delete(np.arange(10), own))[: k - 1] for own in labels]
    return np.stack([rng.permutation([own, *rest]) for own, rest in zip(labels, others, strict=True)]).astype(np.int32)


def cross_entropies(scores: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Mean over the images, from scores (points, images, columns) and the column of each image's own class."""
    exact = scores.astype(np.float64)
    return (logsumexp(exact, axis=2) - exact[:, np.arange(len(columns)), columns]).mean(axis=1)
