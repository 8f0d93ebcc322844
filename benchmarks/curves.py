"""Accuracy against virtual time: a run over a pool with a simulated clock."""

from typing import NamedTuple, Protocol

from zip_ray.config.tree import Config
from zip_ray.optimizers import OptimizerState
from zip_ray.pool.contract import Pool, ScorerLike
from zip_ray.protocol.messages import Evaluation, EvaluationResult, Priority, new_work
from zip_ray.runs.beginning import begin, sized
from zip_ray.runs.query_plan import plan_queries
from zip_ray.tuning.ledger import Account
from zip_ray.tuning.loop import Tuning
from zip_ray.tuning.state import RunState


class Look(NamedTuple):
    """The state of a run at one moment."""

    seconds: float
    queries: int
    accuracy: float
    """Accuracy of the latest iterate on the test images."""


Curve = list[Look]


class TimedPool(Pool, Protocol):
    """A pool with a clock of its own."""

    now: float
    """Seconds."""


def follow(config: Config, scorer: ScorerLike, pool: TimedPool) -> Curve:
    """Follow a run from its survey on, testing it whenever it keeps a checkpoint.

    Args:
        config: of the run.
        scorer: tests, without taking time.
        pool: answers.
    """
    began, facts = pool.now, scorer.facts()
    plan = plan_queries(config, facts)
    config = sized(config, plan)
    begun = begin(pool, config, facts, plan, None, lambda: None)
    spent = begun.queries
    state = RunState(OptimizerState(begun.space.initial()), account=Account(spent, spent, spent))
    seen = [(pool.now, state)]
    Tuning(
        config,
        pool,
        state,
        lambda _: None,
        lambda reached: seen.append((pool.now, reached)),
        clock=lambda: pool.now,
        problem=begun.problem(config) if config.optimizer.wants_scores else None,
        start=begun.template,
    ).run()
    curve = []
    for at, reached in seen:
        test = Evaluation("test", reached.optimizer.w, start=begun.template)
        found = scorer.answer(new_work(test, Priority.EVALUATION))
        assert isinstance(found, EvaluationResult)
        curve.append(Look(at - began, reached.account.charged, found.accuracy))
    return curve


def seconds_to(target: float, curve: Curve) -> float:
    """Time of the first test that reaches the target; infinite if none does."""
    return next((look.seconds for look in curve if look.accuracy >= target), float("inf"))


def mean_of(curves: list[Curve]) -> Curve:
    """The mean accuracy of several runs, at each time at which one was tested."""
    times = sorted({look.seconds for curve in curves for look in curve})
    return [Look(at, 0, sum(_at(curve, at) for curve in curves) / len(curves)) for at in times]


def _at(curve: Curve, seconds: float) -> float:
    """Accuracy at a time: that of the latest test."""
    return next((look.accuracy for look in reversed(curve) if look.seconds <= seconds), curve[0].accuracy)
