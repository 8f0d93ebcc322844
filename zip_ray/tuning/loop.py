"""The loop: ask, submit, collect, tell, until a budget says stop.

Both modes run it. Synchronously the optimiser gives no more asks until a step has all its answers, and nothing is
asked while a validation is out; asynchronously asks, validations and crops are in flight side by side.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

from zip_ray.config.threads import one_blas_thread
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.optimizers import METHODS, Optimizer, StepReport
from zip_ray.pool.batching import asks_per_pass
from zip_ray.pool.contract import Pool, PoolError
from zip_ray.pool.membership import PoolWatch
from zip_ray.protocol.arrays import Float32
from zip_ray.protocol.messages import Answer, Ask, Crops, CropsResult, Evaluation, EvaluationResult, Pass, PassResult
from zip_ray.runs.checkpoint import Best, RunState
from zip_ray.runs.event_log import Event
from zip_ray.tuning.ledger import Ledger, settle

POLL_SECONDS = 0.5
"""Longest wait for an answer before the loop looks at budgets and signals again."""
FIRST_CROPS_ID = 2**40
"""Asks count from 0, evaluations down from -1: a pool that takes the lowest first encodes crops in its idle time."""
CROPS_AHEAD = 8
"""Mini-batches of fresh crops asked for ahead, where the config does not say how many actors there are."""
RATE_SECONDS = 5.0
"""Time over which queries a second are averaged."""


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


class CropStream:
    """Fresh crops of the coming mini-batches, asked for ahead of the loop: their order does not depend on `w`."""

    def __init__(self, pool: Pool, ahead: int, last: int | None) -> None:
        """Ask for nothing yet.

        Args:
            pool: encodes them.
            ahead: mini-batches asked for beyond the current one.
            last: the last mini-batch that the budget allows, if it says.
        """
        self._pool, self._ahead, self._last = pool, ahead, last
        self._asked = 0
        self._ready: dict[int, Float32] = {}

    def get(self, batch: int) -> Float32 | None:
        """Features of a mini-batch, None while they are not there; those of earlier ones are let go."""
        self._request(batch)
        for earlier in [b for b in self._ready if b < batch]:
            del self._ready[earlier]
        return self._ready.get(batch)

    def take(self, result: CropsResult) -> None:
        """Keep what came in."""
        self._ready[result.batch] = result.features

    def _request(self, batch: int) -> None:
        """Have this mini-batch and those after it encoded, as far as they have not been asked for."""
        end = batch + self._ahead if self._last is None else min(batch + self._ahead, self._last)
        for wanted in range(max(batch, self._asked + 1), end + 1):
            self._pool.submit(Crops(FIRST_CROPS_ID + wanted, wanted))
            self._asked = wanted


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
    ) -> None:
        """Go on from `state`.

        Args:
            config: the run.
            pool: answers asks and evaluations; has been asked for its facts.
            state: a fresh state, or that of a checkpoint.
            emit: receives each event, in order; must not wait.
            checkpoint: receives the state now and then, and at the end; must not wait.
            interrupted: whether the run has been asked to stop; looked at often.
            clock: seconds, monotonic.
        """
        one_blas_thread()
        self._config, self._pool = config, pool
        facts = pool.facts()
        self._device = facts.device if config.execution.pairs_per_pass == "auto" else ""
        self._state = state
        self._emit, self._checkpoint, self._interrupted, self._clock = emit, checkpoint, interrupted, clock
        self._optimizer: Optimizer = METHODS[config.optimizer.method](
            config.optimizer,
            config.execution,
            state.optimizer,
            config.seed,
            config.schedule_steps(facts.images["train"]),
        )
        self._ledger = Ledger(config.budget.queries, state.account)
        self._evaluation_ids = count(-1, -1)  # asks have the numbers from 0 up
        self._validating: dict[int, RunState] = {}
        """Validations that are out: the state when each was asked."""
        self._validated_step = state.validated_step
        """Step of the validation that was asked last."""
        self._started = clock() - state.seconds
        self._recent: deque[tuple[float, int]] = deque()
        self._crops = self._crop_stream() if config.encodes_crops else None
        self._watch = PoolWatch(pool, self._tell_of_pool, clock)

    def run(self) -> Outcome:
        """Tune until a budget, a signal or the pool ends the run; the last state is given to `checkpoint`, in any case.

        Raises:
            InputError: a scorer found that the input cannot be used.
        """
        try:
            reasons = self._loop()
        except (Interrupted, PoolError, InputError) as error:
            # What is out is given up, and an unfinished step undone: whoever resumes asks again, and pays then, once.
            account = settle(replace(self._state.account, issued=self._ledger.account.issued))
            self._state = replace(self._state, account=account, seconds=self._seconds())
            if isinstance(error, InputError):
                self._checkpoint(self._state)
                raise
            reasons = cut_off_by(error)
        self._checkpoint(self._state)
        return Outcome(self._state, reasons)

    def _loop(self) -> dict[str, str]:
        while True:
            self._watch.look()
            self._validate_if_due()
            reasons = self._reasons()
            if not reasons:
                self._fill()
            elif not self._ledger.in_flight:
                if self._validated_step != self._state.optimizer.steps:
                    self._validate()
                elif not self._validating:
                    self._state = replace(
                        self._state,
                        account=self._ledger.account,
                        seconds=self._seconds(),
                        dropped_results=self._state.dropped_results + self._optimizer.dropped,
                    )
                    return reasons
            if self._interrupted():
                raise Interrupted
            for answer in self._pool.collect(POLL_SECONDS):
                self._fold(answer)

    def _reasons(self) -> dict[str, str]:
        """Why to ask no more; empty while there is no reason."""
        budget, state, reasons = self._config.budget, self._state, self._optimizer.stop()
        if not self._ledger.admits(self._optimizer.queries_to_ask):
            reasons["queries"] = f"{self._ledger.account.charged} of {budget.queries} queries used"
        if budget.seconds is not None and self._seconds() >= budget.seconds:
            reasons["seconds"] = f"{budget.seconds:g} seconds used"
        if budget.steps is not None and state.optimizer.steps >= budget.steps:
            reasons["steps"] = f"{budget.steps} steps done"
        if budget.target_accuracy is not None and state.best and state.best.accuracy >= budget.target_accuracy:
            best = f"{state.best.accuracy:.4f}"
            reasons["target_accuracy"] = f"validation accuracy {best} reached {budget.target_accuracy:g}"
        return reasons

    def _fill(self) -> None:
        """Put out as much as the optimiser gives, in passes of `pairs_per_pass`.

        Asynchronously only whole ones, as far as the budget allows: answers come one pass at a time, and what each
        frees would go out in passes of its size for ever.
        """
        synchronous = self._config.execution.mode == "sync"
        if synchronous and self._validating:
            return  # it may end the run
        most = asks_per_pass(self._config, self._device, self._watch.ready)
        while self._optimizer.room >= (1 if synchronous else most) and (bundle := self._bundle(most)):
            self._pool.submit(Pass(bundle))

    def _bundle(self, most: int) -> tuple[Ask, ...]:
        """The next asks for one pass: at most so many, fewer where the optimiser waits, the budget ends or crops are
        not there yet.

        Synchronously they are of one mini-batch: else the crops that happen to be there would have a say in the bits.
        """
        bundle: list[Ask] = []
        apart = self._config.execution.mode == "sync"
        while len(bundle) < most:
            batch = self._optimizer.next_batch
            if apart and bundle and bundle[-1].batch != batch:
                break
            features = self._crops.get(batch) if self._crops else None
            waiting = self._crops is not None and features is None
            if waiting or not self._admits():
                break
            asked = self._optimizer.ask()
            if asked is None:
                break
            self._ledger.issue(asked)
            bundle.append(asked if features is None else replace(asked, features=features))
        return tuple(bundle)

    def _admits(self) -> bool:
        """Whether the budget has room for another ask: beside those in flight, and for steps that will be counted."""
        steps, each = self._config.budget.steps, self._config.optimizer.asks_per_step
        ahead = self._state.optimizer.steps * each + self._optimizer.waiting + self._ledger.in_flight
        return self._ledger.admits(self._optimizer.queries_to_ask) and (steps is None or ahead < steps * each)

    def _fold(self, answer: Answer) -> None:
        """Take in whatever a scorer has answered."""
        match answer.result:
            case PassResult(results):
                for result in results:
                    if self._ledger.complete(result, answer.attempts):
                        report = self._optimizer.tell(result)
                        if report is not None:
                            self._take(report)
            case EvaluationResult() as result:
                self._take_validation(result)
            case CropsResult() as result if self._crops is not None:
                self._crops.take(result)

    def _take(self, report: StepReport) -> None:
        """Make a finished step the state, and tell of it."""
        seconds, account = self._seconds(), self._ledger.account
        self._state = replace(
            self._state,
            optimizer=self._optimizer.state,
            account=account,
            seconds=seconds,
            clipped_steps=self._state.clipped_steps + report.clipped,
            nonfinite_results=self._state.nonfinite_results + report.nonfinite,
            dropped_results=self._state.dropped_results + report.dropped,
        )
        self._event(
            "step",
            self._state,
            loss=report.loss,
            accuracy=report.accuracy,
            gradient_norm=report.gradient_norm,
            clipped=self._state.clipped_steps / report.step,
            nonfinite=self._state.nonfinite_results,
            staleness=report.staleness,
            dropped=self._state.dropped_results,
            wasted=account.wasted,
            queries_per_second=self._rate(seconds, account.charged),
        )
        if report.step % self._config.output.checkpoint_every_steps == 0:
            self._checkpoint(self._state)

    def _validate_if_due(self) -> None:
        """Validate at the start, and at each step that passes a multiple of `every_queries`."""
        every, per_step = self._config.validation.every_queries, self._optimizer.queries_per_step
        passed = self._state.optimizer.steps * per_step // every > self._validated_step * per_step // every
        if self._validated_step < 0 or passed:
            self._validate()

    def _validate(self) -> None:
        """Put out a validation of the parameters as they are now."""
        work = Evaluation(next(self._evaluation_ids), "val", self._state.optimizer.w)
        self._validating[work.id] = self._state
        self._validated_step = self._state.optimizer.steps
        self._pool.submit(work)

    def _take_validation(self, result: EvaluationResult) -> None:
        """Tell of a validation, at the step at which it was asked."""
        asked = self._validating.pop(result.id)
        step, best = asked.optimizer.steps, self._state.best
        if best is None or (result.accuracy, -step) > (best.accuracy, -best.step):
            best = Best(result.accuracy, step, asked.optimizer.w)
        self._state = replace(self._state, best=best)
        if step >= self._state.validated_step:  # with several out, an older one may come in late
            self._state = replace(self._state, validated_step=step, accuracy=result.accuracy)
        self._event("validation", asked, loss=result.loss, accuracy=result.accuracy)

    def _tell_of_pool(self, found: dict[str, object]) -> None:
        self._event("pool", replace(self._state, seconds=self._seconds()), **found)

    def _event(self, kind: str, state: RunState, **values: object) -> None:
        head: Event = {"event": kind, "step": state.optimizer.steps, "queries": state.account.charged}
        self._emit({**head, "seconds": state.seconds, **values})

    def _crop_stream(self) -> CropStream:
        config, optimizer = self._config, self._config.optimizer
        out = config.execution.in_flight if config.execution.mode == "async" else 0
        ahead = (config.cluster.most or CROPS_AHEAD) + out // optimizer.asks_per_step
        last = None
        if config.budget.queries is not None:  # counted from here: a resumed asynchronous run has skipped some
            left = config.budget.queries - self._state.account.charged
            steps = left // optimizer.queries_per_step
            last = self._optimizer.next_batch - 1 + steps * optimizer.batches_per_step
        return CropStream(self._pool, ahead, last)

    def _seconds(self) -> float:
        return self._clock() - self._started

    def _rate(self, seconds: float, charged: int) -> float:
        """Queries a second of late; 0 before there are two steps."""
        self._recent.append((seconds, charged))
        while len(self._recent) > 2 and seconds - self._recent[1][0] > RATE_SECONDS:
            self._recent.popleft()
        (first, before) = self._recent[0]
        return (charged - before) / (seconds - first) if seconds > first else 0.0
