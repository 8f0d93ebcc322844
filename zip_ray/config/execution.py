"""Section `execution`: how queries are scheduled on the actors."""

from typing import Annotated, Literal

from pydantic import Field

from zip_ray.config.section import Count, Section


class ExecutionConfig(Section):
    """How queries are scheduled."""

    mode: Literal["sync", "async"] = "sync"
    """async = an update does not wait for all results. It uses the first results that arrive while others are in
    flight: no actor waits, and results are a little stale. A round of gauss-newton closes without the results that are
    late (see round_share). Not for methods that compare all queries of a step: one-sided, cma-es and random-search.
    sync = a step waits for all its results, and has the same bits on any number of actors."""
    in_flight: Count = 8
    """async: pairs in flight at once, on all actors together. Up to 8 cost no queries, 32 cost half as many again
    (docs/measurements/staleness.md); with more actors than that, split passes first."""
    max_staleness: Annotated[int, Field(ge=0)] = 256
    """async: steps after which a result is too late to be used. It is charged and counted."""
    round_share: Annotated[float, Field(ge=0.5, le=1)] = 0.9
    """async, gauss-newton: share of a round's results that closes it. Later ones are charged, counted and not used, so
    that a slow or lost actor does not delay the round (docs/measurements/rounds.md)."""
    pairs_per_pass: Count | Literal["auto"] = 1
    """Pairs (or queries) that an actor encodes in one pass. More fill a GPU, fewer spread over more actors. auto = on
    GPUs, what is in flight at once is shared out among the actors; 1 on CPUs. The number changes results by float32
    rounding, so auto does not give the same bits on another number of GPUs."""
    split: tuple[Literal[1, 2], Count] | Literal["auto"] = (1, 1)
    """Sides and shards of a pass, or auto; 1 1 = not split. 2 sides = the two queries of a pair apart; shards are of
    the classes, or of the mini-batch's images where the prompt is visual. auto = by the actors and their speed, chosen
    again when the actors change. It changes results by float32 rounding, so auto does not give the same bits twice."""
    threads: Count | Literal["auto"] = 1
    """CPU threads per actor. Another number gives other bits; a run keeps the number it started with. auto = this
    machine's cores shared out among the actors, or `cluster.cpus_per_actor` on a cluster that is joined."""
    cache: bool = True
    """Keep image features and weights for later runs. In ~/.cache/zip-ray (or $XDG_CACHE_HOME/zip-ray): features of the
    same images, and weights that CPU actors share."""
