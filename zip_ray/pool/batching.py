"""The number of asks that share a pass with `execution.pairs_per_pass: auto`."""

import math

from zip_ray.config.tree import Config
from zip_ray.pool.dispatcher import PREFETCH


def asks_per_pass(config: Config, device: str, actors: int) -> int:
    """`execution.pairs_per_pass` as a number.

    On GPUs, auto is an actor's share of the asks that may be in flight: of a round, whose results are needed together;
    or of `in_flight`, divided into enough passes to keep the actor working while the driver updates. A CPU is fully
    used by one pair: there, more would only delay the results.

    Args:
        config: of the run.
        device: of the actors, as their facts describe it.
        actors: how many are ready.
    """
    given, out, actors = config.execution.pairs_per_pass, config.asks_in_flight, max(actors, 1)
    if given != "auto":
        return min(given, out)
    if not device.startswith("cuda"):
        return 1
    if config.in_rounds:
        return math.ceil(out / actors)
    return max(out // (PREFETCH * actors), 1)


def most_passes(config: Config) -> int:
    """Passes that a run has in flight at once; the most it can have where `pairs_per_pass` is auto."""
    asks, together = config.asks_in_flight, config.execution.pairs_per_pass
    return asks if together == "auto" else math.ceil(asks / together)
