"""Passes in parts: sides and shards done by different actors, and put together again, exactly.

A shard of the classes answers, for each image, its largest logit m_i, the sum s_i of exp(logit - m_i), and the logit t
of the image's class if it is there. With M = max_i m_i the cross-entropy is M + log sum_i s_i exp(m_i - M) - t: that of
all classes together. Where the images are the work (visual prompts, models that are not CLIP) a shard
is some images of the mini-batch, and answers the same of all classes. Class scores are concatenated along classes or
images; of chosen classes each shard has the logits of those that it has and the logsumexp of its others, which add up.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.contract import Member, Pool, require_new
from zip_ray.pool.split_planner import Partition, SplitPlanner, whole_of
from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.losses import Loss, image_losses
from zip_ray.protocol.messages import Answer, AskResult, Gradient, Pass, ScoresWanted, Slice, Work, new_work
from zip_ray.protocol.shards import Over, ShardStatistics, SliceResult


def slices(work: Pass, partition: Partition) -> list[Slice]:
    """The parts of a pass of any asks but gradients, side by side, shard by shard. A query has one side.

    Of chunks, which are parts already, no images are split off.
    """
    sides = tuple(range(work.asks[0].queries))
    groups = [sides] if partition.sides == 1 else [(side,) for side in sides]
    whole = partition.over == "images" and any(ask.chunk is not None for ask in work.asks)
    shards = 1 if whole else partition.shards
    return [Slice(work.asks, group, shard, shards, partition.over) for group in groups for shard in range(shards)]


def combine(parts: Sequence[Slice], found: Sequence[SliceResult], loss: Loss) -> tuple[AskResult, ...]:
    """The results of a pass from those of its slices, in their order: exact, and the same bits for the same parts."""
    over, shards = parts[0].over, parts[0].shards
    results = []
    for ask, *of_parts in zip(parts[0].asks, *[one.of_asks for one in found], strict=True):
        groups = [of_parts[first : first + shards] for first in range(0, len(of_parts), shards)]
        wanted = ask.scores
        scores = None if wanted is None else np.concatenate([_scores(group, over, wanted) for group in groups])
        if over == "images":
            groups = [[_side_by_side(group)] for group in groups]
        losses, accuracies = (np.concatenate(one) for one in zip(*[_figures(g, loss) for g in groups], strict=True))
        results.append(AskResult(tuple(losses.tolist()), float(np.mean(accuracies)), scores=scores))
    return tuple(results)


def _scores(shards: Sequence[ShardStatistics], over: Over, wanted: ScoresWanted) -> Float32:
    """Scores of some sides of an ask, shape (sides, images, classes or k + 1), from all shards."""
    found = [shard.scores for shard in shards if shard.scores is not None]
    if wanted.classes is None or over == "images":
        whole: Float32 = np.concatenate(found, axis=1 if over == "images" else 2).astype(np.float32)
        return whole
    of_shards = np.stack(found)
    chosen, rest = of_shards[..., :-1].max(axis=0), np.logaddexp.reduce(of_shards[..., -1:], axis=0)
    pooled: Float32 = np.concatenate([chosen, rest], axis=2).astype(np.float32)
    return pooled


def _side_by_side(shards: Sequence[ShardStatistics]) -> ShardStatistics:
    """Shards of the images as one answer about all of them."""
    return ShardStatistics(
        maxima=np.concatenate([shard.maxima for shard in shards], axis=1),
        sums=np.concatenate([shard.sums for shard in shards], axis=1),
        targets=np.concatenate([shard.targets for shard in shards], axis=1),
        right=np.concatenate([shard.right for shard in shards], axis=1),
    )


def _figures(shards: Sequence[ShardStatistics], loss: Loss) -> tuple[Float64, Float64]:
    """Mean losses and accuracies of some sides of an ask, each of shape (sides,)."""
    maxima = np.stack([shard.maxima for shard in shards])
    top = maxima.max(axis=0)
    total = sum(shard.sums * np.exp(shard.maxima - top) for shard in shards)
    target = np.stack([shard.targets for shard in shards]).max(axis=0)
    # Of equal logits the first class wins, as it does in one piece.
    winner = maxima.argmax(axis=0)
    right = np.take_along_axis(np.stack([shard.right for shard in shards]), winner[None], axis=0)[0]
    return image_losses(top + np.log(total) - target, loss).mean(axis=1), right.mean(axis=1)


def split_if_asked(pool: Pool, config: Config, clock: Callable[[], float] = time.monotonic) -> Pool:
    """The pool itself, or one that splits passes as `execution.split` says."""
    return pool if config.execution.split == (1, 1) else SplitPool(pool, config, clock)


def _has_parts(work: Work) -> bool:
    """Whether a work can be split."""
    return isinstance(work.body, Pass) and not isinstance(work.body.asks[0], Gradient)


@dataclass
class _Split:
    """A pass in parts."""

    id: int
    """Id of the pass."""
    parts: list[Slice]
    found: list[SliceResult | None]
    attempts: int = 1


class SplitPool:
    """A pool that splits passes into parts for another pool, and returns whole results."""

    def __init__(self, pool: Pool, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        """Split as `execution.split` says.

        Args:
            pool: does the work.
            config: of the run.
            clock: seconds, monotonic.
        """
        self._pool, self._config, self._clock = pool, config, clock
        self._planner: SplitPlanner | None = None
        self._fixed: Partition | None = None
        if config.execution.split != "auto":
            sides, shards = config.execution.split
            self._fixed = Partition(sides, shards, "images" if config.works_on_images else "classes")
        self._parts: dict[int, tuple[_Split, int]] = {}
        """Parts in flight, by their ids: the pass that each is of, and its place there."""

    def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:
        facts = self._pool.facts(meanwhile)
        whole = whole_of(self._config, facts)
        if self._fixed and self._fixed.shards > whole.size:
            shards = self._fixed.shards
            raise InputError(
                f"execution.split: {shards} shards of {whole.size} {whole.over}: give at most {whole.size}"
            )
        if not self._fixed and self._planner is None:
            self._planner = SplitPlanner(self._config, facts, self._clock)
        return facts

    def submit(self, works: Sequence[Work]) -> None:
        # One partition for all: otherwise parts, which get new ids, would begin after a whole pass asked later.
        partition = self._partition() if any(map(_has_parts, works)) else None
        require_new(works, {split.id for split, _ in self._parts.values()})
        parts: dict[int, tuple[_Split, int]] = {}
        self._pool.submit([part for work in works for part in self._split(work, partition, parts)])
        self._parts |= parts

    def collect(self, timeout: float) -> list[Answer]:
        return [whole for answer in self._pool.collect(timeout) if (whole := self._whole(answer))]

    def members(self) -> list[Member]:
        return self._pool.members()

    def last_error(self) -> str:
        return self._pool.last_error()

    def close(self) -> None:
        self._pool.close()

    def _split(self, work: Work, partition: Partition | None, to_come: dict[int, tuple[_Split, int]]) -> list[Work]:
        """The pieces of work that a pass becomes; its parts are added to those to come."""
        if partition is None or not _has_parts(work):
            return [work]
        # Synchronously even an unsplit pass is processed as parts: its bits must not depend on the plan.
        if partition.parts == 1 and self._config.execution.mode == "async":
            return [work]
        assert isinstance(work.body, Pass)
        parts = slices(work.body, partition)
        split = _Split(work.id, parts, [None] * len(parts))
        sent = [new_work(part, work.priority, work.scorer) for part in parts]
        to_come.update({part.id: (split, place) for place, part in enumerate(sent)})
        return sent

    def _partition(self) -> Partition:
        if self._fixed:
            return self._fixed
        if self._planner is None:
            self.facts()
        assert self._planner is not None
        self._planner.look(self._pool.members)
        return self._planner.partition

    def _whole(self, answer: Answer) -> Answer | None:
        """The result itself, the result of the pass that it completes, or None."""
        if answer.id not in self._parts:
            return answer
        split, place = self._parts.pop(answer.id)
        assert isinstance(answer.value, SliceResult)
        split.found[place] = answer.value
        split.attempts = max(split.attempts, answer.attempts)
        found = [one for one in split.found if one is not None]
        if len(found) < len(split.parts):
            return None
        return Answer(split.id, combine(split.parts, found, self._config.optimizer.loss), split.attempts)
