"""An average instead of a choice: learners of every strength, weighted by their loss on held-out images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from zip_ray.protocol.arrays import Float64, Int64
from zip_ray.readout.effort import Effort
from zip_ray.readout.learners import Learner
from zip_ray.readout.regression import Floats, cross_entropies

PLAIN = "plain"
"""The name of the prompt left alone, one of the learners."""
TEMPER = 0.1
"""Held-out losses of a few shots also differ by chance: with 1, the posterior, the average is overconfident
(docs/measurements/class-scores.md)."""
NEGLIGIBLE = 1e-4
"""A smaller weight is none."""


@dataclass(frozen=True)
class Average:
    """One linear map of the centred scores z of all prompts: z matrix + bias is added to the scores."""

    matrix: Float64
    """Shape (columns, classes)."""
    bias: Float64
    """Shape (classes,)."""
    weights: dict[str, float]
    """Weight of each learner, over all its strengths, by its name."""
    loss: float
    """Cross-entropy of the average on images held out."""
    plain_loss: float
    """The same of the prompt left alone."""
    held_out: Floats
    """Scores of each image where it was held out; the prompt's own where it never was. Shape (n, classes)."""


@dataclass(frozen=True)
class _Candidate:
    """A learner with one penalty."""

    learner: Learner
    penalty: float
    held_out: Floats
    """Its scores of the images held out, shape (held out, classes)."""


def average(learners: Sequence[Learner], offset: Floats, labels: Int64, folds: Int64, effort: Effort) -> Average:
    """Weigh learners by cross-validation, and fit those that count to all images.

    Weights are proportional to exp(-TEMPER n loss) for n images held out: with TEMPER 1 the posterior of the
    candidates, were the held-out losses their likelihoods and all alike before.

    Args:
        learners: candidates at each of the effort's penalties; the prompt left alone is one more.
        offset: scores of the prompt, shape (n, classes).
        labels: shape (n,).
        folds: shape (n,); the first `effort.held_out` are held out in turn.
        effort: what is tried.
    """
    out = np.flatnonzero((folds >= 0) & (folds < effort.held_out))
    candidates = [one for learner in learners for one in _held_out(learner, offset, labels, folds, effort, out)]
    plain = offset[out]
    losses = np.array([cross_entropies(one, labels[out]).mean() for one in (plain, *(c.held_out for c in candidates))])
    weights = np.exp(-TEMPER * len(out) * (losses - losses.min()))
    weights /= weights.sum()
    weights = np.where(weights < NEGLIGIBLE, 0.0, weights)
    weights /= weights.sum()
    held_out = offset.copy()
    mixed = weights[0] * plain
    for weight, candidate in zip(weights[1:], candidates, strict=True):
        if weight:
            mixed += weight * candidate.held_out
    held_out[out] = mixed
    matrix, bias = _fitted(candidates, weights[1:], offset, labels, effort)
    shares = {PLAIN: float(weights[0])}
    for weight, candidate in zip(weights[1:], candidates, strict=True):
        shares[candidate.learner.name] = shares.get(candidate.learner.name, 0.0) + float(weight)
    loss = float(cross_entropies(mixed, labels[out]).mean())
    return Average(matrix, bias, shares, loss, float(losses[0]), held_out)


def _held_out(
    learner: Learner, offset: Floats, labels: Int64, folds: Int64, effort: Effort, out: Int64
) -> Iterator[_Candidate]:
    """A learner at each penalty, with its scores of images held out; nothing where a fold cannot be learnt from."""
    found = [np.empty((len(out), offset.shape[1]), offset.dtype) for _ in effort.penalties]
    penalties = effort.strengths(offset.shape[1])
    for fold in range(min(effort.held_out, folds.max() + 1)):
        rows = np.flatnonzero(folds != fold)
        corrections = learner.corrections(rows, offset, labels, penalties, effort.iterations)
        fitted = 0
        for held_out, correction in zip(found, corrections, strict=False):
            here = folds[out] == fold
            held_out[here] = learner.corrected(correction, out[here], offset)
            fitted += 1
        if not fitted:
            return
    for penalty, held_out in zip(penalties, found, strict=True):
        yield _Candidate(learner, penalty, held_out)


def _fitted(
    candidates: Sequence[_Candidate], weights: Float64, offset: Floats, labels: Int64, effort: Effort
) -> tuple[Float64, Float64]:
    """The weighted sum of the candidates' maps, fitted to all images: of the centred scores, and the bias."""
    every, classes = np.arange(len(labels)), offset.shape[1]
    matrix, bias = np.zeros((len(candidates[0].learner.features.mean), classes)), np.zeros(classes)
    for learner in {id(one.learner): one.learner for one in candidates}.values():
        own = [one.learner is learner and weight > 0 for one, weight in zip(candidates, weights, strict=True)]
        penalties = [one.penalty for one in compress(candidates, own)]
        fitted = learner.corrections(every, offset, labels, penalties, effort.iterations)
        for weight, correction in zip(compress(weights, own), fitted, strict=True):
            part = learner.features.matrix @ correction.weights
            matrix += weight * part
            bias += weight * (correction.bias - learner.features.mean @ part)
    return matrix, bias
