"""Events of a run that did not take place; each field can be overridden."""

from typing import Any

from zip_ray.config.tree import Config
from zip_ray.tuning.events import (
    EndEvent,
    PoolEvent,
    ReadoutEvent,
    StallEvent,
    StartEvent,
    StepEvent,
    ValidationEvent,
    ZeroShot,
)
from zip_ray.tuning.ledger import Account


def start_event(**fields: Any) -> StartEvent:
    """The start of a run with the default config."""
    defaults: dict[str, Any] = {
        "step": 0,
        "queries": 0,
        "seconds": 0.0,
        "time": 1_700_000_000.0,
        "config": Config().model_dump(mode="json"),
        "environment": {"python": "3"},
        "weights_digest": "0" * 64,
        "parameters": 6,
        "images": {"train": 8, "val": 4, "test": 6},
        "zero_shot": ZeroShot({"plain template": "a {}."}, {"plain template": 0.5}),
    }
    return StartEvent(**defaults | fields)


def step_event(step: int, **fields: Any) -> StepEvent:
    """A step of ten queries, half a second after the one before it."""
    defaults: dict[str, Any] = {
        "queries": 10 * step,
        "seconds": 0.5 * step,
        "loss": 1 / step,
        "accuracy": 0.5,
        "gradient_norm": 2.0,
        "clipped": False,
        "nonfinite": 0,
        "staleness": 0.0,
        "dropped": 0,
        "wasted": 0,
        "queries_per_second": 20.0,
    }
    return StepEvent(step=step, **defaults | fields)


def validation_event(step: int, **fields: Any) -> ValidationEvent:
    """The validation of the parameters at a step."""
    defaults: dict[str, Any] = {"queries": 10 * step, "seconds": 0.5 * step, "loss": 0.5, "accuracy": 0.75}
    return ValidationEvent(step=step, **defaults | fields)


def pool_event(**fields: Any) -> PoolEvent:
    """Three actors, before the first step."""
    defaults: dict[str, Any] = {
        "step": 0,
        "queries": 0,
        "seconds": 0.0,
        "ready": 3,
        "pending": 0,
        "given_up": 0,
        "last_error": "",
        "paces": None,
    }
    return PoolEvent(**defaults | fields)


def stall_event(step: int = 50) -> StallEvent:
    """The loss has not moved up to a step."""
    return StallEvent(
        step=step, queries=10 * step, seconds=0.5 * step, steps=step, change=-0.0002, error=0.0001, remedy="raise it"
    )


def readout_event(step: int, **fields: Any) -> ReadoutEvent:
    """Two queries for the readout after a step."""
    return ReadoutEvent(**{"step": step, "queries": 10 * step + 2, "seconds": 0.5 * step, **fields})


def end_event(step: int, **fields: Any) -> EndEvent:
    """The end of a run after a step."""
    defaults: dict[str, Any] = {
        "queries": 10 * step,
        "seconds": 0.5 * step,
        "reasons": {"queries": "all used"},
        "deployed_step": step,
        "test_accuracy": 0.625,
        "zero_shot_accuracy": 0.5,
        "below_zero_shot": False,
        "account": Account(10 * step, 10 * step, 10 * step, 0),
        "dropped": 0,
        "left_over": 0,
    }
    return EndEvent(step=step, **defaults | fields)
