"""How one pass is split over actors: its sides, and shards of its work; the parts put together again, exactly.

Sides and shards add no staleness, unlike more pairs in flight. A shard of the classes answers, for each image, its
largest logit m_i, the sum s_i of exp(logit - m_i), and the logit t of the image's class if it is there. With M = max_i
m_i the cross-entropy is M + log sum_i s_i exp(m_i - M) - t: that of all classes together. Under a visual prompt, where
the images are the work, a shard is some images of the mini-batch, and answers the same of all classes.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import harmonic_mean
from typing import Literal, NamedTuple

import numpy as np

from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.batching import asks_per_pass
from zip_ray.pool.contract import Member, Pool
from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.losses import Loss, image_losses
from zip_ray.protocol.messages import (
    Answer,
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
"""Most parts of a pass: ids of slices are id of the pass * PARTS + number of the part, and stay below 2^40. So are the
ids of asks that travel whole, since the lowest id goes first."""
MOST_SHARDS = 16
FEWEST_CLASSES = 4
"""In a shard: below, the shared prefix is most of the work."""
FEWEST_IMAGES = 8
"""In a shard: below, a pass through the image tower is mostly overhead."""
ROUND_TRIP = 0.002
"""Seconds that a part costs besides its own work."""
DRIVER_SECONDS = 0.0005
"""Of the driver's time, for each part: it sends and takes in one after another."""
TOKENS_PER_CLASS = 4
"""Text positions of a typical class name, its full stop and end of text."""
BETTER = 1.05
"""How many times faster a finer layout must be expected to be."""
LOOK_SECONDS = 0.5
"""Between two looks at the actors: with many of them, one for every pass would be most of the driver's time."""
OTHER_SPEED = 2.0
"""Times faster or slower that the actors must have become for another plan."""
_log = logging.getLogger(__name__)


