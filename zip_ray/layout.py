"""How one pass is split over actors: its sides, and shards of its classes; the parts put together again, exactly.

Sides and shards add no staleness, unlike more pairs in flight. A shard answers, for each image, its largest logit m_i,
the sum s_i of exp(logit - m_i), and the logit t of the image's class if it is there. With M = max_i m_i the
cross-entropy is M + log sum_i s_i exp(m_i - M) - t: that of all classes together.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from zip_ray.config import Config, Loss
from zip_ray.losses import image_losses
from zip_ray.pool import Member, Pool
from zip_ray.work import (
    Answer,
    Facts,
    Float64,
    Gradient,
    Pair,
    PairResult,
    Pass,
    PassResult,
    Query,
    QueryResult,
    Slice,
    SliceResult,
    Work,
)

PARTS = 2**10
"""Most parts of a pass: ids of slices are id of the pass * PARTS + number of the part, and stay below 2^40."""
MOST_SHARDS = 16
FEWEST_CLASSES = 4
"""In a shard: below, the shared prefix is most of the work."""
ROUND_TRIP = 0.002
"""Seconds that a part costs besides its own work."""
DRIVER_SECONDS = 0.0005
"""Of the driver's time, for each part: it sends and takes in one after another."""
TOKENS_PER_CLASS = 4
"""Text positions of a typical class name, its full stop and end of text."""
BETTER = 1.05
"""How many times faster a finer layout must be expected to be."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """How a pass is split."""

    sides: Literal[1, 2] = 1
    """2 = the two queries of a pair go to different actors."""
    shards: int = 1
    """Runs of classes."""

    @property
    def parts(self) -> int:
        """Slices of a pass."""
        return self.sides * self.shards

    def slices(self, work: Pass) -> list[Slice]:
        """The parts of a pass of pairs or queries, side by side, shard by shard. A query has one side."""
        asks = tuple(ask for ask in work.asks if not isinstance(ask, Gradient))
        sides = tuple(range(asks[0].queries))
        groups = [sides] if self.sides == 1 else [(side,) for side in sides]
        places = [(group, shard) for group in groups for shard in range(self.shards)]
        return [
            Slice(work.id * PARTS + number, asks, group, shard, self.shards)
            for number, (group, shard) in enumerate(places)
        ]

    def __str__(self) -> str:
        return f"{self.sides} sides x {self.shards} class shards"


def shard_bounds(classes: int, shards: int) -> list[int]:
    """The first class of each of `shards` nearly equal runs."""
    return [classes * shard // shards for shard in range(shards)]


def combine(slices: Sequence[Slice], parts: Sequence[SliceResult], loss: Loss = "cross-entropy") -> PassResult:
    """The answer to a pass from those to its slices, in their order: exact, and the same bits for the same parts."""
    asks, sides, shards = slices[0].asks, len(slices[0].sides), slices[0].shards
    groups = [_figures(parts[first : first + shards], loss) for first in range(0, len(parts), shards)]
    # Of each group of shape (asks * sides,): to (asks, all sides).
    losses, accuracies = (
        np.concatenate([column.reshape(len(asks), sides) for column in columns], axis=1)
        for columns in zip(*groups, strict=True)
    )
    return PassResult(tuple(_result(ask, *row) for ask, *row in zip(asks, losses, accuracies, strict=True)))


def _result(ask: Pair | Query, losses: Float64, accuracies: Float64) -> PairResult | QueryResult:
    """From the losses and accuracies of an ask's sides."""
    if isinstance(ask, Pair):
        return PairResult(ask.id, float(losses[0]), float(losses[1]), float(np.mean(accuracies)))
    return QueryResult(ask.id, float(losses[0]), float(accuracies[0]))


def _figures(shards: Sequence[SliceResult], loss: Loss) -> tuple[Float64, Float64]:
    """Mean losses and accuracies of the queries, each of shape (queries,)."""
    maxima = np.stack([shard.maxima for shard in shards])
    top = maxima.max(axis=0)
    total = sum(shard.sums * np.exp(shard.maxima - top) for shard in shards)
    target = np.stack([shard.targets for shard in shards]).max(axis=0)
    # Of equal logits the first class wins, as it does in one piece.
    winner = maxima.argmax(axis=0)
    right = np.take_along_axis(np.stack([shard.right for shard in shards]), winner[None], axis=0)[0]
    return image_losses(top + np.log(total) - target, loss).mean(axis=1), right.mean(axis=1)


