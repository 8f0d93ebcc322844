"""The loop over a fake scorer."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from tests.support.configs import zip_config
from tests.support.fakes import FakeScorer
from zip_ray.config.tree import Config
from zip_ray.optimizers import OptimizerState
from zip_ray.pool.contract import Pool
from zip_ray.pool.in_process import InProcessPool
from zip_ray.tuning.events import Event, PoolEvent
from zip_ray.tuning.loop import Outcome, Tuning
from zip_ray.tuning.state import RunState

E = TypeVar("E", bound=Event)


def make_config(**sections: dict[str, Any]) -> Config:
    """30 steps of ten queries by default, validated every five."""
    return zip_config({"budget": {"queries": 300}, "validation": {"every_queries": 50}, **sections}, "test")


def fresh() -> RunState:
    """A run that has not begun, with six parameters at zero."""
    return RunState(OptimizerState(np.zeros(6)))


def tune(
    config: Config, pool: Pool | None = None, state: RunState | None = None, **options: Any
) -> tuple[Outcome, list[Event]]:
    """Run to the end and return its outcome and events."""
    events: list[Event] = []
    saved: list[RunState] = []
    tuning = Tuning(config, pool or InProcessPool(FakeScorer), state or fresh(), events.append, saved.append, **options)
    outcome = tuning.run()
    assert saved[-1] is outcome.state
    return outcome, events


def of_kind(events: Iterable[Event], kind: type[E]) -> list[E]:
    """The events of one class."""
    return [event for event in events if isinstance(event, kind)]


def without_time(events: Iterable[Event]) -> list[dict[str, Any]]:
    """The results that must be independent of the pool."""
    outside = ("seconds", "queries_per_second", "wasted")
    return [
        {"event": type(e), **{k: v for k, v in asdict(e).items() if k not in outside}}
        for e in events
        if not isinstance(e, PoolEvent)
    ]


@dataclass(frozen=True)
class Halt:
    """Asks a run to stop after a number of checks."""

    looks: list[int]

    def __call__(self) -> bool:
        self.looks[0] -= 1
        return self.looks[0] < 0
