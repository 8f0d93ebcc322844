"""The complete state of a run between two steps, as a checkpoint holds it."""

from dataclasses import dataclass, field

from zip_ray.optimizers import OptimizerState
from zip_ray.protocol.arrays import Float64
from zip_ray.tuning.ledger import Account
from zip_ray.tuning.trend import Trend


@dataclass(frozen=True)
class Best:
    """The best iterate by validation (see `validation.deploy`); the earliest of equals."""

    accuracy: float
    """Share of the validation images, 0 to 1."""
    loss: float
    """Mean cross-entropy on them."""
    step: int
    w: Float64
    """As deployed (see `OptimizerState.deployed`)."""


@dataclass(frozen=True)
class RunState:
    """A run between two steps."""

    optimizer: OptimizerState
    asked: int = 0
    """Asks numbered so far; asynchronously some of them were in flight."""
    account: Account = field(default_factory=Account)
    seconds: float = 0.0
    """Seconds of tuning so far, over all resumes."""
    nonfinite_results: int = 0
    """Answers without a finite loss, since the start."""
    dropped_results: int = 0
    """Answers that were too late to be used, since the start."""
    validated_step: int = -1
    """Step of the latest validation; -1 before the first."""
    accuracy: float = float("nan")
    """Validation accuracy at that step, 0 to 1."""
    best: Best | None = None
    trend: Trend = field(default_factory=Trend)
    """Of the losses of the first steps, until the run has been judged by it."""
