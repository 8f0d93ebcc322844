"""The loop over a fake scorer."""

from dataclasses import asdict

import numpy as np

from tests.support.fakes import FakeScorer
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.optimizers import OptimizerState
from zip_ray.pool.in_process import InProcessPool
from zip_ray.tuning.events import Event, PoolEvent
from zip_ray.tuning.loop import Outcome, Tuning
from zip_ray.tuning.state import RunState


def make_config(**sections: dict) -> Config:
    return validate({"budget": {"queries": 300}, "validation": {"every_queries": 50}, **sections}, "test")


def fresh() -> RunState:
    return RunState(OptimizerState(np.zeros(6)))


def tune(config: Config, pool=None, state: RunState | None = None, **options) -> tuple[Outcome, list[Event]]:
    events: list[Event] = []
    saved: list[RunState] = []
    tuning = Tuning(config, pool or InProcessPool(FakeScorer), state or fresh(), events.append, saved.append, **options)
    outcome = tuning.run()
    assert saved[-1] is outcome.state
    return outcome, events


def without_time(events: list[Event]) -> list[dict]:
    """What must not depend on the pool."""
    outside = ("seconds", "queries_per_second", "wasted")
    return [
        {"event": type(e), **{k: v for k, v in asdict(e).items() if k not in outside}}
        for e in events
        if not isinstance(e, PoolEvent)
    ]
