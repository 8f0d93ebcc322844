"""How many asks share a pass where that is left to the program: `model.pairs_per_pass: auto`."""

import math

from zip_ray.config import Config
from zip_ray.dispatcher import PREFETCH


def asks_per_pass(config: Config, device: str, actors: int) -> int:
    """`model.pairs_per_pass` as a number.

    On GPUs, auto is an actor's share of what may be out at once: synchronously of a step, whose answers are awaited
    together; asynchronously of `in_flight`, in as many passes as keep an actor at work while the driver is, and never
    more than that. A CPU is busy with one pair: there, more would only come back later.

    Args:
        config: of the run.
        device: of the actors, as their facts describe it.
        actors: how many are ready.
    """
    given, optimizer = config.pairs_per_pass, config.optimizer
    synchronous, actors = optimizer.mode == "sync", max(actors, 1)
    if given != "auto":
        return given if synchronous else min(given, optimizer.in_flight)
    if not device.startswith("cuda"):
        return 1
    if synchronous:
        return math.ceil(optimizer.asks_per_step / actors)
    return max(optimizer.in_flight // (PREFETCH * actors), 1)
