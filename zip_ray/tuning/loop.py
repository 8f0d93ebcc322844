"""The loop: ask, submit, collect, tell, until a budget is used up.

Both modes run it. Synchronously the queue gives no more asks until a step has all its results, and nothing is asked
while a validation is in flight; asynchronously asks, validations and crops are in flight side by side.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from zip_ray.config.threads import one_blas_thread
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.optimizers import Optimizer, Problem, method_class
from zip_ray.pool.batching import asks_per_pass
from zip_ray.pool.contract import Pool, PoolError
from zip_ray.pool.membership import PoolReport, PoolWatch
from zip_ray.protocol.messages import Answer, Ask, Body, Evaluation, EvaluationResult, Pass, Priority, Work, new_work
from zip_ray.tuning.crops import CropStream
from zip_ray.tuning.events import ChosenEvent, Event, PoolEvent, StallEvent, StepEvent, ValidationEvent
from zip_ray.tuning.ledger import Ledger, settle
from zip_ray.tuning.queue import Queue, StepResults
from zip_ray.tuning.state import Best, RunState
from zip_ray.tuning.trend import judged_after

POLL_SECONDS = 0.5
"""Longest wait for a result, in seconds, before budgets and signals are checked again."""
CROPS_AHEAD = 8
"""Mini-batches of fresh crops asked for ahead, where the config does not say how many actors there are."""
RATE_SECONDS = 5.0
"""Time over which queries per second are averaged."""


class Interrupted(Exception):
    """The user or the cluster asked the run to stop."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    state: RunState
    reasons: dict[str, str]
    """Why it ended, by kind: queries, seconds, steps, target_accuracy, nonfinite, interrupted, pool."""

    @property
    def finished(self) -> bool:
        """Whether it came to its end, rather than being cut off."""
        return not {"interrupted", "pool"} & set(self.reasons)


def cut_off_by(error: Interrupted | PoolError) -> dict[str, str]:
    """The reason of a run that did not come to its end."""
    return {"pool": str(error)} if isinstance(error, PoolError) else {"interrupted": "on request"}


