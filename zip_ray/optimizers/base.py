"""What all methods share: a small state and two pure functions.

`ask` returns what to evaluate, `tell` the next state. Numbering, staleness and what is in flight are handled elsewhere
(see `tuning.queue`): an ask is made from a state and a number, a step from its results.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np

from zip_ray.config.section import Section
from zip_ray.protocol.arrays import Float64, Int64
from zip_ray.protocol.losses import Loss
from zip_ray.protocol.messages import Ask, AskResult, PerturbationLaw, ScoresWanted
from zip_ray.protocol.mini_batches import mini_batch

NONFINITE_STEPS = 10
"""Consecutive steps without movement after which the run ends."""
STATISTICS = "statistics"
"""Name of the running statistics in a state's memory."""
LATEST = 0.1
"""Weight of the latest query in them, that of torch's BatchNorm."""


class MethodOptions(Section):
    """How the parameters move: options of all methods."""

    queries_per_ask: ClassVar[int] = 1
    """Queries charged for one ask: 2 for a pair."""
    compares: ClassVar[bool] = False
    """Whether a step compares its queries with one another, so that they must be of one round."""
    rounds: ClassVar[bool] = False
    """Whether a step can use part of its round, which asynchronous mode closes without the late results."""
    wants_scores: ClassVar[bool] = False
    """Whether a step needs class scores, and not only losses."""
    brings: ClassVar[Mapping[str, Any]] = MappingProxyType({"prompt": {"space": "low-rank"}})
    """Defaults of other sections beside this method, section by section; a config may say otherwise."""
    method: str = ""
    """Name of the method."""
    loss: Loss = "cross-entropy"
    """Loss that a query returns. It is the mean over the mini-batch; focal = focal loss with gamma 2. Validation and
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
        """Queries charged for one step."""
        return self.asks_per_step * self.queries_per_ask

    @property
    def cuts_last_step(self) -> bool:
        """Whether queries too few for a whole step are also spent, at the end of the budget."""
        return False

    @property
    def probe(self) -> tuple[PerturbationLaw, float]:
        """Law and scale of the pairs by which a reduced `model.precision` is judged."""
        return "segmented-uniform", 0.01

    def schedule_steps(self, planned: int | None, steps_per_epoch: int) -> int | None:  # noqa: ARG002
        """Steps over which a learning rate falls; None for a method without a schedule.

        Args:
            planned: steps that the budget allows; None where it does not limit them.
            steps_per_epoch: whole mini-batches of the training images.
        """
        return None


class Problem(NamedTuple):
    """Facts of the images and the prompt space that a method on class scores needs."""

    labels: Int64
    """Classes of the training images, shape (n,)."""
    batch_size: int
    seed: int
    """Keys the mini-batches."""
    unit: float
    """Length per parameter of a step that moves each number of the context by about one standard deviation of the
    model's token embeddings (see `PromptSpace.unit`)."""
    kept: Int64 | None = None
    """Classes whose scores travel, for each training image, its own first: shape (n, k). The others are pooled. None
    where all travel."""
    targets: Float64 | None = None
    """Distribution over the classes per training image, shape (n, classes); None = the label."""

    def wanted(self, batch: int) -> ScoresWanted:
        """The scores that a query on a mini-batch asks for."""
        return ScoresWanted(None if self.kept is None else self.kept[self._images(batch)].astype(np.int32))

    def targets_of(self, batch: int, columns: int) -> Float64:
        """Distribution over the columns of the scores per image of a mini-batch, shape (images, columns)."""
        images = self._images(batch)
        if self.targets is None:
            own = self.labels[images] if self.kept is None else np.zeros(len(images), dtype=np.int64)
            return np.asarray(np.eye(columns)[own])
        targets = self.targets[images]
        if self.kept is None:
            return targets
        chosen = np.take_along_axis(targets, self.kept[images], axis=1)
        return np.column_stack([chosen, np.maximum(1 - chosen.sum(axis=1), 0.0)])

    def _images(self, batch: int) -> Int64:
        return mini_batch(len(self.labels), self.batch_size, self.seed, batch)


class OptimizerState(NamedTuple):
    """The complete state of an optimiser between two steps."""

    w: Float64
    """The parameters to deploy after this step, shape (d,)."""
    steps: int = 0
    """Steps done."""
    nonfinite_streak: int = 0
    """Consecutive steps, up to this one, without movement because no loss was finite."""
    memory: Mapping[str, Float64] = MappingProxyType({})
    """Further state of the method, by name; empty before the first step."""

    @property
    def deployed(self) -> Float64:
        """`w`, followed by the running statistics of the queries where the run keeps account of them."""
        statistics = self.memory.get(STATISTICS)
        return self.w if statistics is None else np.concatenate([self.w, statistics])


class Told(NamedTuple):
    """An ask and its result."""

    ask: Ask
    result: AskResult


class Move(NamedTuple):
    """The update that a method makes."""

    w: Float64
    memory: Mapping[str, Float64] = MappingProxyType({})
    gradient_norm: float = math.nan
    """Norm of the estimate before clipping; NaN without one."""
    clipped: bool = False


