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

from zip_ray.config import Config
from zip_ray.pool import Member, Pool
from zip_ray.work import Answer, Facts, Float64, Pair, PairResult, Pairs, PairsResult, Slice, SliceResult, Work

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

    def slices(self, work: Pairs) -> list[Slice]:
        """The parts of a pass, side by side, shard by shard."""
        sides: list[tuple[Literal[1, -1], ...]] = [(1, -1)] if self.sides == 1 else [(1,), (-1,)]
        places = [(signs, shard) for signs in sides for shard in range(self.shards)]
        return [
            Slice(work.id * PARTS + number, work.pairs, signs, shard, self.shards)
            for number, (signs, shard) in enumerate(places)
        ]

    def __str__(self) -> str:
        return f"{self.sides} sides x {self.shards} class shards"


def shard_bounds(classes: int, shards: int) -> list[int]:
    """The first class of each of `shards` nearly equal runs."""
    return [classes * shard // shards for shard in range(shards)]


def combine(pairs: Sequence[Pair], sides: int, parts: Sequence[SliceResult]) -> PairsResult:
    """The answer to a pass from those to its slices, in their order: exact, and the same bits for the same parts.

    Args:
        pairs: the pass.
        sides: of the layout.
        parts: answers to all its slices.
    """
    shards = len(parts) // sides
    columns = [_cross_entropy(parts[side * shards : (side + 1) * shards]) for side in range(sides)]
    if sides == 1:
        (losses, accuracies) = columns[0]
        queries = [(losses[2 * k], losses[2 * k + 1], accuracies[2 * k : 2 * k + 2]) for k in range(len(pairs))]
    else:
        (plus, first), (minus, second) = columns
        queries = [(plus[k], minus[k], np.array([first[k], second[k]])) for k in range(len(pairs))]
    return PairsResult(
        tuple(
            PairResult(pair.id, float(plus), float(minus), float(np.mean(accuracy)))
            for pair, (plus, minus, accuracy) in zip(pairs, queries, strict=True)
        )
    )


def _cross_entropy(shards: Sequence[SliceResult]) -> tuple[Float64, Float64]:
    """Mean cross-entropies and accuracies of the queries, each of shape (queries,)."""
    maxima = np.stack([shard.maxima for shard in shards])
    top = maxima.max(axis=0)
    total = sum(shard.sums * np.exp(shard.maxima - top) for shard in shards)
    target = np.stack([shard.targets for shard in shards]).max(axis=0)
    # Of equal logits the first class wins, as it does in one piece.
    winner = maxima.argmax(axis=0)
    right = np.take_along_axis(np.stack([shard.right for shard in shards]), winner[None], axis=0)[0]
    return (top + np.log(total) - target).mean(axis=1), right.mean(axis=1)


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
    work: Pairs
    layout: Layout
    parts: dict[int, SliceResult] = field(default_factory=dict)
    attempts: int = 1


class SplitPool:
    """A pool that has passes over pairs done in parts by another, and hands them out whole."""

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
        if not isinstance(work, Pairs):
            self._pool.submit(work)
            return
        if work.id in self._splits:
            raise ValueError(f"work {work.id} is in flight already")
        self._plan()
        self._splits[work.id] = _Split(work, self._layout)
        for part in self._layout.slices(work):
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
        if len(split.parts) < split.layout.parts:
            return None
        del self._splits[number]
        parts = [split.parts[k] for k in range(split.layout.parts)]
        return Answer(combine(split.work.pairs, split.layout.sides, parts), split.attempts)

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
        out = optimizer.pairs_per_step if synchronous else optimizer.in_flight
        classes = len(self.facts().classnames)
        # A part's time, as if its work were split evenly: the prefix is small beside the classes.
        whole = sum(paces) / len(paces) * self._layout.parts
        passes = math.ceil(out / model.pairs_per_pass)
        self._layout, rate = choose(len(ready), whole, classes, passes, synchronous)
        self._ready = len(ready)
        queries = rate * 2 * model.pairs_per_pass
        _log.warning("model.parallel: %s on %d actors, about %.0f queries/s", self._layout, self._ready, queries)
