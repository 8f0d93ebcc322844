"""What all methods share: asks numbered and given out, results taken in, one update for every so many results.

Synchronously an update waits for the answers to all the asks of its step: the trajectory does not depend on the pool,
bit for bit. Asynchronously up to `in_flight` asks are out, and an update takes the first so many answers. In both modes
an update folds its results in the order of their number.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

from zip_ray.config.execution import ExecutionConfig
from zip_ray.config.section import Section
from zip_ray.protocol.losses import Loss
from zip_ray.protocol.messages import Ask, AskResult, Float64

NONFINITE_STEPS = 10
"""Steps in a row that moved nothing after which the run is hopeless."""


class MethodOptions(Section):
    """How the parameters move: what all methods have in common."""

    queries_per_ask: ClassVar[int] = 1
    """What one ask costs: 2 for a pair."""
    compares: ClassVar[bool] = False
    """Whether a step compares its queries with one another, which asynchronous mode cannot offer."""
    loss: Loss = "cross-entropy"
    """What a query answers, the mean over the mini-batch: cross-entropy, or focal loss with gamma 2. Validation and
    test losses are cross-entropies."""

    @property
    def asks_per_step(self) -> int:
        """Asks (pairs, queries or gradients) of one step."""
        return 1

    @property
    def batches_per_step(self) -> int:
        """Mini-batches that a step uses, one after another."""
        return 1

    @property
    def queries_per_step(self) -> int:
        """What one step costs."""
        return self.asks_per_step * self.queries_per_ask

    def schedule_steps(self, planned: int | None, steps_per_epoch: int) -> int | None:  # noqa: ARG002
        """Steps over which a learning rate falls; None for a method without a schedule.

        Args:
            planned: steps that the budget allows; None where it does not limit them.
            steps_per_epoch: whole mini-batches of the training images.
        """
        return None


@dataclass(frozen=True)
class StepReport:
    """What one step did."""

    step: int
    loss: float
    """Mean loss of the finite results; NaN when there is none."""
    accuracy: float
    """Mean mini-batch accuracy of the finite results; NaN when there is none."""
    gradient_norm: float
    """Norm of the estimate before clipping; NaN without one."""
    clipped: bool
    nonfinite: int
    """Results left out because a loss was NaN or infinite."""
    staleness: float
    """Mean, over the asks, of the updates made since each was asked; 0 in synchronous mode."""
    dropped: int
    """Answers since the step before that were too stale to be used."""


@dataclass(frozen=True)
class OptimizerState:
    """All that an optimiser is, between two steps."""

    w: Float64
    """What would be deployed now, shape (d,)."""
    steps: int = 0
    """Steps done."""
    nonfinite_streak: int = 0
    """Steps in a row, up to now, that moved nothing for want of finite losses."""
    asked: int = 0
    """Asks given out, which is the number of the next; asynchronously some of them are still out."""
    memory: dict[str, Float64] = field(default_factory=dict)
    """What the method remembers besides, by name; empty before the first step."""


class Told(NamedTuple):
    """An ask and what came of it."""

    ask: Ask
    result: AskResult


class Move(NamedTuple):
    """What an update makes of its results."""

    w: Float64
    memory: dict[str, Float64]
    gradient_norm: float = np.nan
    clipped: bool = False


class Optimizer(ABC):
    """A method, by ask and tell. A subclass says what it asks, and how it moves."""

    remedy: ClassVar[str]
    """What to lower when no loss is finite."""

    def __init__(
        self,
        config: MethodOptions,
        execution: ExecutionConfig,
        state: OptimizerState,
        seed: int,
        schedule_steps: int | None = None,
    ) -> None:
        """Go on from a state.

        Args:
            config: the method's settings.
            state: the initial state, or that of a checkpoint.
            seed: keys every draw.
            schedule_steps: steps over which the learning rate falls; only methods that have one need it.
        """
        self._config, self._execution = config, execution
        self._seed, self._schedule_steps = seed, schedule_steps
        self._state = state
        self._asks_per_step, self._batches_per_step = config.asks_per_step, config.batches_per_step
        self.queries_per_step = config.queries_per_step
        """What a step costs."""
        # Asks that were out when the state was saved are lost; numbers go on with the next step's.
        self._asked = -(-state.asked // self._asks_per_step) * self._asks_per_step
        self._out: dict[int, Ask] = {}
        self._told: list[Told] = []
        self._dropped = 0

    @property
    def state(self) -> OptimizerState:
        """The state after the latest update; asks in flight are not part of it."""
        return self._state

    @property
    def queries_to_ask(self) -> int:
        """Queries that must still be asked to make the next step whole."""
        each = self.queries_per_step // self._asks_per_step
        return self.queries_per_step - each * (self._asked % self._asks_per_step)

    @property
    def room(self) -> int:
        """Asks that it would give now, one after another."""
        if self._execution.mode == "async":
            return self._execution.in_flight - len(self._out)
        return (self._state.steps + 1) * self._asks_per_step - self._asked

    @property
    def waiting(self) -> int:
        """Answers that wait for the rest of their step."""
        return len(self._told)

    @property
    def dropped(self) -> int:
        """Answers since the latest step that were too stale to be used."""
        return self._dropped

    @property
    def next_batch(self) -> int:
        """Key of the mini-batch of what `ask` gives next, counted from 1."""
        return self._asked * self._batches_per_step // self._asks_per_step + 1

    def ask(self) -> Ask | None:
        """The next ask, or None while as many are out as may be."""
        if self.room == 0:
            return None
        ask = self._out[self._asked] = self._make(self._asked, self._asked % self._asks_per_step)
        self._asked += 1
        return ask

    def tell(self, result: AskResult) -> StepReport | None:
        """Fold a result in; a report when it completed an update.

        Raises:
            ValueError: a result of something not asked, or told already.
        """
        ask = self._out.pop(result.id, None)
        if ask is None:
            raise ValueError(f"result {result.id} is not awaited: not asked, or told already")
        if self._staleness(ask) > self._execution.max_staleness:
            self._dropped += 1
            return None
        self._told.append(Told(ask, result))
        return self._update() if len(self._told) == self._asks_per_step else None

    def stop(self) -> dict[str, str]:
        """Reasons why going on is of no use; empty while there is none."""
        if self._state.nonfinite_streak >= NONFINITE_STEPS:
            return {
                "nonfinite": f"no loss was finite in {self._state.nonfinite_streak} steps in a row: "
                f"{self.remedy}, or check the model with run.py doctor"
            }
        return {}

    @abstractmethod
    def _make(self, number: int, index: int) -> Ask:
        """The ask of that number, the `index`-th of its step."""

    @abstractmethod
    def _move(self, told: Sequence[Told]) -> Move | None:
        """The update that the finite results of a step (at least one) make; None where they do not suffice."""

    @property
    def _progress(self) -> float:
        """Share of the schedule that is done, from 0 at the first step to 1 where it ends."""
        assert self._schedule_steps is not None
        return min(self._state.steps / self._schedule_steps, 1.0)

    def _staleness(self, ask: Ask) -> int:
        return self._state.steps - ask.version

    def _update(self) -> StepReport:
        told = sorted(self._told, key=lambda one: one.ask.id)
        finite = [one for one in told if one.result.finite]
        staleness = _mean([self._staleness(one.ask) for one in told])
        dropped = self._dropped
        self._told, self._dropped = [], 0
        before = self._state
        move = self._move(finite) if finite else None
        w, memory, streak = before.w, before.memory, before.nonfinite_streak + 1
        if move is not None:
            w, memory, streak = move.w, move.memory, 0
        self._state = OptimizerState(w, before.steps + 1, streak, self._asked, memory)
        return StepReport(
            step=self._state.steps,
            loss=_mean([one.result.loss for one in finite]),
            accuracy=_mean([one.result.accuracy for one in finite]),
            gradient_norm=np.nan if move is None else move.gradient_norm,
            clipped=move is not None and move.clipped,
            nonfinite=len(told) - len(finite),
            staleness=staleness,
            dropped=dropped,
        )


def _mean(values: Sequence[float]) -> float:
    """Without NumPy, which takes more time over one number than all else here."""
    return sum(values) / len(values) if values else math.nan