class StepReport(NamedTuple):
    """What one step did."""

    loss: float
    """Mean loss of the finite results; NaN when there is none."""
    accuracy: float
    """Mean mini-batch accuracy of the finite results; NaN when there is none."""
    gradient_norm: float
    clipped: bool
    nonfinite: int
    """Results left out because a loss was NaN or infinite."""


class Optimizer(ABC):
    """A method: its options, without state. A subclass defines its asks and its updates."""

    Options: ClassVar[type[MethodOptions]]
    """Its section of the config."""
    remedy: ClassVar[str] = "lower the step size of the method"
    """Remedy, for the message, when no loss is finite."""
    stall_remedy: ClassVar[str] = "raise the step size of the method, or use optimizer.method gauss-newton"
    """Remedy, for the message, when the loss does not move."""

    def __init__(
        self,
        options: MethodOptions,
        seed: int,
        schedule_steps: int | None = None,
        problem: Problem | None = None,  # noqa: ARG002 - for methods that want scores
    ) -> None:
        """Prepare a method.

        Args:
            options: the method's settings.
            seed: keys every draw.
            schedule_steps: steps over which the learning rate falls; only methods that have one need it.
            problem: images and prompt space; only methods that want scores need it.
        """
        self._seed, self._schedule_steps = seed, schedule_steps
        self.asks_per_step, self.batches_per_step = options.asks_per_step, options.batches_per_step
        self.queries_per_ask, self.queries_per_step = options.queries_per_ask, options.queries_per_step
        self.cuts_last_step = options.cuts_last_step
        self.rounds = options.rounds

    @abstractmethod
    def ask(self, state: OptimizerState, index: int) -> Ask:
        """The `index`-th ask of the run, counted from 0, made from the state as it is now."""

    def batch(self, index: int) -> int:
        """Key of the mini-batch of the `index`-th ask, counted from 1."""
        return index * self.batches_per_step // self.asks_per_step + 1

    def tell(self, state: OptimizerState, told: Sequence[Told]) -> tuple[OptimizerState, StepReport]:
        """The state after a step, and what the step did.

        Args:
            state: before the step.
            told: `asks_per_step` results, in the order of their asks; of a method with rounds, or where
                `cuts_last_step` allows it, fewer.
        """
        finite, loss, accuracy = [], 0.0, 0.0
        for one in told:
            if one.result.finite:
                finite.append(one)
                loss += one.result.loss
                accuracy += one.result.accuracy
        cut = self.cuts_last_step and len(told) < self.asks_per_step
        make = self._cut_short if cut else self._move
        move = make(state, finite) if finite else None
        if move is None:
            after = OptimizerState(state.w, state.steps + 1, state.nonfinite_streak + 1, state.memory)
        else:
            after = OptimizerState(move.w, state.steps + 1, 0, move.memory)
        after = after._replace(memory=_with_statistics(state.memory, after.memory, told))
        number = len(finite) or math.nan
        norm, clipped = (math.nan, False) if move is None else (move.gradient_norm, move.clipped)
        return after, StepReport(loss / number, accuracy / number, norm, clipped, len(told) - len(finite))

    def chosen(self, state: OptimizerState) -> dict[str, float]:  # noqa: ARG002
        """Options that the method has chosen by itself, by name; empty until then, and where it leaves none open."""
        return {}

    def stop(self, state: OptimizerState) -> dict[str, str]:
        """Reasons to end the run; empty while there are none."""
        if state.nonfinite_streak < NONFINITE_STEPS:
            return {}
        return {
            "nonfinite": f"no loss was finite in {state.nonfinite_streak} steps in a row: {self.remedy}, or check the "
            "model with `zip-ray doctor`"
        }

    @abstractmethod
    def _move(self, state: OptimizerState, told: Sequence[Told]) -> Move | None:
        """The update that the finite results of a step (at least one) make; None where they do not suffice."""

    def _cut_short(self, state: OptimizerState, told: Sequence[Told]) -> Move | None:
        """The update of a step that the end of the budget cuts short, where `cuts_last_step` allows it."""
        raise NotImplementedError

    def _progress(self, steps: int) -> float:
        """The share of the schedule that these steps are; 1 beyond its end."""
        assert self._schedule_steps is not None
        return min(steps / self._schedule_steps, 1.0)


def _with_statistics(
    before: Mapping[str, Float64], after: Mapping[str, Float64], told: Sequence[Told]
) -> Mapping[str, Float64]:
    """A step's memory with the running statistics of its queries, folded in their order; as it is without any.

    They start at mean 0 and variance 1.
    """
    seen = [row for _, result in told if result.statistics is not None for row in result.statistics]
    if not seen:
        return after
    running = before.get(STATISTICS, np.repeat([0.0, 1.0], seen[0].size // 2))
    for row in seen:
        running = (1 - LATEST) * running + LATEST * row
    return {**after, STATISTICS: running}
