"""Scorers that take a given time and compute nothing, real Ray actors around them, and the rate of a run over them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import ray

from tests.support.fakes import FACTS
from zip_ray.actors.ray_pool import OPTIONS, RayPool
from zip_ray.actors.scorer_actor import ScorerActor
from zip_ray.config.reading import validate
from zip_ray.config.resources import ClusterConfig
from zip_ray.config.tree import Config
from zip_ray.optimizers import OptimizerState
from zip_ray.pool.contract import Pool
from zip_ray.protocol.facts import Facts
from zip_ray.protocol.messages import AskResult, Evaluation, EvaluationResult, Pass, Value, Work
from zip_ray.tuning.events import Event, StepEvent
from zip_ray.tuning.loop import Outcome, Tuning
from zip_ray.tuning.state import RunState

SIZE = 417
"""Parameters: ZIP's for a width of 512."""


class TimedScorer:
    """Answers after a fixed time per pass; the losses differ a little from pair to pair."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def facts(self) -> Facts:
        return FACTS

    def answer(self, work: Work) -> Value:
        if isinstance(work.body, Evaluation):
            return EvaluationResult(1.0, 0.5, FACTS.images[work.body.split])
        assert isinstance(work.body, Pass)
        if self._seconds:
            time.sleep(self._seconds)
        return tuple(AskResult((1.0 + 1e-3 * (ask.index % 7), 1.0), 0.5) for ask in work.body.asks)


class HostedPool(RayPool):
    """Several members in one process, each a thread of it: more of them than a machine holds processes."""

    def __init__(self, build: Any, cluster: ClusterConfig, seats: int) -> None:
        self._seats, self._taken = seats, 0
        self._hosts: list[Any] = []
        super().__init__(build, cluster)

    def _start_actor(self) -> Any:
        if self._taken % self._seats == 0:
            host = ray.remote(ScorerActor).options(num_cpus=0, max_concurrency=self._seats, **OPTIONS)
            self._hosts.append(host.remote())
        self._taken += 1
        return self._hosts[-1]


@contextmanager
def pool(scorer: partial[Any], actors: int, seats: int = 1) -> Iterator[RayPool]:
    """A pool of real actors on a local cluster, all of them ready."""
    cluster = ClusterConfig(actors=(actors, actors), cpus_per_actor=0, address="local", start_timeout=600)
    opened = RayPool(scorer, cluster) if seats == 1 else HostedPool(scorer, cluster, seats)
    try:
        opened.facts()
        yield opened
    finally:
        opened.close()


def configure(
    seconds: float | None = None, queries: int | None = None, pairs_per_step: int = 1, **execution: Any
) -> Config:
    """A run that validates at its start and end only."""
    sections = {
        "optimizer": {"method": "zip", "pairs_per_step": pairs_per_step},
        "execution": {"max_staleness": 10**6, **execution},
        "budget": {"queries": queries, "seconds": seconds},
        "validation": {"every_queries": 10**9},
        "output": {"checkpoint_every_steps": 10**9},
    }
    return validate(sections, "benchmark")


def tune(config: Config, pool: Pool, emit: Any = lambda _: None) -> Outcome:
    """The loop itself, with neither record nor tracking."""
    state = RunState(OptimizerState(np.zeros(SIZE)))
    return Tuning(config, pool, state, emit, lambda _: None).run()


def queries_per_second(config: Config, pool: Pool, skip: float) -> float:
    """Queries per second of a run, without its first `skip` seconds and without its end, when the pool runs empty: the
    slope of a straight line through them, as answers that come many at a time would weigh on a difference of ends."""
    events: list[Event] = []
    tune(config, pool, events.append)
    assert config.budget.seconds is not None
    steps = [(e.seconds, e.queries) for e in events if isinstance(e, StepEvent)]
    inside = np.array([(t, q) for t, q in steps if skip <= t <= config.budget.seconds])
    return float(np.polyfit(inside[:, 0], inside[:, 1], 1)[0])
