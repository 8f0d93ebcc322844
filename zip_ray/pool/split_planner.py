"""The best split of passes over the current actors, by their number and their speed.

Sides and shards add no staleness, unlike more pairs in flight.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import harmonic_mean
from typing import Literal, NamedTuple

from zip_ray.config.tree import Config
from zip_ray.pool.batching import asks_per_pass
from zip_ray.pool.contract import Member
from zip_ray.protocol.facts import Facts

FEWEST_CLASSES = 4
"""In a shard: below, the shared prefix is most of the work."""
FEWEST_IMAGES = 8
"""In a shard: below, a pass through the image tower is mostly overhead."""
ROUND_TRIP = 0.002
"""Seconds that a part costs besides its own work."""
DRIVER_SECONDS = 0.0005
"""Seconds of the driver's time per part, since it sends and receives parts one after another."""
PREFIX_TOKENS = 9
"""Text positions of a typical shared prefix: start of text and eight context tokens."""
TOKENS_PER_CLASS = 4
"""Text positions of a typical class name, its full stop and end of text."""
BETTER = 1.05
"""Factor by which a finer partition must be expected to be faster."""
LOOK_SECONDS = 0.5
"""Seconds between two checks of the actors: with many, a check per pass would take most of the driver's time."""
OTHER_SPEED = 2.0
"""Factor by which the speed of the actors must change for a new plan."""
_log = logging.getLogger(__name__)


class Whole(NamedTuple):
    """What can be split: what the shards of a pass are shards of, and its sides."""

    over: Literal["classes", "images"]
    size: int
    sides: Literal[1, 2] = 2
    """Queries of an ask: single queries have no two sides."""

    @property
    def repeated(self) -> float:
        """Share of a pass that every shard repeats: of texts the prefix, of images nothing."""
        return PREFIX_TOKENS / (PREFIX_TOKENS + TOKENS_PER_CLASS * self.size) if self.over == "classes" else 0.0

    @property
    def most_shards(self) -> int:
        """The number of shards beyond which a shard is too small to be worth it."""
        fewest = FEWEST_CLASSES if self.over == "classes" else FEWEST_IMAGES
        return max(1, self.size // fewest)


@dataclass(frozen=True)
class Partition:
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

    def __str__(self) -> str:
        return f"{self.sides} sides x {self.shards} shards of the {self.over}"


def whole_of(config: Config, facts: Facts) -> Whole:
    """What there is to split in the passes of a run."""
    sides: Literal[1, 2] = 2 if config.optimizer.queries_per_ask == 2 else 1
    if config.works_on_images:
        return Whole("images", min(config.task.batch_size, facts.images["train"]), sides)
    return Whole("classes", len(facts.classnames), sides)


def choose(actors: int, seconds: float, whole: Whole, passes: int, synchronous: bool) -> tuple[Partition, float]:
    """The partition that is expected to be fastest, and its passes per second; of equally good ones the coarsest.

    Args:
        actors: how many there are.
        seconds: that a whole pass takes one of them, as if all were alike: the harmonic mean of their paces.
        whole: what there is to split.
        passes: in flight at once; synchronously those of one step.
        synchronous: whether all of them must be back before the next go out.
    """
    best = Partition(over=whole.over)
    rate = _rate(best, actors, seconds, whole, passes, synchronous)
    sides: tuple[Literal[1, 2], ...] = (1, 2) if whole.sides == 2 else (1,)
    partitions = [Partition(s, n, whole.over) for s in sides for n in range(1, whole.most_shards + 1)]
    for partition in sorted(partitions, key=lambda one: (one.parts, -one.sides)):
        found = _rate(partition, actors, seconds, whole, passes, synchronous)
        if found > BETTER * rate:
            best, rate = partition, found
    return best, rate


def _rate(partition: Partition, actors: int, seconds: float, whole: Whole, passes: int, synchronous: bool) -> float:
    """Passes per second: what cannot be split is repeated in every shard."""
    part = seconds / partition.sides * (whole.repeated + (1 - whole.repeated) / partition.shards) + ROUND_TRIP
    parts = passes * partition.parts
    if synchronous:
        return passes / max(math.ceil(parts / actors) * part, parts * DRIVER_SECONDS)
    return min(min(actors, parts) / part, 1 / DRIVER_SECONDS) / partition.parts


class SplitPlanner:
    """Chooses the partition once speeds are known, and again when the actors or their speeds change."""

    def __init__(self, config: Config, facts: Facts, clock: Callable[[], float]) -> None:
        """Whole passes until speeds are known.

        Args:
            config: of the run.
            facts: of its scorers.
            clock: seconds, monotonic.
        """
        self._config, self._clock = config, clock
        self._whole, self._device = whole_of(config, facts), facts.device
        self.partition = Partition(over=self._whole.over)
        """The latest choice."""
        self._ready, self._pace, self._looked = 0, 1.0, float("-inf")

    def look(self, members: Callable[[], Sequence[Member]]) -> None:
        """Choose again if a check is due and the actors have changed enough."""
        if self._clock() - self._looked < LOOK_SECONDS:
            return
        self._looked = self._clock()
        ready = [member for member in members() if member.state == "ready"]
        paces = [member.pace for member in ready if member.pace is not None]
        if not paces:
            return
        pace = harmonic_mean(paces)
        if len(ready) == self._ready and 1 / OTHER_SPEED < pace / self._pace < OTHER_SPEED:
            return
        self._ready, self._pace = len(ready), pace
        self._plan()

    def _plan(self) -> None:
        config, optimizer = self._config, self._config.optimizer
        asks = config.asks_in_flight
        passes = math.ceil(asks / asks_per_pass(config, self._device, self._ready))
        self.partition, rate = choose(self._ready, self._pace, self._whole, passes, config.in_rounds)
        _log.warning(
            "execution.split: %s on %d actors, about %.0f queries per second%s",
            self.partition,
            self._ready,
            rate * asks / passes * optimizer.queries_per_ask,
            self._idle(self._ready - passes * self.partition.parts),
        )

    def _idle(self, actors: int) -> str:
        """Remedies for actors that the partition leaves idle, as the rest of a sentence."""
        if actors <= 0:
            return ""
        execution = self._config.execution
        remedies = []
        if not self._config.in_rounds:
            cost = "see docs/measurements/staleness.md"
            remedies.append(f"raise execution.in_flight (now {execution.in_flight}; {cost})")
        if self._config.optimizer.rounds:
            remedies.append(f"raise optimizer.round_queries (now {self._config.optimizer.asks_per_step})")
        if execution.pairs_per_pass not in (1, "auto"):
            remedies.append(f"lower execution.pairs_per_pass (now {execution.pairs_per_pass})")
        remedy = ", or ".join(remedies or ["lower cluster.actors"])
        return f"; {actors} actors are idle: {remedy}"
