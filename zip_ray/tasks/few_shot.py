"""Few-shot draws: a number of training and validation images per class, keyed by the seed."""

import random
from collections.abc import Sequence

import numpy as np

from zip_ray.config.task import DrawLaw
from zip_ray.errors import InputError
from zip_ray.protocol.arrays import Int64
from zip_ray.protocol.random_keys import Stream, generator
from zip_ray.tasks.asked_images import QuestionImages
from zip_ray.tasks.images import ImageSet
from zip_ray.tasks.source import Source

VALIDATION_SHOTS = 4
"""Largest number of validation images per class (protocol of CoOp and ZIP)."""


def draw(source: Source, shots: int, seed: int, law: DrawLaw = "keyed") -> tuple[ImageSet, ImageSet]:
    """Training and validation images; none for a source that is for testing only.

    If the source has a validation part of its own, each is drawn from its own part, and a class with fewer images gives
    all of them (protocol of CoOp). Otherwise both are drawn from the training part, without overlap. Of images with
    questions each answer gives as many as it has.

    Args:
        source: the data set.
        shots: training images per class.
        seed: keys the draw.
        law: see `task.draw`.

    Raises:
        InputError: a class has fewer images than a draw of both from one part needs.
    """
    if source.train is None:
        nothing = source.test.subset([])
        return nothing, nothing
    if law == "coop":
        return _draw_as_coop(source, source.train, shots, random.Random(seed))
    if source.val is None and isinstance(source.train, QuestionImages):
        return _draw_of_answers(source.train, len(source.classnames), shots, seed)
    if source.val is None:
        train, val = few_shot(source.train.labels, source.classnames, shots, seed, _tested(source))
        return source.train.subset(train), source.train.subset(val)
    classes, held_out = len(source.classnames), min(shots, VALIDATION_SHOTS)
    return (
        source.train.subset(_up_to(shots, source.train.labels, classes, seed, 0)),
        source.val.subset(_up_to(held_out, source.val.labels, classes, seed, 1)),
    )


def _draw_of_answers(pool: ImageSet, answers: int, shots: int, seed: int) -> tuple[ImageSet, ImageSet]:
    """Up to `shots` images of each answer, without overlap: most answers of free text have only a few."""
    train = _up_to(shots, pool.labels, answers, seed, 0)
    rest = np.setdiff1d(np.arange(len(pool)), train)
    held_out = _up_to(min(shots, VALIDATION_SHOTS), pool.labels[rest], answers, seed, 1)
    return pool.subset(train), pool.subset(rest[held_out])


def few_shot(
    labels: Int64, classnames: Sequence[str], shots: int, seed: int, tested: Int64 | None = None
) -> tuple[Int64, Int64]:
    """Indices of `shots` training and min(shots, 4) validation images per class, without overlap.

    Each class has its own key, so that its draw does not depend on the others. The order is by class, then by draw.

    Args:
        labels: classes of the pool, shape (n,).
        classnames: names, for messages.
        shots: training images per class.
        seed: keys the draw.
        tested: images per class that were taken from the pool for testing, for messages.

    Raises:
        InputError: a class has fewer images than both need.
    """
    _require_enough(labels, classnames, shots, tested)
    train, val = [], []
    held_out = min(shots, VALIDATION_SHOTS)
    for label in range(len(classnames)):
        members = np.flatnonzero(labels == label)
        drawn = generator(seed, Stream.SHOTS, label).permutation(members)
        train.append(drawn[:shots])
        val.append(drawn[shots : shots + held_out])
    return np.concatenate(train), np.concatenate(val)


def _up_to(count: int, labels: Int64, classes: int, seed: int, part: int) -> Int64:
    """Indices of `count` images per class, or of all if it has fewer; by class, then by draw."""
    drawn = [
        generator(seed, Stream.SHOTS, label, 1 + part).permutation(np.flatnonzero(labels == label))[:count]
        for label in range(classes)
    ]
    return np.concatenate(drawn)


def _draw_as_coop(source: Source, pool: ImageSet, shots: int, rng: random.Random) -> tuple[ImageSet, ImageSet]:
    """As in CoOp's code: one Python generator draws the training images first, then the validation images.
    Without a validation part, CoOp validates on test images; here they are drawn from the unused training images,
    after the training images, which stay the same as CoOp's.

    CoOp validates on the test images where a source has no validation part. Here they are drawn from what the training
    images leave, after these, which are CoOp's all the same.
    """
    train = _sampled(pool.labels, shots, rng)
    held_out = min(shots, VALIDATION_SHOTS)
    if source.val is not None:
        return pool.subset(train), source.val.subset(_sampled(source.val.labels, held_out, rng))
    _require_enough(pool.labels, source.classnames, shots, _tested(source))
    rest = np.setdiff1d(np.arange(len(pool)), train)
    return pool.subset(train), pool.subset(rest[_sampled(pool.labels[rest], held_out, rng)])


def _sampled(labels: Int64, count: int, rng: random.Random) -> Int64:
    """Indices of `count` images per class, or of all if it has fewer; classes in the order in which they appear."""
    drawn: list[int] = []
    for label in dict.fromkeys(labels.tolist()):
        members = np.flatnonzero(labels == label).tolist()
        drawn += members if len(members) < count else rng.sample(members, count)
    return np.array(drawn, dtype=np.int64)


def _tested(source: Source) -> Int64 | None:
    """Test images per class, where they were taken from the training part."""
    return np.bincount(source.test.labels, minlength=len(source.classnames)) if source.test_of_train else None


def _require_enough(labels: Int64, classnames: Sequence[str], shots: int, tested: Int64 | None) -> None:
    """Refuse a class with fewer images than training and validation need together.

    Raises:
        InputError: names it, with all numbers.
    """
    held_out = min(shots, VALIDATION_SHOTS)
    counts = np.bincount(labels, minlength=len(classnames))
    label = int(counts.argmin())
    left = int(counts[label])
    if left >= shots + held_out:
        return
    taken, remedy = "", "lower task.shots or add images"
    if tested is not None:
        taken = f", which {tested[label]} for testing leave of {left + tested[label]}"
        remedy = "lower task.shots or task.test_share, or add images"
    raise InputError(
        f"task.shots: {shots} for training and {held_out} for validation are more than the {left} images of class "
        f"'{classnames[label]}'{taken}: {remedy}"
    )