def choose(actors: int, seconds: float, classes: int, passes: int, synchronous: bool) -> tuple[Layout, float]:
    """The layout that is expected to be fastest, and its passes a second; of equally good ones the coarsest.

    Args:
        actors: how many there are.
        seconds: that a whole pass takes one of them.
        classes: of the task.
        passes: in flight at once; synchronously those of one step.
        synchronous: whether all of them must be back before the next go out.
    """
    best, rate = Layout(), _rate(Layout(), actors, seconds, classes, passes, synchronous)
    sides: tuple[Literal[1, 2], ...] = (1, 2)
    counts = [n for n in range(1, MOST_SHARDS + 1) if n == 1 or classes // n >= FEWEST_CLASSES]
    for layout in sorted((Layout(s, n) for s in sides for n in counts), key=lambda one: (one.parts, -one.sides)):
        found = _rate(layout, actors, seconds, classes, passes, synchronous)
        if found > BETTER * rate:
            best, rate = layout, found
    return best, rate


def _rate(layout: Layout, actors: int, seconds: float, classes: int, passes: int, synchronous: bool) -> float:
    """Passes a second: what cannot be split over classes (the prefix) is done again in every shard."""
    prefix = 9 / (9 + TOKENS_PER_CLASS * classes)
    part = seconds / layout.sides * (prefix + (1 - prefix) / layout.shards) + ROUND_TRIP
    parts = passes * layout.parts
    if synchronous:
        return passes / max(math.ceil(parts / actors) * part, parts * DRIVER_SECONDS)
    return min(min(actors, parts) / part, 1 / DRIVER_SECONDS) / layout.parts


def split_if_asked(pool: Pool, config: Config) -> Pool:
    """The pool itself, or one that splits passes as `model.parallel` says."""
    return pool if config.parallel == (1, 1) else SplitPool(pool, config)


@dataclass
class _Split:
    slices: list[Slice]
    parts: dict[int, SliceResult] = field(default_factory=dict)
    attempts: int = 1


class SplitPool:
    """A pool that has passes done in parts by another, and hands them out whole."""

    def __init__(self, pool: Pool, config: Config) -> None:
        """Split as `model.parallel` says.

        Args:
            pool: does the work.
            config: of the run.
        """
        self._pool, self._config = pool, config
        parallel = config.parallel
        self._automatic = parallel == "auto"
        self._layout = Layout() if parallel == "auto" else Layout(2 if parallel[0] == 2 else 1, parallel[1])
        self._ready = 0
        self._splits: dict[int, _Split] = {}

    def facts(self) -> Facts:
        return self._pool.facts()

    def submit(self, work: Work) -> None:
        if not isinstance(work, Pass) or isinstance(work.asks[0], Gradient):
            self._pool.submit(work)
            return
        if work.id in self._splits:
            raise ValueError(f"work {work.id} is in flight already")
        self._plan()
        split = self._splits[work.id] = _Split(self._layout.slices(work))
        for part in split.slices:
            self._pool.submit(part)

    def collect(self, timeout: float) -> list[Answer]:
        return [whole for answer in self._pool.collect(timeout) if (whole := self._whole(answer))]

    def members(self) -> list[Member]:
        return self._pool.members()

    def last_error(self) -> str:
        return self._pool.last_error()

    def close(self) -> None:
        self._pool.close()

    def _whole(self, answer: Answer) -> Answer | None:
        """The answer itself, that to the pass which it completes, or None."""
        if not isinstance(answer.result, SliceResult):
            return answer
        number, part = divmod(answer.result.id, PARTS)
        split = self._splits[number]
        split.parts[part] = answer.result
        split.attempts = max(split.attempts, answer.attempts)
        if len(split.parts) < len(split.slices):
            return None
        del self._splits[number]
        parts = [split.parts[k] for k in range(len(split.slices))]
        return Answer(combine(split.slices, parts, self._config.optimizer.loss), split.attempts)

    def _plan(self) -> None:
        """Choose anew when actors have come or gone, as soon as their speed is known."""
        if not self._automatic:
            return
        ready = [member for member in self._pool.members() if member.state == "ready"]
        paces = [member.pace for member in ready if member.pace is not None]
        if len(ready) == self._ready or not paces:
            return
        optimizer, model = self._config.optimizer, self._config.model
        synchronous = optimizer.mode == "sync"
        out = optimizer.asks_per_step if synchronous else optimizer.in_flight
        classes = len(self.facts().classnames)
        # A part's time, as if its work were split evenly: the prefix is small beside the classes.
        whole = sum(paces) / len(paces) * self._layout.parts
        passes = math.ceil(out / model.pairs_per_pass)
        self._layout, rate = choose(len(ready), whole, classes, passes, synchronous)
        self._ready = len(ready)
        queries = rate * optimizer.queries_per_step / optimizer.asks_per_step * model.pairs_per_pass
        _log.warning("model.parallel: %s on %d actors, about %.0f queries/s", self._layout, self._ready, queries)