class Whole(NamedTuple):
    """What can be split: what the shards of a pass are shards of, and its sides."""

    over: Literal["classes", "images"]
    size: int
    sides: Literal[1, 2] = 2
    """Queries of an ask: what is asked as single queries has no two sides."""

    @property
    def repeated(self) -> float:
        """Share of a pass that every shard does again: of texts the prefix, of images nothing."""
        return 9 / (9 + TOKENS_PER_CLASS * self.size) if self.over == "classes" else 0.0

    @property
    def most_shards(self) -> int:
        """Beyond which a shard is too small to be worth its while."""
        fewest = FEWEST_CLASSES if self.over == "classes" else FEWEST_IMAGES
        return max(1, min(MOST_SHARDS, self.size // fewest))


@dataclass(frozen=True)
class Layout:
    """How a pass is split."""

    sides: Literal[1, 2] = 1
    """2 = the two queries of a pair go to different actors."""
    shards: int = 1
    """Runs of classes or images."""
    over: Literal["classes", "images"] = "classes"

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
            Slice(work.id * PARTS + number, asks, group, shard, self.shards, self.over)
            for number, (group, shard) in enumerate(places)
        ]

    def __str__(self) -> str:
        return f"{self.sides} sides x {self.shards} shards of the {self.over}"


def shard_bounds(size: int, shard: int, shards: int) -> tuple[int, int]:
    """First and end of one of `shards` nearly equal runs of classes or images."""
    return size * shard // shards, size * (shard + 1) // shards


def combine(slices: Sequence[Slice], parts: Sequence[SliceResult], loss: Loss = "cross-entropy") -> PassResult:
    """The answer to a pass from those to its slices, in their order: exact, and the same bits for the same parts."""
    asks, sides, shards = slices[0].asks, len(slices[0].sides), slices[0].shards
    sides_apart = [parts[first : first + shards] for first in range(0, len(parts), shards)]
    if slices[0].over == "images":
        sides_apart = [[_side_by_side(group)] for group in sides_apart]
    groups = [_figures(group, loss) for group in sides_apart]
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


def _side_by_side(shards: Sequence[SliceResult]) -> SliceResult:
    """Shards of the images as one answer about all of them."""
    return SliceResult(
        shards[0].id,
        maxima=np.concatenate([shard.maxima for shard in shards], axis=1),
        sums=np.concatenate([shard.sums for shard in shards], axis=1),
        targets=np.concatenate([shard.targets for shard in shards], axis=1),
        right=np.concatenate([shard.right for shard in shards], axis=1),
    )


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


def choose(actors: int, seconds: float, whole: Whole, passes: int, synchronous: bool) -> tuple[Layout, float]:
    """The layout that is expected to be fastest, and its passes a second; of equally good ones the coarsest.

    Args:
        actors: how many there are.
        seconds: that a whole pass takes one of them, as if all were alike: the harmonic mean of their paces.
        whole: what there is to split.
        passes: in flight at once; synchronously those of one step.
        synchronous: whether all of them must be back before the next go out.
    """
    best = Layout(over=whole.over)
    rate = _rate(best, actors, seconds, whole, passes, synchronous)
    sides: tuple[Literal[1, 2], ...] = (1, 2) if whole.sides == 2 else (1,)
    layouts = [Layout(s, n, whole.over) for s in sides for n in range(1, whole.most_shards + 1)]
    for layout in sorted(layouts, key=lambda one: (one.parts, -one.sides)):
        found = _rate(layout, actors, seconds, whole, passes, synchronous)
        if found > BETTER * rate:
            best, rate = layout, found
    return best, rate


def _rate(layout: Layout, actors: int, seconds: float, whole: Whole, passes: int, synchronous: bool) -> float:
    """Passes a second: what cannot be split is done again in every shard."""
    part = seconds / layout.sides * (whole.repeated + (1 - whole.repeated) / layout.shards) + ROUND_TRIP
    parts = passes * layout.parts
    if synchronous:
        return passes / max(math.ceil(parts / actors) * part, parts * DRIVER_SECONDS)
    return min(min(actors, parts) / part, 1 / DRIVER_SECONDS) / layout.parts


def split_if_asked(pool: Pool, config: Config, clock: Callable[[], float] = time.monotonic) -> Pool:
    """The pool itself, or one that splits passes as `execution.split` says."""
    return pool if config.execution.split == (1, 1) else SplitPool(pool, config, clock)


@dataclass
class _Split:
    slices: list[Slice]
    parts: dict[int, SliceResult] = field(default_factory=dict)
    attempts: int = 1


class SplitPool:
    """A pool that has passes done in parts by another, and hands them out whole."""

    def __init__(self, pool: Pool, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        """Split as `execution.split` says.

        Args:
            pool: does the work.
            config: of the run.
            clock: seconds, monotonic.
        """
        self._pool, self._config, self._clock = pool, config, clock
        parallel = config.execution.split
        self._automatic = parallel == "auto"
        over: Literal["classes", "images"] = "images" if config.prompt.visual else "classes"
        sides, shards = (1, 1) if parallel == "auto" else parallel
        self._layout = Layout(2 if sides == 2 else 1, shards, over)
        self._facts: Facts | None = None
        self._synchronous = config.execution.mode == "sync"
        self._ready, self._pace, self._looked = 0, 1.0, float("-inf")
        """Actors and their pace at the latest plan, and when they were looked at last."""
        self._splits: dict[int, _Split] = {}

    def facts(self, meanwhile: Callable[[], None] = lambda: None) -> Facts:
        facts = self._facts = self._facts or self._pool.facts(meanwhile)
        whole, shards = self._whole_of(facts), self._layout.shards
        most = min(whole.size, PARTS // 2)
        if shards > most:
            raise InputError(f"execution.split: {shards} shards of {whole.size} {whole.over}: give at most {most}")
        return facts

    def submit(self, work: Work) -> None:
        if not isinstance(work, Pass):
            self._pool.submit(work)
            return
        if work.id in self._splits:
            raise ValueError(f"work {work.id} is in flight already")
        self._plan()
        if isinstance(work.asks[0], Gradient) or (self._layout.parts == 1 and not self._synchronous):
            self._pool.submit(Pass(tuple(replace(ask, id=ask.id * PARTS) for ask in work.asks)))
            return
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
        if isinstance(answer.result, PassResult):
            results = tuple(replace(result, id=result.id // PARTS) for result in answer.result.results)
            return Answer(PassResult(results), answer.attempts)
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
        """Choose anew, as soon as speeds are known, when actors have come or gone or their speed is quite another."""
        if not self._automatic or self._config.optimizer.method == "gradient":
            return
        if self._clock() - self._looked < LOOK_SECONDS:
            return
        self._looked = self._clock()
        ready = [member for member in self._pool.members() if member.state == "ready"]
        paces = [member.pace for member in ready if member.pace is not None]
        if not paces:
            return
        pace = harmonic_mean(paces)
        as_fast = 1 / OTHER_SPEED < pace / self._pace < OTHER_SPEED
        if len(ready) == self._ready and as_fast:
            return
        self._ready, self._pace = len(ready), pace
        optimizer, facts = self._config.optimizer, self.facts()
        out = self._config.asks_in_flight
        passes = math.ceil(out / asks_per_pass(self._config, facts.device, len(ready)))
        self._layout, rate = choose(len(ready), pace, self._whole_of(facts), passes, self._synchronous)
        queries = rate * out / passes * optimizer.queries_per_step / optimizer.asks_per_step
        idle = self._idle(self._ready - passes * self._layout.parts)
        _log.warning(
            "execution.split: %s on %d actors, about %.0f queries/s%s", self._layout, self._ready, queries, idle
        )

    def _idle(self, actors: int) -> str:
        """What can be done about so many actors for which the layout has no part, as the rest of a sentence."""
        if actors <= 0:
            return ""
        together, in_flight = self._config.execution.pairs_per_pass, self._config.execution.in_flight
        remedies = [f"lower execution.pairs_per_pass (now {together})"] if together not in (1, "auto") else []
        if not self._synchronous:
            remedies = [f"raise execution.in_flight (now {in_flight}; see docs/staleness.md)", *remedies]
        remedy = ", or ".join(remedies or ["give cluster.actors fewer"])
        return f"; {actors} actors have nothing to do: {remedy}"

    def _whole_of(self, facts: Facts) -> Whole:
        task, optimizer = self._config.task, self._config.optimizer
        sides: Literal[1, 2] = 2 if optimizer.queries_per_step > optimizer.asks_per_step else 1
        if self._layout.over == "images":
            return Whole("images", min(task.batch_size, facts.images["train"]), sides)
        return Whole("classes", len(facts.classnames), sides)
