"""The loop: ask, submit, collect, tell, until a budget says stop. Synchronous: a step waits for all its pairs."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import TypeVar

from zip_ray.checkpoint import Best, RunState
from zip_ray.config import Config
from zip_ray.ledger import QUERIES_PER_PAIR, Ledger
from zip_ray.optimizers import Spsa, StepReport, make_optimizer
from zip_ray.pool import Pool, PoolError
from zip_ray.work import (
    Answer,
    Crops,
    CropsResult,
    Evaluation,
    EvaluationResult,
    Float32,
    Pairs,
    PairsResult,
    Result,
    Work,
)

Event = dict[str, object]
POLL_SECONDS = 0.5
"""Longest wait for an answer before the loop looks at budgets and signals again."""
FIRST_CROPS_ID = 2**40
"""Pairs count from 0, evaluations down from -1: a pool that takes the lowest first encodes crops in its idle time."""
RATE_STEPS = 20
"""Steps over which queries a second are averaged."""


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


def collect(pool: Pool, interrupted: Callable[[], bool]) -> list[Answer]:
    """What the pool has ready, after a short wait at most.

    Raises:
        Interrupted: the run has been asked to stop.
    """
    if interrupted():
        raise Interrupted
    return pool.collect(POLL_SECONDS)


R = TypeVar("R", bound=Result)


def ask(
    pool: Pool,
    work: Work,
    kind: type[R],
    interrupted: Callable[[], bool] = lambda: False,
    others: Callable[[Result], None] = lambda _: None,
) -> R:
    """Have one piece of work done that is not charged, while no pair is in flight; `others` gets what else comes in.

    Raises:
        Interrupted, PoolError, InputError: as `collect` and the pool do.
    """
    pool.submit(work)
    while True:
        for answer in collect(pool, interrupted):
            if isinstance(answer.result, kind) and answer.result.id == work.id:
                return answer.result
            others(answer.result)


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

    def request(self, batch: int) -> None:
        """Have this mini-batch and those after it encoded, as far as they have not been asked for."""
        end = batch + self._ahead if self._last is None else min(batch + self._ahead, self._last)
        for wanted in range(max(batch, self._asked + 1), end + 1):
            self._pool.submit(Crops(FIRST_CROPS_ID + wanted, wanted))
            self._asked = wanted

    def take(self, result: Result) -> None:
        """Keep a result that is of this stream."""
        if isinstance(result, CropsResult):
            self._ready[result.batch] = result.features

    def pop(self, batch: int) -> Float32 | None:
        """Features of a mini-batch, once; None while they are not there."""
        return self._ready.pop(batch, None)


class Tuning:
    """One run of an optimiser over a pool.

    The trajectory depends on the config alone: not on the number of actors, the order of answers, or how often the
    run was resumed.
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
            pool: answers pairs and evaluations; has been asked for its facts.
            state: a fresh state, or that of a checkpoint.
            emit: receives each event, in order; must not wait.
            checkpoint: receives the state now and then, and at the end; must not wait.
            interrupted: whether the run has been asked to stop; looked at often.
            clock: seconds, monotonic.
        """
        self._config, self._pool = config, pool
        self._state = state
        self._emit, self._checkpoint, self._interrupted, self._clock = emit, checkpoint, interrupted, clock
        self._optimizer: Spsa = make_optimizer(config.optimizer, state.optimizer, config.seed)
        self._ledger = Ledger(config.budget.queries, state.account)
        self._evaluation_ids = count(-1, -1)  # pairs have the numbers from 0 up
        self._started = clock() - state.seconds
        self._recent: deque[tuple[float, int]] = deque(maxlen=RATE_STEPS)
        queries, per_step = config.budget.queries, self._optimizer.queries_per_step
        last = queries // per_step if queries is not None else None
        self._crops = CropStream(pool, config.cluster.actors, last) if config.task.views == "fresh" else None

    def run(self) -> Outcome:
        """Tune until a budget, a signal or the pool ends the run; the last state is given to `checkpoint`.

        Raises:
            InputError: a scorer found that the input cannot be used.
        """
        try:
            reasons = self._loop()
        except Interrupted:
            reasons = {"interrupted": "stopped on request"}
        except PoolError as error:
            reasons = {"pool": str(error)}
        self._checkpoint(self._state)
        return Outcome(self._state, reasons)

    def _loop(self) -> dict[str, str]:
        self._validate_if_due()
        while not (reasons := self._reasons()):
            self._take(self._step())
            self._validate_if_due()
            if self._state.optimizer.steps % self._config.output.checkpoint_every_steps == 0:
                self._checkpoint(self._state)
        if self._state.validated_step != self._state.optimizer.steps:
            self._validate()
        return reasons

    def _validate_if_due(self) -> None:
        """Validate at the start, and at each step that passes a multiple of `every_queries`."""
        every, per_step = self._config.validation.every_queries, self._optimizer.queries_per_step
        state = self._state
        passed = state.optimizer.steps * per_step // every > state.validated_step * per_step // every
        if state.validated_step < 0 or passed:
            self._validate()

    def _reasons(self) -> dict[str, str]:
        """Why to stop now; empty while there is no reason."""
        budget, state, reasons = self._config.budget, self._state, self._optimizer.stop()
        if not self._ledger.admits(self._optimizer.queries_per_step):
            reasons["queries"] = f"{state.account.charged} of {budget.queries} queries used"
        if budget.seconds is not None and self._seconds() >= budget.seconds:
            reasons["seconds"] = f"{budget.seconds:g} seconds used"
        if budget.steps is not None and state.optimizer.steps >= budget.steps:
            reasons["steps"] = f"{budget.steps} steps done"
        if budget.target_accuracy is not None and state.accuracy >= budget.target_accuracy:
            reasons["target_accuracy"] = f"validation accuracy {state.accuracy:.4f} reached {budget.target_accuracy:g}"
        return reasons

    def _step(self) -> StepReport:
        """Ask a whole step, and fold its results in."""
        asked = 0
        try:
            features = self._fresh_crops()
            pairs = iter(self._optimizer.ask, None)
            while bundle := tuple(islice(pairs, self._config.model.pairs_per_pass)):
                for pair in bundle:
                    self._ledger.issue(pair)
                self._pool.submit(Pairs(tuple(replace(pair, features=features) for pair in bundle)))
                asked += len(bundle)
            report = None
            while report is None:
                for answer in collect(self._pool, self._interrupted):
                    if not isinstance(answer.result, PairsResult):
                        self._keep(answer.result)
                        continue
                    for result in answer.result.results:
                        if self._ledger.complete(result.id, answer.attempts):
                            report = self._optimizer.tell(result) or report
            return report
        except (Interrupted, PoolError):
            # The step is undone: whoever resumes asks it again, and its queries are charged then, once.
            ledger = Ledger(None, self._state.account)
            ledger.lose(QUERIES_PER_PAIR * asked)
            self._state = replace(self._state, account=ledger.account, seconds=self._seconds())
            raise

    def _fresh_crops(self) -> Float32 | None:
        """Features of the coming step's mini-batch; None where the scorers have fixed views."""
        if self._crops is None:
            return None
        batch = self._state.optimizer.steps + 1
        self._crops.request(batch)
        while (features := self._crops.pop(batch)) is None:
            for answer in collect(self._pool, self._interrupted):
                self._keep(answer.result)
        return features

    def _keep(self, result: Result) -> None:
        if self._crops is not None:
            self._crops.take(result)

    def _take(self, report: StepReport) -> None:
        """Make a finished step the state, and tell of it."""
        seconds, account = self._seconds(), self._ledger.account
        self._recent.append((seconds, account.charged))
        self._state = replace(
            self._state,
            optimizer=self._optimizer.state,
            account=account,
            seconds=seconds,
            clipped_steps=self._state.clipped_steps + report.clipped,
            nonfinite_pairs=self._state.nonfinite_pairs + report.nonfinite,
        )
        self._event(
            "step",
            loss=report.loss,
            accuracy=report.accuracy,
            gradient_norm=report.gradient_norm,
            clipped=self._state.clipped_steps / report.step,
            nonfinite=self._state.nonfinite_pairs,
            queries_per_second=self._rate(),
        )

    def _validate(self) -> None:
        state = self._state
        w, step = state.optimizer.w, state.optimizer.steps
        work = Evaluation(next(self._evaluation_ids), "val", w)
        result = ask(self._pool, work, EvaluationResult, self._interrupted, self._keep)
        best = state.best
        if best is None or result.accuracy > best.accuracy:
            best = Best(result.accuracy, step, w)
        self._state = replace(state, validated_step=step, accuracy=result.accuracy, best=best)
        self._event("validation", loss=result.loss, accuracy=result.accuracy)

    def _event(self, kind: str, **values: float) -> None:
        state = self._state
        head: Event = {"event": kind, "step": state.optimizer.steps, "queries": state.account.charged}
        self._emit({**head, "seconds": state.seconds, **values})

    def _seconds(self) -> float:
        return self._clock() - self._started

    def _rate(self) -> float:
        """Queries a second over the latest steps; 0 before there are two."""
        (first, charged), (last, charged_now) = self._recent[0], self._recent[-1]
        return (charged_now - charged) / (last - first) if last > first else 0.0