class Tuning:
    """One run of an optimiser over a pool.

    Synchronously the trajectory depends on the config alone: not on the number of actors, the order of answers, or how
    often the run was resumed.
    """

    def __init__(
        self,
        config: Config,
        pool: Pool,
        state: RunState,
        emit: Callable[[Event], None],
        checkpoint: Callable[[RunState], None],
        interrupted: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        problem: Problem | None = None,
        start: str | None = None,
        reserved: int = 0,
    ) -> None:
        """Continue from `state`.

        Args:
            config: the run.
            pool: answers asks and evaluations.
            state: a fresh state, or that of a checkpoint.
            emit: receives each event, in order; must not wait.
            checkpoint: receives the state at intervals, and at the end; must not wait.
            interrupted: whether the run has been asked to stop; looked at often.
            clock: seconds, monotonic.
            problem: facts for a method on class scores.
            start: template that the prompt space starts from; None as configured.
            reserved: queries of the budget that are kept for the readout.
        """
        one_blas_thread()
        facts = pool.facts()
        self._config, self._pool, self._device = config, pool, facts.device
        self._state = state
        self._emit, self._checkpoint, self._interrupted, self._clock = emit, checkpoint, interrupted, clock
        schedule = config.schedule_steps(facts.images["train"])
        self._optimizer: Optimizer = method_class(config.optimizer.method)(
            config.optimizer, config.seed, schedule, *([problem] if problem else [])
        )
        self._start, self._reserved = start, reserved
        queries = config.budget.queries
        self._ledger = Ledger(None if queries is None else queries - reserved, state.account)
        self._queue = Queue(
            self._optimizer,
            config.execution,
            self._ledger,
            state.optimizer.steps,
            state.asked,
            config.budget.steps,
            start,
        )
        self._synchronous = config.execution.mode == "sync"
        together = config.execution.pairs_per_pass
        self._together = None if together == "auto" else min(together, config.asks_in_flight)
        """Asks of a pass, where that does not depend on the actors."""
        self._expected: dict[int, Callable[[Answer], None]] = {}
        """All that is in flight, by the id of the work: what is done with its answer."""
        self._outbox: list[Work] = []
        self._validating = 0
        """Validations in flight."""
        self._held: list[tuple[Sequence[Ask], Answer]] = []
        """Results that came before the validation of the step that they were asked at, synchronously."""
        self._validated_step = state.validated_step
        """Step of the latest validation that was asked for."""
        self._started = clock() - state.seconds
        self._round_seconds = 0.0
        """What a wide round took last, where one that begins must end before the deadline; else 0."""
        self._recent: deque[tuple[float, int]] = deque()
        self._crops = self._crop_stream() if config.encodes_crops else None
        self._watch = PoolWatch(pool, self._emit_pool, clock)

    def run(self) -> Outcome:
        """Tune until a budget, a signal or the pool ends the run; the last state is given to `checkpoint`, in any case.

        Raises:
            InputError: a scorer found that the input cannot be used.
        """
        try:
            reasons = self._loop()
        except (Interrupted, PoolError, InputError) as error:
            # Queries in flight are abandoned, an unfinished step is undone: a resumed run repeats them, charged once.
            account = settle(replace(self._state.account, issued=self._ledger.account.issued))
            self._state = replace(self._state, account=account, seconds=self._seconds())
            if isinstance(error, InputError):
                self._checkpoint(self._state)
                raise
            reasons = cut_off_by(error)
        self._checkpoint(self._state)
        return Outcome(self._state, reasons)

    def _loop(self) -> dict[str, str]:
        self._validate_if_due()  # a resumed run may have lost the one that was in flight
        while True:
            if (now := self._clock()) >= self._watch.due:
                self._watch.look(now)
            reasons = self._reasons()
            if not reasons:
                self._ask()
            elif not self._queue.out:
                if self._validated_step != self._state.optimizer.steps:
                    self._validate()
                elif not self._validating:
                    self._close_account()
                    return reasons
            if self._outbox:
                self._pool.submit(self._outbox)
                self._outbox = []
            if self._interrupted():
                raise Interrupted
            for answer in self._pool.collect(POLL_SECONDS):
                if handle := self._expected.pop(answer.id, None):  # otherwise it was asked before this run
                    handle(answer)

    def _reasons(self) -> dict[str, str]:
        """Reasons to stop asking; empty while there are none."""
        budget, state = self._config.budget, self._state
        reasons = self._optimizer.stop(state.optimizer) if state.optimizer.nonfinite_streak else {}
        if not self._queue.admits_step:
            kept = f", {self._reserved} for the readout" if self._reserved else ""
            reasons["queries"] = f"{self._ledger.account.charged} of {budget.queries} queries used{kept}"
        if budget.seconds is not None and self._seconds() + self._round_seconds >= budget.seconds:
            reasons["seconds"] = f"{budget.seconds:g} seconds used"
        if budget.steps is not None and state.optimizer.steps >= budget.steps:
            reasons["steps"] = f"{budget.steps} steps done"
        if budget.target_accuracy is not None and state.best and state.best.accuracy >= budget.target_accuracy:
            best = f"{state.best.accuracy:.4f}"
            reasons["target_accuracy"] = f"validation accuracy {best} reached {budget.target_accuracy:g}"
        return reasons

    def _ask(self) -> None:
        """Send as many passes as the queue gives."""
        if self._synchronous and self._validating and self._config.budget.target_accuracy is not None:
            return  # the validation may end the run
        most = self._together or asks_per_pass(self._config, self._device, self._watch.ready)
        crops = self._crops.get if self._crops else None
        while asks := self._queue.next_pass(self._state.optimizer, most, crops):
            self._send(Pass(asks), Priority.QUERY, partial(self._take_results, asks))

    def _send(self, body: Body, priority: Priority, handle: Callable[[Answer], None]) -> None:
        """Submit work; `handle` receives its result."""
        work = new_work(body, priority)
        self._expected[work.id] = handle
        self._outbox.append(work)

    def _take_results(self, asks: Sequence[Ask], answer: Answer) -> None:
        if self._synchronous and self._validating:  # keeps one order in the record and for a resume
            self._held.append((asks, answer))
            return
        assert isinstance(answer.value, tuple)
        for results in self._queue.take(asks, answer.value, answer.attempts):
            self._step(results)
        self._validate_if_due()

    def _step(self, results: StepResults) -> None:
        """Make a step, and emit its event."""
        before, account, seconds = self._state, self._ledger.account, self._seconds()
        if self._config.optimizer.wants_scores:
            self._round_seconds = seconds - before.seconds
        optimizer, report = self._optimizer.tell(before.optimizer, results.told)
        self._state = state = replace(
            before,
            optimizer=optimizer,
            asked=self._queue.asked,
            account=account,
            seconds=seconds,
            nonfinite_results=before.nonfinite_results + report.nonfinite,
            dropped_results=before.dropped_results + results.dropped,
        )
        self._emit(
            StepEvent(
                step=optimizer.steps,
                queries=account.charged,
                seconds=seconds,
                loss=report.loss,
                accuracy=report.accuracy,
                gradient_norm=report.gradient_norm,
                clipped=report.clipped,
                nonfinite=state.nonfinite_results,
                staleness=results.staleness,
                dropped=state.dropped_results,
                wasted=account.wasted,
                queries_per_second=self._rate(seconds, account.charged),
            )
        )
        if (chosen := self._optimizer.chosen(optimizer)) and not self._optimizer.chosen(before.optimizer):
            self._emit(ChosenEvent(step=optimizer.steps, queries=account.charged, seconds=seconds, options=chosen))
        self._judge_trend(report.loss)
        if optimizer.steps % self._config.output.checkpoint_every_steps == 0:
            self._checkpoint(self._state)

    def _judge_trend(self, loss: float) -> None:
        """Take in the loss of the latest step; say so once enough of them show that the run does not move."""
        state, judged = self._state, judged_after(self._optimizer.queries_per_step)
        step, trend = state.optimizer.steps, state.trend.after(state.optimizer.steps, loss)
        if state.trend.steps >= judged or trend is state.trend:
            return
        self._state = replace(state, trend=trend)
        if trend.steps == judged and not trend.moved:
            self._emit(
                StallEvent(
                    step=step,
                    queries=state.account.charged,
                    seconds=state.seconds,
                    steps=trend.steps,
                    change=trend.change,
                    error=trend.error,
                    remedy=self._optimizer.stall_remedy,
                )
            )

    def _validate_if_due(self) -> None:
        """Validate at the start, and where the steps have passed a multiple of `every_queries`."""
        every, each = self._config.validation.every_queries, self._optimizer.queries_per_step
        passed = self._state.optimizer.steps * each // every > self._validated_step * each // every
        if self._validated_step < 0 or passed:
            self._validate()

    def _validate(self) -> None:
        """Ask for a validation of the parameters as they are now."""
        state = self._state
        self._validating += 1
        self._validated_step = state.optimizer.steps
        evaluation = Evaluation("val", state.optimizer.deployed, start=self._start)
        self._send(evaluation, Priority.EVALUATION, partial(self._take_validation, state))

    def _take_validation(self, asked: RunState, answer: Answer) -> None:
        """Emit the event of a validation, at the step for which it was requested."""
        result = answer.value
        assert isinstance(result, EvaluationResult)
        self._validating -= 1
        self._judge(asked, result)
        held, self._held = self._held, []
        for asks, late in held:
            self._take_results(asks, late)

    def _judge(self, asked: RunState, result: EvaluationResult) -> None:
        """Keep the iterate if it is the best so far, and emit the event of its validation."""
        step, best = asked.optimizer.steps, self._state.best
        if best is None or self._merit(result.accuracy, result.loss, step) > self._merit(
            best.accuracy, best.loss, best.step
        ):
            best = Best(result.accuracy, result.loss, step, asked.optimizer.deployed)
        self._state = replace(self._state, best=best)
        if step >= self._state.validated_step:  # with several in flight, an older one may arrive late
            self._state = replace(self._state, validated_step=step, accuracy=result.accuracy)
        self._emit(
            ValidationEvent(
                step=step,
                queries=asked.account.charged,
                seconds=asked.seconds,
                loss=result.loss,
                accuracy=result.accuracy,
            )
        )

    def _merit(self, accuracy: float, loss: float, step: int) -> tuple[float, int]:
        """The value by which the best iterate is chosen; the earliest wins ties."""
        by_loss = self._config.validation.deploy == "lowest-loss"
        return (-loss if by_loss else accuracy), -step

    def _emit_pool(self, found: PoolReport) -> None:
        state = self._state
        step, queries = state.optimizer.steps, state.account.charged
        self._emit(PoolEvent(step=step, queries=queries, seconds=self._seconds(), **asdict(found)))

    def _crop_stream(self) -> CropStream:
        config, optimizer = self._config, self._optimizer
        out = 0 if config.in_rounds else config.execution.in_flight
        ahead = (config.cluster.most or CROPS_AHEAD) + out // optimizer.asks_per_step
        send: Any = self._send
        return CropStream(send, ahead, self._queue.last_batch)

    def _close_account(self) -> None:
        self._state = replace(
            self._state,
            asked=self._queue.asked,
            account=self._ledger.account,
            seconds=self._seconds(),
            dropped_results=self._state.dropped_results + self._queue.dropped,
        )

    def _seconds(self) -> float:
        return self._clock() - self._started

    def _rate(self, seconds: float, charged: int) -> float:
        """Recent queries per second; 0 before there are two steps."""
        self._recent.append((seconds, charged))
        while len(self._recent) > 2 and seconds - self._recent[1][0] > RATE_SECONDS:
            self._recent.popleft()
        (first, before) = self._recent[0]
        return (charged - before) / (seconds - first) if seconds > first else 0.0
