"""The fit of a readout: learners of every strength, weighted by their loss on images held out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zip_ray.protocol.arrays import Int64
from zip_ray.protocol.facts import Prompt
from zip_ray.protocol.random_keys import Stream, generator
from zip_ray.protocol.readout import Readout, ReadoutKind
from zip_ray.readout.averaging import PLAIN, average
from zip_ray.readout.effort import FULL, MOST_COLUMNS, Effort, choose_effort
from zip_ray.readout.features import centred_scores, flattened, nothing, principal
from zip_ray.readout.learners import Learner
from zip_ray.readout.regression import Floats, cross_entropies

HALF = 0.5
"""Power of the standard deviations of what is whitened after it is flattened."""
FEW = 10**7
"""Number of scores, over all prompts, up to which they are kept in float64."""


@dataclass(frozen=True)
class FittedReadout:
    """A readout, with the evidence for it."""

    readout: Readout
    weights: dict[str, float]
    """Weight of each learner in the average, by its name; `plain` is the unchanged prompt. They sum to 1."""
    loss: float
    """Cross-entropy of the average on images held out."""
    plain_loss: float
    """The same of the prompt left alone, on the same images."""
    held_out: Floats
    """Scores of each image from what was fitted without it, else the prompt's own; shape (n, classes)."""


def fit_readout(
    kind: ReadoutKind,
    scores: Sequence[Floats],
    labels: Int64,
    seed: int,
    prompts: Sequence[Prompt | str] = (),
) -> FittedReadout:
    """Fit a readout to the class scores of training images.

    Learners (see `readout.learners`) are averaged with weights exp(-n loss), their cross-entropy on the n images that
    were held out; the prompt left alone is one of them. All are linear in the scores, and so is their average. Where
    that is no better than the prompt alone on the held-out images, or where no class has two images, so that none
    can be held out, the readout changes nothing.

    The bits depend on the number of BLAS threads: call `config.threads.one_blas_thread` first.

    Args:
        kind: `none` changes nothing, `bias` fits a bias, `linear` a map of the prompt's own scores, `auto` of all.
        scores: of the prompt and of further ones, each (n, classes), at the same images.
        labels: shape (n,).
        seed: of the folds.
        prompts: the further prompts, for the readout to name; those that are not used are left out.

    Raises:
        ValueError: scores that are not finite, or do not belong to the labels, or to each other, or to the prompts.
    """
    _check(scores, labels, prompts)
    images, classes = scores[0].shape
    used = scores[:1] if kind != "auto" else scores[: max(1, MOST_COLUMNS // classes)]
    folds = make_folds(labels, seed)
    if kind == "none" or classes == 1 or images == 0 or folds.max() < 1:
        loss = float(cross_entropies(scores[0], labels).mean()) if images else 0.0
        return _unchanged(scores[0], loss)
    z = centred_scores(used, np.float32 if images * classes * len(used) > FEW else np.float64)
    effort, learners = _learners(kind, z, classes)
    found = average(learners, scores[0].astype(effort.dtype), labels, folds, effort)
    if found.loss > found.plain_loss:
        return _unchanged(scores[0], found.plain_loss)
    scale = float(np.linalg.norm(z) / np.sqrt(z.size)) or 1.0
    weights, bias = (scale * found.matrix).astype(np.float32), found.bias.astype(np.float32)
    readout = Readout(tuple(prompts[: len(used) - 1]), weights, bias, scale)
    return FittedReadout(readout, found.weights, found.loss, found.plain_loss, found.held_out)


def make_folds(labels: Int64, seed: int) -> Int64:
    """The fold of each image, from 0; -1 for the only image of a class, which is never held out.

    Each class is spread evenly over the folds, of which there are as many as the largest class has images, at most
    five. What a class is called does not matter.
    """
    order = generator(seed, Stream.FOLDS).permutation(len(labels))
    _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    folds = np.empty(len(labels), np.int64)
    most = min(FULL.folds, counts.max(initial=1))
    for which, count in enumerate(counts):
        own = order[index[order] == which]
        folds[own] = np.arange(count) % most if count > 1 else -1
    return folds


def _learners(kind: ReadoutKind, z: Floats, classes: int) -> tuple[Effort, list[Learner]]:
    """What is averaged, and how much of it is tried."""
    if kind == "bias":
        return choose_effort(len(z), 0, classes), [Learner("bias", nothing(z))]
    every = principal(z, FULL.components)
    effort = choose_effort(len(z), every.values.shape[1], classes)
    every = every.first(effort.components, effort.dtype)
    learners = [Learner(f"whitened {share:g}", every, share) for share in effort.shrinkages]
    learners += [Learner(f"flattened {power:g}", flattened(every, power)) for power in effort.powers]
    half = flattened(every, HALF)
    learners += [Learner(f"flattened, whitened {share:g}", half, share) for share in effort.half_shrinkages]
    if not effort.unwhitened:
        return effort, learners
    if z.shape[1] == classes:
        return effort, [Learner("scores", every), *learners]
    own = principal(z[:, :classes], effort.components).first(effort.components, effort.dtype)
    return effort, [Learner("scores", own.add_zeros(z.shape[1])), Learner("scores of all prompts", every), *learners]


def _unchanged(scores: Floats, loss: float) -> FittedReadout:
    """The prompt left alone."""
    classes = scores.shape[1]
    readout = Readout((), np.zeros((classes, classes), np.float32), np.zeros(classes, np.float32), 1.0)
    return FittedReadout(readout, {PLAIN: 1.0}, loss, loss, scores)


def _check(scores: Sequence[Floats], labels: Int64, prompts: Sequence[Prompt | str]) -> None:
    if len(scores) != 1 + len(prompts):
        raise ValueError(f"a readout is fitted to scores of each prompt: got {len(scores)} for {1 + len(prompts)}")
    if any(one.shape != scores[0].shape for one in scores) or scores[0].shape[0] != len(labels):
        raise ValueError(f"scores of shapes {[one.shape for one in scores]} do not fit {len(labels)} labels")
    if not all(np.isfinite(one).all() for one in scores):
        raise ValueError("scores that are not finite: a readout cannot be fitted to them")
    if len(labels) and not 0 <= labels.min() <= labels.max() < scores[0].shape[1]:
        raise ValueError(f"labels from {labels.min()} to {labels.max()} do not fit {scores[0].shape[1]} classes")
