"""The queue of asks: how many may be in flight, which results wait for their step, which are too late to be used."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import NamedTuple

from zip_ray.config.execution import ExecutionConfig
from zip_ray.optimizers import Optimizer, OptimizerState
from zip_ray.optimizers.base import Told
from zip_ray.protocol.arrays import Float32
from zip_ray.protocol.messages import Ask, AskResult
from zip_ray.tuning.ledger import Ledger


class StepResults(NamedTuple):
    """The results that make a step."""

    told: list[Told]
    """In the order of their asks."""
    staleness: float
    """Mean number of steps made since each was asked; 0 in rounds."""
    dropped: int
    """Results since the step before that were too late to be used."""


class Queue:
    """Numbers asks, and collects their results into steps.

    Synchronously a step waits for the results to all its asks: which asks make it does not depend on the pool.
    Asynchronously up to `in_flight` asks are in flight, and a step takes the first results that arrive. If the method
    has rounds, all asks of a step are in flight, and it takes the first of their results: later ones are too late.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        execution: ExecutionConfig,
        ledger: Ledger,
        steps: int,
        asked: int,
        last_step: int | None,
        start: str | None = None,
    ) -> None:
        """Start with nothing in flight.

        Args:
            optimizer: makes the asks.
            execution: mode, asks in flight, largest staleness, share of a round that closes it.
            ledger: is charged.
            steps: done so far.
            asked: asks numbered so far; those that were in flight are lost, and numbers continue with the next step's.
            last_step: after which nothing more is asked; None for no limit.
            start: template that the prompt space starts from; None as configured.
        """
        self._optimizer, self._execution, self._ledger = optimizer, execution, ledger
        self._synchronous, self._start = execution.mode == "sync", start
        each = self._each = optimizer.asks_per_step
        share = execution.round_share if optimizer.rounds and not self._synchronous else 1.0
        self._least = math.ceil(share * each)
        """Results that make a step, where the budget has room for it."""
        self._in_rounds = self._synchronous or optimizer.rounds
        self._oldest = 0 if self._in_rounds else execution.max_staleness
        """Steps after which a result is too late."""
        self._steps, self._last = steps, None if last_step is None else last_step * each
        self.asked = -(-asked // each) * each
        """Asks numbered so far, which is the number of the next."""
        self.out = 0
        """Asks in flight."""
        self._told: list[Told] = []
        self._versions = 0
        """Sum of the versions of those."""
        self.dropped = 0
        """Results since the latest step that were too late to be used."""

    @property
    def room(self) -> int:
        """Asks that may be sent now."""
        if self._in_rounds:
            return (self._steps + 1) * self._each - self.asked
        return self._execution.in_flight - self.out

    @property
    def admits_step(self) -> bool:
        """Whether the budget of queries has room for what is missing of the step that is being asked."""
        missing = 1 if self._optimizer.cuts_last_step else self._each - self.asked % self._each
        return missing * self._optimizer.queries_per_ask <= self._ledger.left

    @property
    def next_batch(self) -> int:
        """Key of the mini-batch of the next ask."""
        return self._optimizer.batch(self.asked)

    @property
    def last_batch(self) -> int | None:
        """Key of the last mini-batch that the budget of queries allows; None where it has none."""
        if self._ledger.left == math.inf:
            return None
        asks = int(self._ledger.left) // self._optimizer.queries_per_ask
        whole = asks if self._optimizer.cuts_last_step else asks // self._each * self._each
        return self._optimizer.batch(self.asked + whole - 1)

    def next_pass(
        self, state: OptimizerState, most: int, crops: Callable[[int], Float32 | None] | None
    ) -> tuple[Ask, ...]:
        """The next asks that share a pass: at most so many, fewer at the end of a step, of the budget, or of the crops
        that are ready; none where nothing can be asked now.

        Without rounds only whole passes, as far as the budget allows: results arrive one pass at a time, so that
        smaller passes would stay small from then on.

        Args:
            state: of the optimiser.
            most: asks of a pass.
            crops: features of a mini-batch's fresh crops, None while they are not ready; None for fixed views.
        """
        asks: list[Ask] = []
        room = self.room
        if room < (1 if self._in_rounds else most):
            return ()
        while len(asks) < min(most, room) and self._admits():
            if self._synchronous and asks and asks[-1].batch != self.next_batch:
                break  # otherwise the bits would depend on which crops happen to be ready
            features = crops(self.next_batch) if crops else None
            if crops and features is None:
                break
            ask = self._optimizer.ask(state, self.asked)
            self._ledger.issue(ask.queries)
            self.asked += 1
            self.out += 1
            if features is not None or self._start is not None:
                ask = replace(ask, features=features, start=self._start)
            asks.append(ask)
        return tuple(asks)

    def take(self, asks: Sequence[Ask], results: Sequence[AskResult], attempts: int) -> Iterator[StepResults]:
        """Charge the results of a pass; the steps that they complete, one after another. A round takes whole passes."""
        for ask, result in zip(asks, results, strict=True):
            self._ledger.complete(ask.queries, attempts)
            self.out -= 1
            if self._steps - ask.version > self._oldest:
                self.dropped += 1
                continue
            self._told.append(Told(ask, result))
            self._versions += ask.version
            if len(self._told) >= self._needed and (ask is asks[-1] or not self._in_rounds):
                told = sorted(self._told, key=attrgetter("ask.index"))
                staleness = (self._steps * len(told) - self._versions) / len(told)
                step = StepResults(told, staleness, self.dropped)
                self._told, self._versions, self.dropped = [], 0, 0
                self._steps += 1
                yield step

    @property
    def _needed(self) -> int:
        """The results that a step needs at least; fewer if the budget ends."""
        if not self._optimizer.cuts_last_step:
            return self._least
        asked = self.asked - self._steps * self._each
        return asked + int(min(self._each - asked, self._ledger.left // self._optimizer.queries_per_ask))

    def _admits(self) -> bool:
        """Whether the budget has room for another ask: beside those in flight, and for steps that will be counted."""
        ahead = self.asked if self._in_rounds else self._steps * self._each + len(self._told) + self.out
        return self.admits_step and (self._last is None or ahead < self._last)
